"""The environment variables of the market."""

import os


def polygon_base_url() -> str:
    """Return POLYGON_BASE_URL: the market API. Massive (Polygon until October 2025) answers at both names."""
    return os.environ.get("POLYGON_BASE_URL") or "https://api.massive.com"


def polygon_api_key() -> str | None:
    """Return POLYGON_API_KEY, for `API=live` on one machine. A deployment has the Airflow variable of that name."""
    return os.environ.get("POLYGON_API_KEY") or None
