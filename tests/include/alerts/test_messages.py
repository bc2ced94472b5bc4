"""The text of an alert: complete, short, and with nothing in it that text from elsewhere controls."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import pytest

from include.alerts import messages
from include.alerts.incidents import Incident
from include.alerts.messages import Message, clean
from include.quality.outcome import Finding, GateClosed, Outcome, Validation
from tests.toy.batches import STAGING

DAY = date(2023, 8, 1)
LINK = "http://airflow.test/dags/readings/runs/manual__2023/tasks/validate?try_number=1"


def finding(
    expectation: str,
    observed: str,
    severity: str = "critical",
    verdict: Literal["passed", "quarantined", "failed"] = "failed",
) -> Finding:
    rows = [{"name": "Ann"}]
    return Finding("measured", expectation, "a_type", None, {}, severity, verdict, observed, None, None, None, rows)


def closed(*findings: Finding, report: str | None = None) -> GateClosed:
    validation = Validation("measured", STAGING, 2, list(findings))
    outcome = Outcome("readings", datetime.now(UTC), 1.0, [validation])
    return GateClosed("The gate closed", outcome, DAY, report)


def task_failed(error: object) -> Message:
    return messages.task_failed(Incident("a_dag.a_task", "task", DAY), 4, error, LINK)


def sent(message: Message) -> list[str]:
    """Return every text of a Slack message."""
    arguments = message.for_slack()
    return [arguments["text"], *(block["text"]["text"] for block in arguments["blocks"])]


def test_the_alert_of_a_closed_gate_has_what_was_expected_and_observed() -> None:
    failures = [
        finding("value is not negative", "2"),
        finding("every sensor is there", "['north']"),
        finding("value is seldom high", "30", severity="warning"),
        finding("value is at most 1000", "1", verdict="quarantined"),
        finding("the key is unique", "0", verdict="passed"),
    ]

    message = messages.gate_closed(Incident("readings", "gate", DAY), closed(*failures), LINK)

    assert message.text == (
        "readings of 2023-08-01: the gate closed\n"
        "expected: value is not negative (measured)\nobserved: 2\n"
        "expected: every sensor is there (measured)\nobserved: ['north']\n"
        f"{LINK}"
    )


def test_the_alert_of_a_closed_gate_has_no_rows() -> None:
    message = messages.gate_closed(Incident("readings", "gate", DAY), closed(finding("it", "1")), LINK)

    assert "Ann" not in message.text


def test_one_long_observation_leaves_room_for_the_others() -> None:
    message = messages.gate_closed(
        Incident("readings", "gate", DAY), closed(finding("one", "x" * 9000), finding("two", "2")), LINK
    )

    assert "expected: two (measured)\nobserved: 2" in message.text


def test_slack_gets_a_header_the_details_as_code_and_a_link() -> None:
    assert task_failed(ValueError("no")).for_slack() == {
        "text": "🔴 a_dag.a_task of 2023-08-01: failed after its last try",
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": "🔴 a_dag.a_task of 2023-08-01: failed after its last try"},
            },
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "verbatim": True,
                    "text": "```expected: success\nobserved: at try 4, ValueError: no```",
                },
            },
            {"type": "section", "text": {"type": "mrkdwn", "verbatim": True, "text": f"<{LINK}|Open>"}},
        ],
    }


def test_the_alert_of_a_task_without_an_error_says_where_to_look() -> None:
    observed = "at try 4, no error was reported; if the log has none, it was killed"

    assert f"observed: {observed}" in task_failed(None).text


@pytest.mark.parametrize(
    "text",
    [
        "<!channel> <!here> <!everyone> <@U012AB3CD> <!subteam^S1>",
        "<http://evil.test|Your bank>",
        "@channel @here",
        "``` *bold* <!channel> ```",
        "&lt;!channel&gt;",
        "a & b < c > d",
        "<" * 5000,
        "&" * 5000,
        "`" * 5000,
        "🔥" * 5000,
        "\N{RIGHT-TO-LEFT OVERRIDE}\0\x1b[31m\ud800\r",
        "",
    ],
)
def test_text_from_elsewhere_is_never_markup_and_never_too_long(text: str) -> None:
    incident = Incident(text, "task", DAY)
    for message in (
        messages.task_failed(incident, 1, RuntimeError(text), f"http://x/{text}"),
        messages.gate_closed(Incident(text, "gate", DAY), closed(finding(text, text)), f"file:///{text}"),
        messages.recovered(incident, timedelta(), LINK),
    ):
        head, header, details, link = sent(message)
        for text_of_header in (head, header):
            assert not re.search("[<>]|&(?!(amp|lt|gt);)", text_of_header)
            assert len(text_of_header) <= 150
        assert re.fullmatch("```[^`<>]*```", details)
        assert not re.search("&(?!(amp|lt|gt);)", details)
        assert len(details) <= 3000
        assert re.fullmatch(r"<https?://[^<>|\s]+\|Open>|`[^`<>]+`", link)
        message.text.replace(text, "").encode()  # no half of a character
        assert all(each.isprintable() or each == "\n" for each in message.details)


def test_a_long_text_is_not_cut_inside_an_escaped_character() -> None:
    details = sent(task_failed("&" * 5000))[2]

    assert details.endswith("&amp;…```")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("connect to postgresql://airlock_app:hunter2@db:5432/warehouse failed", "connect to *** failed"),
        ("('postgresql+psycopg://u:hunter2@h/d', 1)", "('*** 1)"),
        ("host=db password=hunter2 dbname=warehouse", "host=db password=*** dbname=warehouse"),
        ("password = 'hunter2 and more' x", "password = *** x"),
        ("https://api.test/v1?apiKey=hunter2&day=1", "https://api.test/v1?apiKey=***&day=1"),
        ("AWS_SECRET='hunter2'", "AWS_SECRET=***"),
    ],
)
def test_an_error_is_reported_without_its_secrets(text: str, kept: str) -> None:
    message = task_failed(RuntimeError(text))

    assert "hunter2" not in message.text
    assert message.details.endswith(kept)


def test_what_airflow_masks_in_a_log_is_masked_in_an_alert() -> None:
    from airflow.sdk.log import mask_secret

    mask_secret("a-password-of-a-connection")

    assert clean("it is a-password-of-a-connection!") == "it is ***!"


def test_a_very_long_text_is_cleaned_in_no_time() -> None:
    for part in ("a", "://", "://@", "password=", "password='"):
        assert len(clean(part * 1_000_000)) <= 4000


@pytest.mark.parametrize(
    ("lasted", "duration"),
    [
        (timedelta(seconds=10), "0 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(days=3, hours=1), "3 d 1 h"),
    ],
)
def test_the_message_of_a_recovery_says_how_long_it_took(lasted: timedelta, duration: str) -> None:
    message = messages.recovered(Incident("readings", "gate", DAY), lasted, LINK)

    assert message.text == f"readings of 2023-08-01: recovered after {duration}\nwas: the gate closed\n{LINK}"
    assert message.for_slack()["text"].startswith("🟢 ")


def test_the_alert_of_a_late_day_has_what_readers_see() -> None:
    due = datetime(2023, 8, 2, 10, tzinfo=UTC)

    message = messages.late(Incident("readings", "late", DAY), due, ["readings.measured shows 2023-07-31"], LINK)

    assert message.text == (
        "readings of 2023-08-01: late\n"
        "expected: published by 2023-08-02 10:00 UTC\nobserved: readings.measured shows 2023-07-31\n"
        f"{LINK}"
    )
