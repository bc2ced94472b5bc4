"""The datasets at a glance: how their last days went, and what readers see of them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import psycopg

from include.datasets import Dataset, datasets
from include.errors import PermanentError
from include.quality.report.data import Run, latest_runs, runs_of
from include.warehouse import queries

DAYS = 60


@dataclass(frozen=True)
class Day:
    """A day of the strip: its latest run's verdict, else `closed`, `missing`, or `none` when nothing was due."""

    day: date
    state: str
    reason: str = ""
    run: Run | None = None


@dataclass(frozen=True)
class Card:
    """A dataset at a glance."""

    dataset: Dataset
    days: list[Day]
    behind: bool
    """Tells that the strip ends at the latest validated day, long ago, and not at the last day that is due."""
    latest: Run | None
    published: tuple[date, datetime] | None
    """The day that readers see (of several objects: of the one furthest behind), and since when."""

    @property
    def on_its_way(self) -> bool:
        """Tell whether the latest run's batch may be published, but is not yet: the report comes before that."""
        if not self.latest or self.latest.verdict == "failed" or not self.dataset.objects:
            return False
        return not self.published or self.published[1] < self.latest.first.started_at


def all_datasets(connection: psycopg.Connection[Any]) -> list[Dataset]:
    """Give the known datasets, then the checkpoints that ran without being one of them."""
    known = datasets()
    found = {row[0] for row in connection.execute(queries.read("quality/checkpoints"))}
    return [*known, *map(_unknown, sorted(found - {each.name for each in known}))]


def _unknown(checkpoint: str) -> Dataset:
    """Expect a checkpoint that is no dataset every day, and a day of it by the end of the next."""
    return Dataset(
        checkpoint, checkpoint, (), lambda _: None, lambda day: datetime.combine(day + timedelta(days=2), time(), UTC)
    )


def card(connection: psycopg.Connection[Any], dataset: Dataset, now: datetime) -> Card:
    """Give a dataset at a glance."""
    latest = latest_runs(connection, dataset.name, 1)
    days, behind = _strip(connection, dataset, now)
    published = connection.execute(queries.read("quality/published"), {"objects": list(dataset.objects)}).fetchone()
    return Card(dataset, days, behind, latest[0] if latest else None, published)


def _strip(connection: psycopg.Connection[Any], dataset: Dataset, now: datetime) -> tuple[list[Day], bool]:
    today = now.date()
    [(first, latest)] = connection.execute(
        queries.read("quality/span"), {"checkpoint": dataset.name, "today": today}
    ).fetchall()
    if latest is None:
        return [], False
    due = next((day for day in reversed(_days_until(today)) if dataset.due(day) <= now), today)
    behind = latest > today or latest < _days_until(due)[0]
    last = latest if behind else max(due, latest)
    days = _days_until(last)
    runs = {
        run.first.day: run for run in runs_of(connection, "quality/days", {"checkpoint": dataset.name, "days": days})
    }
    return [_day(dataset, day, runs.get(day), first <= day <= (last if behind else due)) for day in days], behind


def _days_until(last: date) -> list[date]:
    return [date.fromordinal(day) for day in range(max(1, last.toordinal() - DAYS + 1), last.toordinal() + 1)]


def _day(dataset: Dataset, day: date, run: Run | None, expected: bool) -> Day:
    if run:
        return Day(day, run.verdict, run=run)
    try:
        closed = dataset.closed_reason(day)
    except PermanentError:  # a day that no calendar knows
        closed = None
    if closed:
        return Day(day, "closed", closed)
    return Day(day, "missing" if expected else "none")
