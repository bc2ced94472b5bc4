"""Every version is defined once: pyproject.toml and uv.lock decide, and what repeats a version agrees with them."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts.export_requirements import REMEDY, Image, Lock, render


@pytest.fixture(scope="module")
def root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def lock(root: Path) -> Lock:
    return Lock(tomllib.loads((root / "uv.lock").read_text()))


@pytest.fixture(scope="module")
def image(root: Path) -> Image:
    return Image.of((root / "Dockerfile").read_text())


def group(pyproject: dict[str, Any], name: str) -> Iterator[Requirement]:
    """Yield the requirements of a dependency group, with those of the groups that it includes."""
    for entry in pyproject["dependency-groups"][name]:
        if isinstance(entry, dict):
            yield from group(pyproject, entry["include-group"])
        else:
            yield Requirement(entry)


def written(requirements: Iterator[Requirement]) -> set[tuple[str, frozenset[str], SpecifierSet, str]]:
    return {
        (canonicalize_name(each.name), frozenset(each.extras), each.specifier, str(each.marker or ""))
        for each in requirements
    }


def locked(entries: list[dict[str, Any]]) -> set[tuple[str, frozenset[str], SpecifierSet, str]]:
    return {
        (
            entry["name"],
            frozenset(entry.get("extras", ())),
            SpecifierSet(entry.get("specifier", "")),
            entry.get("marker", "").replace("'", '"'),
        )
        for entry in entries
    }


def test_requirements_txt_is_what_the_lock_says(root: Path) -> None:
    assert (root / "requirements.txt").read_text() == render(root), f"requirements.txt drifted; {REMEDY}"


def test_the_image_has_the_locked_airflow(image: Image, lock: Lock, pyproject: dict[str, Any]) -> None:
    required = map(Requirement, pyproject["project"]["dependencies"])
    [pinned] = [each for each in required if each.name == "apache-airflow"]
    assert (str(pinned.specifier), image.airflow) == (f"=={image.airflow}", lock.version(pinned.name, image)), (
        "pyproject.toml, uv.lock and the Dockerfile's comment name different versions of Airflow: "
        "set apache-airflow== in pyproject.toml, run: uv lock, and use in the Dockerfile the Astro Runtime that "
        "contains it (https://www.astronomer.io/docs/runtime/runtime-release-notes)"
    )


def test_the_runtime_fits_the_airflow_version_in_its_comment(image: Image) -> None:
    """Runtime 3.3-N contains a version 3.3 of Airflow; only Astronomer's release notes say which."""
    assert image.runtime.partition("-")[0] == ".".join(image.airflow.split(".")[:2]), (
        f"Dockerfile: runtime {image.runtime} does not carry Airflow {image.airflow}: correct the tag or the comment"
    )


def test_the_lock_was_made_from_this_pyproject(lock: Lock, pyproject: dict[str, Any]) -> None:
    [airlock] = lock.packages(pyproject["project"]["name"])
    metadata = airlock["metadata"]
    remedy = "uv.lock was made from another pyproject.toml; run: uv lock"
    assert airlock["version"] == pyproject["project"]["version"], remedy
    assert SpecifierSet(lock.content["requires-python"]) == SpecifierSet(pyproject["project"]["requires-python"]), (
        remedy
    )
    assert locked(metadata["requires-dist"]) == written(map(Requirement, pyproject["project"]["dependencies"])), remedy
    for name in pyproject["dependency-groups"]:
        assert locked(metadata["requires-dev"][name]) == written(group(pyproject, name)), f"{name}: {remedy}"


def test_locked_versions_are_what_pyproject_allows(lock: Lock, pyproject: dict[str, Any]) -> None:
    direct = [
        *map(Requirement, pyproject["project"]["dependencies"]),
        *(requirement for name in pyproject["dependency-groups"] for requirement in group(pyproject, name)),
    ]
    refused = [
        f"{requirement}: locked {package['version']}"
        for requirement in direct
        for package in lock.packages(requirement.name)
        if package["version"] not in requirement.specifier
    ]
    missing = [str(requirement) for requirement in direct if not lock.packages(requirement.name)]
    assert not refused + missing, "uv.lock does not fit pyproject.toml; run: uv lock"


def test_every_tool_checks_for_the_oldest_python(pyproject: dict[str, Any]) -> None:
    """Code that passes a check for a newer Python could fail on the oldest one that the project allows."""
    [oldest] = [
        specifier.version
        for specifier in SpecifierSet(pyproject["project"]["requires-python"])
        if specifier.operator == ">="
    ]
    checked = {
        "ruff target-version": pyproject["tool"]["ruff"]["target-version"],
        "mypy python_version": pyproject["tool"]["mypy"]["python_version"],
    }
    assert checked == {
        "ruff target-version": f"py{oldest.replace('.', '')}",
        "mypy python_version": oldest,
    }, f"pyproject.toml: requires-python starts at {oldest}: set [tool.ruff] and [tool.mypy] to it"


def test_the_image_has_a_python_that_the_project_allows(image: Image, pyproject: dict[str, Any]) -> None:
    allowed = pyproject["project"]["requires-python"]
    assert Version(image.python) in SpecifierSet(allowed), (
        f"Dockerfile: Python {image.python} is not in requires-python {allowed}: change the tag or pyproject.toml"
    )
