"""Opening the inner door: a validated batch becomes what readers see."""

from datetime import date
from typing import Any
from uuid import UUID

import psycopg

from include.errors import PermanentError
from include.warehouse import queries


def publish_market_day(connection: psycopg.Connection[Any], batch_id: UUID, market_date: date) -> int:
    """Replace one day of `market.transformed_market_data` by a staged batch; gives the number of rows.

    Runs in the caller's transaction, so readers see the old day or the new one. Raises PermanentError when
    staging holds no such batch: a day is never replaced by nothing.
    """
    # Several statements with bound values in one file need client-side binding.
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(queries.read("market/publish_day"), {"batch_id": batch_id, "market_date": market_date})
        while cursor.nextset():
            pass
        rows = cursor.rowcount
    if not rows:
        raise PermanentError(
            f"Batch {batch_id} of {market_date} is not in staging: clear the run's load task to load it again."
        )
    return rows
