"""From a query to a Parquet object: a batch of rows at a time, so that memory does not grow with the rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.errors import PermanentError
from include.lake import storage
from include.lake.storage import Figures, Manifest
from include.warehouse import queries, register
from include.warehouse.register import Run

if TYPE_CHECKING:
    import pyarrow as pa

_EXACT = Context(prec=1000)  # digits of a sum; Python's own arithmetic would round to 28
_ROWS = 20_000  # of a batch, which becomes a row group of the object


@dataclass(frozen=True)
class Source:
    """A day of a table that is exported."""

    table: str
    """`<schema>.<table>` in the warehouse."""
    day_column: str
    key: tuple[str, ...]
    """The columns by which the rows are ordered."""

    def query(self, day: date) -> sql.Composed:
        """Return the statement that selects the day's rows in order, without values from outside."""
        return sql.SQL(queries.read("lake/export_day")).format(
            source=sql.Identifier(*self.table.split(".")),
            day_column=sql.Identifier(self.day_column),
            day=sql.Literal(day),
            key=sql.SQL(", ").join(map(sql.Identifier, self.key)),
        )


def export(
    connection: psycopg.Connection[Any], source: Source, day: date, *, table: str, batch_id: UUID, run: Run
) -> Manifest:
    """Write a day's rows as the export of `table` (`<schema>.<table>`, as its readers will know it).

    The earlier export of the day, if there is one, is replaced when the new one is complete; after an error it is still
    there. Runs in the caller's transaction, which holds the lock of the day's export when it returns. A type that
    Parquet has no equivalent of is exported as Postgres' text. Returns the manifest, also of no rows, for which nothing
    is written. Raises PermanentError for a value that the column's type in Parquet cannot hold.
    """
    import pyarrow.parquet as pq

    query = source.query(day)
    schema, statement = _schema(connection, source, query)
    rows, totals = 0, {name: _Total() for name in schema.names}
    with storage.uploading() as (place, upload), pq.ParquetWriter(upload, schema, compression="zstd") as writer:
        for batch in _batches(connection, source, statement, schema):
            writer.write_batch(batch, row_group_size=_ROWS)
            rows += len(batch)
            for name, total in totals.items():
                total.add(batch.column(name))
    manifest = Manifest(
        table=table,
        day=day.isoformat(),
        batch_id=str(batch_id),
        rows=rows,
        bytes=upload.bytes,
        sha256=upload.sha256,
        columns={field.name: str(field.type) for field in schema},
        figures={name: total.figures() for name, total in totals.items()},
        query=query.as_string(connection),
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        **run._asdict(),
    )
    if rows:
        # Held until the transaction ends: another export of the day would remove this one's object.
        register.lock(connection, manifest.lock)
        storage.put(place, manifest)
    else:
        place.fs.rm(place.path)
    return manifest


def batches(manifest: Manifest) -> "Iterator[pa.RecordBatch]":
    """Yield the rows of an export, a batch at a time."""
    import pyarrow.parquet as pq

    with storage.reading(manifest) as file:
        # Without pre_buffer, since it would keep all that was read of the file.
        yield from pq.ParquetFile(file, pre_buffer=False).iter_batches(_ROWS)


def figures_of_object(manifest: Manifest) -> tuple[int, dict[str, Figures]]:
    """Return the number of rows and the figures of what the object really holds.

    Raises PermanentError when the object is not the one of the manifest.
    """
    rows, totals = 0, {name: _Total() for name in manifest.columns}
    if storage.checksum(manifest) != manifest.sha256:
        raise PermanentError(
            f"The object of {manifest.table} of {manifest.day} is not the one that was exported: its checksum differs "
            "from the manifest's. Clear the run from its start task on."
        )
    for batch in batches(manifest):
        rows += len(batch)
        for name, total in totals.items():
            total.add(batch.column(name))
    return rows, {name: total.figures() for name, total in totals.items()}


