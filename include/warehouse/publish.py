"""Opening the inner door: a validated batch becomes what readers see."""

from datetime import date
from typing import Any
from uuid import UUID

import psycopg

from include.errors import PermanentError
from include.warehouse import queries, register
from include.warehouse.load import STAGING
from include.warehouse.register import Run

MARKET_DATA = "market.transformed_market_data"
STAGED = f"{STAGING}.transformed_market_data"


def publish_market_day(
    connection: psycopg.Connection[Any],
    batch_id: UUID,
    market_date: date,
    run: Run,
    *,
    keep: int,
    restores: int | None = None,
) -> int:
    """Replace one day of `market.transformed_market_data` by a staged batch and register it; gives its rows' number.

    Runs in the caller's transaction, so readers see the old day or the new one. The day's last `keep` published
    batches stay in staging, to go back to. Raises PermanentError when staging holds no such batch: a day is never
    replaced by nothing.
    """
    # Two that delete and insert a day at once would collide on the key.
    register.lock(connection, f"{MARKET_DATA}/{market_date}")
    register.lock_batch(connection, STAGED, batch_id)
    # Several statements with bound values in one file need client-side binding.
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(queries.read("market/publish_day"), {"batch_id": batch_id, "market_date": market_date})
        while cursor.nextset():
            pass
        rows = cursor.rowcount
    if not rows:
        raise PermanentError(
            f"Batch {batch_id} of {market_date} is not in staging (a day's last {keep} published batches are kept): "
            "run the day again."
        )
    register.register(connection, MARKET_DATA, "day", market_date, batch_id, run, restores)
    register.remove_old_batches(connection, STAGED, MARKET_DATA, keep, market_date, day_column="market_date")
    return rows


def roll_back_market_day(
    connection: psycopg.Connection[Any], market_date: date, run: Run, *, keep: int
) -> tuple[UUID, int]:
    """Publish the batch again that a day of `market.transformed_market_data` held before; gives it and its row count.

    Runs in the caller's transaction; again for the same run it changes nothing. Raises PermanentError when the
    day has no earlier publication, or its batch is no longer kept.
    """
    register.lock(connection, f"{MARKET_DATA}/{market_date}")
    earlier = register.to_go_back_to(connection, MARKET_DATA, market_date, run)
    if not earlier:
        raise PermanentError(f"{MARKET_DATA} has no earlier publication of {market_date} to go back to.")
    rows = publish_market_day(connection, earlier.batch_id, market_date, run, keep=keep, restores=earlier.id)
    return earlier.batch_id, rows
