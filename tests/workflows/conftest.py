"""A copy of the checkout in which act runs the workflows, with stand-ins and a double of the deployment's Airflow."""

import json
import os
import shutil
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from tests.workflows import act
from tests.workflows.act import SECRET, Act
from tests.workflows.airflow_double import AirflowDouble

needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests that run act if act runs these tests."""
    if "clone" in getattr(item, "fixturenames", ()) and os.environ.get(act.INSIDE):
        pytest.skip("inside act: act does not run itself")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone with the current files of the checkout, and with the settings of both environments."""
    clone = act.copy(tmp_path)
    for environment in (clone / "terraform/environments").iterdir():
        for name in ("backend.hcl", "terraform.tfvars"):
            (environment / name).touch()
    act.commit(clone, "settings of the environments")
    return clone


@pytest.fixture
def actor(tmp_path: Path, clone: Path) -> Act:
    """Return act for the clone, with the Python environment of the checkout."""
    return Act(tmp_path, clone)


@pytest.fixture
def airflow(httpserver: HTTPServer, actor: Act, clone: Path) -> AirflowDouble:
    """Return the Airflow of the deployment that the outputs of Terraform name."""
    double = AirflowDouble(httpserver, SECRET, clone / "dags", actor.folder / "calls.jsonl")
    outputs = {
        "workspace_id": "the-workspace",
        "deployment_id": "the-deployment",
        "deployment_url": f"{double.url}/?orgId=org",
    }
    actor.answers |= {
        "terraform output -json": json.dumps({name: {"value": value} for name, value in outputs.items()}),
        "astro metadata.status": "HEALTHY",
        "astro metadata.current_tag": "deploy-0",
        "gh repos/acme/airlock/actions/workflows": "",
    }
    return double
