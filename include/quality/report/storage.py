"""Where pages are written: a folder, or object storage."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

log = logging.getLogger(__name__)


def write(root: str, pages: Mapping[str, str]) -> str | None:
    """Write pages, by their paths below the root; returns the address of the first.

    Returns None, and logs a warning, when the root cannot be reached.
    """
    try:
        return _write(root, pages)
    except Exception as error:  # every object store raises errors of its own
        first = next(iter(pages))
        log.warning("The report could not be written to %s/%s (%s); the verdict stands.", root, first, error)
        return None


def _write(root: str, pages: Mapping[str, str]) -> str:
    from airflow.sdk import ObjectStoragePath

    folder: Any = ObjectStoragePath(root)
    for name, text in pages.items():
        page = folder / name
        if page.protocol in ("", "file", "local"):
            _replace(Path(page.path), text.encode())
            continue
        # S3 serves a page as a download unless it has this type. What is there changes when all of it is written.
        with page.open("wb", ContentType="text/html; charset=utf-8") as file:
            file.write(text.encode())
    return str(folder / next(iter(pages)))


def _replace(page: Path, content: bytes) -> None:
    """Write a file beside the page and rename it, so that the page is never half written, even if the disk is full."""
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_name(f".{uuid4().hex}")  # a short name; the web server shows no file whose name begins like this
    try:
        draft.write_bytes(content)
        draft.replace(page)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
