"""A dataset as `make dataset` generates it, when all others have been removed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include.datasets import DATASETS
from local.state import ROOT, State
from tests.local.running import command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the checkout in which a generated dataset is the only one."""
    for folder in ("dags", "great_expectations", "include", "local", "plugins", "scripts", "tests/datasets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = [sys.executable, "-m", "scripts.dataset"]
    for name in reversed(dict.fromkeys(dataset.schema for dataset in DATASETS)):
        subprocess.run([*script, "remove", name], cwd=tmp_path, env={"YES": "1"}, check=True)
    subprocess.run([*script, "add", "made_by_a_test"], cwd=tmp_path, check=True)
    return tmp_path


def test_it_runs_and_can_be_queried(own_state: State, copy: Path) -> None:
    with command(own_state, "demo", cwd=copy) as demo:
        text, _ = demo.communicate(timeout=400)
    assert demo.returncode == 0, text
    assert "made_by_a_test.publish_rows: success" in text
    for dataset in DATASETS:
        assert dataset.label not in text

    with command(own_state, "sql", "select item, value from made_by_a_test.daily order by item", cwd=copy) as sql:
        answer, _ = sql.communicate(timeout=60)
    assert sql.returncode == 0, answer
    assert "alpha" in answer

    with command(own_state, "down", cwd=copy) as down:
        text, _ = down.communicate(timeout=60)
    assert down.returncode == 0, text
