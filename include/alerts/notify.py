"""Notifying people: in Slack if the Airflow connection `slack_alerts_conn` exists, else in the log."""

import logging
from typing import Any

import psycopg

from include.alerts import messages
from include.alerts.incidents import Incident, OpenIncident, close_incident, open_incident
from include.alerts.messages import Message, clean

log = logging.getLogger(__name__)
_quiet = logging.getLogger(f"{__name__}.slack")
_quiet.setLevel(logging.CRITICAL)

SLACK = "slack_alerts_conn"
SECONDS = 3
"""How many seconds Slack may take to connect, and to answer."""


def alarm(connection: psycopg.Connection[Any], incident: Incident, message: Message) -> None:
    """Report an incident, unless it is open already.

    It is recorded only if the message was sent, so the next failure reports it after an outage of Slack. Of several
    callers at the same moment the others wait, so that one of them reports it.
    """
    if not open_incident(connection, incident, message.text):
        log.info("Reported before: %s", message.headline)
    elif not send(message):
        connection.rollback()
    connection.commit()


def all_clear(connection: psycopg.Connection[Any], ended: list[OpenIncident], link: str) -> None:
    """Report the end of incidents, each once. If one cannot be reported, it and those after it stay open for later."""
    for incident in ended:
        lasted = close_incident(connection, incident)
        if lasted is not None and not send(messages.recovered(incident, lasted, link)):
            connection.rollback()
            return  # trying each of them would take too long
        connection.commit()


def send(message: Message) -> bool:
    """Send a message; returns False when Slack did not take it, which is logged together with the message."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    slack = None
    try:
        slack = Connection.get(SLACK)
        _send_to_slack(message)
    except Exception as error:  # whatever it is, it must not change the task's result
        if unreachable := slack is not None or not isinstance(error, AirflowNotFoundException):
            secret = ((slack and slack.password) or "").strip().strip("/").rsplit("/")[-1]
            reason = clean(f"{type(error).__name__}: {error}")
            log.warning("Slack was not notified: %s", reason.replace(secret, "***") if secret else reason)
        log.log(logging.INFO if message.recovery else logging.ERROR, "%s", message.text)
        return not unreachable
    log.info("Sent to Slack: %s", message.headline)
    return True


def _send_to_slack(message: Message) -> None:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    notifier = SlackWebhookNotifier(
        slack_webhook_conn_id=SLACK,
        timeout=SECONDS,
        retry_handlers=[],  # they wait
        unfurl_links=False,
        unfurl_media=False,
        **message.for_slack(),
    )
    # Both write the webhook's address, which is its secret, into their logs.
    notifier.hook.extra_client_args["logger"] = _quiet
    notifier._log = _quiet  # type: ignore[assignment]  # its type is Airflow's
    # Airflow would render the texts as Jinja templates first, and texts from elsewhere must not be rendered.
    notifier.notify({})  # type: ignore[no-untyped-call]
