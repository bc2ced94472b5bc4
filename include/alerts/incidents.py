"""Incidents, `quality.incident`: what was reported, once, and when it ended."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row

from include.dataset import Dataset
from include.warehouse import queries

Kind = Literal["gate", "task", "late"]


@dataclass(frozen=True)
class Incident:
    """What is wrong on a day: a dataset's gate closed, its data is late, or the task `<dag>.<task>` failed."""

    subject: str
    kind: Kind
    day: date


@dataclass(frozen=True)
class OpenIncident(Incident):
    """An incident that was reported and has not ended."""

    id: int


def open_incident(connection: psycopg.Connection[Any], incident: Incident, message: str) -> bool:
    """Record an incident; returns False when it is open already, or a day is late because its gate closed.

    Runs in the caller's transaction. A second caller for the same incident waits until the first one's ends.
    """
    values = {"subject": incident.subject, "kind": incident.kind, "day": incident.day, "message": message}
    return connection.execute(queries.read("alerts/open_incident"), values).fetchone() is not None


def gate_closed(connection: psycopg.Connection[Any], dag_id: str, run_id: str) -> bool:
    """Return whether a run's gate closed the last time that it ran, and that was reported."""
    values = {"dag_id": dag_id, "run_id": run_id}
    return connection.execute(queries.read("alerts/gate_closed"), values).fetchone() is not None


def ended_for_dataset(connection: psycopg.Connection[Any], dataset: Dataset) -> list[OpenIncident]:
    """Return the open incidents of a dataset whose day is published by now."""
    return _open(connection, "ended_for_dataset", {"name": dataset.name, "objects": dataset.published_names})


def ended_for_dag(connection: psycopg.Connection[Any], dag_id: str, day: date, *, of_batch: bool) -> list[OpenIncident]:
    """Return the open incidents of a DAG's tasks that its success ends: those of the day, or of all days up to it."""
    return _open(connection, "ended_for_dag", {"dag_id": dag_id, "day": day, "of_batch": of_batch})


def close_incident(connection: psycopg.Connection[Any], incident: OpenIncident) -> timedelta | None:
    """End an incident; returns how long it was open, or None when another session ended it meanwhile."""
    row = connection.execute(queries.read("alerts/close_incident"), [incident.id]).fetchone()
    return row[0] if row else None


def _open(connection: psycopg.Connection[Any], query: str, values: dict[str, object]) -> list[OpenIncident]:
    with connection.cursor(row_factory=class_row(OpenIncident)) as cursor:
        return cursor.execute(queries.read(f"alerts/{query}"), values).fetchall()
