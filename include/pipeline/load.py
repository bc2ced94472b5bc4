"""Loading a batch into its staging table."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.dataset import Dataset, Table
from include.pipeline.batch import Batch, key_of
from include.warehouse.columns import identifier
from include.warehouse.connections import connect
from include.warehouse.register import claim_batch

if TYPE_CHECKING:
    import pandas


def load(dataset: Dataset, batch: Batch, frame: "pandas.DataFrame", table: Table | None = None) -> int:
    """Stage a frame as the rows of a batch, where readers do not see them; returns their number.

    `table` is the dataset's only one if omitted. The frame's columns are the table's. Raises PermanentError when the
    batch was published.
    """
    key, _ = key_of(dataset, batch)
    staging_table = dataset.staging_name(table or dataset.publishes[0])
    with connect(dataset.connection) as connection:
        return load_batch(connection, staging_table, key, frame)


def load_batch(
    connection: psycopg.Connection[Any], staging_table: str, batch_id: UUID, frame: "pandas.DataFrame"
) -> int:
    """COPY a frame into a staging table under its batch_id; returns the number of rows.

    The frame's columns are the table's, without batch_id and loaded_at. A batch that is loaded again replaces
    itself, so a retry leaves one copy. Runs in the caller's transaction. Raises PermanentError when the batch was
    published.
    """
    target = identifier(staging_table)
    columns = sql.SQL(", ").join(map(sql.Identifier, ["batch_id", *frame.columns]))
    claim_batch(connection, staging_table, batch_id)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {} where batch_id = %s").format(target), [batch_id])
        with cursor.copy(sql.SQL("copy {} ({}) from stdin").format(target, columns)) as copy:
            for row in frame.itertuples(index=False, name=None):
                copy.write_row((batch_id, *row))
    return len(frame)
