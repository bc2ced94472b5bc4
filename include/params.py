"""What a person may ask of more than one DAG."""

from datetime import date

from include.errors import PermanentError, shown


def parse_day(name: str, value: str | None) -> date | None:
    """Give the day asked for in the param `name`, written YYYY-MM-DD; None for None or an empty text.

    Raises PermanentError for anything else, other ISO 8601 forms such as 20230801 included.
    """
    if value is None or value == "":
        return None
    try:
        day = date.fromisoformat(value)
    except (TypeError, ValueError):
        day = None
    # fromisoformat also reads 20230801 and 2023-W31-2, hence the way back.
    if day is None or day.isoformat() != value:
        raise PermanentError(f"{name} is {shown(value)}: give a date as YYYY-MM-DD, such as 2023-08-01")
    return day
