"""Tests of deploy.yml and rollback.yml, which act runs: the calls, their order, and that a failure stops the rest."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.deploy import OUTPUTS
from tests.workflows.act import FORK, SECRET, Act, WorkflowRun, commit, git
from tests.workflows.airflow_double import SMOKE_DAG, AirflowDouble

ENVIRONMENT = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/deploy", "AWS_REGION": "eu-central-1"}


def variables(actor: Act) -> dict[str, str]:
    return {"ASTRO_CLI_VERSION": "1.43.0", "ASTRO_CLI_SHA256": actor.astro_sha256, **ENVIRONMENT}


def deploy(actor: Act, **options: Any) -> WorkflowRun:
    """Push main, like a merge."""
    payload = {"ref": "refs/heads/main", "before": "0" * 40}
    return actor.run("deploy.yml", "push", payload, **{"variables": variables(actor), **options})


def rollback(actor: Act, environment: str, commit: str, **options: Any) -> WorkflowRun:
    """Start a rollback to a commit."""
    payload = {"ref": "refs/heads/main", "inputs": {"environment": environment, "commit": commit}}
    return actor.run("rollback.yml", "workflow_dispatch", payload, **{"variables": variables(actor), **options})


def shorten(calls: list[list[str]]) -> list[str]:
    """Return the calls as text, without preparations and without options that do not matter here."""
    texts = []
    for call in calls:
        name, *words = call
        if name in ("actions/setup-python", "hashicorp/setup-terraform"):
            continue
        words = [word for word in words if not word.startswith(("-input", "-no-color", "-backend-config"))]
        texts.append(re.sub(r"-chdir=\S*/terraform/", "-chdir=terraform/", " ".join([name, *words])))
    return texts


def calls_of(environment: str, sha: str, mode: str = "", *, rollback: bool = False) -> list[str]:
    """Return the calls of a deploy to one environment, or of a rollback."""
    folder = f"-chdir=terraform/environments/{environment}"
    apply = [f"terraform {folder} init", f"terraform {folder} apply -auto-approve", f"terraform {folder} output -json"]
    tag = ["astro deployment inspect the-deployment --workspace-id the-workspace --key metadata.current_tag"]
    return [
        "curl --fail --silent --show-error --location --proto =https --retry 3 --output FILE ADDRESS",
        f"aws-actions/configure-aws-credentials aws-region=eu-central-1 role-to-assume={ENVIRONMENT['AWS_ROLE_ARN']} "
        "role-duration-seconds=7200",
        f"terraform {folder} init",
        f"terraform {folder} output -json",
        "astro deployment inspect the-deployment --workspace-id the-workspace --key metadata.status",
        *([] if rollback else apply),
        f"airflow store ?{sha}",
        *tag,
        f"astro deploy the-deployment --workspace-id the-workspace {mode}"
        f"--force --wait --wait-time 20m --description {sha}",
        *([] if mode else tag),
        *([] if rollback else ["airflow run warehouse_migrations"]),
        f"airflow run {SMOKE_DAG}",
        f"airflow store {sha}",
    ]


APPLIED = "terraform -chdir=terraform/environments/dev apply -auto-approve"
DECIDE = (
    "gh api repos/acme/airlock/actions/workflows/deploy.yml/runs?branch=main&status=success&per_page=1 "
    "--jq .workflow_runs[0].head_sha // empty"
)


def comparable(calls: list[list[str]]) -> list[str]:
    """Return the calls as text, without the parts that differ between runs."""
    return [
        "curl --fail --silent --show-error --location --proto =https --retry 3 --output FILE ADDRESS"
        if call.startswith("curl")
        else call
        for call in shorten(calls)
    ]


def test_merge_deploys_to_dev_and_then_to_prod(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    sha = git(clone, "rev-parse", "HEAD").strip()
    run = deploy(actor)
    assert run.status == 0, run.text
    # Both environments use the same double, so on prod the commit is already deployed.
    dev, prod = calls_of("dev", sha), calls_of("prod", sha)[:8]  # up to the apply
    assert comparable(run.calls) == [DECIDE, *dev, *prod]
    assert ["astro_" in call[-1] for call in run.calls if call[0] == "curl"] == [True, True]
    assert airflow.deployed == sha
    assert set(airflow.paused.values()) == {True}, "DAGs that were paused must be paused again"
    assert SECRET not in run.text


def test_change_of_a_dag_deploys_dags_only(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    airflow.variables["airlock_deployed_commit"] = git(clone, "rev-parse", "HEAD").strip()
    actor.answers["gh repos/acme/airlock/actions/workflows"] = airflow.variables["airlock_deployed_commit"]
    (clone / "dags/data_freshness.py").open("a").write("# changed\n")
    sha = commit(clone, "a DAG")
    run = deploy(actor, job="dev")
    assert run.status == 0, run.text
    assert comparable(run.calls) == [DECIDE, *calls_of("dev", sha, "--dags ")]


def test_change_of_tests_and_docs_deploys_nothing(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    actor.answers["gh repos/acme/airlock/actions/workflows"] = git(clone, "rev-parse", "HEAD").strip()
    (clone / "tests/test_versions.py").open("a").write("# changed\n")
    (clone / "docs/quality.md").open("a").write("changed\n")
    commit(clone, "tests and docs")
    run = deploy(actor)
    assert (run.status, comparable(run.calls)) == (0, [DECIDE]), run.text
    assert set(run.steps) == {"decide"}


def test_nothing_is_downloaded_without_a_checksum(actor: Act, airflow: AirflowDouble) -> None:
    run = deploy(actor, variables={**variables(actor), "ASTRO_CLI_SHA256": ""})
    assert run.status != 0
    assert comparable(run.calls) == [DECIDE]
    assert "ASTRO_CLI_SHA256 is no SHA-256: set it" in run.text


@pytest.mark.prove
def test_archive_with_a_wrong_checksum_is_not_used(actor: Act, airflow: AirflowDouble) -> None:
    run = deploy(actor, variables={**variables(actor), "ASTRO_CLI_SHA256": "0" * 64})
    assert run.status != 0
    assert [call[0] for call in run.calls if call[0] in ("curl", "astro", "terraform")] == ["curl"]
    assert "do not use it" in run.text


def test_nothing_runs_before_deploying_is_set_up(actor: Act) -> None:
    run = deploy(actor, variables={})
    assert (run.status, run.calls) == (0, []), run.text


def test_rollback_deploys_the_image_of_an_earlier_commit_and_no_infrastructure(
    actor: Act, airflow: AirflowDouble, clone: Path
) -> None:
    earlier = git(clone, "rev-parse", "HEAD").strip()
    (clone / "include/errors.py").open("a").write("# broken\n")
    airflow.variables["airlock_deployed_commit"] = commit(clone, "a commit to roll back")
    run = rollback(actor, "prod", earlier)
    assert run.status == 0, run.text
    assert comparable(run.calls) == calls_of("prod", earlier, rollback=True)
    assert airflow.deployed == earlier


@pytest.mark.parametrize("target", ["unreviewed", "no-such-commit", "--help"])
def test_rollback_refuses_a_commit_that_is_not_in_main(
    actor: Act, airflow: AirflowDouble, clone: Path, target: str
) -> None:
    git(clone, "checkout", "--quiet", "-b", "unreviewed")
    commit(clone, "nobody reviewed this")
    git(clone, "checkout", "--quiet", "main")
    run = rollback(actor, "dev", target)
    assert run.status != 0
    assert not [call for call in run.calls if call[0] in ("astro", "terraform")]
    assert ("not in the history of main" if target == "unreviewed" else "git knows no commit") in run.text


# Per call that fails: a pattern of it, its place in the calls of a deploy, and a name.
FAILING_CALLS = [
    ("gh", 0, "decide"),
    ("curl", 1, "checksum"),
    ("aws-actions", 2, "aws"),
    (r"terraform \S*/dev init", 3, "init"),
    (r"terraform \S*/dev output -json", 4, "output"),
    ("astro deployment inspect the-deployment --workspace-id the-workspace --key metadata.status", 5, "status"),
    (r"terraform \S*/dev apply", 7, "apply"),
    ("astro deployment inspect the-deployment --workspace-id the-workspace --key metadata.current_tag", 10, "tag"),
    ("astro deploy the-deployment", 11, "deploy"),
]


@pytest.mark.parametrize(("failing", "last"), [pytest.param(*call[:2], id=call[2]) for call in FAILING_CALLS])
@pytest.mark.prove
def test_failed_call_stops_the_deploy(actor: Act, airflow: AirflowDouble, clone: Path, failing: str, last: int) -> None:
    sha = git(clone, "rev-parse", "HEAD").strip()
    actor.fail(failing)
    run = deploy(actor)
    assert run.status != 0
    assert comparable(run.calls) == [DECIDE, *calls_of("dev", sha)][: last + 1]
    assert not run.steps.get("prod")


@pytest.mark.parametrize("failing", [SMOKE_DAG, pytest.param("warehouse_migrations", marks=pytest.mark.prove)])
def test_failed_run_stops_the_deploy_before_prod_and_says_how_to_roll_back(
    actor: Act, airflow: AirflowDouble, clone: Path, failing: str
) -> None:
    airflow.variables["airlock_deployed_commit"] = before = git(clone, "rev-parse", "HEAD").strip()
    (clone / "include/errors.py").open("a").write("# broken\n")
    sha = commit(clone, "it does not run")
    airflow.failing.add(failing)
    run = deploy(actor)
    assert run.status != 0
    calls = [DECIDE, *calls_of("dev", sha)]
    before_run = itertools.takewhile(lambda call: not call.endswith(failing), calls)
    assert comparable(run.calls) == [*before_run, f"airflow run {failing}"]
    assert f"{failing}.work failed" in run.text
    assert "the source is empty" in run.text
    assert f"workflow `rollback` with environment dev and commit {before}" in run.text
    assert airflow.deployed == f"?{sha}", "the next deploy must see that this one did not finish"


def test_older_commit_does_not_replace_a_newer_one(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    """This can happen when somebody starts an old run again, or when two merges overtake each other."""
    older = git(clone, "rev-parse", "HEAD").strip()
    airflow.variables["airlock_deployed_commit"] = "?" + commit(clone, "newer")
    git(clone, "checkout", "--quiet", "--detach", older)
    run = deploy(actor, job="dev")
    assert run.status != 0
    assert "dev already runs the newer" in run.text
    assert not [call for call in run.calls if "apply" in call or call[:2] == ["astro", "deploy"]]


def test_first_deploy_asks_no_deployment_before_the_apply(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    outputs = actor.answers.pop("terraform output -json")
    (actor.folder / "outputs-after-apply").write_text(outputs)
    run = deploy(actor, job="dev")
    assert run.status == 0, run.text
    sha = git(clone, "rev-parse", "HEAD").strip()
    calls = comparable(run.calls)
    assert not [call for call in calls[: calls.index(APPLIED)] if call.startswith("astro")]
    assert calls[-1] == f"airflow store {sha}"


def test_change_of_the_infrastructure_only_makes_the_smoke_runs(
    actor: Act, airflow: AirflowDouble, clone: Path
) -> None:
    airflow.variables["airlock_deployed_commit"] = git(clone, "rev-parse", "HEAD").strip()
    (clone / "terraform/environments/dev/main.tf").open("a").write("# changed\n")
    sha = commit(clone, "infrastructure")
    run = deploy(actor, job="dev")
    assert run.status == 0, run.text
    assert not [call for call in run.calls if call[:2] == ["astro", "deploy"]]
    assert comparable(run.calls)[-2:] == [f"airflow run {SMOKE_DAG}", f"airflow store {sha}"]


def test_rollback_refuses_an_older_runtime(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    earlier = git(clone, "rev-parse", "HEAD").strip()
    dockerfile = clone / "Dockerfile"
    dockerfile.write_text(re.sub(r"(?m)^(FROM \S+)$", r"\1-newer", dockerfile.read_text()))
    airflow.variables["airlock_deployed_commit"] = commit(clone, "a newer runtime")
    run = rollback(actor, "prod", earlier)
    assert run.status != 0
    assert "Deploy History" in run.text
    assert not [call for call in run.calls if call[:2] == ["astro", "deploy"]]


def test_hibernating_deployment_is_woken_up_first(actor: Act, airflow: AirflowDouble) -> None:
    actor.answers["astro metadata.status"] = "HIBERNATING"
    run = deploy(actor, job="dev")
    assert run.status == 0, run.text
    calls = [call for call in shorten(run.calls) if call.startswith("astro")]
    assert calls[1] == "astro deployment wake-up the-deployment --workspace-id the-workspace --for 2h --force"


@pytest.mark.parametrize(
    "silent", ["uncommitted", "same-image", pytest.param("other-workspace", marks=pytest.mark.prove)]
)
def test_astro_deploy_with_status_0_that_deploys_nothing_is_a_failure(
    actor: Act, airflow: AirflowDouble, silent: str
) -> None:
    (actor.folder / "silent").write_text(silent)
    run = deploy(actor)
    assert run.status != 0
    assert not [call for call in run.calls if call[:2] == ["airflow", "run"]]
    assert ("still runs the image" if silent == "same-image" else "did not say that it deployed") in run.text


def test_terraform_has_the_outputs_that_a_deploy_reads(clone: Path) -> None:
    for environment in ("dev", "prod"):
        text = (clone / f"terraform/environments/{environment}/outputs.tf").read_text()
        assert set(OUTPUTS) <= set(re.findall(r'^output "(\w+)"', text, re.MULTILINE))


def test_fork_deploys_nothing(actor: Act) -> None:
    payload = {"ref": "refs/heads/topic", "repository": {"full_name": FORK}}
    git(actor.clone, "checkout", "--quiet", "-b", "topic")
    run = actor.run("deploy.yml", "workflow_dispatch", payload, variables=variables(actor), secrets=False)
    assert (run.status, run.calls) == (0, []), run.text
