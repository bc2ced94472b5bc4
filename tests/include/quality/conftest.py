"""What the tests of the gate share."""

from pathlib import Path
from shutil import copytree

import pytest

from include.quality import gate


@pytest.fixture
def project(toys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the Great Expectations project that the gate uses, a copy that a test may change."""
    copy = Path(copytree(gate.PROJECT, tmp_path / "project"))
    monkeypatch.setattr(gate, "PROJECT", copy)
    return copy
