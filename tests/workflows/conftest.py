"""A copy of the checkout in which act runs its workflows, with stand-ins and a double of the deployment's Airflow."""

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
    """Leave out what runs act where act runs us."""
    if "clone" in getattr(item, "fixturenames", ()) and os.environ.get(act.INSIDE):
        pytest.skip("act does not run itself")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Give a clone with the checkout's files as they are now, and with environments that are filled in."""
    clone = act.copy(tmp_path)
    for environment in (clone / "terraform/environments").iterdir():
        for name in ("backend.hcl", "terraform.tfvars"):
            (environment / name).touch()
    act.commit(clone, "the environments are filled in")
    return clone


@pytest.fixture
def actor(tmp_path: Path, clone: Path) -> Act:
    """Give act for the clone, with the environment of the checkout."""
    return Act(tmp_path, clone)


@pytest.fixture
def airflow(httpserver: HTTPServer, actor: Act, clone: Path) -> AirflowDouble:
    """Give the Airflow of the deployment that Terraform's outputs name."""
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
