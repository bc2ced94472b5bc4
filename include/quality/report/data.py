"""Runs and what they found, read from the tables. No query costs more as the history grows."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, get_args
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from include.quality.outcome import Verdict
from include.warehouse import queries

RUNS = 60
QUARANTINED_ROWS = 200


@dataclass(frozen=True)
class Validation:
    """One suite, run on one batch."""

    id: int
    checkpoint: str
    suite: str
    staging_table: str
    day: date
    batch_id: UUID
    dag_id: str
    run_id: str
    started_at: datetime
    seconds: float
    verdict: Verdict
    rows_checked: int
    rows_quarantined: int


@dataclass(frozen=True)
class Run:
    """All suites of a checkpoint, run together on one batch."""

    validations: list[Validation]

    @property
    def first(self) -> Validation:
        """The first validation: its id names the run's page, and it has what all of them have in common."""
        return self.validations[0]

    @property
    def verdict(self) -> Verdict:
        """The worst of the suites."""
        return max((each.verdict for each in self.validations), key=get_args(Verdict).index)

    @property
    def rows(self) -> int:
        """Rows checked, of all suites."""
        return sum(each.rows_checked for each in self.validations)

    @property
    def seconds(self) -> float:
        """How long it took to check them."""
        return self.first.seconds

    @property
    def quarantined(self) -> int:
        """Rows quarantined, of all suites."""
        return sum(each.rows_quarantined for each in self.validations)


@dataclass(frozen=True)
class Result:
    """One expectation of a validation."""

    validation_id: int
    expectation: str
    type: str
    column_name: str | None
    arguments: dict[str, Any]
    severity: str
    verdict: str
    observed_number: float | None
    checked: int | None
    unexpected: int | None
    observed: str = ""
    sample: list[Any] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether what was observed is a number of unexpected rows."""
        return self.unexpected is not None or self.type == "unexpected_rows_expectation"

    @property
    def value(self) -> float | None:
        """What a trend shows: the number that was observed, else the number of unexpected rows."""
        return finite(self.unexpected if self.observed_number is None else self.observed_number)

    def bound(self, name: str) -> float | None:
        """Return `min_value` or `max_value`, if it bounds what was observed."""
        return None if self.counts else finite(self.arguments.get(name))


@dataclass(frozen=True)
class Trend:
    """One expectation of the latest run, and its result in each of the latest runs (None: not part of the run)."""

    suite: str
    results: list[Result | None]

    @property
    def known(self) -> list[Result]:
        """Its results, in the runs that had it."""
        return [each for each in self.results if each]

    @property
    def latest(self) -> Result:
        """Its result in the latest run."""
        return self.known[-1]

    @property
    def passed(self) -> int:
        """In how many runs it passed."""
        return sum(each.verdict == "passed" for each in self.known)


@dataclass(frozen=True)
class Quarantined:
    """A row that was kept out of its batch."""

    staging_table: str
    row_data: dict[str, Any]
    rules: list[str]
    of_batch: int
    """How many rows were kept out of the batch."""


@dataclass(frozen=True)
class Changes:
    """How a published batch differs from what readers saw of the day before."""

    object: str
    added: int
    removed: int
    altered: int
    sample: list[dict[str, dict[str, Any] | None]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the sample, with what happened to each in the column without a name."""
        return [_changed_row(each["before"], each["after"]) for each in self.sample]


