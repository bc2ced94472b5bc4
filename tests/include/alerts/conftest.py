"""The warehouse as Airflow's callbacks reach it, and a Slack of the test's own."""

import json
import logging
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from include.alerts import notify
from include.warehouse.connections import MARKET
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give

TOKEN = "T00000000/B00000000/the-webhooks-own-secret"


class Slack:
    """A real HTTP server in Slack's place: takes what the notifier posts, unless it is told to do otherwise."""

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
    """Give the Airflow connection of the alerts."""
    given = {"conn_type": "slackwebhook", "host": host, "password": password}
    monkeypatch.setenv(f"AIRFLOW_CONN_{notify.SLACK.upper()}", json.dumps(given))
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)


@pytest.fixture
def slack(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Slack:
    """Give a Slack that the connection of the alerts leads to."""
    connect_slack(monkeypatch, httpserver.url_for("/services"))
    caplog.set_level(logging.WARNING, logger="werkzeug")  # the server's log of its requests is no log of ours
    return Slack(httpserver)


@pytest.fixture
def market_connection(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test's warehouse be the one that callbacks reach."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "5")  # they set it: gone with the test
    give(monkeypatch, MARKET, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))


Incidents = list[tuple[str, str, str, bool]]


@pytest.fixture
def recorded(warehouse: Login) -> Callable[[], Incidents]:
    """Give what is recorded of all incidents: subject, kind, day, and whether it is over."""

    def ask() -> Incidents:
        with warehouse.connect() as connection:
            asked: psycopg.Cursor[Any] = connection.execute(
                "select subject, kind, day::text, closed_at is not null from quality.incident order by id"
            )
            return asked.fetchall()

    return ask
