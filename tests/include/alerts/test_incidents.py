"""Incidents: opened once, reported once, and ended when readers see the day."""

from collections.abc import Callable
from datetime import date, timedelta
from multiprocessing import get_context
from typing import Any

import psycopg
import pytest
from werkzeug import Response

from include.alerts import incidents, notify
from include.alerts.incidents import Incident
from include.alerts.messages import Message
from include.dataset import Dataset
from include.warehouse.connections import connect
from local.login import Login
from tests.include.alerts.conftest import Incidents, Slack, let_readers_see, register_one
from tests.include.warehouse.concurrency import PATIENCE, await_blocked
from tests.toy import READINGS, ROLLUPS

DAY = date(2023, 8, 1)
NEXT = DAY + timedelta(days=1)
LATE = Incident(READINGS.name, "late", DAY)
GATE = Incident(READINGS.name, "gate", DAY)
TASK = Incident("a_dag.a_task", "task", DAY)
MESSAGE = Message("it is late", "observed: nothing", "http://airflow.test/it")

pytestmark = pytest.mark.usefixtures("connections")

App = psycopg.Connection[Any]


def alarm(incident: Incident = LATE) -> None:
    with connect(READINGS.connection) as connection:
        notify.alarm(connection, incident, MESSAGE)


def clear() -> None:
    with connect(READINGS.connection) as connection:
        notify.all_clear(connection, incidents.ended_for_dataset(connection, READINGS), "http://airflow.test")


def ended(connection: App, dataset: Dataset = READINGS) -> list[tuple[str, date]]:
    found: list[tuple[str, date]] = [(each.kind, each.day) for each in incidents.ended_for_dataset(connection, dataset)]
    connection.commit()
    return found


def test_one_incident_is_reported_once(slack: Slack, recorded: Callable[[], Incidents]) -> None:
    for _ in range(3):
        alarm()

    assert slack.headlines == ["🔴 it is late"]
    assert recorded() == [("readings", "late", "2023-08-01", False)]


def test_each_subject_kind_and_day_is_an_incident_of_its_own(slack: Slack) -> None:
    different = (LATE, TASK, Incident(READINGS.name, "late", NEXT), Incident(ROLLUPS.name, "late", DAY))
    for incident in different:
        alarm(incident)

    assert len(slack.taken) == len(different)


def test_the_reported_message_is_stored(app: App) -> None:
    alarm()

    assert app.execute("select message from quality.incident").fetchall() == [(MESSAGE.text,)]


def test_a_day_behind_a_closed_gate_is_not_reported_as_late(slack: Slack, recorded: Callable[[], Incidents]) -> None:
    alarm(GATE)
    alarm(LATE)
    alarm(Incident(READINGS.name, "late", NEXT))

    assert recorded() == [("readings", "gate", "2023-08-01", False), ("readings", "late", "2023-08-02", False)]


def test_what_slack_did_not_take_is_reported_later(slack: Slack, recorded: Callable[[], Incidents]) -> None:
    slack.answer = Response("down", 503)
    alarm()
    assert recorded() == []

    slack.answer = Response("ok")
    alarm()

    assert slack.headlines == ["🔴 it is late"]
    assert recorded() == [("readings", "late", "2023-08-01", False)]


@pytest.fixture
def contended(slack: Slack, warehouse: Login, monkeypatch: pytest.MonkeyPatch) -> Slack:
    """Return a Slack that answers the first of two processes once the second one waits for the first."""
    monkeypatch.setattr(notify, "SECONDS", 2 * PATIENCE)
    slack.before_answering = lambda: None if slack.asked > 1 else await_blocked(warehouse)
    return slack


def test_of_two_processes_at_the_same_moment_one_reports(contended: Slack, recorded: Callable[[], Incidents]) -> None:
    at_once(alarm)

    assert contended.headlines == ["🔴 it is late"]
    assert recorded() == [("readings", "late", "2023-08-01", False)]


def test_of_two_processes_at_the_same_moment_the_second_reports_when_the_first_could_not(
    contended: Slack, recorded: Callable[[], Incidents]
) -> None:
    wait = contended.before_answering

    def refuse_the_first() -> None:
        contended.answer = Response("down", 503) if contended.asked == 1 else Response("ok")
        wait()

    contended.before_answering = refuse_the_first

    at_once(alarm)

    assert contended.headlines == ["🔴 it is late"]
    assert recorded() == [("readings", "late", "2023-08-01", False)]


