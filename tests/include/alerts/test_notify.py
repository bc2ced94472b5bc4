"""Notifying people, through Airflow's own notifier and a real HTTP server; and what a failure of it changes."""

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

ALARM = Message("readings of 2023-08-01: late", "expected: a day\nobserved: nothing", "http://airflow.test/log")
RECOVERY = Message("readings of 2023-08-01: recovered after 2 h", "was: late", "http://airflow.test/log", recovery=True)
SECRET = TOKEN.rsplit("/", 1)[-1]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return what is logged, of every level."""
    caplog.set_level(logging.DEBUG)
    return caplog


def levels(logged: pytest.LogCaptureFixture) -> dict[str, str]:
    return {record.getMessage(): record.levelname for record in logged.records if record.name == notify.__name__}


def test_slack_gets_the_message_and_the_log_a_line(
    slack: Slack, logged: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notify.send(ALARM)

    assert slack.taken == [{**ALARM.for_slack(), "unfurl_links": False, "unfurl_media": False}]
    assert levels(logged) == {f"Sent to Slack: {ALARM.headline}": "INFO"}
    assert SECRET not in logged.text + capsys.readouterr().out


@pytest.mark.parametrize(("message", "level"), [(ALARM, "ERROR"), (RECOVERY, "INFO")])
def test_without_slack_the_message_is_logged(message: Message, level: str, logged: pytest.LogCaptureFixture) -> None:
    assert notify.send(message)

    assert levels(logged) == {message.text: level}


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_a_slack_that_refuses_is_a_warning(status: int, slack: Slack, logged: pytest.LogCaptureFixture) -> None:
    # A server may echo what was sent to it.
    slack.answer = Response(f"no such webhook: /services/{TOKEN}", status, headers={"Retry-After": "30"})

    assert not notify.send(ALARM)

    warning, logged_message = levels(logged).items()
    assert warning[0].startswith("Slack was not notified: ")
    assert f"Status Code: {status}" in warning[0]
    assert (warning[1], logged_message) == ("WARNING", (ALARM.text, "ERROR"))
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
    ids=["nothing listens", "no such host", "an address as the token", "not http", "no token"],
)
def test_a_slack_out_of_reach_is_a_warning(
    host: str, password: str, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    connect_slack(monkeypatch, host, password)

    assert not notify.send(ALARM)

    warning, logged_message = levels(logged).items()
    assert warning[0].startswith("Slack was not notified: ")
    assert (warning[1], logged_message) == ("WARNING", (ALARM.text, "ERROR"))
    assert SECRET not in logged.text


def test_a_slow_slack_delays_nobody(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify, "SECONDS", 1)
    given_up = Event()

    def wait() -> None:
        given_up.wait(PATIENCE)

    slack.before_answering = wait
    began = time.monotonic()

    assert not notify.send(ALARM)

    assert time.monotonic() - began < PATIENCE / 2
    given_up.set()
    assert "timed out" in logged.text
    assert SECRET not in logged.text


def test_text_from_elsewhere_is_no_template(slack: Slack) -> None:
    """Airflow would render a notifier's texts as templates, which can read connections and variables."""
    hostile = "{{ 6 * 7 }} {{ conn.slack_alerts_conn.password }} {% raw %}"

    assert notify.send(Message(hostile, hostile, "http://airflow.test"))

    assert slack.headlines == [f"🔴 {hostile}"]
    assert "42" not in str(slack.taken)


def test_a_proxy_of_the_connection_is_used(
    httpserver: HTTPServer, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notifier reads it from the connection, as Airflow documents it."""
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{notify.SLACK.upper()}",
        f'{{"conn_type": "slackwebhook", "host": "http://slack.invalid/services", "password": "{TOKEN}", '
        f'"extra": {{"proxy": "{httpserver.url_for("").rstrip("/")}"}}}}',
    )

    assert notify.send(ALARM)

    assert slack.headlines == [f"🔴 {ALARM.headline}"]
