"""Values that people enter in the params of more than one DAG."""

from datetime import date

from include.errors import PermanentError, short_repr


def parse_day(name: str, value: str | None) -> date | None:
    """Return the day in the param `name`, written YYYY-MM-DD; None for None or an empty text.

    Raises PermanentError for anything else, other ISO 8601 forms such as 20230801 included.
    """
    if value is None or value == "":
        return None
    try:
        day = date.fromisoformat(value)
    except (TypeError, ValueError):
        day = None
    # fromisoformat also reads 20230801 and 2023-W31-2, hence the comparison with the text.
    if day is None or day.isoformat() != value:
        raise PermanentError(f"{name} is {short_repr(value)}: give a date as YYYY-MM-DD, such as 2023-08-01")
    return day
