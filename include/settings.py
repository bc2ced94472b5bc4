"""Every environment variable that a person or a deployment sets for Airlock, in one place."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from include.errors import PermanentError, shown


@dataclass(frozen=True)
class Settings:
    """What differs between one machine and a deployment, beside connections and variables."""

    polygon_base_url: str
    """POLYGON_BASE_URL: the market API. Massive (Polygon until October 2025) answers at both names."""
    report_root: str
    """AIRLOCK_REPORT_ROOT: a folder or object-storage URL for reports."""
    publications_kept: int
    """AIRLOCK_PUBLICATIONS_KEPT: how many published batches stay, of a market day and of the views, to go back to."""
    data_docs: bool
    """AIRLOCK_DATA_DOCS: whether the gates write Great Expectations' own pages, too; any text but 0 says yes."""
    quality_days_kept: int
    """AIRLOCK_QUALITY_DAYS_KEPT: how many days the results of the gates stay in the schema quality."""
    database_url: str | None
    """AIRLOCK_DATABASE_URL: an admin's URL of a Postgres server to use instead of the embedded one; local only."""
    polygon_api_key: str | None
    """POLYGON_API_KEY: for `make demo API=live`; local only, a deployment has the Airflow variable of that name."""


def settings() -> Settings:
    """Read the settings from the environment now, so that a changed environment is seen.

    Raises PermanentError for a value that cannot be used.
    """
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return Settings(
        polygon_base_url=os.environ.get("POLYGON_BASE_URL") or "https://api.massive.com",
        # Not quoted: the object-storage path reads it as it is.
        report_root=os.environ.get("AIRLOCK_REPORT_ROOT") or f"file://{home / 'reports'}",
        publications_kept=_count("AIRLOCK_PUBLICATIONS_KEPT", 7, least=2),
        data_docs=os.environ.get("AIRLOCK_DATA_DOCS", "0") not in ("", "0"),
        quality_days_kept=_count("AIRLOCK_QUALITY_DAYS_KEPT", 400, least=60),
        database_url=os.environ.get("AIRLOCK_DATABASE_URL") or None,
        polygon_api_key=os.environ.get("POLYGON_API_KEY") or None,
    )


def _count(name: str, default: int, *, least: int) -> int:
    value = os.environ.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,4}", value) or int(value) < least:
        raise PermanentError(f"{name} is {shown(value)}: give a whole number from {least} to 9999")
    return int(value)
