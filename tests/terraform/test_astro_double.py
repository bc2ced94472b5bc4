"""Tests of what the double of the Astro provider does beyond its schema. They prove nothing about the real provider."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.astro_double.running import ORGANIZATION, AstroDouble
from tests.terraform.conftest import Terraform

CLUSTER = "cdoublecluster00000000001"
DEPLOYMENT: dict[str, Any] = {
    "name": "test",
    "description": "Tests",
    "type": "STANDARD",
    "cloud_provider": "AWS",
    "region": "eu-west-1",
    "workspace_id": "${astro_workspace.this.id}",
    "executor": "CELERY",
    "contact_emails": ["team@example.com"],
    "environment_variables": [],
    "is_cicd_enforced": True,
    "is_dag_deploy_enabled": True,
}
Run = Callable[..., str]


@pytest.fixture
def run(terraform: Terraform, astro: AstroDouble, tmp_path: Path) -> Run:
    """Return a function that runs Terraform with a workspace and a deployment, some attributes of it changed."""

    def run(*command: str, status: int = 0, **changed: Any) -> str:
        configuration = {
            "terraform": {"required_providers": {"astro": {"source": "astronomer/astro"}}},
            "provider": {"astro": {"organization_id": ORGANIZATION}},
            "resource": {
                "astro_workspace": {"this": {"name": "test", "description": "", "cicd_enforced_default": True}},
                "astro_deployment": {"this": DEPLOYMENT | changed},
            },
        }
        (tmp_path / "main.tf.json").write_text(json.dumps(configuration))
        output = terraform.within(astro.environment).run("terraform", f"-chdir={tmp_path}", *command, status=status)
        return " ".join(output.replace("│", " ").split())

    return run


def test_plan_knows_only_the_computed_values_that_an_update_keeps(run: Run, astro: AstroDouble) -> None:
    run("plan", "-out=first")
    first = deployment_change(run("show", "-json", "first"))
    run("apply", "-auto-approve", "first")
    (created,) = astro.records["astro_deployment"].values()
    run("plan", "-out=second", description="Changed")
    second = deployment_change(run("show", "-json", "second"))
    run("destroy", "-auto-approve")

    for name in ("id", "external_ips", "workload_identity", "webserver_url"):
        assert first["after_unknown"][name] is True
    assert (second["after"]["id"], second["after"]["external_ips"]) == (created["id"], created["external_ips"])
    assert second["after_unknown"]["workload_identity"] is True
    assert not any(astro.records.values())


def deployment_change(plan: str) -> dict[str, Any]:
    """Return the change of the deployment in a plan as JSON."""
    changes = json.loads(plan)["resource_changes"]
    (change,) = [each["change"] for each in changes if each["type"] == "astro_deployment"]
    return dict(change)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cluster_id": CLUSTER}, "cluster_id is not allowed for a STANDARD deployment"),
        ({"region": None}, "region is required for a STANDARD deployment"),
        ({"type": "DEDICATED", "region": None, "cloud_provider": None}, "cluster_id is required for a DEDICATED"),
        ({"type": "DEDICATED", "cluster_id": CLUSTER}, "region is not allowed for a DEDICATED deployment"),
    ],
)
def test_deployment_needs_the_place_of_its_type(run: Run, changed: dict[str, Any], message: str) -> None:
    assert message in run("plan", status=1, **changed)


def test_reference_to_a_missing_record_is_refused(run: Run, astro: AstroDouble) -> None:
    output = run("apply", "-auto-approve", status=1, workspace_id="cnobody000000000000000000")
    run("destroy", "-auto-approve")

    assert "workspace_id: astro_workspace cnobody000000000000000000 does not exist" in output
    assert not any(astro.records.values())
