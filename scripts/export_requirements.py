"""Write requirements.txt, which the Astro image installs, from pyproject.toml, uv.lock and the Dockerfile.

python -m scripts.export_requirements            writes the file
python -m scripts.export_requirements --check    fails with a diff when the file is out of date
"""

import argparse
import difflib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
REMEDY = "run: make requirements"

# Astro Runtime 3.3 contains these; the dependencies of Airflow itself are read from uv.lock.
RUNTIME_PROVIDERS = frozenset(
    f"apache-airflow-providers-{name}"
    for name in (
        "celery",
        "common-compat",
        "common-io",
        "common-sql",
        "elasticsearch",
        "openlineage",
        "smtp",
        "standard",
    )
)
AIRFLOW = ("apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk")

HEADER = """\
# Made from pyproject.toml and uv.lock by `make requirements`: edit those, not this file.
# Airlock's direct dependencies that the Astro image does not carry already, at their locked versions.
"""


class ExportError(Exception):
    """Raised when the project's files do not define what the image needs; the text says what is wrong."""


@dataclass(frozen=True)
class Image:
    """The base image, as the Dockerfile defines it."""

    runtime: str
    """The Astro Runtime, such as 3.3-8."""
    airflow: str
    """Its Airflow, such as 3.3.2."""
    python: str
    """Its Python, such as 3.12."""

    @classmethod
    def of(cls, dockerfile: str) -> "Image":
        """Parse a Dockerfile: the tag of the base image, and the comment with the Airflow version."""
        tag = re.search(r"^FROM \S+/runtime:(\d+\.\d+-\d+)-python-(\d+\.\d+)$", dockerfile, re.MULTILINE)
        airflow = re.search(r"^# Airflow (\d+\.\d+\.\d+)$", dockerfile, re.MULTILINE)
        if not tag or not airflow:
            raise ExportError(
                "Dockerfile: expected `FROM .../runtime:<runtime>-python-<version>` and a line `# Airflow <version>`"
            )
        return cls(tag[1], airflow[1], tag[2])

    def needs(self, marker: Marker | str | None) -> bool:
        """Return whether an environment marker is true in the image: Linux, CPython, its Python version."""
        return marker is None or Marker(str(marker)).evaluate(
            {
                "implementation_name": "cpython",
                "os_name": "posix",
                "platform_machine": "x86_64",
                "platform_python_implementation": "CPython",
                "platform_system": "Linux",
                "python_full_version": f"{self.python}.0",
                "python_version": self.python,
                "sys_platform": "linux",
            }
        )


@dataclass(frozen=True)
class Lock:
    """The content of uv.lock."""

    content: Mapping[str, Any]

    def packages(self, name: str) -> list[Mapping[str, Any]]:
        """Return the locked versions of a package: several when they differ by Python version or platform."""
        return [package for package in self.content["package"] if package["name"] == canonicalize_name(name)]

    def version(self, name: str, image: Image) -> str:
        """Return the one version that the image installs."""
        versions = [
            package["version"]
            for package in self.packages(name)
            if any(map(image.needs, package.get("resolution-markers", [None])))
        ]
        if len(versions) != 1:
            raise ExportError(
                f"uv.lock: {name} has {' and '.join(versions) or 'no version'} for Python {image.python} "
                "of the Dockerfile; run: uv lock"
            )
        return str(versions[0])

    def included(self) -> frozenset[str]:
        """Return the names of the packages in every Airflow installation: Airflow's own and their dependencies."""
        names = {
            dependency["name"]
            for airflow in AIRFLOW
            for package in self.packages(airflow)
            for dependency in package["dependencies"]
        }
        return frozenset(names).union(AIRFLOW)


def requirements(dependencies: Sequence[str], lock: Lock, image: Image, included: frozenset[str]) -> Iterator[str]:
    """Yield the pinned lines of the dependencies that the image needs and does not include, sorted by name."""
    for requirement in sorted(map(Requirement, dependencies), key=lambda each: canonicalize_name(each.name)):
        if canonicalize_name(requirement.name) in included or not image.needs(requirement.marker):
            continue
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        yield f"{canonicalize_name(requirement.name)}{extras}=={lock.version(requirement.name, image)}"


def render(root: Path) -> str:
    """Return the text that requirements.txt must have for the project in a folder."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lock = Lock(tomllib.loads((root / "uv.lock").read_text()))
    image = Image.of((root / "Dockerfile").read_text())
    lines = requirements(project["dependencies"], lock, image, lock.included() | RUNTIME_PROVIDERS)
    return HEADER + "".join(f"{line}\n" for line in lines)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check requirements.txt; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is out of date")
    check = parser.parse_args(arguments).check
    target = root / "requirements.txt"
    try:
        expected = render(root)
    except ExportError as error:
        print(error, file=sys.stderr)
        return 1
    if not check:
        target.write_text(expected)
        return 0
    found = target.read_text() if target.exists() else ""
    if found == expected:
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(
            found.splitlines(keepends=True),
            expected.splitlines(keepends=True),
            "requirements.txt",
            "expected from uv.lock",
        )
    )
    print(f"requirements.txt is out of date; {REMEDY}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
