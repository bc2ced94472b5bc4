import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import bootstrap


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder that looks like a bare clone, in a path with a space."""
    root = tmp_path / "a clone"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(bootstrap.__file__, root / "scripts")
    for name in ("uv.lock", "pyproject.toml"):
        shutil.copy(bootstrap.ROOT / name, root)
    return root


def run(clone: Path, command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/bootstrap.py", command],
        cwd=clone,
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def contents(clone: Path) -> set[str]:
    return {str(path.relative_to(clone)) for path in clone.rglob("*") if path.is_file()}


def test_clean_leaves_a_bare_clone_and_the_users_own_files(clone: Path, tmp_path: Path) -> None:
    (clone / ".env").write_text("mine")
    before = contents(clone)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    for folder in (".airlock/postgres", ".venv/lib", "scripts/__pycache__", ".mypy_cache/3.11", ".pytest_cache"):
        (clone / folder).mkdir(parents=True)
        (clone / folder / "file").touch()
    (clone / ".airlock" / "postgres" / "elsewhere").write_text(str(elsewhere))
    assert run(clone, "clean").returncode == 0
    assert contents(clone) == before
    assert not elsewhere.exists()
    assert run(clone, "clean").returncode == 0, "cleaning a bare clone is not an error"


def test_without_pip_and_venv_the_message_names_the_package_to_install(clone: Path, tmp_path: Path) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for module in ("pip", "ensurepip"):
        (stubs / f"{module}.py").write_text("raise ImportError")
    result = run(clone, "install", PYTHONPATH=str(stubs))
    assert result.returncode == 1
    assert "install the package python3-venv" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0)])
def test_an_unsupported_python_is_refused(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit, match=rf"not 3\.{version[1]}: set one, as in make demo PYTHON="):
        bootstrap.install()


def test_an_unreachable_index_is_reported(clone: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}
    result = run(clone, "install", **nowhere)
    assert result.returncode == 1
    assert "Is the package index reachable?" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (clone / ".venv" / "airlock-installed").exists()
