"""Putting a gate's page where people can open it."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)


def publish(site: Path, root: str, name: str) -> str | None:
    """Copy a Data Docs site to `<root>/<name>`; gives the address of the validation's page, or of the list of several.

    `root` is a folder or an object-storage URL. An unreachable root does not change a verdict: it is a warning
    in the log, and None.
    """
    from airflow.sdk import ObjectStoragePath

    try:
        target = ObjectStoragePath(root) / name
        for file in site.rglob("*.html"):  # the pages use nothing of the 4 MB beside them
            copy = target / file.relative_to(site).as_posix()
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    except Exception as error:  # every object store raises errors of its own
        log.warning("The report could not be written to %s/%s (%s); the verdict stands.", root, name, error)
        return None
    pages = list((site / "validations").rglob("*.html"))
    page = pages[0] if len(pages) == 1 else site / "index.html"
    return str(target / page.relative_to(site).as_posix())
