"""Rules for every workflow that no linter checks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.workflows.act import CONTRACT, ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github/actions").glob("*/action.yml"))
# The environment and the concurrency group of each job that gets a role or a token. The environment decides which role
# a job gets and whether reviewers are asked. No other test would notice a wrong one.
ENVIRONMENTS = {
    ("ci.yml", "plan"): ("dev-plan", None),
    ("deploy.yml", "dev"): ("dev", "deploy-dev"),
    ("deploy.yml", "prod"): ("prod", "deploy-prod"),
    ("drift.yml", "plan"): ("${{ matrix.environment }}-drift", None),
    ("rollback.yml", "rollback"): ("${{ inputs.environment }}", "deploy-${{ inputs.environment }}"),
}
MAIN_ONLY = [("deploy.yml", "decide"), ("drift.yml", "plan"), ("rollback.yml", "rollback")]
DEPLOY = "./.github/actions/deploy"
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true, so load all values as strings.
    content = yaml.load(path.read_text(), yaml.BaseLoader)
    assert isinstance(content, dict)
    return content


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    content = read(path)
    for job in content.get("jobs", {"": content.get("runs")}).values():
        yield from job["steps"]


def every_job() -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Yield every job with the file name of its workflow and its own name."""
    for path in WORKFLOWS:
        for name, job in jobs(path).items():
            yield (path.name, name), job


def uses(job: dict[str, Any], action: str) -> list[dict[str, Any]]:
    """Return the steps of a job that use an action."""
    return [step for step in job["steps"] if step.get("uses", "").partition("@")[0] == action]


