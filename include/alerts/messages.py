"""The text of an alert: for the log and the incident, and in the form that Slack takes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from include.alerts.incidents import Incident
from include.errors import printable
from include.quality.outcome import GateClosed

# Slack takes 150 characters in a header and 3,000 in a text, after escaping; it may count some characters double.
_HEADER, _DETAILS = 150, 1400
_READ, _KEPT = 10_000, 4_000  # characters of a text from elsewhere
_URI_WITH_LOGIN = re.compile(r"[\w+.-]{1,40}://\S*@\S*")
_SECRET = re.compile(r"(?i)\b((?:\w*password|passwd|\w*token|\w*secret|api_?key)\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&]+)")
_IN_URLS = ":/?#[]@!$&()*+,;=%~"  # no character that would end a link early
_WHAT = {"gate": "the gate closed", "task": "failed after its last try", "late": "late"}


@dataclass(frozen=True)
class Message:
    """One alert, with its texts cleaned."""

    headline: str
    details: str
    link: str
    recovery: bool = False

    @property
    def text(self) -> str:
        """The whole message, for the log."""
        return f"{self.headline}\n{self.details}\n{self.link}"

    def for_slack(self) -> dict[str, Any]:
        """Return the arguments of a Slack message, in which no text from elsewhere becomes markup, a mention or a link.

        Details stand in a code block, and `verbatim` keeps Slack from finding links and names in them.
        """
        headline = _cut(_escape(f"{'🟢' if self.recovery else '🔴'} {self.headline}"), _HEADER)
        if re.match("https?://", self.link):
            link = f"<{_escape(quote(self.link, safe=_IN_URLS))}|Open>"
        else:  # Slack links nothing else
            link = f"`{_code(self.link)}`"
        return {
            "text": headline,  # for the notification; the blocks are the message
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": headline}},
                *(
                    {"type": "section", "text": {"type": "mrkdwn", "verbatim": True, "text": text}}
                    for text in (f"```{_code(self.details)}```", link)
                ),
            ],
        }


def clean(value: object) -> str:
    """Return text from elsewhere without secrets, and without characters that control a terminal or a database."""
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # Airflow re-exports it by import

    text = str(redact(str(value)[:_READ]))  # what a task's log masks
    return printable(_SECRET.sub(r"\1***", _URI_WITH_LOGIN.sub("***", text))[:_KEPT], keep="\n")


def gate_closed(incident: Incident, closed: GateClosed, link: str) -> Message:
    """Return the alert of a closed gate. It has no rows, which can be about people: the report shows them."""
    observed = ((each, clean(each.observed)[:300]) for each in closed.causes)
    details = (f"expected: {each.expectation} ({each.suite})\nobserved: {found}" for each, found in observed)
    return _message(incident, details, link)


def task_failed(incident: Incident, tries: int, error: object, link: str) -> Message:
    """Return the alert of a task whose last try failed."""
    found = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
    observed = found or "no error was reported; if the log has none, it was killed"
    return _message(incident, ["expected: success", f"observed: at try {tries}, {observed}"], link)


def late(incident: Incident, due: datetime, published: Iterable[str], link: str) -> Message:
    """Return the alert of a late day: when it was expected, and what readers see instead."""
    expected = f"expected: published by {due:%Y-%m-%d %H:%M} UTC"
    return _message(incident, [expected, f"observed: {'; '.join(published)}"], link)


def recovered(incident: Incident, lasted: timedelta, link: str) -> Message:
    """Return the message that an incident has ended."""
    hours, minutes = divmod(int(lasted.total_seconds()) // 60, 60)
    days, hours = divmod(hours, 24)
    duration = f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return _message(incident, [f"was: {_WHAT[incident.kind]}"], link, f"recovered after {duration}")


def note(headline: str, details: str, link: str) -> Message:
    """Return a message about something that is as it should be, and that people want to know."""
    return Message(clean(headline), clean(details), printable(link), recovery=True)


def _message(incident: Incident, details: Iterable[str], link: str, recovery: str = "") -> Message:
    headline = f"{incident.subject} of {incident.day}: {recovery or _WHAT[incident.kind]}"
    return Message(clean(headline), clean("\n".join(details)), printable(link), recovery=bool(recovery))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return _cut(_escape(text.replace("`", "'")), _DETAILS)


def _cut(escaped: str, most: int) -> str:
    if len(escaped) <= most:
        return escaped
    return re.sub(r"&\w*$", "", escaped[: most - 1]) + "…"  # not in the middle of an &amp;
