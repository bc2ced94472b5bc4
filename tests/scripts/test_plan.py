"""scripts/plan.py with a stand-in for scripts/infrastructure.py that prints its arguments."""

import sys
from pathlib import Path

import pytest

from scripts import plan

PULL_REQUEST, DRIFT = ["dev", "--output", "plan.txt"], ["prod", "--drift"]


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout, as the current folder; the file `status` holds the exit status of the stand-in."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/infrastructure.py").write_text(
        "import sys\nprint(*sys.argv[1:])\nprint('a problem', file=sys.stderr)\nsys.exit(int(open('status').read()))\n"
    )
    monkeypatch.setattr(plan, "ROOT", tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str], terraform: int) -> int:
    """Run the command with an exit status of Terraform; returns its own exit status."""
    Path("status").write_text(str(terraform))
    monkeypatch.setattr(sys, "argv", ["plan", *arguments])
    return plan.main()


@pytest.mark.parametrize(
    ("arguments", "terraform", "status", "title"),
    [
        (PULL_REQUEST, 0, 0, "dev: no difference"),
        (PULL_REQUEST, 1, 1, "dev: could not be planned"),
        (PULL_REQUEST, 2, 0, "dev: differs from the code"),  # a pull request is expected to change something
        (DRIFT, 0, 0, "prod: no difference"),
        (DRIFT, 1, 1, "prod: could not be planned"),
        (DRIFT, 2, 1, "prod: differs from the code"),
        (DRIFT, -9, 1, "prod: could not be planned"),
    ],
)
def test_the_exit_status_and_the_summary(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    terraform: int,
    status: int,
    title: str,
) -> None:
    """A failure is also an error on the page of the run."""
    if terraform < 0:
        Path("scripts/infrastructure.py").write_text(f"import os\nos.kill(os.getpid(), {-terraform})\n")
    assert run(monkeypatch, arguments, terraform) == status
    assert Path("summary").read_text().startswith(f"## {title}\n")
    assert ("::error title=" in capsys.readouterr().out) == bool(status)


@pytest.mark.parametrize(("arguments", "refreshes"), [(PULL_REQUEST, False), (DRIFT, True)])
def test_only_the_drift_check_reads_the_real_resources(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], refreshes: bool
) -> None:
    run(monkeypatch, arguments, 0)
    lines = capsys.readouterr().out.splitlines()
    (called,) = [line.split() for line in lines if line.startswith("plan ")]
    assert called[:2] == ["plan", arguments[0]]
    assert ("-refresh=false" not in called) == refreshes
    assert {"-lock=false", "-input=false", "-detailed-exitcode"} <= set(called)


@pytest.mark.parametrize("terraform", [0, 1, 2])
def test_the_file_has_the_whole_output_also_after_a_failure(monkeypatch: pytest.MonkeyPatch, terraform: int) -> None:
    run(monkeypatch, PULL_REQUEST, terraform)
    text = Path("plan.txt").read_text()
    assert "plan dev -lock=false" in text
    assert "a problem" in text
    assert "a problem" in Path("summary").read_text()
