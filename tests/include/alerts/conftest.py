"""The warehouse as Airflow's callbacks reach it, and a Slack of the test's own."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any, Literal
from uuid import uuid4

import airflow  # noqa: F401  # at its first import it replaces the handlers of the log, with which caplog reads it
import psycopg
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from include.alerts import notify
from include.dataset import Dataset
from include.warehouse import register
from include.warehouse.register import Run
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.toy import TOYS

TOKEN = "T00000000/B00000000/the-webhooks-own-secret"
DAG = "readings_dag"
LOG = "http://airflow.test/log"


def context(
    task_id: str,
    error: BaseException | None = None,
    *,
    batch: object = None,
    dag_id: str = DAG,
    interval: datetime | None = datetime(2023, 8, 1, 9, tzinfo=UTC),
) -> Any:
    """Return what Airflow passes to a callback, as far as ours read it."""
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


class Slack:
    """A real HTTP server in Slack's place: it takes what the notifier posts, unless a test changes its answer."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        self.before_answering: Callable[[], None] = lambda: None
        self.answer = Response("ok")
        server.expect_request(f"/services/{TOKEN}", method="POST").respond_with_handler(self._take)

    def _take(self, request: Request) -> Response:
        self.asked += 1
        self.before_answering()
        if self.answer.status_code == 200:
            self.taken.append(json.loads(request.data))
        return self.answer

    @property
    def headlines(self) -> list[str]:
        """What people see first of each message."""
        return [message["text"] for message in self.taken]


def connect_slack(monkeypatch: pytest.MonkeyPatch, host: str, password: str = TOKEN) -> None:
    """Set the Airflow connection of the alerts."""
    values = {"conn_type": "slackwebhook", "host": host, "password": password}
    monkeypatch.setenv(f"AIRFLOW_CONN_{notify.SLACK.upper()}", json.dumps(values))
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)


@pytest.fixture
def slack(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Slack:
    """Return a Slack that the connection of the alerts leads to."""
    connect_slack(monkeypatch, httpserver.url_for("/services"))
    caplog.set_level(logging.WARNING, logger="werkzeug")  # the server's log of its requests is no log of ours
    return Slack(httpserver)


@pytest.fixture
def login(warehouse: Login, state: State) -> Login:
    """Return the login with which the DAGs reach the test's warehouse."""
    return warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)


@pytest.fixture
def connections(toys: None, login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connections of the toy datasets, the only ones there are, lead to the test's warehouse."""
    for dataset in TOYS:
        give(monkeypatch, dataset.connection, login)


def break_connection(monkeypatch: pytest.MonkeyPatch, conn_id: str) -> None:
    """Let a connection lead to where no server listens."""
    give(monkeypatch, conn_id, Login("127.0.0.1", 1, APP, "a secret", "warehouse"))


def let_readers_see(
    connection: psycopg.Connection[Any], dataset: Dataset, day: date, restores: int | None = None
) -> None:
    """Register a day of a dataset as published, as a run that publishes does, and commit."""
    for name in dataset.published_names:
        register_one(connection, dataset, name, day, restores)


def register_one(
    connection: psycopg.Connection[Any], dataset: Dataset, name: str, day: date, restores: int | None = None
) -> None:
    """Register a day of one table or view as published, and commit."""
    scope: Literal["day", "object"] = "object" if dataset.views else "day"
    register.register(connection, name, scope, day, uuid4(), Run("a dag", "a run"), restores)
    connection.commit()


Incidents = list[tuple[str, str, str, bool]]


@pytest.fixture
def recorded(warehouse: Login) -> Callable[[], Incidents]:
    """Return a function that returns all recorded incidents: subject, kind, day, and whether it has ended."""

    def read() -> Incidents:
        with warehouse.connect() as connection:
            cursor: psycopg.Cursor[Any] = connection.execute(
                "select subject, kind, day::text, closed_at is not null from quality.incident order by id"
            )
            return cursor.fetchall()

    return read
