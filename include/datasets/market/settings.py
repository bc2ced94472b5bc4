"""The environment variables of the market."""

import os
import re

from include.errors import PermanentError, short_repr

FREE_PLAN = 5  # requests per minute


def polygon_base_url() -> str:
    """Return POLYGON_BASE_URL: the market API. Massive (Polygon until October 2025) answers at both names."""
    return os.environ.get("POLYGON_BASE_URL") or "https://api.massive.com"


def polygon_api_key() -> str | None:
    """Return POLYGON_API_KEY, for `API=live` on one machine. A deployment has the Airflow variable of that name."""
    return os.environ.get("POLYGON_API_KEY") or None


def requests_per_minute(default: int = FREE_PLAN) -> int:
    """Return POLYGON_REQUESTS_PER_MINUTE, the limit of the plan: by default that of the free plan; 0 means none.

    Raises PermanentError for a value that is not a whole number.
    """
    value = os.environ.get("POLYGON_REQUESTS_PER_MINUTE") or str(default)
    if not re.fullmatch("[0-9]{1,5}", value):
        raise PermanentError(
            f"POLYGON_REQUESTS_PER_MINUTE is {short_repr(value)}: give a whole number, or 0 if the plan has no limit"
        )
    return int(value)


def adjusted() -> bool:
    """Return POLYGON_ADJUSTED: whether prices and volumes are adjusted for later splits; true by default.

    Raises PermanentError for a value other than true and false.
    """
    value = os.environ.get("POLYGON_ADJUSTED") or "true"
    if value not in ("true", "false"):
        raise PermanentError(f"POLYGON_ADJUSTED is {short_repr(value)}: give true or false")
    return value == "true"
