"""What Airflow calls: one message for what went wrong, one when it is over, and the task is never the worse for it."""

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowFailException
from include.market import tasks
from include.market.tasks import Batch
from werkzeug import Response

from include.alerts import callbacks
from include.alerts.callbacks import failed, recovered
from include.quality import report
from include.warehouse.connections import MARKET
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.alerts.conftest import TOKEN, Incidents, Slack, connect_slack
from tests.include.quality.batches import ASKED, DAY, GOOD, row, stage
from tests.include.warehouse.airflow_connections import give

pytestmark = pytest.mark.usefixtures("market_connection")

DAG = "market_etl__traditional"
LOG = "http://airflow.test/log"


def context(
    task_id: str,
    error: BaseException | None = None,
    *,
    batch: dict[str, Any] | None = None,
    dag_id: str = DAG,
    interval: datetime | None = datetime(2023, 8, 1, 9, tzinfo=UTC),
) -> Any:
    """Give what Airflow hands to a callback, as far as ours look."""
    ti = SimpleNamespace(
        dag_id=dag_id,
        run_id="a run",
        task_id=task_id,
        try_number=4,
        log_url=LOG,
        xcom_pull=lambda task_ids: batch if task_ids == "start" else None,
        xcom_push=lambda **_: None,
    )
    run = SimpleNamespace(data_interval_start=interval, run_after=datetime(2023, 8, 2, 9, 5, tzinfo=UTC))
    return {"ti": ti, "dag_run": run, "exception": error}


def market_batch(batch_id: UUID, day: date = DAY) -> Batch:
    return Batch(market_date=day.isoformat(), tickers=list(ASKED), batch_id=str(batch_id))


@pytest.fixture(autouse=True)
def report_address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the gate's report be at an address of the test's own."""
    address = "https://reports.test/market/2023-08-01"
    monkeypatch.setattr(report, "publish", lambda *_: address)
    return address


def run_validation(app: psycopg.Connection[Any], rows: list[Any]) -> Batch:
    """Run the validate task on a new batch and, as Airflow does, the callback that fits."""
    batch = market_batch(stage(app, rows))
    asked = context("validate_market_data", batch=dict(batch))
    try:
        tasks.validate_market_data(batch, asked["ti"])
    except AirflowFailException as error:
        failed({**asked, "exception": error})  # type: ignore[typeddict-item]
    return batch


def publish(batch: Batch) -> None:
    """Run the publish task and, as Airflow does, its callback."""
    asked = context("publish_market_data", batch=dict(batch))
    tasks.publish_market_data(batch, SimpleNamespace(dag_id=DAG, run_id=batch["batch_id"]))
    recovered(asked)


BAD = [row("AAPL", high_price=-1.0), row("AMZN")]


def test_a_gate_that_closes_thrice_and_then_lets_through_is_two_messages(
    app: psycopg.Connection[Any], slack: Slack, report_address: str, recorded: Callable[[], Incidents]
) -> None:
    for _ in range(3):
        run_validation(app, BAD)
    assert recorded() == [("market", "gate", "2023-08-01", False)]

    for _ in range(2):
        publish(run_validation(app, GOOD))

    assert slack.headlines == [
        "🔴 market of 2023-08-01: the gate closed",
        "🟢 market of 2023-08-01: recovered after 0 min",
    ]
    _, details, link = slack.taken[0]["blocks"]
    assert "expected: prices are positive" in details["text"]["text"]
    assert "\nobserved: 1" in details["text"]["text"]
    assert link["text"]["text"] == f"<{report_address}|Open>"
    assert recorded() == [("market", "gate", "2023-08-01", True)]


def test_without_a_report_the_tasks_log_is_the_link(
    app: psycopg.Connection[Any], slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "publish", lambda *_: None)

    run_validation(app, BAD)

    assert slack.taken[0]["blocks"][-1]["text"]["text"] == f"<{LOG}|Open>"


def test_a_task_that_fails_in_every_run_of_a_day_is_one_message(
    slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    for _ in range(3):
        failed(context("extract_market_data", RuntimeError("no"), batch={"market_date": "2023-07-31"}))

    assert slack.headlines == [f"🔴 {DAG}.extract_market_data of 2023-07-31: failed for good"]
    assert "observed: at try 4, RuntimeError: no" in slack.taken[0]["blocks"][1]["text"]["text"]
    assert recorded() == [(f"{DAG}.extract_market_data", "task", "2023-07-31", False)]


@pytest.mark.parametrize(
    ("asked", "day"),
    [
        (context("publish_views", batch={"as_of": "2023-07-30"}), "2023-07-30"),
        (context("start"), "2023-08-01"),
        (context("start", batch={"something": "else"}), "2023-08-01"),
        (context("migrate", interval=None), "2023-08-02"),
        ({**context("migrate"), "dag_run": None}, datetime.now(UTC).date().isoformat()),
    ],
    ids=["the batch's", "the interval's", "another start", "the run's", "unknown"],
)
def test_the_day_is_the_batchs_else_the_runs(asked: Any, day: str, recorded: Callable[[], Incidents]) -> None:
    failed(asked)

    assert [incident[2] for incident in recorded()] == [day]


def test_a_task_lost_with_its_process_is_told_without_an_error(slack: Slack) -> None:
    """Airflow's DAG processor calls it then: the context has no exception, and XCom may be out of reach."""
    asked = context("extract_market_data")
    del asked["exception"]
    asked["ti"].xcom_pull = lambda **_: 1 / 0

    failed(asked)

    assert slack.headlines == [f"🔴 {DAG}.extract_market_data of 2023-08-01: failed for good"]
    assert "no error was told: killed" in slack.taken[0]["blocks"][1]["text"]["text"]


