"""What a gate found: plain values, from which results, the report and alerts are made."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from include.errors import PermanentError

log = logging.getLogger(__name__)

Verdict = Literal["passed", "warned", "quarantined", "failed"]
_WORST_LAST: tuple[Verdict, ...] = ("passed", "warned", "quarantined", "failed")
SEVERITIES = ("info", "warning", "critical")
SAMPLE = 10
"""How many bad rows of one expectation are kept and shown."""


@dataclass(frozen=True)
class Finding:
    """One expectation and its result for a batch."""

    suite: str
    expectation: str
    """In plain words: the description in its suite."""
    type: str
    column: str | None
    arguments: Mapping[str, Any]
    severity: str
    verdict: Literal["passed", "quarantined", "failed"]
    observed: str
    observed_number: float | None
    checked: int | None
    unexpected: int | None
    sample: list[Any]
    row_rule: str | None = None
    """The query of the failing rows, if they may be quarantined instead of failing the batch."""

    def __str__(self) -> str:
        rows = "".join(f"\n    {_row(row)}" for row in self.sample)
        return f"{self.severity}: {self.suite}: {self.expectation}: observed {self.observed}{rows}"


@dataclass(frozen=True)
class Validation:
    """One suite, run on one batch."""

    suite: str
    staging_table: str
    """The table that holds the batch."""
    rows: int
    findings: list[Finding]
    max_share: float = 0.0
    """The share of rows that may be quarantined."""
    quarantined: int = 0

    @property
    def verdict(self) -> Verdict:
        """`failed` closes the gate; `quarantined` and `warned` let the (remaining) rows through."""
        missed = [finding for finding in self.findings if finding.verdict == "failed"]
        if any(finding.severity == "critical" for finding in missed):
            return "failed"
        if self.quarantined:
            return "quarantined"
        return "warned" if missed else "passed"

    @property
    def highest_severity(self) -> str | None:
        """The highest severity among the expectations that failed; None when none did."""
        missed = [finding.severity for finding in self.findings if finding.verdict != "passed"]
        return max(missed, key=SEVERITIES.index, default=None)


@dataclass(frozen=True)
class Outcome:
    """What a gate found in all suites of a checkpoint."""

    checkpoint: str
    started_at: datetime
    seconds: float
    validations: list[Validation]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the suites."""
        return max((each.verdict for each in self.validations), key=_WORST_LAST.index)

    @property
    def findings(self) -> list[Finding]:
        """The results of all suites, in their order."""
        return [finding for each in self.validations for finding in each.findings]

    @property
    def failures(self) -> list[Finding]:
        """The expectations that the batch failed."""
        return [finding for finding in self.findings if finding.verdict != "passed"]

    @property
    def passed(self) -> int:
        """How many expectations passed."""
        return len(self.findings) - len(self.failures)

    @property
    def quarantined(self) -> int:
        """How many rows were kept out of the batch."""
        return sum(each.quarantined for each in self.validations)

    def summary(self) -> dict[str, Any]:
        """Return what a validate task pushes, apart from the report's address."""
        return {
            "checkpoint": self.checkpoint,
            "verdict": self.verdict,
            "passed": self.passed,
            "failed": len(self.failures),
        }

    def describe(self, severity: str) -> str:
        """Return the failures of one severity as text, with up to ten bad rows each."""
        return "\n".join(
            str(finding) for finding in self.failures if finding.severity == severity and finding.verdict == "failed"
        )

    def log(self, subject: str) -> None:
        """Log the verdict and every failure."""
        log.info(
            "Gate %s %s for %s: %s of %s expectations passed, %s rows quarantined",
            self.checkpoint, self.verdict, subject, self.passed, len(self.findings), self.quarantined,
        )  # fmt: skip
        for finding in self.failures:
            closes = finding.verdict == "failed" and finding.severity == "critical"
            log.log(logging.ERROR if closes else logging.WARNING, "%s", finding)


class GateClosed(PermanentError):
    """A gate closed. It carries to the task's callback what the alert says."""

    def __init__(self, message: str, outcome: Outcome, day: date, report: str | None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.day = day
        self.report = report

    @property
    def causes(self) -> list[Finding]:
        """The expectations that closed it."""
        return [each for each in self.outcome.failures if (each.severity, each.verdict) == ("critical", "failed")]


def _row(row: object) -> str:
    if isinstance(row, Mapping):
        return ", ".join(f"{column}={value}" for column, value in row.items())
    return str(row)
