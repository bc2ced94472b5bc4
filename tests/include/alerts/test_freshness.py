"""What is late and when, and what the DAG makes of it."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Literal
from uuid import uuid4

import psycopg
import pytest
from werkzeug import Response

from include.alerts import freshness
from include.alerts.callbacks import recovered
from include.alerts.freshness import check, check_freshness, last_due_day
from include.datasets import Dataset, datasets
from include.warehouse import register
from include.warehouse.register import Run
from tests.include.alerts.conftest import Incidents, Slack
from tests.include.alerts.test_callbacks import context

MARKET, VIEWS = "market", "daily_operations"
LINK = "http://airflow.test/log"


def dataset(name: str) -> Dataset:
    return next(each for each in datasets() if each.name == name)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        pytest.param("2023-11-22 09:59:59", "2023-11-20", id="a second before it is due"),
        pytest.param("2023-11-22 10:00:00", "2023-11-21", id="due now"),
        pytest.param("2023-11-22 23:00", "2023-11-21", id="the next session is over, and due tomorrow"),
        pytest.param("2023-11-23 09:00", "2023-11-21", id="Thanksgiving, before 10:00"),
        pytest.param("2023-11-23 10:00", "2023-11-22", id="Thanksgiving loads the session before"),
        pytest.param("2023-11-24 12:00", "2023-11-22", id="Thanksgiving itself has no data"),
        pytest.param("2023-11-25 12:00", "2023-11-22", id="Saturday: the early close is due on Monday"),
        pytest.param("2023-11-26 23:59", "2023-11-22", id="Sunday"),
        pytest.param("2023-11-27 09:59", "2023-11-22", id="Monday before 10:00"),
        pytest.param("2023-11-27 10:00", "2023-11-24", id="Monday loads the early close of Friday"),
        pytest.param("2023-11-28 10:00", "2023-11-27", id="Tuesday loads Monday"),
        pytest.param("2023-03-10 12:00", "2023-03-09", id="before New York's clocks go forward"),
        pytest.param("2023-03-13 09:59", "2023-03-09", id="they went forward: still 10:00 UTC"),
        pytest.param("2023-03-13 10:00", "2023-03-10", id="they went forward"),
        pytest.param("2023-11-06 09:59", "2023-11-02", id="they went back: still 10:00 UTC"),
        pytest.param("2023-11-06 10:00", "2023-11-03", id="they went back"),
        pytest.param("2024-01-01 09:00", "2023-12-28", id="New Year, before 10:00"),
        pytest.param("2024-01-01 10:00", "2023-12-29", id="New Year, a Monday, loads Friday"),
        pytest.param("2024-01-02 10:00", "2023-12-29", id="New Year itself has no data"),
        pytest.param("2024-01-03 10:00", "2024-01-02", id="the first session of the year"),
        pytest.param("2023-07-05 10:00", "2023-07-03", id="4 July has no data"),
        pytest.param("2001-09-14 10:00", "2001-09-10", id="a special closing"),
        pytest.param("2001-09-17 10:00", "2001-09-10", id="of a week"),
        pytest.param("2024-02-29 10:00", "2024-02-28", id="a leap day"),
    ],
)
def test_the_last_session_that_is_due(now: str, day: str) -> None:
    assert last_due_day(dataset(MARKET), at(now)) == date.fromisoformat(day)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        ("2023-11-23 12:59:59", "2023-11-21"),
        ("2023-11-23 13:00:00", "2023-11-22"),
        ("2023-11-26 13:00", "2023-11-25"),
        ("2024-01-01 13:00", "2023-12-31"),
        ("2024-03-01 13:00", "2024-02-29"),
    ],
)
def test_the_last_day_of_the_views_that_is_due(now: str, day: str) -> None:
    assert last_due_day(dataset(VIEWS), at(now)) == date.fromisoformat(day)


def test_the_moment_counts_and_not_its_time_zone() -> None:
    east = datetime.fromisoformat("2023-11-22T23:00:00+13:00")  # 10:00 UTC

    assert last_due_day(dataset(MARKET), east) == date(2023, 11, 21)


def test_every_day_is_due_after_the_run_that_loads_it() -> None:
    """The DAG's run of a weekday, 09:00 UTC, loads the weekday before it: holidays make no difference to that."""
    market = dataset(MARKET)
    day = date(2023, 1, 2)
    while day < date(2025, 1, 1):
        following = next(later for later in (day + timedelta(days=ahead) for ahead in (1, 2, 3)) if later.weekday() < 5)
        if day.weekday() < 5:
            assert market.due(day) == datetime(following.year, following.month, following.day, 10, tzinfo=UTC)
        day += timedelta(days=1)


def test_a_dataset_without_days_is_never_due() -> None:
    market = dataset(MARKET)

    def closed(_: date) -> str:
        return "closed for good"

    assert last_due_day(Dataset("it", "It", (), closed, market.due), at("2023-11-22 10:00")) is None


# On a warehouse

pytestmark = pytest.mark.usefixtures("market_connection")

Publish = Callable[[str, str], None]


@pytest.fixture
def publish(app: psycopg.Connection[Any]) -> Publish:
    """Let readers see a day of a dataset, as a run that publishes does."""

    def do(name: str, day: str) -> None:
        for each in dataset(name).objects:
            scope: Literal["day", "object"] = "day" if name == MARKET else "object"
            run = Run("a dag", "a run")
            register.register(app, each, scope, date.fromisoformat(day), uuid4(), run)
        app.commit()

    return do


