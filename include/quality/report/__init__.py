"""The quality report: static pages of what the gates found, put where people can open them.

`index.html` shows all datasets, `<dataset>/index.html` one of them, `<dataset>/<day>/<validation>.html` a run.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from include.quality.report import storage
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
    """Write the page of a run, and the two that list it; returns the address of the run's page.

    `root` is a folder or an object-storage URL. The results of the run are committed already; the transaction that
    this begins has ended when it returns. A report that cannot be made or written does not change a verdict: it is a
    warning in the log, and None.
    """
    from include.quality.report.pages import pages

    try:
        # Whoever writes the shared pages last has read what all others stored.
        register.lock(connection, "quality report")
        return storage.write(root, pages(connection, checkpoint, validation_ids, now or datetime.now(UTC)))
    except Exception:  # another dataset's declaration, which the home page reads, may be what failed
        log.warning("The report of %s could not be made; the verdict stands.", checkpoint, exc_info=True)
        return None
    finally:
        _end(connection)


def refresh(connection: psycopg.Connection[Any], checkpoint: str, batch_id: UUID, root: str) -> str | None:
    """Update the pages that show what readers see of a dataset, after a batch was published.

    Returns the address of the page of the batch's run; a failure is a warning in the log, and None.
    """
    from include.quality.report.pages import published

    try:
        register.lock(connection, "quality report")
        return storage.write(root, published(connection, checkpoint, batch_id, datetime.now(UTC)))
    except Exception as error:  # what was published is published
        log.warning("The report of %s could not be updated: %s", checkpoint, error)
        return None
    finally:
        _end(connection)


def _end(connection: psycopg.Connection[Any]) -> None:
    """End the transaction, which only read and locked, even if the connection is lost."""
    with suppress(psycopg.Error):
        connection.rollback()


def copy_data_docs(site: Path, root: str, name: str) -> None:
    """Put Great Expectations' own pages below `<root>/<name>`; an unreachable root is a warning in the log."""
    pages = {
        f"{name}/{page.relative_to(site).as_posix()}": page.read_text("utf-8", errors="replace")
        for page in site.rglob("*.html")
    }
    if pages and storage.write(root, pages):
        log.info("Data Docs: %s/%s/index.html", root, name)
