"""What Airflow calls: one message when something fails, one when it has ended, and the task's result stays as it is."""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors
from werkzeug import Response

from include.alerts import callbacks, notify
from include.alerts.callbacks import failed, recovered
from include.dataset import Dataset
from include.pipeline import tasks
from include.pipeline.batch import Batch
from include.pipeline.validate import validate
from include.quality import report
from include.quality.outcome import Finding, Outcome, Validation
from include.task_errors import as_task
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.alerts.conftest import DAG, LOG, TOKEN, Incidents, Slack, break_connection, connect_slack, context
from tests.include.warehouse.airflow_connections import give
from tests.toy import READINGS, ROLLUPS
from tests.toy.batches import GOOD, SENSORS, STAGING, as_batch, row, stage

pytestmark = pytest.mark.usefixtures("connections")

BAD = [row("north", -1.0), row("south")]


@pytest.fixture(autouse=True)
def report_address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the gate's report be at an address of the test's own."""
    address = "https://reports.test/readings/2023-08-01"
    monkeypatch.setattr(report, "publish", lambda *_: address)
    return address


@pytest.fixture
def quick_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gate find negative values by itself: Great Expectations takes long, and a callback sees no difference."""

    def find(
        connection: psycopg.Connection[Any], dataset: Dataset, batch_id: UUID, day: date, parameters: Any, **_: Any
    ) -> Outcome:
        statement = f"select count(*), count(*) filter (where value < 0) from {STAGING} where batch_id = %s"
        [(rows, negative)] = connection.execute(statement.encode(), [batch_id]).fetchall()
        finding = Finding(
            "measured", "value is not negative", "a_type", None, {}, "critical", "failed" if negative else "passed",
            str(negative), None, None, negative, [],
        )  # fmt: skip
        return Outcome(dataset.name, datetime.now(UTC), 0.1, [Validation("measured", STAGING, rows, [finding])])

    monkeypatch.setattr("include.pipeline.validate.gate", find)


def run_validation(app: psycopg.Connection[Any], rows: list[Any], sensors: Sequence[str] = SENSORS) -> Batch:
    """Run the validate task on a new batch and, as Airflow does, the callback when it fails."""
    batch = as_batch(stage(app, rows), sensors=sensors)
    arguments = context("validate", batch=batch)
    try:
        as_task(validate)(READINGS, batch, arguments["ti"])
    except AirflowFailException as error:
        failed({**arguments, "exception": error})  # type: ignore[typeddict-item]
    return batch


def publish(batch: Batch) -> None:
    """Run the publish task and, as Airflow does, its callback."""
    tasks.publish(READINGS, batch, SimpleNamespace(dag_id=DAG, run_id=batch["batch_id"]), OutletEventAccessors())
    recovered(context("publish", batch=batch))


@pytest.mark.usefixtures("quick_gate")
def test_a_gate_that_closes_three_times_and_then_passes_is_two_messages(
    app: psycopg.Connection[Any], slack: Slack, report_address: str, recorded: Callable[[], Incidents]
) -> None:
    for _ in range(3):
        run_validation(app, BAD)
    assert recorded() == [("readings", "gate", "2023-08-01", False)]

    for _ in range(2):
        publish(run_validation(app, GOOD))

    assert slack.headlines == [
        "🔴 readings of 2023-08-01: the gate closed",
        "🟢 readings of 2023-08-01: recovered after 0 min",
    ]
    _, details, link = slack.taken[0]["blocks"]
    assert details["text"]["text"] == "```expected: value is not negative (measured)\nobserved: 1```"
    assert link["text"]["text"] == f"<{report_address}|Open>"
    assert recorded() == [("readings", "gate", "2023-08-01", True)]


