"""The lines of requirements.txt: which dependencies, at which versions."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.export_requirements import (
    AIRFLOW,
    HEADER,
    ExportError,
    Image,
    Lock,
    main,
    requirements,
)

DOCKERFILE = "# Airflow 3.3.2\nFROM registry.example/runtime:3.3-8-python-3.12\n"
IMAGE = Image.of(DOCKERFILE)

PYPROJECT = """\
[project]
dependencies = ["apache-airflow==3.3.2", "Tenacity>=9", "zebra>=1", "psycopg[binary]>=3.3"]
"""
LOCK = """\
[[package]]
name = "apache-airflow"
version = "3.3.2"
dependencies = [{ name = "apache-airflow-core" }]

[[package]]
name = "apache-airflow-core"
version = "3.3.2"
dependencies = [{ name = "tenacity" }]

[[package]]
name = "psycopg"
version = "3.3.9"

[[package]]
name = "tenacity"
version = "9.2.1"

[[package]]
name = "zebra"
version = "1.5"
"""


def lock(*packages: dict[str, Any]) -> Lock:
    return Lock({"package": [{"dependencies": [], **package} for package in packages]})


def two_numpys() -> Lock:
    return lock(
        {"name": "numpy", "version": "2.4.6", "resolution-markers": ["python_full_version < '3.12'"]},
        {
            "name": "numpy",
            "version": "2.5.5",
            "resolution-markers": [
                "python_full_version >= '3.12' and sys_platform == 'win32'",
                "python_full_version >= '3.12' and sys_platform != 'win32'",
            ],
        },
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (("pyproject.toml", PYPROJECT), ("uv.lock", LOCK), ("Dockerfile", DOCKERFILE)):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_lines_are_pinned_and_sorted_without_the_packages_of_the_image(project: Path) -> None:
    assert main([], project) == 0
    assert (project / "requirements.txt").read_text() == HEADER + "psycopg[binary]==3.3.9\nzebra==1.5\n"


def test_check_accepts_the_written_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([], project)
    assert main(["--check"], project) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("found", [None, "", HEADER + "psycopg[binary]==3.3.8\nzebra==1.5\n"])
def test_check_shows_a_difference_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str], found: str | None
) -> None:
    target = project / "requirements.txt"
    if found is not None:
        target.write_text(found)
    assert main(["--check"], project) == 1
    printed = capsys.readouterr()
    assert "+psycopg[binary]==3.3.9" in printed.out
    assert "make requirements" in printed.err
    assert (target.read_text() if target.exists() else None) == found


def test_an_error_names_its_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "Dockerfile").write_text("FROM python:3.12\n")
    assert main([], project) == 1
    assert "Dockerfile" in capsys.readouterr().err


def test_the_version_is_the_one_for_the_python_of_the_image() -> None:
    assert two_numpys().version("numpy", IMAGE) == "2.5.5"
    assert two_numpys().version("numpy", Image("3.3-8", "3.3.2", "3.11")) == "2.4.6"


def test_two_versions_for_the_image_are_an_error() -> None:
    ambiguous = lock(
        {"name": "numpy", "version": "1", "resolution-markers": ["platform_machine == 'x86_64'"]},
        {"name": "numpy", "version": "2", "resolution-markers": ["sys_platform == 'linux'"]},
    )
    with pytest.raises(ExportError, match=re.escape("numpy has 1 and 2 for Python 3.12")):
        ambiguous.version("numpy", IMAGE)


def test_a_dependency_that_is_not_locked_is_an_error() -> None:
    with pytest.raises(ExportError, match=r"zebra has no version .* run: uv lock"):
        list(requirements(["zebra"], lock(), IMAGE, frozenset()))


def test_a_dependency_of_another_platform_is_left_out() -> None:
    assert not list(requirements(["zebra; sys_platform == 'win32'"], lock(), IMAGE, frozenset()))


def test_the_lock_lists_the_requirements_of_the_installed_airflow(repository: Path) -> None:
    """Extras do not count."""
    locked = Lock(tomllib.loads((repository / "uv.lock").read_text())).included()
    installed = {
        canonicalize_name(requirement.name)
        for package in AIRFLOW
        for requirement in map(Requirement, requires(package) or [])
        if "extra" not in str(requirement.marker)
    }
    assert locked == installed.union(AIRFLOW)
    assert {"alembic", "pydantic", "requests", "sqlalchemy", "tenacity"} <= locked
