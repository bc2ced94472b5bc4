"""Which verdict follows from what a gate found, and how it is logged and described."""

import logging
from datetime import UTC, date, datetime
from typing import Any

import pytest

from include.errors import PermanentError
from include.quality.outcome import Finding, GateClosed, Outcome, Validation


def finding(
    severity: str = "critical", verdict: Any = "passed", name: str = "one", suite: str = "measured", **changes: Any
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


def validation(*findings: Finding, quarantined: int = 0, suite: str = "measured") -> Validation:
    return Validation(suite, f"staging.{suite}", 100, list(findings), quarantined=quarantined)


def outcome(*validations: Validation) -> Outcome:
    return Outcome("readings", datetime(2023, 8, 2, tzinfo=UTC), 1.5, list(validations))


PASSED, CRITICAL, WARNING = finding(), finding("critical", "failed"), finding("warning", "failed")
QUARANTINED = finding("critical", "quarantined")


@pytest.mark.parametrize(
    ("found", "verdict", "highest"),
    [
        (validation(PASSED), "passed", None),
        (validation(PASSED, WARNING), "warned", "warning"),
        (validation(PASSED, finding("info", "failed")), "warned", "info"),
        (validation(finding("info", "failed"), WARNING), "warned", "warning"),
        (validation(QUARANTINED, quarantined=3), "quarantined", "critical"),
        (validation(WARNING, finding("info", "quarantined"), quarantined=3), "quarantined", "warning"),
        (validation(CRITICAL, WARNING), "failed", "critical"),
        (validation(CRITICAL, QUARANTINED, quarantined=3), "failed", "critical"),
    ],
)
def test_the_verdict_of_a_suite_follows_from_the_expectations_that_failed(
    found: Validation, verdict: str, highest: str | None
) -> None:
    assert (found.verdict, found.highest_severity) == (verdict, highest)


def test_the_verdict_of_all_suites_is_the_worst() -> None:
    passed, warned = validation(PASSED), validation(WARNING)
    quarantined, failed = validation(QUARANTINED, quarantined=3), validation(CRITICAL)

    assert outcome(passed, passed).verdict == "passed"
    assert outcome(passed, warned, passed).verdict == "warned"
    assert outcome(quarantined, warned).verdict == "quarantined"
    assert outcome(failed, quarantined, passed).verdict == "failed"
    assert outcome(quarantined, quarantined, warned).quarantined == 6


def test_the_summary_counts_the_expectations_of_all_suites() -> None:
    found = outcome(validation(PASSED, WARNING, PASSED), validation(QUARANTINED, quarantined=2))

    assert found.summary() == {"checkpoint": "readings", "verdict": "quarantined", "passed": 2, "failed": 2}


def test_the_log_has_the_verdict_and_every_failure_at_the_level_of_its_severity(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [{"sensor": "north", "value": -7.0}, 5]
    found = outcome(
        validation(
            *[PASSED] * 16,
            finding("critical", "failed", sample=rows),
            finding("warning", "failed", "two", observed="2"),
            finding("critical", "quarantined", "three", observed="3"),
            quarantined=3,
        )
    )

    with caplog.at_level(logging.INFO, logger="include.quality.outcome"):
        found.log("north of 2023-08-01")

    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", "Gate readings failed for north of 2023-08-01: 16 of 19 expectations passed, 3 rows quarantined"),
        ("ERROR", "critical: measured: one: observed 1\n    sensor=north, value=-7.0\n    5"),
        ("WARNING", "warning: measured: two: observed 2"),
        ("WARNING", "critical: measured: three: observed 3"),
    ]


def test_an_expectation_whose_rows_were_quarantined_is_not_among_the_causes_of_a_closed_gate() -> None:
    found = outcome(
        validation(
            finding("critical", "failed", "closes the gate"),
            finding("warning", "failed", "warns"),
            finding("critical", "quarantined", "quarantines its rows"),
            quarantined=1,
        )
    )
    closed = GateClosed("closed", found, date(2023, 8, 1), None)

    assert found.describe("critical") == "critical: measured: closes the gate: observed 1"
    assert found.describe("warning") == "warning: measured: warns: observed 1"
    assert [each.expectation for each in closed.causes] == ["closes the gate"]
    assert isinstance(closed, PermanentError)  # no retry heals it
