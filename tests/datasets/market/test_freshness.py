"""When a session of the exchange is late: it is due at 10:00 UTC of the next weekday, and holidays have no data."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import airflow  # noqa: F401  # at its first import it replaces the handlers of the log, with which caplog reads it
import psycopg
import pytest

from include.alerts import notify
from include.alerts.freshness import check, last_due_day
from include.datasets.market.dataset import MARKET
from include.warehouse.register import Run, register
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give

LINK = "http://airflow.test/log"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        pytest.param("2023-11-22 09:59:59", "2023-11-20", id="a second before a session is due"),
        pytest.param("2023-11-22 10:00:00", "2023-11-21", id="the moment at which it is due"),
        pytest.param("2023-11-22 23:00", "2023-11-21", id="the next session is over, and due tomorrow"),
        pytest.param("2023-11-23 09:00", "2023-11-21", id="Thanksgiving, before 10:00"),
        pytest.param("2023-11-23 10:00", "2023-11-22", id="on Thanksgiving the session before is due"),
        pytest.param("2023-11-24 12:00", "2023-11-22", id="Thanksgiving itself has no data"),
        pytest.param("2023-11-25 12:00", "2023-11-22", id="Saturday: the early close is due on Monday"),
        pytest.param("2023-11-26 23:59", "2023-11-22", id="Sunday"),
        pytest.param("2023-11-27 09:59", "2023-11-22", id="Monday before 10:00"),
        pytest.param("2023-11-27 10:00", "2023-11-24", id="on Monday the early close of Friday is due"),
        pytest.param("2023-11-28 10:00", "2023-11-27", id="on Tuesday Monday is due"),
        pytest.param("2023-03-10 12:00", "2023-03-09", id="before New York's clocks go forward"),
        pytest.param("2023-03-13 09:59", "2023-03-09", id="they went forward: still 10:00 UTC"),
        pytest.param("2023-03-13 10:00", "2023-03-10", id="they went forward"),
        pytest.param("2023-11-06 09:59", "2023-11-02", id="they went back: still 10:00 UTC"),
        pytest.param("2023-11-06 10:00", "2023-11-03", id="they went back"),
        pytest.param("2024-01-01 09:00", "2023-12-28", id="New Year, before 10:00"),
        pytest.param("2024-01-01 10:00", "2023-12-29", id="on New Year, a Monday, Friday is due"),
        pytest.param("2024-01-02 10:00", "2023-12-29", id="New Year itself has no data"),
        pytest.param("2024-01-03 10:00", "2024-01-02", id="the first session of the year"),
        pytest.param("2023-07-05 10:00", "2023-07-03", id="4 July has no data"),
        pytest.param("2001-09-14 10:00", "2001-09-10", id="a special closing"),
        pytest.param("2001-09-17 10:00", "2001-09-10", id="a special closing of a week"),
        pytest.param("2024-02-29 10:00", "2024-02-28", id="a leap day"),
    ],
)
def test_the_last_session_that_is_due(now: str, day: str) -> None:
    assert last_due_day(MARKET, at(now)) == date.fromisoformat(day)


def test_a_weekday_is_due_an_hour_after_the_run_that_loads_it() -> None:
    """The DAGs' run of a weekday, 09:00 UTC, loads the weekday before it, whether or not one of them is a holiday."""
    day = date(2023, 1, 2)
    while day < date(2025, 1, 1):
        following = next(later for later in (day + timedelta(days=ahead) for ahead in (1, 2, 3)) if later.weekday() < 5)
        if day.weekday() < 5:
            assert MARKET.due(day) == datetime(following.year, following.month, following.day, 10, tzinfo=UTC)
        day += timedelta(days=1)


Publish = Callable[[str], None]


@pytest.fixture
def publish(app: psycopg.Connection[Any], warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Connect the market to the test's warehouse; return a function that lets readers see a session."""
    give(monkeypatch, MARKET.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))

    def see(day: str) -> None:
        for name in MARKET.published_names:
            register(app, name, "day", date.fromisoformat(day), uuid4(), Run("a dag", "a run"))
        app.commit()

    return see


@pytest.fixture
def alerts(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the first lines of the alerts, which without Slack are errors in the log."""
    return lambda: [
        record.getMessage().splitlines()[0]
        for record in caplog.records
        if record.name == notify.__name__ and record.levelname == "ERROR"
    ]


def test_a_missing_session_is_reported_once(publish: Publish, alerts: Callable[[], list[str]]) -> None:
    publish("2023-11-20")
    assert check(MARKET, at("2023-11-22 09:00"), LINK) == "2023-11-20 is published"
    assert alerts() == []

    for hour in (10, 11):
        assert check(MARKET, at(f"2023-11-22 {hour}:00"), LINK) == "2023-11-21 is late"

    assert alerts() == ["market of 2023-11-21: late"]


def test_thanksgiving_and_the_weekend_after_it_are_not_late(publish: Publish, alerts: Callable[[], list[str]]) -> None:
    publish("2023-11-22")
    now = at("2023-11-23 10:00")
    while now < at("2023-11-27 10:00"):
        assert check(MARKET, now, LINK) == "2023-11-22 is published"
        now += timedelta(hours=7)
    assert alerts() == []

    check(MARKET, at("2023-11-27 10:00"), LINK)

    assert alerts() == ["market of 2023-11-24: late"]
