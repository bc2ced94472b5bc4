"""Loading a batch into its staging table."""

from collections.abc import Iterable, Iterator
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


def load(
    dataset: Dataset,
    batch: Batch,
    frames: "pandas.DataFrame | Iterable[pandas.DataFrame]",
    table: Table | None = None,
) -> int:
    """Stage a frame, or several, as the rows of a batch, where readers do not see them; returns their number.

    `table` may be omitted if the dataset has one only. A frame's columns are the table's. Raises PermanentError when
    the batch was published, and when it is not clear which table is meant.
    """
    key, _ = key_of(dataset, batch)
    if not table and len(dataset.publishes) > 1:
        raise PermanentError(f"{dataset.name} has several tables: say in its load task which one the rows are for.")
    staging_table = dataset.staging_name(table or dataset.publishes[0])
    with connect(dataset.connection) as connection:
        return load_batch(connection, staging_table, key, frames)


def load_batch(
    connection: psycopg.Connection[Any],
    staging_table: str,
    batch_id: UUID,
    frames: "pandas.DataFrame | Iterable[pandas.DataFrame]",
) -> int:
    """COPY a frame, or several, into a staging table under their batch_id; returns the number of rows.

    A frame's columns are the table's, without batch_id and loaded_at. A batch that is loaded again replaces
    itself, so a retry leaves one copy. Runs in the caller's transaction. Raises PermanentError when the batch was
    published, and when the table has other columns or a column cannot hold a value.
    """
    from pandas import DataFrame

    target = identifier(staging_table)
    types = _types(connection, staging_table)
    claim_batch(connection, staging_table, batch_id)
    connection.execute(sql.SQL("delete from {} where batch_id = %s").format(target), [batch_id])
    rows = 0
    for frame in [frames] if isinstance(frames, DataFrame) else frames:
        try:
            _copy(connection, target, batch_id, frame, types)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.UndefinedColumn) as error:
            # Without its text, which can quote the data: this text goes into alerts.
            raise PermanentError(
                f"{staging_table} refused batch {batch_id} ({type(error).__name__}): its columns do not fit the rows'. "
                "Compare names and types, and write a migration, or change the rows."
            ) from None
        rows += len(frame)
    return rows


def _copy(
    connection: psycopg.Connection[Any],
    target: sql.Identifier,
    batch_id: UUID,
    frame: "pandas.DataFrame",
    types: dict[str, str],
) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, ["batch_id", *frame.columns]))
    binary = all(_fits(frame[name], types.get(name, "")) for name in frame.columns)
    form = sql.SQL("with (format {})").format(sql.SQL("binary" if binary else "text"))
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("copy {} ({}) from stdin {}").format(target, columns, form)) as copy,
    ):
        if binary:
            copy.set_types(["uuid", *(types[name] for name in frame.columns)])
        for row in _rows(frame):
            copy.write_row((batch_id, *row))


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
    from pandas import NA

    if column.dtype.kind == "f":  # where what is missing is not the same as what is not a number
        return [None if value is NA else value for value in column.tolist()] if column.hasnans else column.tolist()
    if column.hasnans:
        column = column.astype(object).where(column.notna(), None)
    return list(column.tolist())
