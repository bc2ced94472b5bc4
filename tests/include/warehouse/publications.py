"""Market days published and rolled back, each in a transaction of its own; and what came of it."""

from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from include.warehouse.publish import publish_market_day, roll_back_market_day

from include.warehouse.register import Run
from tests.include.quality.batches import DAY, Row, row, stage

KEEP = 7


class Line(NamedTuple):
    """What the register says of one publication."""

    day: date
    batch_id: UUID
    run: str
    is_current: bool
    restores: UUID | None


def batch(volume: float, day: date = DAY) -> list[Row]:
    """Give rows that are told from others by their volume."""
    return [row("AAPL", volume=volume, market_date=day), row("AMZN", volume=volume, market_date=day)]


def run(name: str) -> Run:
    """Give the Airflow run of that name."""
    return Run("a_dag", name)


def publish(
    connection: psycopg.Connection[Any], batch_id: UUID, name: str = "a run", day: date = DAY, keep: int = KEEP
) -> int:
    """Publish a batch, and commit."""
    connection.commit()
    with connection.transaction():
        return publish_market_day(connection, batch_id, day, run(name), keep=keep)


def roll_back(
    connection: psycopg.Connection[Any], name: str = "a rollback", day: date = DAY, keep: int = KEEP
) -> tuple[UUID, int]:
    """Go one publication back, and commit."""
    connection.commit()
    with connection.transaction():
        return roll_back_market_day(connection, day, run(name), keep=keep)


def publish_new(connection: psycopg.Connection[Any], volume: float, day: date = DAY, keep: int = KEEP) -> UUID:
    """Stage and publish a batch of that volume; gives its key."""
    batch_id = stage(connection, batch(volume, day))
    publish(connection, batch_id, f"run {volume:g}", day, keep)
    return batch_id


def published(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Give what readers see: day, ticker, volume."""
    return connection.execute(
        "select market_date, ticker, volume from market.transformed_market_data order by market_date, ticker"
    ).fetchall()


def registered(connection: psycopg.Connection[Any]) -> list[Line]:
    """Give the whole register, oldest first; a restored publication is told by its batch."""
    found = connection.execute(
        "select line.day, line.batch_id, line.run_id, line.is_current, restored.batch_id "
        "from warehouse.publication as line left join warehouse.publication as restored on line.restores = restored.id "
        "order by line.id"
    )
    return [Line(*each) for each in found]


def staged(connection: psycopg.Connection[Any]) -> set[UUID]:
    """Give the batches that are in staging."""
    found = connection.execute("select distinct batch_id from market_staging.transformed_market_data")
    return {batch_id for (batch_id,) in found}
