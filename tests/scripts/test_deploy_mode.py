import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import deploy_mode
from scripts.deploy_mode import DAGS, IMAGE, Mode, decide

Commit = Callable[..., str]
FILES = {
    "dags/a.py": "a = 1\n",
    "include/helpers.py": "h = 1\n",
    "great_expectations/expectations/market.json": "{}\n",
    "requirements.txt": "a\n",
    "tests/test_a.py": "t = 1\n",
    "tests/dags/test_a.py": "t = 2\n",
    "docs/page.md": "page\n",
    "include/README.md": "inside\n",
    "terraform/main.tf": "tf\n",
}


@pytest.fixture
def commit(tmp_path: Path) -> Commit:
    """Give a function that writes files, removes those without text, and commits."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    def write(**files: str | None) -> str:
        for path, text in files.items():
            if text is None:
                (tmp_path / path).unlink()
            else:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "--allow-empty", "-m", "a commit")
        return git("rev-parse", "HEAD")

    git("init", "--quiet")
    return write


@pytest.mark.parametrize(
    ("changed", "mode", "infrastructure"),
    [
        (["dags/a.py"], Mode.DAGS, False),
        (["dags/new.py"], Mode.DAGS, False),
        (["dags/a.py", "tests/dags/test_a.py", "docs/page.md"], Mode.DAGS, False),
        (["dags/a.py", "include/helpers.py"], Mode.IMAGE, False),
        (["include/helpers.py"], Mode.IMAGE, False),
        (["great_expectations/expectations/market.json"], Mode.IMAGE, False),
        (["requirements.txt"], Mode.IMAGE, False),
        (["Dockerfile"], Mode.IMAGE, False),
        ([".dockerignore"], Mode.IMAGE, False),
        (["tests/test_a.py", "tests/dags/test_a.py"], Mode.NOTHING, False),
        (["docs/page.md", "include/README.md", "README.md"], Mode.NOTHING, False),
        (["local/demo.py", "benchmarks/a.py", ".github/workflows/ci.yml", "dagsbag.py"], Mode.NOTHING, False),
        (["terraform/main.tf"], Mode.NOTHING, True),
        (["scripts/infrastructure.py"], Mode.NOTHING, True),
        (["terraform/main.tf", "dags/a.py"], Mode.DAGS, True),
        ([], Mode.NOTHING, False),
    ],
)
def test_what_changed_decides(
    tmp_path: Path, commit: Commit, changed: list[str], mode: Mode, infrastructure: bool
) -> None:
    before = commit(**FILES)
    decision = decide(tmp_path, before, commit(**dict.fromkeys(changed, "changed\n")))
    assert (decision.mode, decision.infrastructure) == (mode, infrastructure)
    assert decision.deploys is (mode is not Mode.NOTHING or infrastructure)
    deployed = [path for path in changed if not path.endswith(".md") and path.split("/")[0] in {*IMAGE, *DAGS}]
    assert all(path in decision.why for path in deployed)


def test_a_file_that_moves_out_of_the_image_changes_it(tmp_path: Path, commit: Commit) -> None:
    before = commit(**FILES)
    after = commit(**{"include/helpers.py": None, "tests/helpers.py": FILES["include/helpers.py"]})
    assert decide(tmp_path, before, after).mode is Mode.IMAGE


def test_a_dag_that_is_removed_is_a_change_of_dags(tmp_path: Path, commit: Commit) -> None:
    before = commit(**FILES)
    assert decide(tmp_path, before, commit(**{"dags/a.py": None})).mode is Mode.DAGS


def test_everything_since_what_is_deployed_counts(tmp_path: Path, commit: Commit) -> None:
    """The deploy of the image failed, then only a DAG changed: the image is deployed still."""
    deployed = commit(**FILES)
    commit(**{"include/helpers.py": "h = 2\n"})
    assert decide(tmp_path, deployed, commit(**{"dags/a.py": "a = 2\n"})).mode is Mode.IMAGE


@pytest.mark.parametrize("before", [None, "", "0" * 40, "1234567890123456789012345678901234567890"])
def test_an_unknown_commit_means_everything(tmp_path: Path, commit: Commit, before: str | None) -> None:
    decision = decide(tmp_path, before, commit(**FILES))
    assert (decision.mode, decision.infrastructure) == (Mode.IMAGE, True)


def test_a_commit_of_another_history_means_everything(tmp_path: Path, commit: Commit) -> None:
    first = commit(**FILES)
    newer = commit(**{"dags/a.py": "a = 2\n"})
    assert decide(tmp_path, newer, first).mode is Mode.IMAGE
    assert decide(tmp_path, newer, newer).mode is Mode.NOTHING


def test_the_reason_is_short_and_on_one_line(tmp_path: Path, commit: Commit) -> None:
    before = commit(**FILES)
    after = commit(**{f"dags/{number}\nx.py": "" for number in range(20)})
    why = decide(tmp_path, before, after).why
    assert "and 10 more" in why
    assert "\n" not in why


def test_the_image_is_what_dockerignore_lets_in(repository: Path) -> None:
    lines = (repository / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert let_in == {*IMAGE, *DAGS} - {".astro", ".dockerignore", "Dockerfile"}


def test_github_that_does_not_answer_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gh = tmp_path / "gh"
    gh.write_text("#!/bin/sh\necho 'HTTP 503' >&2\nexit 1\n")
    gh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/airlock")
    assert deploy_mode.main() == 1
    assert "HTTP 503" in capsys.readouterr().err
