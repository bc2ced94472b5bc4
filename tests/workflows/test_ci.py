"""Tests of ci.yml, which act runs: every step succeeds, a mistake fails its step, and a fork gets no secrets.

`make test` runs some of it; `make prove-ci` runs all of it, in fresh clones that install everything.
"""

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.workflows.act import FORK, REPOSITORY, ROOT, SECRET, Act, WorkflowRun, commit, git
from tests.workflows.conftest import needs_terraform

VARIABLES = {"ASTRO_CLI_VERSION": "1.43.0", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/plan", "AWS_REGION": "eu-1"}
CI = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
STEPS_WITH_STAND_INS = {
    "Build the image": "needs Docker and the registry of the base image: a stand-in for docker checks the command",
    "Plan dev": "needs an account: a stand-in for terraform checks the command",
    "Write the comment": "needs GitHub: a stand-in for gh checks the command",
}


def pull_request(actor: Act, *, fork: bool = False, base_commit: str = "HEAD~1", **options: Any) -> WorkflowRun:
    """Open a pull request; its base is the previous commit."""
    head = {"ref": "topic", "repo": {"full_name": FORK if fork else REPOSITORY}}
    base = {"ref": "main", "sha": git(actor.clone, "rev-parse", base_commit).strip()}
    request = {"number": 7, "head": head, "base": base, "user": {"login": "somebody"}}
    options = {"variables": VARIABLES, "secrets": not fork, **options}
    return actor.run("ci.yml", "pull_request", {"number": 7, "pull_request": request}, **options)


def job_of(step: str) -> str:
    """Return the job that has a step."""
    (job,) = [name for name, job in CI.items() if step in [each.get("name") for each in job["steps"]]]
    return str(job)


def only(*tests: str) -> dict[str, str]:
    """Make a step that runs tests run only the ones that are expected to fail."""
    return {"PYTEST_ADDOPTS": f"-x -p no:cacheprovider {' '.join(tests)}"}


Mistake = Callable[[Path], object]


def suite(clone: Path) -> Path:
    """Return the file of a made-up suite, which belongs to no dataset."""
    return clone / "great_expectations/expectations/library.json"


def expectation(**fields: Any) -> dict[str, Any]:
    """Return a critical expectation about the number of rows."""
    expected = {"type": "expect_table_row_count_to_be_between", "severity": "critical", "meta": {}}
    return {"id": str(uuid.uuid4()), "description": "the day has rows", "kwargs": {"min_value": 10}} | expected | fields


def commit_suite(clone: Path) -> None:
    """Add the made-up suite."""
    suite(clone).write_text(json.dumps({"name": "library", "expectations": [expectation(id="a")], "meta": {}}))
    commit(clone, "a suite")


def unformatted(clone: Path) -> None:
    (clone / "scripts/deploy.py").open("a").write("x = {  'a':1 }\n")


def import_error(clone: Path) -> None:
    (clone / "dags/data_freshness.py").open("a").write("import no_such_module\n")


def failing_expectation(clone: Path) -> None:
    """Add an expectation that no data meets to the suites of all datasets."""
    suites = list((clone / "great_expectations/expectations").glob("*.json"))
    if not suites:
        pytest.skip("no dataset has a suite")
    for file in suites:
        content = json.loads(file.read_text())
        content["expectations"].append(expectation(kwargs={"min_value": 10**12}))
        file.write_text(json.dumps(content))


def loosen(clone: Path) -> None:
    content = json.loads(suite(clone).read_text())
    content["expectations"][0]["kwargs"]["min_value"] = 5
    suite(clone).write_text(json.dumps(content))


def broken_suite(clone: Path) -> None:
    suite(clone).write_text("{")


def failing_comparison(clone: Path) -> None:
    """Make the program end like Python after an unhandled exception."""
    (clone / "scripts/quality_diff.py").write_text("raise RuntimeError\n")


def terraform_error(clone: Path) -> None:
    (clone / "terraform/environments/dev/main.tf").open("a").write('resource "aws_s3_bucket" "broken" {\n')


MISTAKES = [
    pytest.param(
        unformatted,
        "Lint",
        {},
        "Would reformat|files were modified by this hook|reformatted",
        marks=pytest.mark.linters,
        id="unformatted",
    ),
    pytest.param(
        import_error, "Test", only("tests/dags"), "no_such_module", marks=pytest.mark.prove, id="import-error"
    ),
    pytest.param(
        failing_expectation,
        "Demo",
        {},
        r"validate_\w+ failed",
        marks=pytest.mark.prove,
        id="failing-expectation",
    ),
    pytest.param(broken_suite, "Compare expectations", {}, r"library\.json \(working tree\)", id="broken-suite"),
    pytest.param(failing_comparison, "Compare expectations", {}, "RuntimeError", id="failing-comparison"),
    pytest.param(
        terraform_error,
        "Format, validate, test, apply to doubles, checkov",
        only("tests/terraform/test_configuration.py"),
        "main.tf",
        marks=[pytest.mark.prove, needs_terraform],
        id="terraform-error",
    ),
]


@pytest.mark.parametrize(("mistake", "step", "env", "message"), MISTAKES)
@pytest.mark.timeout(900)
def test_mistake_fails_its_step(
    actor: Act, clone: Path, mistake: Mistake, step: str, env: dict[str, str], message: str
) -> None:
    mistake(clone)
    commit(clone, "broken")
    run = pull_request(actor, job=job_of(step), env=env, matrix="python:3.11" if step == "Test" else None)
    assert run.status != 0
    failed = {name for job in run.steps.values() for name, result in job.items() if result == "failure"}
    assert failed == {step}, run.text
    assert re.search(message, run.text), run.text[-3000:]


def test_looser_expectation_is_reported_but_no_error(actor: Act, clone: Path) -> None:
    commit_suite(clone)
    loosen(clone)
    commit(clone, "loosened")
    run = pull_request(actor, job="comment")
    assert run.status == 0, run.text
    assert "looser" in (run.artifact("comment-quality") / "quality.md").read_text()
    body = json.loads((actor.folder / "posted.json").read_text())["body"]
    assert "looser" in body
    assert "1 looser or gone" in body


def test_pull_request_is_not_compared_with_commits_that_others_merged(actor: Act, clone: Path) -> None:
    commit_suite(clone)
    loosen(clone)
    commit(clone, "loosened by somebody else")
    commit(clone, "anything")
    run = pull_request(actor, base_commit="HEAD~2", job="quality-diff")
    assert run.status == 0, run.text
    assert "Result: nothing was loosened." in (run.artifact("comment-quality") / "quality.md").read_text()


def test_comment_shows_the_plan_of_dev_and_is_posted_once(actor: Act, clone: Path) -> None:
    actor.answers |= {"terraform plan": "# a change\nPlan: 1 to add, 0 to change, 0 to destroy.\n", "plan status": "2"}
    commit(clone, "anything")
    run = pull_request(actor, job="comment")
    assert run.status == 0, run.text
    assert "Plan: 1 to add" in json.loads((actor.folder / "posted.json").read_text())["body"]
    (plan,) = [call for call in run.calls if call[0] == "terraform" and "plan" in call]
    assert plan[1].endswith("environments/dev")
    assert "-refresh=false" in plan, "the plan must read no resource and no secret"
    posted = [call for call in run.calls if call[0] == "gh" and "--method" in call]
    assert [call[1:5] for call in posted] == [["api", "--method", "POST", "repos/acme/airlock/issues/7/comments"]]
    # The job with a token that can write runs the code of the base, not of the pull request.
    base = git(clone, "rev-parse", "HEAD~1").strip()
    assert [call for call in run.calls if call[0] == "actions/checkout" and f"ref={base}" in call]
    assert SECRET not in run.text
    assert SECRET not in str(run.calls)


def test_fork_gets_the_diff_but_no_secret_and_no_comment(actor: Act, clone: Path) -> None:
    commit(clone, "from a fork")
    run = pull_request(actor, fork=True, job="comment")
    assert run.status == 0, run.text
    assert set(run.steps) == {"quality-diff"}
    assert "nothing was loosened" in run.text
    assert not [call for call in run.calls if call[0] in ("terraform", "gh", "aws-actions/configure-aws-credentials")]


MARKS = {"terraform": needs_terraform}
# Jobs that another job needs: act runs them with that job. `needs` is one name or a list.
NEEDED = {name for job in CI.values() for name in re.findall(r"[\w-]+", str(job.get("needs", "")))}


def matrix_of(job: str) -> list[str | None]:
    """Return the values of the matrix of a job as act expects them; [None] without a matrix."""
    matrix = CI[job].get("strategy", {}).get("matrix", {})
    return [f"{name}:{value}" for name, values in matrix.items() for value in values] or [None]


JOBS = [
    pytest.param(job, matrix, id=f"{job}-{matrix}" if matrix else job, marks=MARKS.get(job, ()))
    for job in CI
    if job not in NEEDED
    for matrix in matrix_of(job)
]


@pytest.mark.prove
@pytest.mark.timeout(5400)
@pytest.mark.parametrize(("job", "matrix"), JOBS)
def test_every_step_succeeds_in_a_fresh_clone(tmp_path: Path, clone: Path, job: str, matrix: str | None) -> None:
    """Every job installs everything, like on GitHub. STEPS_WITH_STAND_INS lists the steps that cannot be real here."""
    actor = Act(tmp_path, clone, share_environment=False)
    actor.tool("docker")
    commit(clone, "a pull request")
    run = pull_request(actor, job=job, matrix=matrix, timeout=5300)
    assert run.status == 0, run.text[-5000:]
    expected = {(name, step["name"]) for name in {job, *run.steps} for step in CI[name]["steps"] if "run" in step}
    succeeded = {
        (name, step) for name, steps in run.steps.items() for step, result in steps.items() if result == "success"
    }
    assert expected <= succeeded, expected - succeeded
    if job == "comment":
        assert set(run.steps) == {"quality-diff", "plan", "comment"}
    if job == "demo":
        from include.datasets import DATASETS

        assert (run.artifact("quality-report") / "index.html").is_file()
        runs = re.findall(r"^\| \S+ \| .* \| success \|", run.text, re.MULTILINE)
        assert len(runs) >= len(DATASETS), "the summary page of the job must show a run per dataset"


def test_lists_of_jobs_and_steps_match_the_workflow() -> None:
    assert set(MARKS) <= set(CI)
    assert set(STEPS_WITH_STAND_INS) <= {step.get("name") for job in CI.values() for step in job["steps"]}
