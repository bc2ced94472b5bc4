"""The daily prices of the market API."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from include.dataset import Dataset, Table


def closed_reason(day: date) -> str | None:
    """Return why XNYS has no session on a day; None when it has one."""
    from include.datasets.market import calendar

    return calendar.closed_reason(day)


def due(day: date) -> datetime:
    """Return 10:00 UTC of the next weekday: the DAGs of weekdays load Friday's data on Monday."""
    following = day + timedelta(days=3 if day.weekday() == 4 else 2 if day.weekday() == 5 else 1)
    return datetime.combine(following, time(10), UTC)


MARKET = Dataset(
    name="market",
    title="Market data",
    owner="data-platform",
    connection="postgres_market_conn",
    publishes=(Table("transformed_market_data", key=("market_date", "ticker"), day="market_date", suite="market"),),
    closed_reason=closed_reason,
    due=due,
    folder=Path(__file__).parent,
    reads=("market_api",),
)
