"""Loading a batch into its staging table."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.dataset import Dataset, Table
from include.errors import PermanentError
from include.pipeline.batch import Batch, key_of
from include.warehouse.columns import identifier
from include.warehouse.connections import connect
from include.warehouse.register import claim_batch

if TYPE_CHECKING:
    import pandas


def load(dataset: Dataset, batch: Batch, frame: "pandas.DataFrame", table: Table | None = None) -> int:
    """Stage a frame as the rows of a batch, where readers do not see them; returns their number.

    `table` may be omitted if the dataset has one only. The frame's columns are the table's. Raises PermanentError when
    the batch was published, and when it is not clear which table is meant.
    """
    key, _ = key_of(dataset, batch)
    if not table and len(dataset.publishes) > 1:
        raise PermanentError(f"{dataset.name} has several tables: say in its load task which one the rows are for.")
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