def figures_of_query(
    connection: psycopg.Connection[Any], query: sql.Composable, manifest: Manifest
) -> tuple[int, dict[str, Figures]]:
    """Return the number of rows and the figures of what a query returns, counted by the server."""
    counted: list[sql.Composable] = [sql.SQL("count(*)")]
    for name, figures in manifest.figures.items():
        column = sql.Identifier(name)
        counted.append(sql.SQL("count({})").format(column))
        counted.append(sql.SQL("sum({})::text" if figures.sum is not None else "null").format(column))
    statement = sql.SQL("select {} from ({}) as counted").format(sql.SQL(", ").join(counted), query)
    [(rows, *found)] = connection.execute(statement).fetchall()
    pairs = zip(found[::2], found[1::2], strict=True)
    return rows, {
        name: Figures(values, total if figures.sum is None else sum_text(total))
        for (name, figures), (values, total) in zip(manifest.figures.items(), pairs, strict=True)
    }


class _Total:
    """The figures of a column, batch after batch."""

    def __init__(self) -> None:
        self._values, self._sum = 0, Decimal(0)
        self._numeric = False

    def add(self, column: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._values += len(column) - column.null_count
        self._numeric = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
        if self._numeric and column.null_count < len(column):
            # As wide as there is: a sum of decimals keeps the precision of its column, which can be too small.
            wide = pa.decimal256(76, column.type.scale) if pa.types.is_decimal(column.type) else pa.decimal256(76, 0)
            self._sum = _EXACT.add(self._sum, pc.sum(column.cast(wide)).as_py())

    def figures(self) -> Figures:
        return Figures(self._values, sum_text(self._sum) if self._numeric else None)


def sum_text(number: Any) -> str:
    """Return a sum such that two equal ones have the same text; of no values it is 0."""
    return format(_EXACT.normalize(Decimal(number or 0)), "f")


def _schema(
    connection: psycopg.Connection[Any], source: Source, query: sql.Composable
) -> "tuple[pa.Schema, sql.Composed]":
    """Return the Arrow types of a query's columns, and the query in which a column without an equivalent is text."""
    import pyarrow as pa

    described = connection.execute(sql.SQL("select * from ({}) as described limit 0").format(query)).description or []
    fields, columns = [], []
    for column in described:
        type_ = _type(column.type_code, column.precision, column.scale)
        name = sql.Identifier(column.name)
        fields.append(pa.field(column.name, type_ or pa.string()))
        columns.append(name if type_ else sql.SQL("{0}::text as {0}").format(name))
    if not fields:
        raise PermanentError(f"{source.table} has no columns: there is nothing to export.")
    return pa.schema(fields), sql.SQL("select {} from ({}) as exported").format(sql.SQL(", ").join(columns), query)


def _type(oid: int, precision: int | None, scale: int | None) -> "pa.DataType | None":
    """Return the Arrow type of a Postgres type; None for one that has no equivalent in Parquet."""
    import pyarrow as pa

    found = psycopg.adapters.types.get(oid)
    name = found.name if found and oid == found.oid else ""  # of an array, the oid is another one
    if name == "numeric":
        if precision is None:
            return pa.decimal128(38, 18)  # any numeric; one with more digits is refused
        # Parquet holds more digits, but many of its readers make a float of them.
        return pa.decimal128(precision, scale or 0) if 0 <= (scale or 0) <= precision <= 38 else None
    types = {
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "bytea": pa.binary(),
        **dict.fromkeys(("text", "varchar", "bpchar", "name"), pa.string()),
    }
    return types.get(name)


def _batches(
    connection: psycopg.Connection[Any], source: Source, statement: sql.Composed, schema: "pa.Schema"
) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    with connection.cursor("export") as cursor:
        try:
            cursor.execute(statement, binary=True)
            while rows := cursor.fetchmany(_ROWS):
                columns = zip(*rows, strict=True)
                arrays = [_array(source, field, values) for field, values in zip(schema, columns, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        except psycopg.DataError as error:
            if error.sqlstate:  # from the server, not about a value that arrived
                raise
            raise PermanentError(
                f"{source.table} has a value that cannot be exported: Python knows no infinite time, and none before "
                "the year 1 or after 9999. Correct the row."
            ) from None


def _array(source: Source, field: Any, values: tuple[Any, ...]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values, field.type)
    except pa.ArrowInvalid:  # it can quote the value
        raise PermanentError(
            f"{source.table}.{field.name} has a value that {field.type} cannot hold. Give the column a precision and "
            "scale that fit."
        ) from None
