"""Formats what the tables hold for the pages: states, results, numbers, days."""

import json
import math
from datetime import UTC, date, datetime

from include.quality.report.data import Result, Trend

STATES = {
    "passed": ("✓", "passed"),
    "warned": ("!", "passed with a warning"),
    "quarantined": ("◐", "rows quarantined"),
    "failed": ("✕", "failed"),
    "closed": ("·", "closed"),
    "missing": ("?", "missing"),
    "none": ("", "nothing due"),
}
"""A sign and words for each state, so that states differ by more than colour."""


def state(result: Result) -> str:
    """Return the state that shows an expectation's result: a failure below critical is a warning."""
    return "warned" if result.verdict == "failed" and result.severity != "critical" else result.verdict


def observed(result: Result) -> str:
    """Return what was observed as text; empty where GX reports nothing."""
    if result.counts and result.value is not None:
        count = f"{number(result.value) if result.value else 'no'} unexpected row{'s' * (result.value != 1)}"
        return count if result.checked is None else f"{count} in {number(result.checked)}"
    if result.observed in ("", "None"):
        return "" if result.value is None else f"observed {number(result.value)}"
    return f"observed {result.observed}"


def observed_since(trend: Trend) -> str:
    """Return the range of a trend's values as text."""
    values = [each.value for each in trend.known if each.value is not None]
    if not values:
        return "passed or failed"
    least, most = number(min(values)), number(max(values))
    span = least if least == most else f"{least} to {most}"
    return f"{span if max(values) else 'no'} unexpected rows" if trend.latest.counts else f"observed {span}"


def wanted(result: Result) -> list[str]:
    """Return what an expectation's arguments ask for, as phrases; its query is left out."""
    arguments = result.arguments
    phrases = {
        "min_value": "more than" if arguments.get("strict_min") else "at least",
        "max_value": "less than" if arguments.get("strict_max") else "at most",
        "value_set": "contains" if "contain" in result.type else "one of",
        "column_list": "columns",
        "regex": "matches",
        "mostly": "for a share of at least",
    }
    left_out = ("strict_min", "strict_max", "unexpected_rows_query")
    return [
        f"{phrases.get(name, f'{name}:')} {_plain(value)}"
        for name, value in arguments.items()
        if name not in left_out and value is not None and value is not False and value != []
    ]


def _plain(value: object) -> str:
    return ", ".join(map(_plain, value)) if isinstance(value, list) else cell(value)


def cell(value: object) -> str:
    """Return a value of a row as text, exactly."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).removesuffix(".0")


def number(value: float) -> str:
    """Return a number for reading."""
    if not isinstance(value, int) and not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4f}".rstrip("0").rstrip(".") if 1e-3 <= abs(value) < 1e12 else f"{value:.6g}"


def weekday(day: date) -> str:
    """Return a day for reading."""
    return f"{day:%a} {day.day} {day:%b} {day.year}"


def moment(at: datetime) -> str:
    """Return a point in time for reading."""
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%b} {utc.year}, {utc:%H:%M} UTC"