def test_a_deployment_that_never_published_is_not_late(slack: Slack, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=freshness.__name__)

    assert check(at("2023-11-22 13:00"), LINK) == {MARKET: "never published", VIEWS: "never published"}

    assert slack.asked == 0
    assert "market: never published" in caplog.messages


def test_a_missing_session_is_told_once_and_so_is_its_arrival(
    slack: Slack, publish: Publish, recorded: Callable[[], Incidents]
) -> None:
    publish(MARKET, "2023-11-20")
    assert check(at("2023-11-22 09:00"), LINK)[MARKET] == "2023-11-20 is published"
    assert slack.asked == 0

    for hour in range(10, 24):
        assert check(at(f"2023-11-22 {hour}:00"), LINK)[MARKET] == "2023-11-21 is late"
    assert slack.headlines == ["🔴 market of 2023-11-21: late"]
    assert slack.taken[0]["blocks"][1]["text"]["text"] == (
        "```expected: published by 2023-11-22 10:00 UTC\nobserved: market.transformed_market_data shows 2023-11-20```"
    )

    publish(MARKET, "2023-11-21")
    for _ in range(2):
        assert check(at("2023-11-23 09:00"), LINK)[MARKET] == "2023-11-21 is published"
        recovered(context("check_freshness", dag_id="data_freshness"))
    assert slack.headlines[1:] == ["🟢 market of 2023-11-21: recovered after 0 min"]
    assert recorded() == [("market", "late", "2023-11-21", True)]


def test_on_thanksgiving_nobody_is_woken(slack: Slack, publish: Publish) -> None:
    publish(MARKET, "2023-11-22")
    now = at("2023-11-23 10:00")
    while now < at("2023-11-27 10:00"):
        assert check(now, LINK)[MARKET] == "2023-11-22 is published"
        now += timedelta(hours=7)

    assert slack.asked == 0
    check(at("2023-11-27 10:00"), LINK)
    assert slack.headlines == ["🔴 market of 2023-11-24: late"]


def test_a_later_session_is_no_replacement_for_a_missing_one(slack: Slack, publish: Publish) -> None:
    publish(MARKET, "2023-11-22")

    assert check(at("2023-11-22 10:00"), LINK)[MARKET] == "2023-11-21 is late"


def test_each_missing_session_is_an_incident_that_stays_until_it_arrives(
    slack: Slack, publish: Publish, recorded: Callable[[], Incidents]
) -> None:
    publish(MARKET, "2023-11-20")
    check(at("2023-11-22 10:00"), LINK)
    check(at("2023-11-23 10:00"), LINK)
    publish(MARKET, "2023-11-22")
    recovered(context("check_freshness", dag_id="data_freshness"))

    assert recorded() == [("market", "late", "2023-11-21", False), ("market", "late", "2023-11-22", True)]


def test_the_views_may_show_a_later_day_and_not_one_of_them_an_older(
    app: psycopg.Connection[Any], slack: Slack, publish: Publish
) -> None:
    publish(VIEWS, "2023-11-22")
    assert check(at("2023-11-22 13:00"), LINK)[VIEWS] == "2023-11-21 is published"

    one = dataset(VIEWS).objects[0]
    register.register(app, one, "object", date(2023, 11, 20), uuid4(), Run("a dag", "a run"))
    app.commit()

    assert check(at("2023-11-22 13:00"), LINK)[VIEWS] == "2023-11-21 is late"
    assert slack.taken[0]["blocks"][1]["text"]["text"].endswith(f"observed: {one} shows 2023-11-20```")


def test_a_new_view_is_not_late_before_its_first_day(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(VIEWS, "2023-11-21")
    views = dataset(VIEWS)
    more = Dataset(views.name, views.title, (*views.objects, "daily_operations.new"), views.closed_reason, views.due)
    monkeypatch.setattr(freshness, "datasets", lambda: [more])

    assert check(at("2023-11-22 13:00"), LINK) == {VIEWS: "2023-11-21 is published"}


def test_one_late_dataset_does_not_hide_another(slack: Slack, publish: Publish) -> None:
    publish(MARKET, "2023-11-20")
    publish(VIEWS, "2023-11-20")

    check(at("2023-11-22 13:00"), LINK)

    assert slack.headlines == ["🔴 market of 2023-11-21: late", "🔴 daily_operations of 2023-11-21: late"]


def test_a_slack_that_is_down_at_ten_is_told_at_eleven(slack: Slack, publish: Publish) -> None:
    publish(MARKET, "2023-11-20")
    slack.answer = Response("down", 503)
    assert check(at("2023-11-22 10:00"), LINK)[MARKET] == "2023-11-21 is late"

    slack.answer = Response("ok")
    check(at("2023-11-22 11:00"), LINK)

    assert slack.headlines == ["🔴 market of 2023-11-21: late"]


def test_the_task_looks_at_the_clock(slack: Slack, publish: Publish) -> None:
    publish(VIEWS, "2023-11-20")

    found = check_freshness(SimpleNamespace(log_url=LINK))

    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert found[VIEWS] in {f"{yesterday - timedelta(days=earlier)} is late" for earlier in (0, 1)}
    assert slack.taken[0]["blocks"][-1]["text"]["text"] == f"<{LINK}|Open>"