def test_a_gate_that_closed_is_not_told_again_at_the_end_of_its_run(
    app: psycopg.Connection[Any], slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    run_validation(app, BAD)

    failed(context("validate_market_data"))  # as the DAG's callback
    assert len(slack.taken) == 1

    run_validation(app, GOOD)  # the run is cleared, and passes
    failed(context("publish_market_data", batch={"market_date": "2023-08-01"}))
    assert [(subject, kind) for subject, kind, _, _ in recorded()] == [
        ("market", "gate"),
        (f"{DAG}.publish_market_data", "task"),
    ]


def test_a_task_that_told_its_error_is_not_told_again_at_the_end_of_its_run(slack: Slack) -> None:
    failed(context("extract_market_data", RuntimeError("no")))
    failed(context("extract_market_data"))

    assert len(slack.taken) == 1


def test_a_published_day_ends_what_its_dag_failed_at(
    app: psycopg.Connection[Any], slack: Slack, recorded: Callable[[], Incidents]
) -> None:
    other_day = {"market_date": "2023-07-31"}
    failed(context("extract_market_data", RuntimeError("no")))
    failed(context("extract_market_data", RuntimeError("no"), batch=other_day))
    failed(context("extract_market_data", RuntimeError("no"), dag_id="market_etl__taskflow_api"))

    publish(run_validation(app, GOOD))

    assert [(subject, day) for subject, _, day, is_over in recorded() if is_over] == [
        (f"{DAG}.extract_market_data", "2023-08-01")
    ]
    assert slack.headlines[3:] == [f"🟢 {DAG}.extract_market_data of 2023-08-01: recovered after 0 min"]


def test_a_dag_without_batches_ends_what_it_failed_at_before(recorded: Callable[[], Incidents]) -> None:
    failed(context("migrate", RuntimeError("no"), dag_id="warehouse_migrations"))

    recovered(context("migrate", dag_id="warehouse_migrations", interval=None))  # a day later

    assert recorded() == [("warehouse_migrations.migrate", "task", "2023-08-01", True)]


@pytest.mark.parametrize("status", [200, 500])
def test_when_the_warehouse_itself_fails_people_are_told(
    status: int, slack: Slack, warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    give(monkeypatch, MARKET, warehouse.as_role(APP, "a wrong secret", warehouse.dbname))
    slack.answer = Response("", status)
    caplog.set_level(logging.INFO, logger="include.alerts")

    failed(context("load_market_data", psycopg.OperationalError("no connection to postgresql://u:hunter2@h/d")))
    recovered(context("publish_market_data"))

    assert slack.asked == 1
    assert "The incident is not recorded: OperationalError" in caplog.text
    assert "No recovery is told: OperationalError" in caplog.text
    for secret in ("a wrong secret", state.secrets[APP], "hunter2", TOKEN):
        assert secret not in caplog.text + str(slack.taken)


def test_before_the_first_migration_people_are_told(slack: Slack, warehouse: Login) -> None:
    with warehouse.connect() as admin:
        admin.execute("drop schema quality cascade")

    failed(context("migrate", RuntimeError("no"), dag_id="warehouse_migrations"))
    recovered(context("migrate", dag_id="warehouse_migrations"))

    assert slack.headlines == ["🔴 warehouse_migrations.migrate of 2023-08-01: failed for good"]


def test_a_slack_that_is_down_changes_nothing(
    app: psycopg.Connection[Any], slack: Slack, caplog: pytest.LogCaptureFixture, recorded: Callable[[], Incidents]
) -> None:
    slack.answer = Response("down", 503)

    run_validation(app, BAD)
    publish(run_validation(app, GOOD))

    assert recorded() == []
    assert "Slack was not told" in caplog.text
    assert "market of 2023-08-01: the gate closed" in caplog.text


def test_nothing_is_told_of_what_went_well(
    app: psycopg.Connection[Any], slack: Slack, caplog: pytest.LogCaptureFixture, recorded: Callable[[], Incidents]
) -> None:
    publish(run_validation(app, GOOD))

    assert slack.asked == 0
    assert recorded() == []
    assert [each for each in caplog.records if each.name.startswith("include.alerts")] == []


def test_hostile_text_of_a_batch_reaches_slack_as_text(app: psycopg.Connection[Any], slack: Slack) -> None:
    run_validation(app, [*GOOD, row("<!channel> {{ 6*7 }} & `x`")])

    _, details, _ = slack.taken[0]["blocks"]
    assert "<" not in details["text"]["text"]
    assert "42" not in str(slack.taken)


def test_a_warehouse_that_does_not_answer_leaves_time_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT")

    with callbacks._warehouse():
        assert os.environ["PGCONNECT_TIMEOUT"] == "3"


def test_a_silent_warehouse_and_a_silent_slack_leave_the_task_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow kills a task's process some seconds after its end: a task that failed at once would be retried."""
    monkeypatch.delenv("PGCONNECT_TIMEOUT")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        give(monkeypatch, MARKET, Login("127.0.0.1", port, APP, "a secret", "warehouse"))
        connect_slack(monkeypatch, f"http://127.0.0.1:{port}/services")
        began = time.monotonic()

        failed(context("extract_market_data", RuntimeError("no")))

    assert time.monotonic() - began < conf.getint("core", "task_success_overtime") / 2
    assert "The incident is not recorded: ConnectionTimeout" in caplog.text
    assert "Slack was not told: TimeoutError" in caplog.text
    assert f"{DAG}.extract_market_data of 2023-08-01: failed for good" in caplog.text