def runs(job: dict[str, Any], text: str) -> bool:
    return any(text in step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_actions_get_only_inputs_of_their_pinned_commit(path: Path) -> None:
    for step in steps(path):
        if uses := step.get("uses"):
            names = set(step.get("with", {}))
            if uses.startswith("./"):
                inputs = read(ROOT / uses / "action.yml")["inputs"]
                required = {name for name, each in inputs.items() if each.get("required") == "true"}
                assert required <= names <= set(inputs), uses
            else:
                assert uses in CONTRACT, f"{uses}: add its inputs to tests/workflows/actions.yaml"
                assert names <= set(CONTRACT[uses]), f"{uses} has no input {names - set(CONTRACT[uses])}"


def test_list_of_actions_has_no_unused_action() -> None:
    used = {step.get("uses") for path in WORKFLOWS + ACTIONS for step in steps(path)}
    assert set(CONTRACT) <= used


def test_jobs_that_lint_install_terraform() -> None:
    for path in WORKFLOWS:
        for name, job in jobs(path).items():
            if any("make lint" in step.get("run", "") for step in job["steps"]):
                assert any("hashicorp/setup-terraform@" in step.get("uses", "") for step in job["steps"]), name


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_pin_has_a_comment_with_its_version(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "uses:" in line and "uses: ./" not in line:
            assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@each_workflow
def test_only_jobs_grant_permissions_each_with_a_reason(path: Path) -> None:
    assert read(path)["permissions"] == {}
    for name, job in jobs(path).items():
        assert job["permissions"], name
    granted = re.findall(r"^      [\w-]+: (?:read|write)(.*)$", path.read_text(), re.MULTILINE)
    assert granted
    assert all(re.match(r" # \w", reason) for reason in granted), (
        "write a comment with the reason after each permission"
    )


@each_workflow
def test_every_job_has_a_timeout_and_a_concurrency_group(path: Path) -> None:
    workflow = read(path)
    for name, job in jobs(path).items():
        assert 0 < int(job["timeout-minutes"]) <= 180, name
        assert job["runs-on"] == "ubuntu-24.04", name
        concurrency = job.get("concurrency") or workflow.get("concurrency")
        assert concurrency, name
        if path.name != "ci.yml":
            assert concurrency["cancel-in-progress"] == "false", f"{name}: a running deploy must not be cancelled"


@each_workflow
def test_secrets_are_only_in_jobs_with_an_environment(path: Path) -> None:
    for name, job in jobs(path).items():
        if "secrets." in str(job) or "id-token" in job["permissions"]:
            assert job.get("environment"), name
    assert "secrets: inherit" not in path.read_text()


def test_jobs_have_their_environment_and_concurrency_group() -> None:
    assert {
        where: (job["environment"], job.get("concurrency", {}).get("group"))
        for where, job in every_job()
        if "environment" in job
    } == ENVIRONMENTS


def test_jobs_have_the_permissions_that_their_steps_need() -> None:
    """act does not check permissions, so a job without one would fail only on GitHub."""
    for where, job in every_job():
        if uses(job, "aws-actions/configure-aws-credentials") or uses(job, DEPLOY):
            assert job["permissions"].get("id-token") == "write", f"{where} cannot get a role"
        if runs(job, "scripts.deploy_mode"):
            assert job["permissions"].get("actions") == "read", f"{where} may not read which deploy succeeded last"


def test_jobs_that_compare_commits_check_them_out() -> None:
    """By default the checkout on GitHub has one commit, but with act it has all."""
    depths_by_job = {
        where: "0" for where, job in every_job() if uses(job, DEPLOY) or runs(job, "scripts.deploy_mode")
    } | {("ci.yml", "quality-diff"): "2"}
    assert len(depths_by_job) > 1
    for where, job in every_job():
        if where in depths_by_job:
            depths = [step["with"].get("fetch-depth") for step in uses(job, "actions/checkout")]
            assert depths == [depths_by_job[where]], where


def test_diff_of_expectations_runs_for_pull_requests_only() -> None:
    """A pull request checks out a merge commit with main as its first parent. A push checks out any commit."""
    assert jobs(ROOT / ".github/workflows/ci.yml")["quality-diff"]["if"] == "github.event_name == 'pull_request'"


@pytest.mark.parametrize(("workflow", "job"), MAIN_ONLY)
def test_jobs_that_can_be_started_by_hand_run_on_main_only(workflow: str, job: str) -> None:
    condition = jobs(ROOT / ".github/workflows" / workflow)[job]["if"]
    assert "github.ref == 'refs/heads/main'" in condition.split(" && ")
    assert "||" not in condition


def test_all_uses_of_an_action_have_the_same_pin() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS + ACTIONS:
        for step in steps(path):
            name, _, commit = step.get("uses", "").partition("@")
            pins.setdefault(name, set()).add(commit)
    assert {name: sorted(commits) for name, commits in pins.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_contain_no_expressions(path: Path) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step


@each_workflow
def test_no_trigger_gives_a_fork_more_rights(path: Path) -> None:
    assert not set(read(path)["on"]) & {"pull_request_target", "workflow_run", "issue_comment"}


@each_workflow
def test_readme_lists_every_workflow(path: Path) -> None:
    assert f"`{path.name}`" in (ROOT / ".github/workflows/README.md").read_text()


def test_tests_run_on_the_lowest_and_the_highest_python() -> None:
    lowest, above = re.findall(r"3\.\d+", (ROOT / "pyproject.toml").read_text().partition("requires-python")[2])[:2]
    highest = f"3.{int(above.removeprefix('3.')) - 1}"
    assert jobs(ROOT / ".github/workflows/ci.yml")["tests"]["strategy"]["matrix"]["python"] == [lowest, highest]


@each_workflow
def test_matrix_jobs_do_not_cancel_each_other(path: Path) -> None:
    for name, job in jobs(path).items():
        assert "strategy" not in job or job["strategy"]["fail-fast"] == "false", name


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_workflows_disable_no_linter(path: Path) -> None:
    """One rule of zizmor is allowed to be disabled, because act does not support the syntax that it wants."""
    assert "zizmor: ignore" not in path.read_text().replace("zizmor: ignore[self-repository]", "")
