"""Incidents, `quality.incident`: what was alerted, once, and when it was over."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row

from include.datasets import Dataset
from include.warehouse import queries

Kind = Literal["gate", "task", "late"]


@dataclass(frozen=True)
class Incident:
    """What is wrong: a dataset's gate or its lateness, or the task `<dag>.<task>`, of a day."""

    subject: str
    kind: Kind
    day: date


@dataclass(frozen=True)
class OpenIncident(Incident):
    """One that was alerted."""

    id: int


def open_incident(connection: psycopg.Connection[Any], incident: Incident, message: str) -> bool:
    """Record an incident; False when it is open already, or is a day that is late behind a closed gate.

    Runs in the caller's transaction. Of several that do so at once, the others wait for the first one's end.
    """
    values = {"subject": incident.subject, "kind": incident.kind, "day": incident.day, "message": message}
    return connection.execute(queries.read("alerts/open_incident"), values).fetchone() is not None


def gate_closed(connection: psycopg.Connection[Any], dag_id: str, run_id: str) -> bool:
    """Tell whether a run's gate closed the last time that it was asked."""
    values = {"dag_id": dag_id, "run_id": run_id}
    return connection.execute(queries.read("alerts/gate_closed"), values).fetchone() is not None


def over_for_dataset(connection: psycopg.Connection[Any], dataset: Dataset) -> list[OpenIncident]:
    """Give the open incidents of a dataset whose day is published."""
    return _open(connection, "over_for_dataset", {"name": dataset.name, "objects": list(dataset.objects)})


def over_for_dag(connection: psycopg.Connection[Any], dag_id: str, day: date, *, of_batch: bool) -> list[OpenIncident]:
    """Give the open incidents of a DAG's tasks that its success heals: of the day, or of all days up to it."""
    return _open(connection, "over_for_dag", {"dag_id": dag_id, "day": day, "of_batch": of_batch})


def close_incident(connection: psycopg.Connection[Any], incident: OpenIncident) -> timedelta | None:
    """End an incident and give how long it was open; None when somebody else ended it meanwhile."""
    row = connection.execute(queries.read("alerts/close_incident"), [incident.id]).fetchone()
    return row[0] if row else None


def _open(connection: psycopg.Connection[Any], query: str, values: dict[str, object]) -> list[OpenIncident]:
    with connection.cursor(row_factory=class_row(OpenIncident)) as cursor:
        return cursor.execute(queries.read(f"alerts/{query}"), values).fetchall()
