"""Incidents: opened once, told once, and over when readers see the day."""

from collections.abc import Callable
from datetime import date, timedelta
from multiprocessing import get_context
from typing import Any, Literal
from uuid import UUID, uuid4

import psycopg
import pytest
from werkzeug import Response

from include.alerts import incidents, notify
from include.alerts.incidents import Incident
from include.alerts.messages import Message
from include.datasets import Dataset, datasets
from include.warehouse import register
from include.warehouse.connections import MARKET, connect
from include.warehouse.register import Run
from local.login import Login
from tests.include.alerts.conftest import Incidents, Slack
from tests.include.warehouse.concurrency import PATIENCE, await_blocked

DAY = date(2023, 8, 1)
NEXT = DAY + timedelta(days=1)
LATE = Incident("market", "late", DAY)
GATE = Incident("market", "gate", DAY)
TASK = Incident("a_dag.a_task", "task", DAY)
MESSAGE = Message("it is late", "observed: nothing", "http://airflow.test/it")

pytestmark = pytest.mark.usefixtures("market_connection")

App = psycopg.Connection[Any]


def alarm(incident: Incident = LATE) -> None:
    with connect(MARKET) as connection:
        notify.alarm(connection, incident, MESSAGE)


def dataset(name: str) -> Dataset:
    return next(each for each in datasets() if each.name == name)


def publish(connection: App, name: str, day: date, batch_id: UUID | None = None, restores: int | None = None) -> None:
    """Let readers see a dataset's day, as a run that publishes does."""
    for each in dataset(name).objects:
        scope: Literal["day", "object"] = "day" if name == "market" else "object"
        register.register(connection, each, scope, day, batch_id or uuid4(), Run("a dag", "a run"), restores)
    connection.commit()


def over(connection: App, name: str = "market") -> list[tuple[str, date]]:
    found: list[tuple[str, date]] = [
        (each.kind, each.day) for each in incidents.over_for_dataset(connection, dataset(name))
    ]
    connection.commit()
    return found


def test_one_incident_is_told_once(slack: Slack, recorded: Callable[[], Incidents]) -> None:
    for _ in range(3):
        alarm()

    assert slack.headlines == ["🔴 it is late"]
    assert recorded() == [("market", "late", "2023-08-01", False)]


def test_each_subject_kind_and_day_is_an_incident(slack: Slack) -> None:
    for incident in (LATE, TASK, Incident("market", "late", NEXT), Incident("daily_operations", "late", DAY)):
        alarm(incident)

    assert len(slack.taken) == 4


def test_what_is_told_is_kept(app: App) -> None:
    alarm()

    assert app.execute("select message from quality.incident").fetchall() == [(MESSAGE.text,)]


def test_a_day_behind_a_closed_gate_is_not_told_to_be_late(slack: Slack, recorded: Callable[[], Incidents]) -> None:
    alarm(GATE)
    alarm(LATE)
    alarm(Incident("market", "late", NEXT))

    assert recorded() == [("market", "gate", "2023-08-01", False), ("market", "late", "2023-08-02", False)]


def test_what_slack_did_not_take_is_told_later(slack: Slack, recorded: Callable[[], Incidents]) -> None:
    slack.answer = Response("down", 503)
    alarm()
    assert recorded() == []

    slack.answer = Response("ok")
    alarm()

    assert slack.headlines == ["🔴 it is late"]
    assert recorded() == [("market", "late", "2023-08-01", False)]


@pytest.fixture
def contended(slack: Slack, warehouse: Login, monkeypatch: pytest.MonkeyPatch) -> Slack:
    """Give a Slack that answers the first of two processes when the other waits for what comes of it."""
    monkeypatch.setattr(notify, "SECONDS", 2 * PATIENCE)
    slack.before_answering = lambda: None if slack.asked > 1 else await_blocked(warehouse)
    return slack


def test_of_two_processes_at_once_one_tells(contended: Slack, recorded: Callable[[], Incidents]) -> None:
    at_once(alarm)

    assert contended.headlines == ["🔴 it is late"]
    assert recorded() == [("market", "late", "2023-08-01", False)]


def test_of_two_processes_at_once_the_second_tells_when_the_first_could_not(
    contended: Slack, recorded: Callable[[], Incidents]
) -> None:
    wait = contended.before_answering

    def refuse_the_first() -> None:
        contended.answer = Response("down", 503) if contended.asked == 1 else Response("ok")
        wait()

    contended.before_answering = refuse_the_first

    at_once(alarm)

    assert contended.headlines == ["🔴 it is late"]
    assert recorded() == [("market", "late", "2023-08-01", False)]