def test_of_two_processes_at_the_same_moment_one_reports_the_recovery(
    app: App, contended: Slack, recorded: Callable[[], Incidents]
) -> None:
    with connect(READINGS.connection) as connection:
        assert incidents.open_incident(connection, LATE, "a message")
    let_readers_see(app, READINGS, DAY)

    at_once(clear)

    assert contended.headlines == ["🟢 readings of 2023-08-01: recovered after 0 min"]
    assert recorded() == [("readings", "late", "2023-08-01", True)]


def at_once(work: Callable[[], None]) -> None:
    """Run a function in two processes, which are forked as LocalExecutor forks them."""
    fork = get_context("fork")
    processes = [fork.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_recovery_that_slack_did_not_take_is_reported_later(
    app: App, slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    alarm(LATE)
    alarm(GATE)
    let_readers_see(app, READINGS, DAY)
    slack.answer = Response("down", 503)
    clear()
    assert recorded() == [("readings", "late", "2023-08-01", False), ("readings", "gate", "2023-08-01", False)]
    assert slack.asked == 3, "a Slack that is down is asked once, and not for each incident"

    slack.answer = Response("ok")
    clear()
    clear()

    assert slack.headlines[2:] == ["🟢 readings of 2023-08-01: recovered after 0 min"] * 2
    assert recorded() == [("readings", "late", "2023-08-01", True), ("readings", "gate", "2023-08-01", True)]


def test_the_same_trouble_after_a_recovery_is_a_new_incident(app: App, slack: Slack) -> None:
    alarm(GATE)
    let_readers_see(app, READINGS, DAY)
    clear()
    alarm(GATE)

    assert [headline[0] for headline in slack.headlines] == ["🔴", "🟢", "🔴"]


def test_an_incident_of_a_table_ends_when_that_very_day_is_published(app: App) -> None:
    alarm(LATE)
    alarm(GATE)
    let_readers_see(app, READINGS, NEXT)
    let_readers_see(app, READINGS, DAY - timedelta(days=1))
    let_readers_see(app, ROLLUPS, DAY)
    assert ended(app) == []

    let_readers_see(app, READINGS, DAY)

    assert ended(app) == [("late", DAY), ("gate", DAY)]


def test_a_closed_gate_does_not_end_because_the_day_was_published_before(app: App) -> None:
    let_readers_see(app, READINGS, DAY)
    alarm(GATE)
    assert ended(app) == []

    let_readers_see(app, READINGS, DAY)

    assert ended(app) == [("gate", DAY)]


def test_a_rollback_does_not_end_a_closed_gate(app: App) -> None:
    let_readers_see(app, READINGS, DAY)
    alarm(GATE)
    restored = app.execute("select id from warehouse.publication").fetchone()
    assert restored
    let_readers_see(app, READINGS, DAY, restores=restored[0])

    assert ended(app) == []


def test_incidents_of_views_end_when_all_views_show_the_day_or_a_later_one(app: App) -> None:
    alarm(Incident(ROLLUPS.name, "late", DAY))
    alarm(Incident(ROLLUPS.name, "gate", DAY))
    alarm(Incident(ROLLUPS.name, "gate", DAY + timedelta(days=2)))
    let_readers_see(app, ROLLUPS, DAY - timedelta(days=1))
    register_one(app, ROLLUPS, ROLLUPS.published_names[0], NEXT)
    assert ended(app, ROLLUPS) == []

    let_readers_see(app, ROLLUPS, NEXT)

    assert ended(app, ROLLUPS) == [("late", DAY), ("gate", DAY)]


@pytest.mark.parametrize(
    ("of_batch", "expected"),
    [(True, [("a_dag.a_task", DAY)]), (False, [("a_dag.a_task", DAY - timedelta(days=1)), ("a_dag.a_task", DAY)])],
    ids=["a run of one day", "a run without a day"],
)
def test_the_success_of_a_dag_ends_incidents_of_its_own_tasks(
    app: App, of_batch: bool, expected: list[tuple[str, date]]
) -> None:
    for day in (DAY - timedelta(days=1), DAY, NEXT):
        alarm(Incident("a_dag.a_task", "task", day))
    alarm(Incident("a-dag.a_task", "task", DAY))  # an underscore is no wildcard
    alarm(Incident("a_dag_too.a_task", "task", DAY))
    alarm(LATE)

    found = incidents.ended_for_dag(app, "a_dag", DAY, of_batch=of_batch)

    assert [(each.subject, each.day) for each in found] == expected


def test_the_app_may_neither_delete_nor_rewrite_incidents(app: App) -> None:
    alarm()
    for forbidden in ("delete from quality.incident", "update quality.incident set day = now()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            app.execute(forbidden.encode())
