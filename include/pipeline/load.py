"""Loading a batch into its staging table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.dataset import Dataset, Table
from include.errors import PermanentError
from include.pipeline.batch import Batch, key_of
from include.warehouse.columns import columns_of, identifier
from include.warehouse.connections import connect
from include.warehouse.register import claim_batch

if TYPE_CHECKING:
    import pandas

_PART = 10_000  # rows
# For each type of Postgres, what pandas calls values that psycopg sends in its binary form without converting them.
_BINARY = {
    "bigint": "integer",
    "boolean": "boolean",
    "date": "date",
    "double precision": "floating",
    "integer": "integer",
    "numeric": "decimal",
    "text": "string",
    "timestamp with time zone": "datetime",
}


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
    types = _types(connection, staging_table)
    binary = all(_fits(frame[name], types.get(name, "")) for name in frame.columns)
    claim_batch(connection, staging_table, batch_id)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {} where batch_id = %s").format(target), [batch_id])
        form = sql.SQL("with (format {})").format(sql.SQL("binary" if binary else "text"))
        with cursor.copy(sql.SQL("copy {} ({}) from stdin {}").format(target, columns, form)) as copy:
            if binary:
                copy.set_types(["uuid", *(types[name] for name in frame.columns)])
            for row in _rows(frame):
                copy.write_row((batch_id, *row))
    return len(frame)


def _types(connection: psycopg.Connection[Any], staging_table: str) -> dict[str, str]:
    return {column.name: column.type for column in columns_of(connection, staging_table) or []}


def _fits(values: "pandas.Series[Any]", type_: str) -> bool:
    """Return whether Postgres takes a column's values in its binary form, which is several times faster."""
    from pandas.api.types import infer_dtype

    return bool(infer_dtype(values, skipna=True) == _BINARY.get(type_))


def _rows(frame: "pandas.DataFrame") -> Iterator[tuple[Any, ...]]:
    """Yield the rows, with None where a value is missing; a float that is not a number stays one."""
    for start in range(0, len(frame), _PART):  # a list of Python's values is fast to read and takes much memory
        part = frame.iloc[start : start + _PART]
        yield from zip(*(_values(column) for _, column in part.items()), strict=True)


def _values(column: "pandas.Series[Any]") -> list[Any]:
    if column.dtype.kind != "f" and column.hasnans:
        column = column.astype(object).where(column.notna(), None)
    return list(column.tolist())
