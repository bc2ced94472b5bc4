"""Batches of the toy views, recognized by a mark; and which of them readers see."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg

from include.pipeline.publish import publish_batch, roll_back_batch
from include.warehouse.register import Run
from tests.toy import ROLLUPS

VIEWS = [view.name for view in ROLLUPS.publishes]
DAYS = [date(2023, 8, 1) + timedelta(days=number) for number in range(5)]
KEEP = 7
ROWS = 2  # of each view in a batch
# The column of each view that bears the mark, and rows that bear it.
_MARKS = {"busiest": "amount", "totals": "total"}
_MARKED = {"busiest": "'sensor ' || n, %(mark)s", "totals": "%(day)s::date, %(mark)s"}


def stage(connection: psycopg.Connection[Any], day: date, mark: int, only: Iterable[str] = VIEWS) -> UUID:
    """Commit rows that bear a mark to the staging tables, under a batch_id of their own."""
    batch_id = uuid4()
    for view in only:
        connection.execute(
            f"insert into {ROLLUPS.staging_schema}.{view} "
            f"select %(batch_id)s, now(), {_MARKED[view]} from generate_series(1, {ROWS}) as n".encode(),
            {"batch_id": batch_id, "day": day, "mark": mark},
        )
    connection.commit()
    return batch_id


def run(name: str) -> Run:
    """Return the Airflow run of that name."""
    return Run("a_dag", name)


def publish(
    connection: psycopg.Connection[Any], day: date, mark: int, *, keep: int = KEEP, allow_older: bool = False
) -> UUID:
    """Stage and publish rows that bear a mark, and commit; returns the batch."""
    batch_id = stage(connection, day, mark)
    publish_batch(connection, ROLLUPS, batch_id, day, run(f"run {mark}"), keep=keep, allow_older=allow_older)
    connection.commit()
    return batch_id


def roll_back(
    connection: psycopg.Connection[Any], name: str = "a rollback", day: date | None = None, keep: int = KEEP
) -> tuple[date, UUID, int]:
    """Roll the views back, and commit; returns the day, the batch and its row count."""
    found = roll_back_batch(connection, ROLLUPS, day, run(name), keep=keep)
    connection.commit()
    return found


ALL_MARKS = " union all ".join(
    f"select '{view}', {_MARKS[view]}::int, count(*)::int from {ROLLUPS.name}.{view} group by {_MARKS[view]}"
    for view in VIEWS
)
"""One statement that returns the name, the marks and the row counts of all views."""


def visible(connection: psycopg.Connection[Any]) -> list[int]:
    """Return the mark that each view shows, of all views in one statement; 0 for an empty view."""
    found: dict[str, int] = {}
    for view, mark, _ in connection.execute(ALL_MARKS.encode()).fetchall():
        assert view not in found, f"{view} shows two batches"
        found[view] = mark
    return [found.get(view, 0) for view in VIEWS]


def everywhere(mark: int) -> list[int]:
    """Return what `visible` returns when all views show one mark."""
    return [mark] * len(VIEWS)


def kept(connection: psycopg.Connection[Any]) -> list[set[int]]:
    """Return the marks of all batches in the staging table of each view."""
    return [
        {
            mark
            for (mark,) in connection.execute(
                f"select {_MARKS[view]}::int from {ROLLUPS.staging_schema}.{view}".encode()
            )
        }
        for view in VIEWS
    ]


def history(connection: psycopg.Connection[Any], view: str = VIEWS[0]) -> list[tuple[Any, ...]]:
    """Return what the register has of a view, oldest first; of a rollback, the number of the line that it restored."""
    return connection.execute(
        "select line.day, line.batch_id, line.run_id, line.is_current, "
        "(select count(*) from warehouse.publication as other "
        "where other.object = line.object and other.id <= line.restores) "
        "from warehouse.publication as line where object = %s and scope = 'object' order by id",
        [f"{ROLLUPS.name}.{view}"],
    ).fetchall()
