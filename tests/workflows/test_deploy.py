"""deploy.yml and rollback.yml, run by act: which calls are made, in which order, and that a failure stops the rest."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.deploy import OUTPUTS
from tests.workflows.act import FORK, SECRET, Act, Ran, commit, git
from tests.workflows.airflow_double import AirflowDouble

ENVIRONMENT = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/deploy", "AWS_REGION": "eu-central-1"}


def variables(actor: Act) -> dict[str, str]:
    return {"ASTRO_CLI_VERSION": "1.43.0", "ASTRO_CLI_SHA256": actor.astro_sha256, **ENVIRONMENT}


def deploy(actor: Act, **options: Any) -> Ran:
    """Merge: main is pushed."""
    payload = {"ref": "refs/heads/main", "before": "0" * 40}
    return actor.run("deploy.yml", "push", payload, **{"variables": variables(actor), **options})


def rollback(actor: Act, environment: str, to: str, **options: Any) -> Ran:
    payload = {"ref": "refs/heads/main", "inputs": {"environment": environment, "commit": to}}
    return actor.run("rollback.yml", "workflow_dispatch", payload, **{"variables": variables(actor), **options})


def told(calls: list[list[str]]) -> list[str]:
    """Give the calls in few words: no preparations, no options."""
    kept = []
    for call in calls:
        name, *words = call
        if name in ("actions/setup-python", "hashicorp/setup-terraform"):
            continue
        named = [word for word in words if not word.startswith(("-input", "-no-color", "-backend-config"))]
        kept.append(re.sub(r"-chdir=\S*/terraform/", "-chdir=terraform/", " ".join([name, *named])))
    return kept


def steps_of(environment: str, sha: str, mode: str = "", *, views: bool = False, back: bool = False) -> list[str]:
    """What a deploy to one environment calls, or a rollback of it."""
    folder = f"-chdir=terraform/environments/{environment}"
    apply = [f"terraform {folder} init", f"terraform {folder} apply -auto-approve", f"terraform {folder} output -json"]
    again = ["astro deployment inspect the-deployment --workspace-id the-workspace --key metadata.current_tag"]
    return [
        "curl --fail --silent --show-error --location --proto =https --retry 3 --output FILE ADDRESS",
        f"aws-actions/configure-aws-credentials aws-region=eu-central-1 role-to-assume={ENVIRONMENT['AWS_ROLE_ARN']} "
        "role-duration-seconds=7200",
        f"terraform {folder} init",
        f"terraform {folder} output -json",
        "astro deployment inspect the-deployment --workspace-id the-workspace --key metadata.status",
        *([] if back else apply),
        f"airflow remember ?{sha}",
        *again,
        f"astro deploy the-deployment --workspace-id the-workspace {mode}"
        f"--force --wait --wait-time 20m --description {sha}",
        *([] if mode else again),
        *([] if back else ["airflow run warehouse_migrations"]),
        "airflow run market_etl__taskflow_api",
        *(["airflow run daily_operations_view_update"] if views else []),
        f"airflow remember {sha}",
    ]


APPLIED = "terraform -chdir=terraform/environments/dev apply -auto-approve"
DECIDE = (
    "gh api repos/acme/airlock/actions/workflows/deploy.yml/runs?branch=main&status=success&per_page=1 "
    "--jq .workflow_runs[0].head_sha // empty"
)


def plain(calls: list[list[str]]) -> list[str]:
    """Give the calls without what differs from run to run."""
    return [
        "curl --fail --silent --show-error --location --proto =https --retry 3 --output FILE ADDRESS"
        if call.startswith("curl")
        else call
        for call in told(calls)
    ]


def test_a_merge_goes_to_dev_and_then_to_prod(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    sha = git(clone, "rev-parse", "HEAD").strip()
    ran = deploy(actor, variables={**variables(actor), "VIEWS_SOURCE_TABLES_FED": "true"})
    assert ran.status == 0, ran.text
    # One double serves both environments: prod finds the commit deployed.
    dev, prod = steps_of("dev", sha, views=True), steps_of("prod", sha, views=True)[:8]  # up to the apply
    assert plain(ran.calls) == [DECIDE, *dev, *prod]
    assert ["astro_" in call[-1] for call in ran.calls if call[0] == "curl"] == [True, True]
    assert airflow.deployed == sha
    assert set(airflow.paused.values()) == {True}, "DAGs are left as they were found"
    assert SECRET not in ran.text


def test_a_change_of_a_dag_goes_as_dags(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    airflow.variables["airlock_deployed_commit"] = git(clone, "rev-parse", "HEAD").strip()
    actor.answers["gh repos/acme/airlock/actions/workflows"] = airflow.variables["airlock_deployed_commit"]
    (clone / "dags/data_freshness.py").open("a").write("# changed\n")
    sha = commit(clone, "a DAG")
    ran = deploy(actor, job="dev")
    assert ran.status == 0, ran.text
    assert plain(ran.calls) == [DECIDE, *steps_of("dev", sha, "--dags ")]


def test_a_change_of_tests_and_docs_deploys_nothing(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    actor.answers["gh repos/acme/airlock/actions/workflows"] = git(clone, "rev-parse", "HEAD").strip()
    (clone / "tests/test_versions.py").open("a").write("# changed\n")
    (clone / "docs/quality.md").open("a").write("changed\n")
    commit(clone, "tests and docs")
    ran = deploy(actor)
    assert (ran.status, plain(ran.calls)) == (0, [DECIDE]), ran.text
    assert set(ran.steps) == {"decide"}


def test_without_a_checksum_nothing_is_downloaded(actor: Act, airflow: AirflowDouble) -> None:
    ran = deploy(actor, variables={**variables(actor), "ASTRO_CLI_SHA256": ""})
    assert ran.status != 0
    assert plain(ran.calls) == [DECIDE]
    assert "ASTRO_CLI_SHA256 is no SHA-256: set it" in ran.text


@pytest.mark.prove
def test_another_archive_than_the_checksum_says_is_not_used(actor: Act, airflow: AirflowDouble) -> None:
    ran = deploy(actor, variables={**variables(actor), "ASTRO_CLI_SHA256": "0" * 64})
    assert ran.status != 0
    assert [call[0] for call in ran.calls if call[0] in ("curl", "astro", "terraform")] == ["curl"]
    assert "do not use it" in ran.text


def test_a_repository_that_does_not_deploy_is_left_alone(actor: Act) -> None:
    ran = deploy(actor, variables={})
    assert (ran.status, ran.calls) == (0, []), ran.text


def test_a_rollback_deploys_an_earlier_commits_image_and_no_infrastructure(
    actor: Act, airflow: AirflowDouble, clone: Path
) -> None:
    earlier = git(clone, "rev-parse", "HEAD").strip()
    (clone / "include/errors.py").open("a").write("# broken\n")
    airflow.variables["airlock_deployed_commit"] = commit(clone, "what is gone back from")
    ran = rollback(actor, "prod", earlier)
    assert ran.status == 0, ran.text
    assert plain(ran.calls) == steps_of("prod", earlier, back=True)
    assert airflow.deployed == earlier


@pytest.mark.parametrize("to", ["unreviewed", "no-such-commit", "--help"])
def test_what_is_not_in_main_is_not_gone_back_to(actor: Act, airflow: AirflowDouble, clone: Path, to: str) -> None:
    git(clone, "checkout", "--quiet", "-b", "unreviewed")
    commit(clone, "nobody reviewed this")
    git(clone, "checkout", "--quiet", "main")
    ran = rollback(actor, "dev", to)
    assert ran.status != 0
    assert not [call for call in ran.calls if call[0] in ("astro", "terraform")]
    assert ("not in the history of main" if to == "unreviewed" else "git knows no commit") in ran.text


CUTS = [
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


@pytest.mark.parametrize(("failing", "last"), [pytest.param(*cut[:2], id=cut[2]) for cut in CUTS])
@pytest.mark.prove
def test_what_fails_stops_all_that_comes_after(
    actor: Act, airflow: AirflowDouble, clone: Path, failing: str, last: int
) -> None:
    sha = git(clone, "rev-parse", "HEAD").strip()
    actor.fail(failing)
    ran = deploy(actor)
    assert ran.status != 0
    assert plain(ran.calls) == [DECIDE, *steps_of("dev", sha)][: last + 1]
    assert not ran.steps.get("prod")


@pytest.mark.parametrize(
    "failing", ["market_etl__taskflow_api", pytest.param("warehouse_migrations", marks=pytest.mark.prove)]
)
def test_a_failed_run_keeps_the_commit_from_prod_and_says_how_to_go_back(
    actor: Act, airflow: AirflowDouble, clone: Path, failing: str
) -> None:
    airflow.variables["airlock_deployed_commit"] = before = git(clone, "rev-parse", "HEAD").strip()
    (clone / "include/errors.py").open("a").write("# broken\n")
    sha = commit(clone, "it does not run")
    airflow.failing.add(failing)
    ran = deploy(actor)
    assert ran.status != 0
    calls = [DECIDE, *steps_of("dev", sha)]
    before_it = itertools.takewhile(lambda it: not it.endswith(failing), calls)
    assert plain(ran.calls) == [*before_it, f"airflow run {failing}"]
    assert f"{failing}.work failed" in ran.text
    assert "it went wrong" in ran.text
    assert f"workflow `rollback` with environment dev and commit {before}" in ran.text
    assert airflow.deployed == f"?{sha}", "the next deploy must not take this for deployed"


def test_an_older_commit_does_not_go_over_a_newer_one(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    """As when an old run is started again, or two merges overtake each other."""
    older = git(clone, "rev-parse", "HEAD").strip()
    airflow.variables["airlock_deployed_commit"] = "?" + commit(clone, "newer")
    git(clone, "checkout", "--quiet", "--detach", older)
    ran = deploy(actor, job="dev")
    assert ran.status != 0
    assert "dev already runs the newer" in ran.text
    assert not [call for call in ran.calls if "apply" in call or call[:2] == ["astro", "deploy"]]


def test_before_the_first_apply_there_is_no_deployment_to_ask(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    outputs = actor.answers.pop("terraform output -json")
    (actor.folder / "outputs-after-apply").write_text(outputs)
    ran = deploy(actor, job="dev")
    assert ran.status == 0, ran.text
    sha = git(clone, "rev-parse", "HEAD").strip()
    calls = plain(ran.calls)
    assert not [it for it in calls[: calls.index(APPLIED)] if it.startswith("astro")]
    assert calls[-1] == f"airflow remember {sha}"


def test_a_change_of_the_infrastructure_only_is_tried_too(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    airflow.variables["airlock_deployed_commit"] = git(clone, "rev-parse", "HEAD").strip()
    (clone / "terraform/environments/dev/main.tf").open("a").write("# changed\n")
    sha = commit(clone, "infrastructure")
    ran = deploy(actor, job="dev")
    assert ran.status == 0, ran.text
    assert not [call for call in ran.calls if call[:2] == ["astro", "deploy"]]
    assert plain(ran.calls)[-2:] == ["airflow run market_etl__taskflow_api", f"airflow remember {sha}"]


def test_no_older_runtime_is_gone_back_to(actor: Act, airflow: AirflowDouble, clone: Path) -> None:
    earlier = git(clone, "rev-parse", "HEAD").strip()
    dockerfile = clone / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("runtime:3.3-8", "runtime:3.3-9"))
    airflow.variables["airlock_deployed_commit"] = commit(clone, "a newer runtime")
    ran = rollback(actor, "prod", earlier)
    assert ran.status != 0
    assert "Deploy History" in ran.text
    assert not [call for call in ran.calls if call[:2] == ["astro", "deploy"]]


def test_a_deployment_that_hibernates_is_woken_up_first(actor: Act, airflow: AirflowDouble) -> None:
    actor.answers["astro metadata.status"] = "HIBERNATING"
    ran = deploy(actor, job="dev")
    assert ran.status == 0, ran.text
    calls = [call for call in told(ran.calls) if call.startswith("astro")]
    assert calls[1] == "astro deployment wake-up the-deployment --workspace-id the-workspace --for 2h --force"


@pytest.mark.parametrize(
    "silent", ["uncommitted", "same-image", pytest.param("other-workspace", marks=pytest.mark.prove)]
)
def test_an_astro_deploy_that_ends_well_and_deploys_nothing_is_a_failure(
    actor: Act, airflow: AirflowDouble, silent: str
) -> None:
    (actor.folder / "silent").write_text(silent)
    ran = deploy(actor)
    assert ran.status != 0
    assert not [call for call in ran.calls if call[:2] == ["airflow", "run"]]
    assert ("still runs the image" if silent == "same-image" else "did not say that it deployed") in ran.text


def test_terraform_has_the_outputs_that_a_deploy_asks_for(clone: Path) -> None:
    for environment in ("dev", "prod"):
        text = (clone / f"terraform/environments/{environment}/outputs.tf").read_text()
        assert set(OUTPUTS) <= set(re.findall(r'^output "(\w+)"', text, re.MULTILINE))


def test_a_fork_deploys_nothing(actor: Act) -> None:
    payload = {"ref": "refs/heads/topic", "repository": {"full_name": FORK}}
    git(actor.clone, "checkout", "--quiet", "-b", "topic")
    ran = actor.run("deploy.yml", "workflow_dispatch", payload, variables=variables(actor), secrets=False)
    assert (ran.status, ran.calls) == (0, []), ran.text
