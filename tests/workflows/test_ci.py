"""ci.yml, run by act: every step succeeds, what is broken goes red at its step, and a fork gets all but secrets.

Some of it is run by `make test`; all of it, in clones that install everything anew, by `make prove-ci`.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.workflows.act import FORK, REPOSITORY, ROOT, SECRET, Act, Ran, commit, git
from tests.workflows.conftest import needs_terraform

VARIABLES = {"ASTRO_CLI_VERSION": "1.43.0", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/plan", "AWS_REGION": "eu-1"}
CI = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
NOT_REALLY = {
    "Build the image": "needs Docker and the registry of the base image: a stand-in of docker takes the command",
    "Plan dev": "needs an account: a stand-in of terraform takes the command",
    "Write the comment": "needs GitHub: a stand-in of gh takes the command",
}


def pull_request(actor: Act, *, fork: bool = False, base_commit: str = "HEAD~1", **options: Any) -> Ran:
    """Open a pull request whose base is the commit before."""
    head = {"ref": "topic", "repo": {"full_name": FORK if fork else REPOSITORY}}
    base = {"ref": "main", "sha": git(actor.clone, "rev-parse", base_commit).strip()}
    request = {"number": 7, "head": head, "base": base, "user": {"login": "somebody"}}
    options = {"variables": VARIABLES, "secrets": not fork, **options}
    return actor.run("ci.yml", "pull_request", {"number": 7, "pull_request": request}, **options)


def job_of(step: str) -> str:
    """Give the job that has a step."""
    (found,) = [name for name, job in CI.items() if any(it.get("name") == step for it in job["steps"])]
    return str(found)


def only(*tests: str) -> dict[str, str]:
    """Let a step that runs the tests run some of them only: those that shall fail."""
    return {"PYTEST_ADDOPTS": f"-x -p no:cacheprovider {' '.join(tests)}"}


Break = Callable[[Path], object]


def market(clone: Path) -> Path:
    """Give the market's suite."""
    return clone / "great_expectations/expectations/market.json"


def unformatted(clone: Path) -> None:
    (clone / "scripts/deploy.py").open("a").write("x = {  'a':1 }\n")


def import_error(clone: Path) -> None:
    (clone / "dags/data_freshness.py").open("a").write("import no_such_module\n")


def failing_expectation(clone: Path) -> None:
    market(clone).write_text(market(clone).read_text().replace("volume >= 0 AND", "volume > 1e15 AND"))


def loosen(clone: Path) -> None:
    suite = json.loads(market(clone).read_text())
    next(it for it in suite["expectations"] if it["kwargs"].get("column") == "volume")["kwargs"]["mostly"] = 0.5
    market(clone).write_text(json.dumps(suite, indent=2) + "\n")


def broken_suite(clone: Path) -> None:
    market(clone).write_text("{")


def failing_comparison(clone: Path) -> None:
    """Let Python end as it does for every exception that nobody caught."""
    (clone / "scripts/quality_diff.py").write_text("raise RuntimeError\n")


def terraform_error(clone: Path) -> None:
    (clone / "terraform/environments/dev/main.tf").open("a").write('resource "aws_s3_bucket" "broken" {\n')


MUTANTS = [
    pytest.param(
        unformatted, "Lint", {}, "Would reformat|files were modified by this hook|reformatted", id="unformatted"
    ),
    pytest.param(
        import_error, "Test", only("tests/dags"), "no_such_module", marks=pytest.mark.prove, id="import-error"
    ),
    pytest.param(
        failing_expectation,
        "Demo",
        {},
        "validate_market_data failed",
        marks=pytest.mark.prove,
        id="failing-expectation",
    ),
    pytest.param(broken_suite, "Compare expectations", {}, r"market\.json \(working tree\)", id="broken-suite"),
    pytest.param(failing_comparison, "Compare expectations", {}, "RuntimeError", id="failing-comparison"),
    pytest.param(
        terraform_error,
        "Format, validate, test and apply to a stand-in, checkov",
        only("tests/terraform/test_configuration.py"),
        "main.tf",
        marks=[pytest.mark.prove, needs_terraform],
        id="terraform-error",
    ),
]


@pytest.mark.parametrize(("broken", "step", "env", "said"), MUTANTS)
@pytest.mark.timeout(900)
def test_what_is_broken_goes_red_at_its_step(
    actor: Act, clone: Path, broken: Break, step: str, env: dict[str, str], said: str
) -> None:
    broken(clone)
    commit(clone, "broken")
    ran = pull_request(actor, job=job_of(step), env=env, matrix="python:3.11" if step == "Test" else None)
    assert ran.status != 0
    assert {name for job in ran.steps.values() for name, came in job.items() if came == "failure"} == {step}, ran.text
    assert re.search(said, ran.text), ran.text[-3000:]


