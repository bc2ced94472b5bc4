"""What the tables hold, in words."""

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
"""A sign and words for each state: colour is not the only thing that tells them apart."""


def state(result: Result) -> str:
    """Give the state that an expectation's result is shown as: a failure below critical is a warning."""
    return "warned" if result.verdict == "failed" and result.severity != "critical" else result.verdict


def observed(result: Result) -> str:
    """Say what was observed; nothing where GX tells nothing."""
    if result.counts and result.value is not None:
        count = f"{number(result.value) if result.value else 'no'} unexpected row{'s' * (result.value != 1)}"
        return count if result.checked is None else f"{count} in {number(result.checked)}"
    if result.observed in ("", "None"):
        return "" if result.value is None else f"observed {number(result.value)}"
    return f"observed {result.observed}"


def observed_since(trend: Trend) -> str:
    """Say between what the values of a trend were."""
    values = [each.value for each in trend.asked if each.value is not None]
    if not values:
        return "met or not met"
    least, most = number(min(values)), number(max(values))
    shown = least if least == most else f"{least} to {most}"
    return f"{shown if max(values) else 'no'} unexpected rows" if trend.latest.counts else f"observed {shown}"


def wanted(result: Result) -> list[str]:
    """Say what an expectation's arguments ask for, but for its query."""
    arguments = result.arguments
    phrases = {
        "min_value": "more than" if arguments.get("strict_min") else "at least",
        "max_value": "less than" if arguments.get("strict_max") else "at most",
        "value_set": "contains" if "contain" in result.type else "one of",
        "column_list": "columns",
        "regex": "matches",
        "mostly": "for a share of at least",
    }
    said_elsewhere = ("strict_min", "strict_max", "unexpected_rows_query")
    return [
        f"{phrases.get(name, f'{name}:')} {_plain(value)}"
        for name, value in arguments.items()
        if name not in said_elsewhere and value is not None and value is not False and value != []
    ]


def _plain(value: object) -> str:
    return ", ".join(map(_plain, value)) if isinstance(value, list) else cell(value)


def cell(value: object) -> str:
    """Give a value of a row, exactly."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).removesuffix(".0")


def number(value: float) -> str:
    """Give a number for reading."""
    if not isinstance(value, int) and not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4f}".rstrip("0").rstrip(".") if 1e-3 <= abs(value) < 1e12 else f"{value:.6g}"


def weekday(day: date) -> str:
    """Give a day for reading."""
    return f"{day:%a} {day.day} {day:%b} {day.year}"


def moment(at: datetime) -> str:
    """Give a point in time for reading."""
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%b} {utc.year}, {utc:%H:%M} UTC"
