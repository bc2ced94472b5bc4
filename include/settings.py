"""The environment variables that a person or a deployment sets for the platform. A dataset's own are in its folder."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from include.errors import PermanentError, short_repr


@dataclass(frozen=True)
class Settings:
    """What differs between one machine and a deployment, apart from connections and variables."""

    report_root: str
    """AIRLOCK_REPORT_ROOT: a folder or object-storage URL for reports."""
    publications_kept: int
    """AIRLOCK_PUBLICATIONS_KEPT: how many published batches are kept for a rollback, per day of a table or per view."""
    data_docs: bool
    """AIRLOCK_DATA_DOCS: whether gates also write Great Expectations' own pages; any text but 0 means yes."""
    quality_days_kept: int
    """AIRLOCK_QUALITY_DAYS_KEPT: how many days the results of the gates stay in the schema quality."""
    export_root: str
    """AIRLOCK_EXPORT_ROOT: a folder or object-storage URL for exported tables."""
    archive_after_days: int
    """AIRLOCK_ARCHIVE_AFTER_DAYS: how old an export is before it moves to the archive."""
    database_url: str | None
    """AIRLOCK_DATABASE_URL: an admin's URL of a Postgres server to use instead of the embedded one; local only."""


def settings() -> Settings:
    """Read the settings from the environment now, so that a changed environment is seen.

    Raises PermanentError for a value that cannot be used.
    """
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return Settings(
        # Not quoted: the object-storage path reads it as it is.
        report_root=os.environ.get("AIRLOCK_REPORT_ROOT") or f"file://{home / 'reports'}",
        publications_kept=_count("AIRLOCK_PUBLICATIONS_KEPT", 7, least=2),
        data_docs=os.environ.get("AIRLOCK_DATA_DOCS", "0") not in ("", "0"),
        quality_days_kept=_count("AIRLOCK_QUALITY_DAYS_KEPT", 400, least=60),
        export_root=os.environ.get("AIRLOCK_EXPORT_ROOT") or f"file://{home / 'exports'}",
        archive_after_days=_count("AIRLOCK_ARCHIVE_AFTER_DAYS", 30, least=0),
        database_url=os.environ.get("AIRLOCK_DATABASE_URL") or None,
    )


def _count(name: str, default: int, *, least: int) -> int:
    value = os.environ.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,4}", value) or int(value) < least:
        raise PermanentError(f"{name} is {short_repr(value)}: give a whole number from {least} to 9999")
    return int(value)