def _changed_row(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
    if before is None or after is None:
        return {"": "removed" if before else "added", **(before or after or {})}
    values = {name: value if value == before[name] else f"{before[name]} → {value}" for name, value in after.items()}
    return {"": "altered", **values}


def run(connection: psycopg.Connection[Any], ids: Sequence[int]) -> Run:
    """Return the run of these validations."""
    with connection.cursor(row_factory=class_row(Validation)) as cursor:
        return Run(cursor.execute(queries.read("quality/validations"), {"ids": list(ids)}).fetchall())


def latest_runs(connection: psycopg.Connection[Any], checkpoint: str, limit: int = RUNS) -> list[Run]:
    """Return the last runs of a checkpoint, oldest first."""
    return runs_of(connection, "quality/runs", {"checkpoint": checkpoint, "limit": limit})


def runs_of(connection: psycopg.Connection[Any], query: str, values: dict[str, Any]) -> list[Run]:
    """Return the runs whose validations a query finds, oldest first."""
    ids = [id_ for (id_,) in connection.execute(queries.read(query), values)]
    runs: dict[tuple[datetime, UUID], list[Validation]] = {}
    for each in run(connection, ids).validations:
        runs.setdefault((each.started_at, each.batch_id), []).append(each)
    return [Run(validations) for validations in runs.values()]


def results(
    connection: psycopg.Connection[Any], runs: Sequence[Run], query: str = "quality/results"
) -> dict[int, list[Result]]:
    """Return the results of runs, by validation."""
    found: dict[int, list[Result]] = {}
    ids = [validation.id for run in runs for validation in run.validations]
    with connection.cursor(row_factory=class_row(Result)) as cursor:
        for each in cursor.execute(queries.read(query), {"ids": ids}):
            found.setdefault(each.validation_id, []).append(each)
    return found


def trends(connection: psycopg.Connection[Any], runs: Sequence[Run]) -> list[Trend]:
    """Return the trend of each expectation of the latest run; those that always passed come last."""
    found = results(connection, runs, "quality/trends")
    by_run = [
        dict(_numbered((each.suite, result) for each in run.validations for result in found.get(each.id, [])))
        for run in runs
    ]
    trends = [Trend(key[0], [results.get(key) for results in by_run]) for key in by_run[-1]]
    return sorted(trends, key=lambda trend: trend.passed == len(trend.known))


def _numbered(found: Iterable[tuple[str, Result]]) -> Iterator[tuple[tuple[Any, ...], Result]]:
    """Return a key for each expectation; two that are alike are numbered, so that they differ."""
    seen: Counter[tuple[Any, ...]] = Counter()
    for suite, result in found:
        key = (suite, result.type, result.column_name, result.expectation)
        seen[key] += 1
        yield (*key, seen[key]), result


def quarantined(connection: psycopg.Connection[Any], run: Run) -> dict[str, list[Quarantined]]:
    """Return the first rows that were kept out of a run's batch, by staging table."""
    found: dict[str, list[Quarantined]] = {}
    values = {"batch_id": run.first.batch_id, "checkpoint": run.first.checkpoint, "limit": QUARANTINED_ROWS}
    with connection.cursor(row_factory=class_row(Quarantined)) as cursor:
        for each in cursor.execute(queries.read("quality/quarantined"), values):
            found.setdefault(each.staging_table, []).append(each)
    return found


def latest_validations(connection: psycopg.Connection[Any], checkpoint: str, batch_id: UUID) -> list[int]:
    """Return the validations of the last run of a batch; none when it was never validated."""
    values = {"checkpoint": checkpoint, "batch_id": batch_id}
    return [id_ for id_, *_ in connection.execute(queries.read("quality/latest_validations"), values)]


def changes(connection: psycopg.Connection[Any], run: Run) -> list[Changes]:
    """Return how a run's batch changed each object when it was last published; none if its day was new."""
    found = connection.execute(queries.read("quality/changes"), {"batch_id": run.first.batch_id})
    return [Changes(name, **{**each, "sample": each["sample"] or []}) for name, each in found]


def columns(connection: psycopg.Connection[Any], run: Run) -> list[str]:
    """Return the columns of a run's tables in their order, which jsonb does not keep."""
    tables = [each.staging_table for each in run.validations]
    return [name for (name,) in connection.execute(queries.read("quality/columns"), {"tables": tables})]


def finite(value: object) -> float | None:
    """Return a number that can be drawn; None for anything else that a table can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # jsonb takes whole numbers that no float can hold
        return None
