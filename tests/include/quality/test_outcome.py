"""What a gate's findings make of a batch, and how they are told."""

import logging
from datetime import UTC, date, datetime
from typing import Any

import pytest

from include.errors import PermanentError
from include.quality.outcome import Finding, GateClosed, Outcome, Validation


def finding(
    severity: str = "critical", verdict: Any = "passed", name: str = "one", suite: str = "market", **changes: Any
) -> Finding:
    values: dict[str, Any] = {
        "type": "unexpected_rows_expectation",
        "column": None,
        "arguments": {},
        "observed": "1",
        "observed_number": 1.0,
        "checked": None,
        "unexpected": None,
        "sample": [],
        **changes,
    }
    return Finding(suite=suite, expectation=name, severity=severity, verdict=verdict, **values)


def validation(*findings: Finding, quarantined: int = 0, suite: str = "market") -> Validation:
    return Validation(suite, f"staging.{suite}", 100, list(findings), quarantined=quarantined)


def outcome(*validations: Validation) -> Outcome:
    return Outcome("market", datetime(2023, 8, 2, tzinfo=UTC), 1.5, list(validations))


MET, CRITICAL, WARNING, INFO = finding(), finding("critical", "failed"), finding("warning", "failed"), finding("info")
SET_ASIDE = finding("critical", "quarantined")


@pytest.mark.parametrize(
    ("found", "verdict", "highest"),
    [
        (validation(MET), "passed", None),
        (validation(MET, WARNING), "warned", "warning"),
        (validation(MET, finding("info", "failed")), "warned", "info"),
        (validation(finding("info", "failed"), WARNING), "warned", "warning"),
        (validation(SET_ASIDE, quarantined=3), "quarantined", "critical"),
        (validation(WARNING, finding("info", "quarantined"), quarantined=3), "quarantined", "warning"),
        (validation(CRITICAL, WARNING), "failed", "critical"),
        (validation(CRITICAL, SET_ASIDE, quarantined=3), "failed", "critical"),
    ],
)
def test_the_verdict_of_a_suite_is_that_of_what_it_did_not_meet(
    found: Validation, verdict: str, highest: str | None
) -> None:
    assert (found.verdict, found.highest_severity) == (verdict, highest)


def test_the_verdict_of_all_suites_is_the_worst() -> None:
    passed, warned = validation(MET), validation(WARNING)
    quarantined, failed = validation(SET_ASIDE, quarantined=3), validation(CRITICAL)

    assert outcome(passed, passed).verdict == "passed"
    assert outcome(passed, warned, passed).verdict == "warned"
    assert outcome(quarantined, warned).verdict == "quarantined"
    assert outcome(failed, quarantined, passed).verdict == "failed"
    assert outcome(quarantined, quarantined, warned).quarantined == 6


def test_the_summary_counts_expectations_of_all_suites() -> None:
    found = outcome(validation(MET, WARNING, MET), validation(SET_ASIDE, quarantined=2))

    assert found.summary() == {"checkpoint": "market", "verdict": "quarantined", "passed": 2, "failed": 2}


def test_the_log_tells_the_verdict_and_every_failure_as_loud_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"ticker": "AAPL", "volume": -7.0}, 5]
    found = outcome(
        validation(
            *[MET] * 16,
            finding("critical", "failed", sample=rows),
            finding("warning", "failed", "two", observed="2"),
            finding("critical", "quarantined", "three", observed="3"),
            quarantined=3,
        )
    )

    with caplog.at_level(logging.INFO, logger="include.quality.outcome"):
        found.log("AAPL of 2023-08-01")

    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", "Gate market failed for AAPL of 2023-08-01: 16 of 19 expectations met, 3 rows quarantined"),
        ("ERROR", "critical: market: one: observed 1\n    ticker=AAPL, volume=-7.0\n    5"),
        ("WARNING", "warning: market: two: observed 2"),
        ("WARNING", "critical: market: three: observed 3"),
    ]


def test_what_was_quarantined_is_not_told_to_have_closed_the_gate() -> None:
    found = outcome(
        validation(
            finding("critical", "failed", "closes it"),
            finding("warning", "failed", "warns"),
            finding("critical", "quarantined", "is set aside"),
            quarantined=1,
        )
    )
    closed = GateClosed("closed", found, date(2023, 8, 1), None)

    assert found.told("critical") == "critical: market: closes it: observed 1"
    assert [each.expectation for each in closed.by] == ["closes it"]
    assert isinstance(closed, PermanentError)  # no retry heals it
