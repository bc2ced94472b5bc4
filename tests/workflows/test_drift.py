"""Tests of drift.yml, which act runs."""

import pytest

from tests.workflows.act import SECRET, Act, WorkflowRun

VARIABLES = {"ASTRO_CLI_VERSION": "1.43.0", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/plan", "AWS_REGION": "eu-1"}


def drift(actor: Act) -> WorkflowRun:
    return actor.run("drift.yml", "schedule", {"ref": "refs/heads/main"}, variables=VARIABLES)


def planned(run: WorkflowRun) -> list[str]:
    """Return the environments that Terraform planned."""
    return [call[1].rpartition("/")[2] for call in run.calls if call[0] == "terraform" and "plan" in call]


def test_drift_plans_both_environments_and_changes_nothing(actor: Act) -> None:
    run = drift(actor)
    assert run.status == 0, run.text
    assert sorted(planned(run)) == ["dev", "prod"]
    plan = ["plan", "-lock=false", "-no-color", "-input=false", "-detailed-exitcode"]
    assert [call[2:] for call in run.calls if call[0] == "terraform" and "init" not in call] == [plan, plan]
    assert SECRET not in run.text


@pytest.mark.parametrize(("status", "message"), [("2", "drifted"), ("1", "Plan of dev failed")])
def test_drift_and_a_failed_plan_fail_the_job(actor: Act, status: str, message: str) -> None:
    actor.answers |= {"plan status": status, "terraform plan": "~ database_endpoint\n"}
    run = drift(actor)
    assert run.status != 0
    assert sorted(planned(run)) == ["dev", "prod"], "a difference in one environment must not hide the other"
    assert message in run.text
    assert "~ database_endpoint" in run.text