def test_of_two_processes_at_once_one_tells_the_recovery(
    app: App, contended: Slack, recorded: Callable[[], Incidents]
) -> None:
    with connect(MARKET) as connection:
        assert incidents.open_incident(connection, LATE, "told")
    publish(app, "market", DAY)

    at_once(clear)

    assert contended.headlines == ["🟢 market of 2023-08-01: recovered after 0 min"]
    assert recorded() == [("market", "late", "2023-08-01", True)]


def clear() -> None:
    with connect(MARKET) as connection:
        notify.all_clear(connection, incidents.over_for_dataset(connection, dataset("market")), "http://airflow.test")


def at_once(work: Callable[[], None]) -> None:
    """Do it in two processes, forked as the LocalExecutor does it."""
    fork = get_context("fork")
    processes = [fork.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_recovery_that_slack_did_not_take_is_told_later(
    app: App, slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    alarm(LATE)
    alarm(GATE)
    publish(app, "market", DAY)
    slack.answer = Response("down", 503)
    clear()
    assert recorded() == [("market", "late", "2023-08-01", False), ("market", "gate", "2023-08-01", False)]
    assert slack.asked == 3, "a Slack that is down is asked once"

    slack.answer = Response("ok")
    clear()
    clear()

    assert slack.headlines[2:] == ["🟢 market of 2023-08-01: recovered after 0 min"] * 2
    assert recorded() == [("market", "late", "2023-08-01", True), ("market", "gate", "2023-08-01", True)]


def test_after_its_recovery_an_incident_is_a_new_one(app: App, slack: Slack) -> None:
    alarm(GATE)
    publish(app, "market", DAY)
    clear()
    alarm(GATE)

    assert [headline[0] for headline in slack.headlines] == ["🔴", "🟢", "🔴"]


def test_a_market_day_is_over_when_that_day_is_published(app: App) -> None:
    alarm(LATE)
    alarm(GATE)
    publish(app, "market", NEXT)
    publish(app, "market", DAY - timedelta(days=1))
    publish(app, "daily_operations", DAY)
    assert over(app) == []

    publish(app, "market", DAY)

    assert over(app) == [("late", DAY), ("gate", DAY)]


def test_a_closed_gate_is_not_over_because_readers_saw_the_day_before(app: App) -> None:
    publish(app, "market", DAY)
    alarm(GATE)
    assert over(app) == []

    publish(app, "market", DAY)

    assert over(app) == [("gate", DAY)]


def test_a_rollback_does_not_end_a_closed_gate(app: App) -> None:
    publish(app, "market", DAY)
    alarm(GATE)
    restored = app.execute("select id from warehouse.publication").fetchone()
    assert restored
    publish(app, "market", DAY, restores=restored[0])

    assert over(app) == []


def test_the_views_are_over_when_all_of_them_show_the_day_or_a_later_one(app: App) -> None:
    alarm(Incident("daily_operations", "late", DAY))
    alarm(Incident("daily_operations", "gate", DAY))
    alarm(Incident("daily_operations", "gate", DAY + timedelta(days=2)))
    publish(app, "daily_operations", DAY - timedelta(days=1))
    one = dataset("daily_operations").objects[0]
    register.register(app, one, "object", NEXT, uuid4(), Run("a dag", "a run"))
    app.commit()
    assert over(app, "daily_operations") == []

    publish(app, "daily_operations", NEXT)

    assert over(app, "daily_operations") == [("late", DAY), ("gate", DAY)]


@pytest.mark.parametrize(
    ("of_batch", "expected"),
    [(True, [("a_dag.a_task", DAY)]), (False, [("a_dag.a_task", DAY - timedelta(days=1)), ("a_dag.a_task", DAY)])],
)
def test_a_dag_heals_its_own_tasks_of_the_day_or_of_all_days_up_to_it(
    app: App, of_batch: bool, expected: list[tuple[str, date]]
) -> None:
    for day in (DAY - timedelta(days=1), DAY, NEXT):
        alarm(Incident("a_dag.a_task", "task", day))
    alarm(Incident("a-dag.a_task", "task", DAY))  # an underscore is no wildcard
    alarm(Incident("a_dag_too.a_task", "task", DAY))
    alarm(LATE)

    found = incidents.over_for_dag(app, "a_dag", DAY, of_batch=of_batch)

    assert [(each.subject, each.day) for each in found] == expected


def test_the_app_may_do_no_more_with_incidents_than_it_does(app: App) -> None:
    alarm()
    for forbidden in ("delete from quality.incident", "update quality.incident set day = now()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            app.execute(forbidden.encode())
