"""Rows of the toy table: a good batch, and what it takes to stage, check, publish and roll back one."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg

from include.pipeline.batch import Batch
from include.pipeline.publish import publish_batch, roll_back_batch
from include.quality.gate import gate
from include.quality.outcome import Outcome
from include.warehouse.register import Run
from tests.toy import READINGS

Row = Mapping[str, object]

DAY = date(2023, 8, 1)
SENSORS = ("north", "south")
TABLE = READINGS.publishes[0]
PUBLISHED = READINGS.published_name(TABLE)
STAGING = READINGS.staging_name(TABLE)
KEEP = 7


def row(sensor: str | None, value: float | None = 20.0, day: date | None = DAY) -> Row:
    """Return a good row, apart from what is given."""
    return {"day": day, "sensor": sensor, "value": value}


GOOD = [row(sensor) for sensor in SENSORS]


def parameters(sensors: Sequence[str] = SENSORS) -> dict[str, Any]:
    """Return the parameters that the suite of the table refers to."""
    return {"sensors": list(sensors)}


def stage(connection: psycopg.Connection[Any], rows: Iterable[Row]) -> UUID:
    """Commit rows to the staging table under a batch_id of their own."""
    batch_id = uuid4()
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into {STAGING} (batch_id, day, sensor, value) "
            "values (%(batch_id)s, %(day)s, %(sensor)s, %(value)s)".encode(),
            [{**each, "batch_id": batch_id} for each in rows],
        )
    connection.commit()
    return batch_id


def as_batch(batch_id: UUID, day: date = DAY, sensors: Sequence[str] = SENSORS) -> Batch:
    """Return a staged batch as the `start` task of its run would."""
    return Batch(
        dataset=READINGS.name,
        day=day.isoformat(),
        batch_id=str(batch_id),
        publishes=READINGS.published_names,
        params=parameters(sensors),
    )


def check(connection: psycopg.Connection[Any], batch_id: UUID, sensors: Sequence[str] = SENSORS) -> Outcome:
    """Run the gate of the table on a batch."""
    return gate(connection, READINGS, batch_id, DAY, parameters(sensors))


class TaskInstance:
    """A task of a run, which keeps what it pushes."""

    def __init__(self, dag_id: str = "toy_dag", run_id: str = "a run") -> None:
        self.dag_id = dag_id
        self.run_id = run_id
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: object) -> None:
        """Keep what is pushed; nothing is pushed twice."""
        assert key not in self.pushed
        self.pushed[key] = value


class Line(NamedTuple):
    """One row of the register."""

    day: date
    batch_id: UUID
    run: str
    is_current: bool
    restores: UUID | None


def with_value(value: float, day: date = DAY) -> list[Row]:
    """Return rows that are recognized by their value."""
    return [row(sensor, value, day) for sensor in SENSORS]


def run(name: str) -> Run:
    """Return the Airflow run of that name."""
    return Run("a_dag", name)


def publish(
    connection: psycopg.Connection[Any], batch_id: UUID, name: str = "a run", day: date = DAY, keep: int = KEEP
) -> int:
    """Publish a batch, and commit."""
    connection.commit()
    with connection.transaction():
        return publish_batch(connection, READINGS, batch_id, day, run(name), keep=keep)


def roll_back(
    connection: psycopg.Connection[Any], name: str = "a rollback", day: date = DAY, keep: int = KEEP
) -> tuple[UUID, int]:
    """Go one publication back, and commit; returns the batch and its row count."""
    connection.commit()
    with connection.transaction():
        _, batch_id, rows = roll_back_batch(connection, READINGS, day, run(name), keep=keep)
        return batch_id, rows


def publish_new(connection: psycopg.Connection[Any], value: float, day: date = DAY, keep: int = KEEP) -> UUID:
    """Stage and publish a batch of that value; returns its key."""
    batch_id = stage(connection, with_value(value, day))
    publish(connection, batch_id, f"run {value:g}", day, keep)
    return batch_id


def published(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return what readers see: day, sensor, value."""
    return connection.execute(f"select day, sensor, value from {PUBLISHED} order by day, sensor".encode()).fetchall()


def registered(connection: psycopg.Connection[Any]) -> list[Line]:
    """Return the whole register, oldest first; a restored publication is named by its batch."""
    found = connection.execute(
        "select line.day, line.batch_id, line.run_id, line.is_current, restored.batch_id "
        "from warehouse.publication as line left join warehouse.publication as restored on line.restores = restored.id "
        "order by line.id"
    )
    return [Line(*each) for each in found]


def staged(connection: psycopg.Connection[Any]) -> set[UUID]:
    """Return the batches that are in the staging table."""
    return {batch_id for (batch_id,) in connection.execute(f"select distinct batch_id from {STAGING}".encode())}
