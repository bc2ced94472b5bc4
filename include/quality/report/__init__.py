"""The quality report: static pages of what the gates found, put where people can open them.

`index.html` shows all datasets, `<dataset>/index.html` one of them, `<dataset>/<day>/<validation>.html` a run.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from include.warehouse import register

log = logging.getLogger(__name__)


def publish(
    connection: psycopg.Connection[Any],
    checkpoint: str,
    validation_ids: Sequence[int],
    root: str,
    *,
    now: datetime | None = None,
) -> str | None:
    """Write the page of a run, and the two that it is listed on; gives the address of the run's page.

    `root` is a folder or an object-storage URL. The results of the run are committed already; the transaction that
    this begins has ended when it returns. An unreachable root does not change a verdict: it is a warning in the
    log, and None.
    """
    from include.quality.report.pages import pages

    register.lock(connection, "quality report")  # whoever writes the shared pages last has read what all others stored
    written = pages(connection, checkpoint, validation_ids, now or datetime.now(UTC))
    try:
        return _write(root, written)
    finally:
        connection.commit()


def refresh(connection: psycopg.Connection[Any], checkpoint: str, root: str) -> None:
    """Write the pages anew that say what readers see of a dataset; whatever hinders that is a warning in the log."""
    from include.quality.report.pages import lists

    try:
        register.lock(connection, "quality report")
        _write(root, lists(connection, checkpoint, datetime.now(UTC)))
        connection.commit()
    except Exception as error:  # what was published is published
        log.warning("The report of %s could not be brought up to date: %s", checkpoint, error)


def copy_data_docs(site: Path, root: str, name: str) -> None:
    """Put Great Expectations' own pages below `<root>/<name>`; an unreachable root is a warning in the log."""
    pages = {f"{name}/{page.relative_to(site).as_posix()}": page.read_text() for page in site.rglob("*.html")}
    if _write(root, pages):
        log.info("Data Docs: %s/%s/index.html", root, name)


def _write(root: str, pages: Mapping[str, str]) -> str | None:
    """Write pages below the root; gives the address of the first, or None when the root is out of reach."""
    try:
        return _write_all(root, pages)
    except Exception as error:  # every object store raises errors of its own
        first = next(iter(pages))
        log.warning("The report could not be written to %s/%s (%s); the verdict stands.", root, first, error)
        return None


def _write_all(root: str, pages: Mapping[str, str]) -> str:
    from airflow.sdk import ObjectStoragePath

    folder: Any = ObjectStoragePath(root)
    for name, text in pages.items():
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        # S3 serves as a download what was not said to be a page; a folder takes no notice.
        with page.open("wb", ContentType="text/html; charset=utf-8") as file:
            file.write(text.encode())
    return str(folder / next(iter(pages)))
