"""Write requirements.txt, what the Astro image installs, from pyproject.toml, uv.lock and the Dockerfile.

python -m scripts.export_requirements            writes it
python -m scripts.export_requirements --check    fails with a diff when it is not what it would write
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

# Astro Runtime 3.3 comes with these; what Airflow itself depends on is read from uv.lock.
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
    """The project's files do not say what the image needs; the text says what is wrong."""


@dataclass(frozen=True)
class Image:
    """What the Dockerfile says of the image it starts from."""

    runtime: str
    """The Astro Runtime, such as 3.3-8."""
    airflow: str
    """The Airflow inside, such as 3.3.2."""
    python: str
    """Its Python, such as 3.12."""

    @classmethod
    def of(cls, dockerfile: str) -> "Image":
        """Read the tag and the comment that names the Airflow version."""
        tag = re.search(r"^FROM \S+/runtime:(\d+\.\d+-\d+)-python-(\d+\.\d+)$", dockerfile, re.MULTILINE)
        airflow = re.search(r"^# Airflow (\d+\.\d+\.\d+)$", dockerfile, re.MULTILINE)
        if not tag or not airflow:
            raise ExportError(
                "Dockerfile: expected `FROM .../runtime:<runtime>-python-<version>` and a line `# Airflow <version>`"
            )
        return cls(tag[1], airflow[1], tag[2])

    def needs(self, marker: Marker | str | None) -> bool:
        """Tell whether an environment marker holds in the image: Linux, CPython, its Python's version."""
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
    """What uv.lock holds."""

    content: Mapping[str, Any]

    def packages(self, name: str) -> list[Mapping[str, Any]]:
        """Every version that is locked of a package: more than one where it differs by Python or platform."""
        return [package for package in self.content["package"] if package["name"] == canonicalize_name(name)]

    def version(self, name: str, image: Image) -> str:
        """Give the one version that the image gets."""
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

    def carried(self) -> frozenset[str]:
        """Give the names of what every Airflow installation brings: its own packages and what those depend on."""
        names = {
            dependency["name"]
            for airflow in AIRFLOW
            for package in self.packages(airflow)
            for dependency in package["dependencies"]
        }
        return frozenset(names).union(AIRFLOW)


def requirements(dependencies: Sequence[str], lock: Lock, image: Image, carried: frozenset[str]) -> Iterator[str]:
    """Give the pinned lines of what the image needs and does not carry, sorted by name."""
    for requirement in sorted(map(Requirement, dependencies), key=lambda it: canonicalize_name(it.name)):
        if canonicalize_name(requirement.name) in carried or not image.needs(requirement.marker):
            continue
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        yield f"{canonicalize_name(requirement.name)}{extras}=={lock.version(requirement.name, image)}"


def render(root: Path) -> str:
    """Give what requirements.txt has to be for the project in a folder."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lock = Lock(tomllib.loads((root / "uv.lock").read_text()))
    image = Image.of((root / "Dockerfile").read_text())
    lines = requirements(project["dependencies"], lock, image, lock.carried() | RUNTIME_PROVIDERS)
    return HEADER + "".join(f"{line}\n" for line in lines)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check requirements.txt; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file drifted")
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
            "what uv.lock says",
        )
    )
    print(f"requirements.txt drifted; {REMEDY}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
