"""The datasets at a glance: how their last days went, and what readers see of them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import psycopg

from include import datasets
from include.dataset import Dataset, always_open
from include.errors import PermanentError
from include.quality.report.data import Run, latest_runs, runs_of
from include.warehouse import queries

DAYS = 60


@dataclass(frozen=True)
class Subject:
    """What an overview is about: a dataset, or a checkpoint that is not declared (any more)."""

    name: str
    title: str
    objects: list[str]
    closed_reason: Callable[[date], str | None]
    due: Callable[[date], datetime]

    @classmethod
    def of(cls, dataset: Dataset) -> "Subject":
        """Return the subject of a declared dataset."""
        return cls(dataset.name, dataset.title, dataset.published_names, dataset.closed_reason, dataset.due)

    @classmethod
    def undeclared(cls, checkpoint: str) -> "Subject":
        """Return the subject of a checkpoint without a dataset: every day is expected, by the end of the next."""
        return cls(
            checkpoint, checkpoint, [], always_open, lambda day: datetime.combine(day + timedelta(days=2), time(), UTC)
        )


@dataclass(frozen=True)
class Day:
    """A day of the strip: its latest run's verdict, else `closed`, `missing`, or `none` when nothing was due."""

    day: date
    state: str
    reason: str = ""
    run: Run | None = None


@dataclass(frozen=True)
class Overview:
    """A dataset at a glance."""

    subject: Subject
    days: list[Day]
    behind: bool
    """Whether the strip ends at the latest validated day, long ago, and not at the last day that is due."""
    latest: Run | None
    published: tuple[date, datetime] | None
    """The day that readers see (of several objects: the day of the oldest one), and since when."""

    @property
    def not_published_yet(self) -> bool:
        """Whether the latest run's batch may be published, but is not yet: the report is written before that."""
        if not self.latest or self.latest.verdict == "failed" or not self.subject.objects:
            return False
        return not self.published or self.published[1] < self.latest.first.started_at


def all_subjects(connection: psycopg.Connection[Any]) -> list[Subject]:
    """Return the declared datasets, then the checkpoints that ran without being one of them."""
    declared = [Subject.of(dataset) for dataset in datasets.DATASETS]
    found = {row[0] for row in connection.execute(queries.read("quality/checkpoints"))}
    return [*declared, *map(Subject.undeclared, sorted(found - {each.name for each in declared}))]


def overview(connection: psycopg.Connection[Any], subject: Subject, now: datetime) -> Overview:
    """Return a dataset at a glance."""
    latest = latest_runs(connection, subject.name, 1)
    days, behind = _strip(connection, subject, now)
    published = connection.execute(queries.read("quality/published"), {"objects": subject.objects}).fetchone()
    return Overview(subject, days, behind, latest[0] if latest else None, published)


def _strip(connection: psycopg.Connection[Any], subject: Subject, now: datetime) -> tuple[list[Day], bool]:
    today = now.date()
    [(first, latest)] = connection.execute(
        queries.read("quality/span"), {"checkpoint": subject.name, "today": today}
    ).fetchall()
    if latest is None:
        return [], False
    due = next((day for day in reversed(_days_until(today)) if subject.due(day) <= now), today)
    behind = latest > today or latest < _days_until(due)[0]
    last = latest if behind else max(due, latest)
    days = _days_until(last)
    runs = {
        run.first.day: run for run in runs_of(connection, "quality/days", {"checkpoint": subject.name, "days": days})
    }
    return [_day(subject, day, runs.get(day), first <= day <= (last if behind else due)) for day in days], behind


def _days_until(last: date) -> list[date]:
    return [date.fromordinal(day) for day in range(max(1, last.toordinal() - DAYS + 1), last.toordinal() + 1)]


def _day(subject: Subject, day: date, run: Run | None, expected: bool) -> Day:
    if run:
        return Day(day, run.verdict, run=run)
    try:
        closed = subject.closed_reason(day)
    except PermanentError:  # a day that the calendar does not cover
        closed = None
    if closed:
        return Day(day, "closed", closed)
    return Day(day, "missing" if expected else "none")
