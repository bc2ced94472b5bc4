"""Migrations as files: those of a dataset, and those that a test writes."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from include.dataset import Dataset
from tests.toy import READINGS

_PYTHON = sorted((READINGS.folder / "migrations").glob("*.py"))[0]


def numbers(folder: Path) -> list[str]:
    """Return the numbers of the migrations in a folder."""
    return [path.name[:4] for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]


def applied(datasets: Iterable[Dataset], platform: Path) -> list[str]:
    """Return what migrating an empty database applies: all migrations of the platform, then those of each dataset."""
    folders = {"warehouse": platform, **{dataset.schema: dataset.folder / "migrations" for dataset in datasets}}
    return [f"{name}/{number}" for name, folder in folders.items() for number in numbers(folder)]


def write(folder: Path, stem: str, text: str) -> Path:
    """Write a migration, with the Python file that each has, and return the path of its SQL."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_PYTHON, folder / f"{stem}.py")
    path = folder / f"{stem}.sql"
    path.write_text(text)
    return path
