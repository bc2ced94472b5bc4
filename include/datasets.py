"""The datasets that people know by name: what readers see of each, on which days, and when a day is late."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta


@dataclass(frozen=True)
class Dataset:
    """What one checkpoint guards."""

    name: str
    """The checkpoint's name."""
    title: str
    objects: tuple[str, ...]
    """The published tables or views, as the register of publications names them."""
    closed_reason: Callable[[date], str | None]
    """Says why a day has no data, or None for a day that has."""
    due: Callable[[date], datetime]
    """When the data of a day is late, in UTC."""


def datasets() -> list[Dataset]:
    """Give all datasets. Another one of your own is added here."""
    from include.daily_operations.views import PUBLIC, public_name, views
    from include.warehouse.publish import MARKET_DATA

    return [
        Dataset("market", "Market data", (MARKET_DATA,), _market_closed, _next_weekday_at(10)),
        Dataset(PUBLIC, "Daily operations", tuple(map(public_name, views())), lambda _: None, _next_day_at(13)),
    ]


def _market_closed(day: date) -> str | None:
    from include.market.calendar import closed_reason

    return closed_reason(day)


def _next_day_at(hour: int) -> Callable[[date], datetime]:
    return lambda day: datetime.combine(day + timedelta(days=1), time(hour), UTC)


def _next_weekday_at(hour: int) -> Callable[[date], datetime]:
    """The DAGs of weekdays load Friday's data on Monday."""

    def due(day: date) -> datetime:
        following = day + timedelta(days=3 if day.weekday() == 4 else 2 if day.weekday() == 5 else 1)
        return datetime.combine(following, time(hour), UTC)

    return due
