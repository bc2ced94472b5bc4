"""Telling people, through Airflow's own notifier and a real HTTP server: who is told, and what a failure may do."""

import logging
import time
from threading import Event

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from include.alerts import notify
from include.alerts.messages import Message
from tests.include.alerts.conftest import TOKEN, Slack, connect_slack
from tests.include.warehouse.concurrency import PATIENCE

ALARM = Message("market of 2023-08-01: late", "expected: it\nobserved: nothing", "http://airflow.test/dags/it")
RECOVERY = Message("market of 2023-08-01: recovered after 2 h", "was: late", "http://airflow.test/it", recovery=True)
SECRET = TOKEN.rsplit("/", 1)[-1]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Give what is logged."""
    caplog.set_level(logging.DEBUG)
    return caplog


def levels(logged: pytest.LogCaptureFixture) -> dict[str, str]:
    return {record.getMessage(): record.levelname for record in logged.records if record.name == notify.__name__}


def test_slack_gets_the_message_and_the_log_a_line(
    slack: Slack, logged: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notify.send(ALARM)

    assert slack.taken == [{**ALARM.for_slack(), "unfurl_links": False, "unfurl_media": False}]
    assert levels(logged) == {f"Told in Slack: {ALARM.headline}": "INFO"}
    assert SECRET not in logged.text + capsys.readouterr().out


@pytest.mark.parametrize(("message", "level"), [(ALARM, "ERROR"), (RECOVERY, "INFO")])
def test_without_slack_the_log_is_told(message: Message, level: str, logged: pytest.LogCaptureFixture) -> None:
    assert notify.send(message)

    assert levels(logged) == {message.text: level}


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_a_slack_that_refuses_is_a_warning(status: int, slack: Slack, logged: pytest.LogCaptureFixture) -> None:
    # Nothing can be relied on not to echo what it was sent.
    slack.answer = Response(f"no such webhook: /services/{TOKEN}", status, headers={"Retry-After": "30"})

    assert not notify.send(ALARM)

    warning, told = levels(logged).items()
    assert warning[0].startswith("Slack was not told: ")
    assert f"Status Code: {status}" in warning[0]
    assert (warning[1], told) == ("WARNING", (ALARM.text, "ERROR"))
    assert slack.asked == 1, "an alert does not wait for Slack to recover"
    assert SECRET not in logged.text


@pytest.mark.parametrize(
    ("host", "password"),
    [
        ("http://127.0.0.1:1/services", TOKEN),
        ("http://no-such-host.invalid/services", TOKEN),
        ("", f"http://127.0.0.1:1/services/{TOKEN}"),
        ("ftp://127.0.0.1/services", TOKEN),
        ("http://127.0.0.1:1/services", ""),
    ],
    ids=["nobody listens", "no such host", "an address as the token", "no http", "no token"],
)
def test_a_slack_out_of_reach_is_a_warning(
    host: str, password: str, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    connect_slack(monkeypatch, host, password)

    assert not notify.send(ALARM)

    warning, told = levels(logged).items()
    assert warning[0].startswith("Slack was not told: ")
    assert (warning[1], told) == ("WARNING", (ALARM.text, "ERROR"))
    assert SECRET not in logged.text


def test_a_slow_slack_is_not_waited_for(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify, "SECONDS", 1)
    not_waiting = Event()
    slack.before_answering = lambda: print(not_waiting.wait(PATIENCE))
    began = time.monotonic()

    assert not notify.send(ALARM)

    assert time.monotonic() - began < PATIENCE / 2
    not_waiting.set()
    assert "timed out" in logged.text
    assert SECRET not in logged.text


def test_text_of_others_is_no_template(slack: Slack) -> None:
    """Airflow renders a notifier's texts, were it called as one: with connections and variables at hand."""
    hostile = "{{ 6 * 7 }} {{ conn.slack_alerts_conn.password }} {% raw %}"

    assert notify.send(Message(hostile, hostile, "http://airflow.test"))

    assert slack.headlines == [f"🔴 {hostile}"]
    assert "42" not in str(slack.taken)


def test_a_proxy_of_the_connection_is_used(
    httpserver: HTTPServer, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notifier reads the connection, as Airflow documents it; nothing of it is ours."""
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{notify.SLACK.upper()}",
        f'{{"conn_type": "slackwebhook", "host": "http://slack.invalid/services", "password": "{TOKEN}", '
        f'"extra": {{"proxy": "{httpserver.url_for("").rstrip("/")}"}}}}',
    )

    assert notify.send(ALARM)

    assert slack.headlines == [f"🔴 {ALARM.headline}"]
