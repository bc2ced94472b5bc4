"""The results of every gate as rows of `quality.validation` and `quality.expectation_result`."""

import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from include.quality.outcome import Outcome
from include.warehouse import queries
from include.warehouse.register import Run

_LONGEST = 10_000  # characters of one text: a sample is to look at, not a copy of the batch


def store(
    connection: psycopg.Connection[Any], outcome: Outcome, day: date, batch_id: UUID, run: Run, *, days_kept: int
) -> list[int]:
    """Store what a gate found, and remove what is older than `days_kept` days; returns the ids of its validations.

    Runs in the caller's transaction.
    """
    ids: list[int] = []
    for validation in outcome.validations:
        stored = connection.execute(
            queries.read("quality/store_validation"),
            {
                "checkpoint": outcome.checkpoint,
                "suite": validation.suite,
                "staging_table": validation.staging_table,
                "day": day,
                "batch_id": batch_id,
                **run._asdict(),
                "started_at": outcome.started_at,
                "seconds": outcome.seconds,
                "verdict": validation.verdict,
                "highest_severity": validation.highest_severity,
                "rows_checked": validation.rows,
                "rows_quarantined": validation.quarantined,
            },
        ).fetchall()
        ids.append(stored[0][0])
        with connection.cursor() as cursor:
            cursor.executemany(
                queries.read("quality/store_expectation_result"),
                [
                    {
                        "validation_id": ids[-1],
                        "position": position,
                        "expectation": _text(finding.expectation),
                        "type": finding.type,
                        "column_name": finding.column,
                        "arguments": _json(finding.arguments),
                        "severity": finding.severity,
                        "verdict": finding.verdict,
                        "observed": _text(finding.observed),
                        "observed_number": finding.observed_number,
                        "checked": finding.checked,
                        "unexpected": finding.unexpected,
                        "sample": _json(finding.sample),
                    }
                    for position, finding in enumerate(validation.findings)
                ],
            )
    connection.execute(
        "delete from quality.validation where started_at < now() - make_interval(days => %s)", [days_kept]
    )
    return ids


def _json(value: object) -> Jsonb:
    return Jsonb(_plain(value), dumps=lambda plain: json.dumps(plain, default=_text))


def _plain(value: object) -> object:
    """Return a value that jsonb takes: JSON has no NaN and no infinity, and Postgres no NUL character."""
    if isinstance(value, Mapping):
        return {_text(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _text(value)


def _text(value: object) -> str:
    text = str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
