"""Which day is due at a moment, and what is reported when readers do not see it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from werkzeug import Response

from include.alerts import freshness
from include.alerts.callbacks import recovered
from include.alerts.freshness import check, check_freshness, last_due_day
from include.dataset import Dataset, View
from tests.include.alerts.conftest import (
    LOG,
    Incidents,
    Slack,
    break_connection,
    context,
    let_readers_see,
    register_one,
)
from tests.toy import READINGS, ROLLUPS, TOYS

[MEASURED] = READINGS.published_names


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def on(text: str) -> date:
    return date.fromisoformat(text)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        pytest.param("2023-11-22 09:59:59", "2023-11-20", id="a second before the day is due"),
        pytest.param("2023-11-22 10:00:00", "2023-11-21", id="the moment at which it is due"),
        pytest.param("2023-11-22 23:59:59", "2023-11-21", id="the next day is over and not due"),
        pytest.param("2023-11-25 10:00", "2023-11-24", id="a Saturday"),
        pytest.param("2023-11-26 10:00", "2023-11-25", id="a Sunday, which is closed itself"),
        pytest.param("2023-11-27 10:00", "2023-11-25", id="a Monday: the Sunday before has no data"),
        pytest.param("2023-11-28 09:59", "2023-11-25", id="Monday is not due yet"),
        pytest.param("2023-11-28 10:00", "2023-11-27", id="Monday is due"),
        pytest.param("2024-01-01 09:59", "2023-12-30", id="across the year, after a closed day"),
        pytest.param("2024-03-01 10:00", "2024-02-29", id="a leap day"),
    ],
)
def test_the_last_due_day_of_a_dataset_with_closed_days(now: str, day: str) -> None:
    assert last_due_day(READINGS, at(now)) == on(day)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        ("2023-11-23 12:59:59", "2023-11-21"),
        ("2023-11-23 13:00:00", "2023-11-22"),
        ("2023-11-27 13:00", "2023-11-26"),
        ("2024-01-01 13:00", "2023-12-31"),
        ("2024-03-01 13:00", "2024-02-29"),
    ],
)
def test_the_last_due_day_of_a_dataset_that_is_always_open(now: str, day: str) -> None:
    assert last_due_day(ROLLUPS, at(now)) == on(day)


def test_the_time_zone_of_the_moment_makes_no_difference() -> None:
    east = datetime.fromisoformat("2023-11-22T23:00:00+13:00")  # 10:00 UTC

    assert last_due_day(READINGS, east) == date(2023, 11, 21)
    assert last_due_day(READINGS, east - timedelta(seconds=1)) == date(2023, 11, 20)


def test_a_dataset_that_is_always_closed_is_never_due() -> None:
    closed = replace(READINGS, closed_reason=lambda _: "closed for good")

    assert last_due_day(closed, at("2023-11-22 10:00")) is None


Publish = Callable[[Dataset, str], None]


@pytest.fixture
def publish(app: psycopg.Connection[Any], connections: None) -> Publish:
    """Return a function that lets readers see a day of a dataset, as a run that publishes does."""
    return lambda dataset, day: let_readers_see(app, dataset, on(day))


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("dataset", TOYS, ids=lambda dataset: dataset.name)
def test_a_dataset_that_was_never_published_is_not_late(
    dataset: Dataset, slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=freshness.__name__)

    assert check(dataset, at("2023-11-22 13:00"), LOG) == "never published"

    assert slack.asked == 0
    assert f"{dataset.name}: never published" in caplog.messages


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("dataset", TOYS, ids=lambda dataset: dataset.name)
def test_a_dataset_is_checked_through_its_own_connection(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in TOYS:
        if other is not dataset:
            break_connection(monkeypatch, other.connection)

    assert check(dataset, at("2023-11-22 13:00"), LOG) == "never published"


def test_a_dataset_that_is_always_closed_is_not_late(slack: Slack, publish: Publish) -> None:
    publish(READINGS, "2023-11-20")
    closed = replace(READINGS, closed_reason=lambda _: "closed for good")

    check(closed, at("2023-11-22 13:00"), LOG)

    assert slack.asked == 0


def test_a_missing_day_is_reported_once_and_so_is_its_arrival(
    slack: Slack, publish: Publish, recorded: Callable[[], Incidents]
) -> None:
    publish(READINGS, "2023-11-20")
    assert check(READINGS, at("2023-11-22 09:00"), LOG) == "2023-11-20 is published"
    assert slack.asked == 0

    for hour in range(10, 24):
        assert check(READINGS, at(f"2023-11-22 {hour}:00"), LOG) == "2023-11-21 is late"
    assert slack.headlines == ["🔴 readings of 2023-11-21: late"]
    assert slack.taken[0]["blocks"][1]["text"]["text"] == (
        f"```expected: published by 2023-11-22 10:00 UTC\nobserved: {MEASURED} shows 2023-11-20```"
    )
    assert slack.taken[0]["blocks"][-1]["text"]["text"] == f"<{LOG}|Open>"

    publish(READINGS, "2023-11-21")
    for _ in range(2):
        assert check(READINGS, at("2023-11-23 09:00"), LOG) == "2023-11-21 is published"
        recovered(context("check_freshness", dag_id="data_freshness"))
    assert slack.headlines[1:] == ["🟢 readings of 2023-11-21: recovered after 0 min"]
    assert recorded() == [("readings", "late", "2023-11-21", True)]


def test_a_closed_day_is_not_late(slack: Slack, publish: Publish) -> None:
    publish(READINGS, "2023-11-25")
    now = at("2023-11-26 10:00")  # a Sunday
    while now < at("2023-11-28 10:00"):
        assert check(READINGS, now, LOG) == "2023-11-25 is published"
        now += timedelta(hours=7)

    assert slack.asked == 0
    check(READINGS, at("2023-11-28 10:00"), LOG)
    assert slack.headlines == ["🔴 readings of 2023-11-27: late"]


def test_a_later_day_of_a_table_does_not_replace_a_missing_one(slack: Slack, publish: Publish) -> None:
    publish(READINGS, "2023-11-22")

    assert check(READINGS, at("2023-11-22 10:00"), LOG) == "2023-11-21 is late"


def test_each_missing_day_is_an_incident_that_stays_open_until_it_arrives(
    slack: Slack, publish: Publish, recorded: Callable[[], Incidents]
) -> None:
    publish(READINGS, "2023-11-20")
    check(READINGS, at("2023-11-22 10:00"), LOG)
    check(READINGS, at("2023-11-23 10:00"), LOG)
    publish(READINGS, "2023-11-22")
    recovered(context("check_freshness", dag_id="data_freshness"))

    assert recorded() == [("readings", "late", "2023-11-21", False), ("readings", "late", "2023-11-22", True)]


def test_views_may_show_a_later_day_and_none_of_them_an_older_one(
    app: psycopg.Connection[Any], slack: Slack, publish: Publish
) -> None:
    publish(ROLLUPS, "2023-11-22")
    assert check(ROLLUPS, at("2023-11-22 13:00"), LOG) == "2023-11-21 is published"

    one = ROLLUPS.published_names[0]
    register_one(app, ROLLUPS, one, on("2023-11-20"))

    assert check(ROLLUPS, at("2023-11-22 13:00"), LOG) == "2023-11-21 is late"
    assert slack.taken[0]["blocks"][1]["text"]["text"].endswith(f"observed: {one} shows 2023-11-20```")


def test_a_new_view_is_not_late_before_its_first_publication(publish: Publish) -> None:
    publish(ROLLUPS, "2023-11-21")
    more = replace(ROLLUPS, publishes=(*ROLLUPS.publishes, View("new", key=("day",))))

    assert check(more, at("2023-11-22 13:00"), LOG) == "2023-11-21 is published"


def test_a_slack_that_is_down_at_ten_is_notified_at_eleven(slack: Slack, publish: Publish) -> None:
    publish(READINGS, "2023-11-20")
    slack.answer = Response("down", 503)
    assert check(READINGS, at("2023-11-22 10:00"), LOG) == "2023-11-21 is late"

    slack.answer = Response("ok")
    check(READINGS, at("2023-11-22 11:00"), LOG)

    assert slack.headlines == ["🔴 readings of 2023-11-21: late"]


def test_the_task_checks_every_declared_dataset_at_the_present_moment(slack: Slack, publish: Publish) -> None:
    for dataset in TOYS:
        publish(dataset, "2023-11-20")
    before = datetime.now(UTC)

    found = check_freshness(SimpleNamespace(log_url=LOG))

    moments = (before, datetime.now(UTC))
    assert list(found) == [dataset.name for dataset in TOYS]
    for dataset in TOYS:
        assert found[dataset.name] in {f"{last_due_day(dataset, moment)} is late" for moment in moments}
    assert [headline.split()[1] for headline in slack.headlines] == list(found), "one does not hide the other"
    assert {message["blocks"][-1]["text"]["text"] for message in slack.taken} == {f"<{LOG}|Open>"}


def test_a_dataset_that_cannot_be_checked_hides_no_other_and_fails_the_task(
    slack: Slack, publish: Publish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(ROLLUPS, "2023-11-20")
    break_connection(monkeypatch, READINGS.connection)

    with pytest.raises(psycopg.OperationalError):
        check_freshness(SimpleNamespace(log_url=LOG))

    assert "readings could not be checked" in caplog.text
    assert [headline.split()[1] for headline in slack.headlines] == [ROLLUPS.name]
