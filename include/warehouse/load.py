"""Loading a batch into staging."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.warehouse.register import claim_batch

if TYPE_CHECKING:
    import pandas

STAGING = "market_staging"


def load_batch(connection: psycopg.Connection[Any], table: str, batch_id: UUID, frame: "pandas.DataFrame") -> int:
    """COPY a frame into `market_staging.<table>` under its batch_id; gives the number of rows.

    The frame's columns are the table's, without batch_id. A batch that is loaded again replaces itself, so a
    retry leaves one copy. Runs in the caller's transaction. Raises PermanentError when the batch was published.
    """
    target = sql.Identifier(STAGING, table)
    columns = sql.SQL(", ").join(map(sql.Identifier, ["batch_id", *frame.columns]))
    claim_batch(connection, f"{STAGING}.{table}", batch_id)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {} where batch_id = %s").format(target), [batch_id])
        with cursor.copy(sql.SQL("copy {} ({}) from stdin").format(target, columns)) as copy:
            for row in frame.itertuples(index=False, name=None):
                copy.write_row((batch_id, *row))
    return len(frame)
