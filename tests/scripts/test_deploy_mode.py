from pathlib import Path

import pytest

from scripts import deploy_mode
from scripts.deploy_mode import DAGS, IMAGE, Mode, decide
from tests.scripts.conftest import Commit

FILES = {
    "dags/a.py": "a = 1\n",
    "include/helpers.py": "h = 1\n",
    "great_expectations/expectations/orders.json": "{}\n",
    "requirements.txt": "a\n",
    "tests/test_a.py": "t = 1\n",
    "tests/dags/test_a.py": "t = 2\n",
    "docs/page.md": "page\n",
    "include/README.md": "inside\n",
    "terraform/main.tf": "tf\n",
}


@pytest.mark.parametrize(
    ("changed", "mode", "infrastructure"),
    [
        (["dags/a.py"], Mode.DAGS, False),
        (["dags/new.py"], Mode.DAGS, False),
        (["dags/a.py", "tests/dags/test_a.py", "docs/page.md"], Mode.DAGS, False),
        (["dags/a.py", "include/helpers.py"], Mode.IMAGE, False),
        (["include/helpers.py"], Mode.IMAGE, False),
        (["great_expectations/expectations/orders.json"], Mode.IMAGE, False),
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
def test_the_changed_files_decide(
    checkout: Path, commit: Commit, changed: list[str], mode: Mode, infrastructure: bool
) -> None:
    before = commit(**FILES)
    decision = decide(checkout, before, commit(**dict.fromkeys(changed, "changed\n")))
    assert (decision.mode, decision.infrastructure) == (mode, infrastructure)
    assert decision.deploys is (mode is not Mode.NOTHING or infrastructure)
    deployed = [path for path in changed if not path.endswith(".md") and path.split("/")[0] in {*IMAGE, *DAGS}]
    assert all(path in decision.why for path in deployed)


def test_a_file_that_moves_out_of_the_image_changes_it(checkout: Path, commit: Commit) -> None:
    before = commit(**FILES)
    after = commit(**{"include/helpers.py": None, "tests/helpers.py": FILES["include/helpers.py"]})
    assert decide(checkout, before, after).mode is Mode.IMAGE


def test_a_dag_that_is_removed_is_a_change_of_dags(checkout: Path, commit: Commit) -> None:
    before = commit(**FILES)
    assert decide(checkout, before, commit(**{"dags/a.py": None})).mode is Mode.DAGS


def test_all_changes_since_the_deployed_commit_count(checkout: Path, commit: Commit) -> None:
    """The deploy of an image failed, and then only a DAG changed: the image is still deployed."""
    deployed = commit(**FILES)
    commit(**{"include/helpers.py": "h = 2\n"})
    assert decide(checkout, deployed, commit(**{"dags/a.py": "a = 2\n"})).mode is Mode.IMAGE


@pytest.mark.parametrize("before", [None, "", "0" * 40, "1234567890123456789012345678901234567890"])
def test_without_a_known_commit_everything_is_deployed(checkout: Path, commit: Commit, before: str | None) -> None:
    decision = decide(checkout, before, commit(**FILES))
    assert (decision.mode, decision.infrastructure) == (Mode.IMAGE, True)


def test_with_another_history_everything_is_deployed(checkout: Path, commit: Commit) -> None:
    first = commit(**FILES)
    newer = commit(**{"dags/a.py": "a = 2\n"})
    assert decide(checkout, newer, first).mode is Mode.IMAGE
    assert decide(checkout, newer, newer).mode is Mode.NOTHING


def test_the_reason_is_short_and_on_one_line(checkout: Path, commit: Commit) -> None:
    before = commit(**FILES)
    after = commit(**{f"dags/{number}\nx.py": "" for number in range(20)})
    why = decide(checkout, before, after).why
    assert "and 10 more" in why
    assert "\n" not in why


def test_the_image_has_the_files_that_dockerignore_allows(repository: Path) -> None:
    lines = (repository / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert allowed == {*IMAGE, *DAGS} - {".astro", ".dockerignore", "Dockerfile"}


def test_an_error_of_github_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gh = tmp_path / "gh"
    gh.write_text("#!/bin/sh\necho 'HTTP 503' >&2\nexit 1\n")
    gh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/airlock")
    assert deploy_mode.main() == 1
    assert "HTTP 503" in capsys.readouterr().err
