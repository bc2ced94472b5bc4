"""What holds of every workflow, whatever it does, beside what linters look for."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.workflows.act import CONTRACT, ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github/actions").glob("*/action.yml"))
# Where each job works that gets a role or a token, and what it waits for. The environment decides which it gets, and
# whether people are asked; no stand-in notices another one.
WHERE = {
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
    # `on` is true to YAML 1.1: nothing here needs the words for true and false.
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
    """Give every job, under its workflow's file and its name."""
    for path in WORKFLOWS:
        for name, job in jobs(path).items():
            yield (path.name, name), job


def uses(job: dict[str, Any], action: str) -> list[dict[str, Any]]:
    """Give the steps of a job that use an action."""
    return [step for step in job["steps"] if step.get("uses", "").partition("@")[0] == action]


def runs(job: dict[str, Any], text: str) -> bool:
    return any(text in step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_action_gets_the_inputs_that_its_pinned_commit_has(path: Path) -> None:
    for step in steps(path):
        if uses := step.get("uses"):
            given = set(step.get("with", {}))
            if uses.startswith("./"):
                inputs = read(ROOT / uses / "action.yml")["inputs"]
                required = {name for name, it in inputs.items() if it.get("required") == "true"}
                assert required <= given <= set(inputs), uses
            else:
                assert uses in CONTRACT, f"{uses}: write its inputs into tests/workflows/actions.yaml"
                assert given <= set(CONTRACT[uses]), f"{uses} has no input {given - set(CONTRACT[uses])}"


def test_the_contract_names_no_action_that_is_not_used() -> None:
    used = {step.get("uses") for path in WORKFLOWS + ACTIONS for step in steps(path)}
    assert set(CONTRACT) <= used


def test_where_lint_is_run_terraform_is_there() -> None:
    for path in WORKFLOWS:
        for name, job in jobs(path).items():
            if any("make lint" in step.get("run", "") for step in job["steps"]):
                assert any("hashicorp/setup-terraform@" in step.get("uses", "") for step in job["steps"]), name


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_pin_says_its_version(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "uses:" in line and "uses: ./" not in line:
            assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@each_workflow
def test_nothing_is_granted_but_by_a_job_with_a_reason(path: Path) -> None:
    assert read(path)["permissions"] == {}
    for name, job in jobs(path).items():
        assert job["permissions"], name
    granted = re.findall(r"^      [\w-]+: (?:read|write)(.*)$", path.read_text(), re.MULTILINE)
    assert granted
    assert all(re.match(r" # \w", reason) for reason in granted), "say behind each permission what it is for"


@each_workflow
def test_every_job_has_a_limit_and_its_runs_do_not_cross(path: Path) -> None:
    workflow = read(path)
    for name, job in jobs(path).items():
        assert 0 < int(job["timeout-minutes"]) <= 180, name
        assert job["runs-on"] == "ubuntu-24.04", name
        concurrency = job.get("concurrency") or workflow.get("concurrency")
        assert concurrency, name
        if path.name != "ci.yml":
            assert concurrency["cancel-in-progress"] == "false", f"{name}: a deploy that began is not cut off"


@each_workflow
def test_secrets_are_only_in_jobs_with_an_environment(path: Path) -> None:
    for name, job in jobs(path).items():
        if "secrets." in str(job) or "id-token" in job["permissions"]:
            assert job.get("environment"), name
    assert "secrets: inherit" not in path.read_text()


def test_every_job_works_in_its_environment_and_waits_for_the_others_of_it() -> None:
    assert {
        where: (job["environment"], job.get("concurrency", {}).get("group"))
        for where, job in every_job()
        if "environment" in job
    } == WHERE


def test_a_job_may_do_what_its_steps_need() -> None:
    """Without a permission a job fails on GitHub only: act asks nobody."""
    for where, job in every_job():
        if uses(job, "aws-actions/configure-aws-credentials") or uses(job, DEPLOY):
            assert job["permissions"].get("id-token") == "write", f"{where} gets no role"
        if runs(job, "scripts.deploy_mode"):
            assert job["permissions"].get("actions") == "read", f"{where} may not ask which deploy succeeded last"


def test_who_compares_commits_has_them() -> None:
    """GitHub's checkout has one commit where nothing else is asked for; act's has them all."""
    wanted = {where: "0" for where, job in every_job() if uses(job, DEPLOY) or runs(job, "scripts.deploy_mode")} | {
        ("ci.yml", "quality-diff"): "2"
    }
    assert len(wanted) > 1
    for where, job in every_job():
        if where in wanted:
            depths = [step["with"].get("fetch-depth") for step in uses(job, "actions/checkout")]
            assert depths == [wanted[where]], where


def test_the_diff_of_expectations_is_of_pull_requests_only() -> None:
    """What a pull request checks out is a merge commit, whose first parent is main; a push's is any commit."""
    assert jobs(ROOT / ".github/workflows/ci.yml")["quality-diff"]["if"] == "github.event_name == 'pull_request'"


@pytest.mark.parametrize(("workflow", "job"), MAIN_ONLY)
def test_what_anybody_can_start_on_a_branch_runs_on_main_only(workflow: str, job: str) -> None:
    condition = jobs(ROOT / ".github/workflows" / workflow)[job]["if"]
    assert "github.ref == 'refs/heads/main'" in condition.split(" && ")
    assert "||" not in condition


def test_an_action_is_pinned_to_one_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS + ACTIONS:
        for step in steps(path):
            name, _, commit = step.get("uses", "").partition("@")
            pins.setdefault(name, set()).add(commit)
    assert {name: sorted(commits) for name, commits in pins.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_expression_is_pasted_into_a_script(path: Path) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step


@each_workflow
def test_nothing_runs_with_more_rights_for_a_fork(path: Path) -> None:
    assert not set(read(path)["on"]) & {"pull_request_target", "workflow_run", "issue_comment"}


@each_workflow
def test_the_readme_tells_of_every_workflow(path: Path) -> None:
    assert f"`{path.name}`" in (ROOT / ".github/workflows/README.md").read_text()


def test_the_tests_run_on_the_lowest_and_the_highest_python() -> None:
    lowest, above = re.findall(r"3\.\d+", (ROOT / "pyproject.toml").read_text().partition("requires-python")[2])[:2]
    highest = f"3.{int(above.removeprefix('3.')) - 1}"
    assert jobs(ROOT / ".github/workflows/ci.yml")["tests"]["strategy"]["matrix"]["python"] == [lowest, highest]


@each_workflow
def test_one_environment_or_python_does_not_hide_the_other(path: Path) -> None:
    for name, job in jobs(path).items():
        assert "strategy" not in job or job["strategy"]["fail-fast"] == "false", name


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_linter_is_told_to_look_away(path: Path) -> None:
    """make lint has actionlint, and zizmor in its strictest persona. One syntax is too new for act, and says so."""
    assert "zizmor: ignore" not in path.read_text().replace("zizmor: ignore[self-repository]", "")
