"""Suites of a test's own, and rows for the toy views."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from include.pipeline.batch import Batch
from tests.toy import ROLLUPS, SUITES
from tests.toy.batches import DAY

BUSIEST, TOTALS = (ROLLUPS.staging_name(view) for view in ROLLUPS.publishes)


def expectations(suite: str) -> list[dict[str, Any]]:
    """Return the expectations of a suite of the toys, as its file has them."""
    found: list[dict[str, Any]] = json.loads((SUITES / f"{suite}.json").read_text())["expectations"]
    return found


def write_suite(project: Path, name: str, *expectations: Mapping[str, object], **meta: object) -> None:
    """Write a suite as a person does: without ids and versions."""
    suite = {"name": name, "expectations": expectations, **({"meta": meta} if meta else {})}
    (project / "expectations" / f"{name}.json").write_text(json.dumps(suite))


def rule(
    query: str, name: str | None = "the rule", *, quarantines: bool = False, severity: str = "critical"
) -> dict[str, Any]:
    """Return an expectation that fails for the rows of a query."""
    return {
        "type": "unexpected_rows_expectation",
        "kwargs": {"unexpected_rows_query": query},
        "severity": severity,
        **({"meta": {"quarantine": True}} if quarantines else {}),
        **({"description": name} if name is not None else {}),
    }


def at_most(column: str, largest: object) -> dict[str, object]:
    """Return an expectation about the values of a column."""
    return {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": column, "max_value": largest},
        "severity": "critical",
        "description": f"{column} is at most {largest}",
    }


def stage_rollups(
    connection: psycopg.Connection[Any], busiest: Sequence[tuple[str, int]], batch_id: UUID | None = None
) -> UUID:
    """Commit a batch of the toy views to their staging tables: the sensors with their amounts, and the day's total."""
    batch_id = batch_id or uuid4()
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into {BUSIEST} (batch_id, sensor, amount) values (%s, %s, %s)".encode(),
            [(batch_id, *each) for each in busiest],
        )
        cursor.execute(
            f"insert into {TOTALS} (batch_id, day, total) values (%s, %s, %s)".encode(),
            [batch_id, DAY, sum(amount for _, amount in busiest)],
        )
    connection.commit()
    return batch_id


def as_rollups_batch(batch_id: UUID) -> Batch:
    """Return a staged batch of the toy views as the `start` task of its run would."""
    return Batch(
        dataset=ROLLUPS.name,
        day=DAY.isoformat(),
        batch_id=str(batch_id),
        publishes=ROLLUPS.published_names,
        params={},
    )