def test_hostile_text_of_a_batch_reaches_slack_as_text(app: psycopg.Connection[Any], slack: Slack) -> None:
    run_validation(app, BAD, sensors=["<!channel> {{ 6*7 }} & `x`"])

    _, details, _ = slack.taken[0]["blocks"]
    assert "expected: value is not negative (measured)\nobserved: 1" in details["text"]["text"]
    assert "\nobserved: missing: &lt;!channel&gt; {{ 6*7 }} &amp; 'x'" in details["text"]["text"]
    assert "<" not in details["text"]["text"]
    assert "42" not in str(slack.taken)


@pytest.mark.usefixtures("quick_gate")
def test_without_a_report_the_link_is_the_log_of_the_task(
    app: psycopg.Connection[Any], slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "publish", lambda *_: None)

    run_validation(app, BAD)

    assert slack.taken[0]["blocks"][-1]["text"]["text"] == f"<{LOG}|Open>"


def test_a_task_that_fails_in_every_run_of_a_day_is_one_message(
    slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    for _ in range(3):
        failed(context("extract", RuntimeError("no"), batch={"dataset": READINGS.name, "day": "2023-07-31"}))

    assert slack.headlines == [f"🔴 {DAG}.extract of 2023-07-31: failed after its last try"]
    assert "observed: at try 4, RuntimeError: no" in slack.taken[0]["blocks"][1]["text"]["text"]
    assert recorded() == [(f"{DAG}.extract", "task", "2023-07-31", False)]


@pytest.mark.parametrize(
    ("arguments", "day"),
    [
        (context("publish", batch={"dataset": ROLLUPS.name, "day": "2023-07-30"}), "2023-07-30"),
        (context("start"), "2023-08-01"),
        (context("start", batch={"something": "else"}), "2023-08-01"),
        (context("migrate", interval=None), "2023-08-02"),
    ],
    ids=["of the batch", "of the interval", "no batch in start", "of the run"],
)
def test_the_day_is_that_of_the_batch_or_else_of_the_run(
    arguments: Any, day: str, recorded: Callable[[], Incidents]
) -> None:
    failed(arguments)

    assert [incident[2] for incident in recorded()] == [day]


def test_without_a_run_the_day_is_today(recorded: Callable[[], Incidents]) -> None:
    before = datetime.now(UTC).date().isoformat()

    failed(cast(Any, {**context("migrate"), "dag_run": None}))

    [(_, _, day, _)] = recorded()
    assert before <= day <= datetime.now(UTC).date().isoformat()


@pytest.mark.parametrize(
    ("batch", "dataset"),
    [
        ({"dataset": READINGS.name, "day": "2023-08-01"}, READINGS),
        ({"dataset": ROLLUPS.name, "day": "2023-08-01"}, ROLLUPS),
        ({"dataset": "removed_since", "day": "2023-08-01"}, READINGS),
        (None, READINGS),
    ],
    ids=["the first", "another", "no longer declared", "no batch"],
)
def test_the_warehouse_is_reached_as_the_dataset_of_the_batch_or_else_as_the_first(
    batch: object, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, recorded: Callable[[], Incidents]
) -> None:
    [other] = {READINGS.connection, ROLLUPS.connection} - {dataset.connection}
    break_connection(monkeypatch, other)

    failed(context("extract", RuntimeError("no"), batch=batch))
    recovered(context("publish", batch=batch))

    assert recorded() == [(f"{DAG}.extract", "task", "2023-08-01", True)]


def test_a_dataset_whose_connection_is_not_set_up_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, recorded: Callable[[], Incidents]
) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{READINGS.connection.upper()}")

    failed(context("extract", RuntimeError("no"), batch={"dataset": READINGS.name, "day": "2023-08-01"}))
    recovered(context("publish", batch={"dataset": READINGS.name, "day": "2023-08-01"}))

    assert recorded() == [(f"{DAG}.extract", "task", "2023-08-01", True)]


