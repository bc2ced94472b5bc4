"""scripts/infrastructure.py with a stand-in for Terraform that records its calls."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import bootstrap

Run = Callable[..., subprocess.CompletedProcess[str]]

STAND_IN = """\
#!/bin/sh
echo "$* token=${ASTRO_API_TOKEN-} configuration=${TF_CLI_CONFIG_FILE-}" >> "$CALLS"
case "$2" in
  init) echo "the output of init"; exit "${INIT_STATUS:-0}" ;;
  state) cat "$STATE" ;;
  *) exit "${STATUS:-0}" ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Return the file into which the stand-in writes its calls, one per line."""
    return tmp_path / "calls"


@pytest.fixture
def run(tmp_path: Path, calls: Path) -> Run:
    """Return a function that runs the program in a checkout with the settings of dev, but not of prod."""
    program = tmp_path / "bin" / "terraform"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    script = tmp_path / "scripts" / "infrastructure.py"
    script.parent.mkdir()
    script.write_text((bootstrap.ROOT / "scripts" / "infrastructure.py").read_text())
    terraform = tmp_path / "terraform"
    for name in ("bootstrap", "environments/dev", "environments/prod"):
        (terraform / name).mkdir(parents=True)
        (terraform / name / "main.tf").touch()
    (terraform / ".terraform-version").write_text("1.11.4\n")
    for name in ("backend.hcl", "terraform.tfvars"):
        (terraform / "environments" / "dev" / name).touch()
    calls.touch()

    def run(*arguments: str, protected: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        instance = {"attributes": {"identifier": "airlock-dev", "deletion_protection": protected}}
        state = {"resources": [{"type": "aws_db_instance", "instances": [instance]}]}
        (tmp_path / "state").write_text(json.dumps(state))
        environment = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "STATE": str(tmp_path / "state"),
            "ASTRO_API_TOKEN": "a-token",
            **variables,
        }
        return subprocess.run(
            [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, check=False
        )

    return run


def actions(calls: Path) -> list[str]:
    """Return the commands of Terraform, in order."""
    return [line.split()[1] for line in calls.read_text().splitlines()]


def test_terraform_is_initialised_and_then_replaces_the_process(run: Run, calls: Path) -> None:
    done = run("plan", "dev", "-detailed-exitcode", STATUS="2")

    assert done.returncode == 2
    assert actions(calls) == ["init", "plan"]
    init, plan = calls.read_text().splitlines()
    assert "-backend-config=backend.hcl" in init
    assert "/environments/dev plan -detailed-exitcode token=a-token" in plan
    assert "the output of init" not in done.stdout


def test_a_failed_init_shows_its_output(run: Run, calls: Path) -> None:
    done = run("apply", "dev", INIT_STATUS="1")

    assert done.returncode == 1
    assert "the output of init" in done.stdout
    assert "terraform init failed" in done.stderr
    assert actions(calls) == ["init"]


def test_a_protected_environment_is_not_destroyed(run: Run, calls: Path) -> None:
    done = run("destroy", "dev", protected=True)

    assert done.returncode == 1
    assert "airlock-dev is protected, and nothing was destroyed" in done.stderr
    assert 'unprotect_database = "airlock-dev"' in done.stderr
    assert actions(calls) == ["init", "state"]


def test_an_unprotected_environment_is_destroyed(run: Run, calls: Path) -> None:
    assert run("destroy", "dev").returncode == 0
    assert actions(calls) == ["init", "state", "destroy"]


def test_only_a_plan_without_refresh_needs_no_token(run: Run, calls: Path) -> None:
    refused = run("plan", "dev", ASTRO_API_TOKEN="")
    assert "ASTRO_API_TOKEN is not set" in refused.stderr
    assert actions(calls) == []

    assert run("plan", "dev", "-refresh=false", ASTRO_API_TOKEN="").returncode == 0
    assert "token=not-used" in calls.read_text()


def test_a_missing_configuration_file_is_ignored(run: Run, calls: Path, tmp_path: Path) -> None:
    run("plan", "dev", TF_CLI_CONFIG_FILE=str(tmp_path / "gone"))
    assert f"configuration={tmp_path}" not in calls.read_text()

    run("plan", "dev", TF_CLI_CONFIG_FILE=str(tmp_path / "state"))
    assert f"configuration={tmp_path / 'state'}" in calls.read_text()


def test_bootstrap_applies_in_its_region(run: Run, calls: Path) -> None:
    assert run("bootstrap", "eu-west-1", ASTRO_API_TOKEN="").returncode == 0
    assert "/bootstrap apply -var=region=eu-west-1" in calls.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", ""), "write ENV=dev or ENV=prod"),
        (("plan", "../dev"), "no environment '../dev'"),
        (("plan", "prod"), "backend.hcl is missing: copy backend.hcl.example"),
        (("bootstrap", ""), "write REGION=eu-west-1"),
        (("plan",), "usage:"),
        (("refresh", "dev"), "usage:"),
    ],
)
def test_wrong_arguments_are_reported_before_terraform_starts(
    arguments: tuple[str, ...], message: str, run: Run, calls: Path
) -> None:
    done = run(*arguments)

    assert done.returncode == 1
    assert message in done.stderr
    assert actions(calls) == []


def test_without_terraform_the_message_names_the_version_to_install(run: Run) -> None:
    done = run("plan", "dev", PATH="/nowhere")

    assert "get 1.11.4 from https://developer.hashicorp.com/terraform/install" in done.stderr
