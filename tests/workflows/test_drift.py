"""drift.yml, run by act."""

import pytest

from tests.workflows.act import SECRET, Act, Ran

VARIABLES = {"ASTRO_CLI_VERSION": "1.43.0", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/plan", "AWS_REGION": "eu-1"}


def drift(actor: Act) -> Ran:
    return actor.run("drift.yml", "schedule", {"ref": "refs/heads/main"}, variables=VARIABLES)


def planned(ran: Ran) -> list[str]:
    return [call[1].rpartition("/")[2] for call in ran.calls if call[0] == "terraform" and "plan" in call]


def test_both_environments_are_planned_and_nothing_is_changed(actor: Act) -> None:
    ran = drift(actor)
    assert ran.status == 0, ran.text
    assert sorted(planned(ran)) == ["dev", "prod"]
    plan = ["plan", "-lock=false", "-no-color", "-input=false", "-detailed-exitcode"]
    assert [call[2:] for call in ran.calls if call[0] == "terraform" and "init" not in call] == [plan, plan]
    assert SECRET not in ran.text


@pytest.mark.parametrize(("status", "said"), [("2", "drifted"), ("1", "Plan of dev failed")])
def test_a_difference_is_red_and_so_is_a_plan_that_fails(actor: Act, status: str, said: str) -> None:
    actor.answers |= {"plan status": status, "terraform plan": "~ database_endpoint\n"}
    ran = drift(actor)
    assert ran.status != 0
    assert sorted(planned(ran)) == ["dev", "prod"], "one difference does not hide the other"
    assert said in ran.text
    assert "~ database_endpoint" in ran.text