@pytest.mark.parametrize(
    "batch",
    [
        "a text",
        ["a", "list"],
        {"dataset": ["a", "list"], "day": ["a", "list"]},
        {"dataset": None, "day": None},
        {"dataset": READINGS.name, "day": "tomorrow"},
        {"dataset": READINGS.name, "day": 20230801},
    ],
    ids=str,
)
def test_a_batch_of_unknown_shape_stops_no_message(
    batch: object, slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
    failed(context("extract", RuntimeError("no"), batch=batch))
    recovered(context("publish", batch=batch))

    assert slack.headlines[0] == f"🔴 {DAG}.extract of 2023-08-01: failed after its last try"


def test_without_a_declared_dataset_the_message_is_sent(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recorded: Callable[[], Incidents]
) -> None:
    monkeypatch.setattr("include.datasets.DATASETS", ())

    failed(context("migrate", RuntimeError("no"), dag_id="warehouse_migrations"))
    recovered(context("migrate", dag_id="warehouse_migrations"))

    assert slack.headlines == ["🔴 warehouse_migrations.migrate of 2023-08-01: failed after its last try"]
    assert "The incident is not recorded: PermanentError: no dataset in include/datasets" in caplog.text
    assert "No recovery is reported: PermanentError: no dataset in include/datasets" in caplog.text
    assert recorded() == []


def test_a_task_whose_process_was_killed_is_reported_without_an_error(slack: Slack) -> None:
    """Airflow's DAG processor calls the callback then: without an exception, and XCom may be out of reach."""
    arguments = context("extract")
    del arguments["exception"]
    arguments["ti"].xcom_pull = lambda **_: 1 / 0

    failed(arguments)

    assert slack.headlines == [f"🔴 {DAG}.extract of 2023-08-01: failed after its last try"]
    assert "no error was reported" in slack.taken[0]["blocks"][1]["text"]["text"]


@pytest.mark.usefixtures("quick_gate")
def test_a_closed_gate_is_not_reported_again_at_the_end_of_its_run(
    app: psycopg.Connection[Any], slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    run_validation(app, BAD)

    failed(context("validate"))  # as the DAG's callback
    assert len(slack.taken) == 1

    batch = run_validation(app, GOOD)  # the run is cleared, and passes
    failed(context("publish", batch=batch))
    assert [(subject, kind) for subject, kind, _, _ in recorded()] == [
        ("readings", "gate"),
        (f"{DAG}.publish", "task"),
    ]


def test_a_task_that_was_reported_is_not_reported_again_at_the_end_of_its_run(slack: Slack) -> None:
    failed(context("extract", RuntimeError("no")))
    failed(context("extract"))

    assert len(slack.taken) == 1


@pytest.mark.usefixtures("quick_gate")
def test_a_published_day_ends_the_failures_of_its_dag_on_that_day(
    app: psycopg.Connection[Any], slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    failures = [
        context("extract", RuntimeError("no")),
        context("extract", RuntimeError("no"), batch={"dataset": READINGS.name, "day": "2023-07-31"}),
        context("extract", RuntimeError("no"), dag_id="another_dag"),
    ]
    for each in failures:
        failed(each)

    publish(run_validation(app, GOOD))

    assert [(subject, day) for subject, _, day, has_ended in recorded() if has_ended] == [
        (f"{DAG}.extract", "2023-08-01")
    ]
    assert slack.headlines[len(failures) :] == [f"🟢 {DAG}.extract of 2023-08-01: recovered after 0 min"]


def test_a_dag_without_batches_ends_its_failures_up_to_its_day(recorded: Callable[[], Incidents]) -> None:
    failed(context("migrate", RuntimeError("no"), dag_id="warehouse_migrations"))

    recovered(context("migrate", dag_id="warehouse_migrations", interval=None))  # a day later

    assert recorded() == [("warehouse_migrations.migrate", "task", "2023-08-01", True)]


@pytest.mark.parametrize("status", [200, 500])
def test_when_the_warehouse_itself_fails_the_message_is_sent(
    status: int, slack: Slack, warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    give(monkeypatch, READINGS.connection, warehouse.as_role(APP, "a wrong secret", warehouse.dbname))
    slack.answer = Response("", status)
    caplog.set_level(logging.INFO, logger="include.alerts")

    failed(context("load", psycopg.OperationalError("no connection to postgresql://u:hunter2@h/d")))
    recovered(context("publish"))

    assert slack.asked == 1
    assert "The incident is not recorded: OperationalError" in caplog.text
    assert "No recovery is reported: OperationalError" in caplog.text
    for secret in ("a wrong secret", state.secrets[APP], "hunter2", TOKEN):
        assert secret not in caplog.text + str(slack.taken)


def test_before_the_first_migration_the_message_is_sent(slack: Slack, warehouse: Login) -> None:
    with warehouse.connect() as admin:
        admin.execute("drop schema quality cascade")

    failed(context("migrate", RuntimeError("no"), dag_id="warehouse_migrations"))
    recovered(context("migrate", dag_id="warehouse_migrations"))

    assert slack.headlines == ["🔴 warehouse_migrations.migrate of 2023-08-01: failed after its last try"]


@pytest.mark.usefixtures("quick_gate")
def test_a_slack_that_is_down_changes_nothing(
    app: psycopg.Connection[Any], slack: Slack, caplog: pytest.LogCaptureFixture, recorded: Callable[[], Incidents]
) -> None:
    slack.answer = Response("down", 503)

    run_validation(app, BAD)
    publish(run_validation(app, GOOD))

    assert recorded() == []
    assert "Slack was not notified" in caplog.text
    assert "readings of 2023-08-01: the gate closed" in caplog.text


@pytest.mark.usefixtures("quick_gate")
def test_success_is_not_reported(
    app: psycopg.Connection[Any], slack: Slack, caplog: pytest.LogCaptureFixture, recorded: Callable[[], Incidents]
) -> None:
    publish(run_validation(app, GOOD))

    assert slack.asked == 0
    assert recorded() == []
    assert [each for each in caplog.records if each.name.startswith("include.alerts")] == []


def test_a_run_whose_time_is_up_is_reported(slack: Slack, recorded: Callable[[], Incidents]) -> None:
    """Airflow's DAG processor calls the callback then, for a task that had not finished."""
    failed({**context("extract"), "reason": "timed_out", "dag": SimpleNamespace(dagrun_timeout=timedelta(hours=6))})  # type: ignore[typeddict-item]

    assert "the run had not ended after 6:00:00, so Airflow ended it" in str(slack.taken)
    assert recorded() == [(f"{DAG}.extract", "task", "2023-08-01", False)]


def test_a_locked_warehouse_does_not_get_the_task_killed(
    warehouse: Login, slack: Slack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(callbacks._QUICK, "limits", {"lock_timeout": "1s"})
    with warehouse.connect() as admin:
        admin.execute("lock table quality.incident")

        failed(context("extract", RuntimeError("no")))

    assert len(slack.taken) == 1
    assert "The incident is not recorded: LockNotAvailable" in caplog.text


def test_a_silent_warehouse_and_a_silent_slack_do_not_get_the_task_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow kills a task's process some seconds after its end: a task that failed at once would then be retried."""
    seconds = conf.getint("core", "task_success_overtime")
    assert callbacks._QUICK["limits"]["statement_timeout"] == callbacks._QUICK["limits"]["lock_timeout"] == "7s"
    assert seconds > callbacks._QUICK["connect_timeout"] + 7 + 2 * notify.SECONDS  # Slack: to connect, and to answer
    monkeypatch.setitem(callbacks._QUICK, "connect_timeout", 2)  # the least that the driver takes
    monkeypatch.setattr(notify, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        give(monkeypatch, READINGS.connection, Login("127.0.0.1", port, APP, "a secret", "warehouse"))
        connect_slack(monkeypatch, f"http://127.0.0.1:{port}/services")
        began = time.monotonic()

        failed(context("extract", RuntimeError("no")))

    assert time.monotonic() - began < seconds / 2
    assert "The incident is not recorded: ConnectionTimeout" in caplog.text
    assert "Slack was not notified: TimeoutError" in caplog.text
    assert f"{DAG}.extract of 2023-08-01: failed after its last try" in caplog.text