def test_a_loosened_expectation_is_shown_and_is_for_people_to_decide(actor: Act, clone: Path) -> None:
    loosen(clone)
    commit(clone, "loosened")
    ran = pull_request(actor, job="comment")
    assert ran.status == 0, ran.text
    assert "looser" in (ran.artifact("comment-quality") / "quality.md").read_text()
    body = json.loads((actor.folder / "posted.json").read_text())["body"]
    assert "looser" in body
    assert "1 looser or gone" in body


def test_a_pull_request_is_not_blamed_for_what_others_merged_since_its_base(actor: Act, clone: Path) -> None:
    loosen(clone)
    commit(clone, "loosened by somebody else")
    commit(clone, "anything")
    ran = pull_request(actor, base_commit="HEAD~2", job="quality-diff")
    assert ran.status == 0, ran.text
    assert "Result: nothing was loosened." in (ran.artifact("comment-quality") / "quality.md").read_text()


def test_the_comment_has_the_plan_of_dev_and_is_written_once(actor: Act, clone: Path) -> None:
    actor.answers |= {"terraform plan": "# a change\nPlan: 1 to add, 0 to change, 0 to destroy.\n", "plan status": "2"}
    commit(clone, "anything")
    ran = pull_request(actor, job="comment")
    assert ran.status == 0, ran.text
    assert "Plan: 1 to add" in json.loads((actor.folder / "posted.json").read_text())["body"]
    (plan,) = [call for call in ran.calls if call[0] == "terraform" and "plan" in call]
    assert plan[1].endswith("environments/dev")
    assert "-refresh=false" in plan, "it reads no resource, and no secret"
    posted = [call for call in ran.calls if call[0] == "gh" and "--method" in call]
    assert [call[1:5] for call in posted] == [["api", "--method", "POST", "repos/acme/airlock/issues/7/comments"]]
    # The job that may write has the code of the base, not of the pull request.
    base = git(clone, "rev-parse", "HEAD~1").strip()
    assert [call for call in ran.calls if call[0] == "actions/checkout" and f"ref={base}" in call]
    assert SECRET not in ran.text
    assert SECRET not in str(ran.calls)


def test_a_fork_gets_the_diff_but_no_secret_and_no_comment(actor: Act, clone: Path) -> None:
    commit(clone, "from a fork")
    ran = pull_request(actor, fork=True, job="comment")
    assert ran.status == 0, ran.text
    assert set(ran.steps) == {"quality-diff"}
    assert "nothing was loosened" in ran.text
    assert not [call for call in ran.calls if call[0] in ("terraform", "gh", "aws-actions/configure-aws-credentials")]


MARKS = {"terraform": needs_terraform}
# act runs them before the job that needs them; `needs` is one name or a list.
WITH_ANOTHER = {name for job in CI.values() for name in re.findall(r"[\w-]+", str(job.get("needs", "")))}


def matrix_of(job: str) -> list[str | None]:
    """Give the values of a job's matrix, as act takes them; nothing once where it has none."""
    matrix = CI[job].get("strategy", {}).get("matrix", {})
    return [f"{name}:{value}" for name, values in matrix.items() for value in values] or [None]


JOBS = [
    pytest.param(job, matrix, id=f"{job}-{matrix}" if matrix else job, marks=MARKS.get(job, ()))
    for job in CI
    if job not in WITH_ANOTHER
    for matrix in matrix_of(job)
]


@pytest.mark.prove
@pytest.mark.timeout(5400)
@pytest.mark.parametrize(("job", "matrix"), JOBS)
def test_every_step_succeeds_in_a_fresh_clone(tmp_path: Path, clone: Path, job: str, matrix: str | None) -> None:
    """Installs everything anew in every job, as GitHub does; what cannot be real here is named."""
    actor = Act(tmp_path, clone, share_environment=False)
    actor.tool("docker")
    commit(clone, "a pull request")
    ran = pull_request(actor, job=job, matrix=matrix, timeout=5300)
    assert ran.status == 0, ran.text[-5000:]
    wanted = {(name, step["name"]) for name in {job, *ran.steps} for step in CI[name]["steps"] if "run" in step}
    came = {(name, step) for name, steps in ran.steps.items() for step, it in steps.items() if it == "success"}
    assert wanted <= came, wanted - came
    if job == "comment":
        assert set(ran.steps) == {"quality-diff", "plan", "comment"}
    if job == "demo":
        assert (ran.artifact("quality-report") / "index.html").is_file()
        assert "| market\\_etl\\_\\_taskflow\\_api |" in ran.text, "the demo's table is on the job's page"


def test_the_proof_names_no_job_or_step_that_there_is_not() -> None:
    assert set(MARKS) <= set(CI)
    assert set(NOT_REALLY) <= {step.get("name") for job in CI.values() for step in job["steps"]}
