"""Snowflake: docs/snowflake.md says how to switch it on, and what it must allow.

A run stages its rows in a table of its own, whose name ends with the batch_id. Names are in capitals, so that readers
need no quotes. Every statement that changes a schema commits by itself there, so none is in the transaction that
publishes.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from include.dataset import Dataset, Table
from include.datasets.analytics.targets import SNOWFLAKE
from include.errors import AirlockError, PermanentError
from include.lake import checks, storage
from include.lake.export import sum_text
from include.lake.storage import Figures, Manifest
from include.pipeline.batch import Batch, key_of
from include.quality.outcome import Outcome
from include.settings import settings
from include.warehouse import register
from include.warehouse.connections import connect
from include.warehouse.register import Run

_TYPES = {
    "bool": "boolean",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float": "float",
    "double": "float",
    "date32[day]": "date",
    "time64[us]": "time(6)",
    "timestamp[us]": "timestamp_ntz(6)",
    "timestamp[us, tz=UTC]": "timestamp_tz(6)",
    "binary": "binary",
    "string": "varchar",
}
# Parquet says what a value is; without these, Snowflake reads times as numbers, bytes as text, and the text \N as NULL.
_FORMAT = "(type = parquet use_logical_type = true binary_as_text = false null_if = ())"
_REGISTER = "table_name varchar, day date, batch_id varchar, sha256 varchar, published_at timestamp_tz"
_MISSING = 2003  # the error of an object that does not exist, or may not be seen
_PERMANENT = ("02", "22", "42")  # classes of SQLSTATE: what is not there, what does not fit, what is not allowed
_VALUES = 100_000  # errors from here on are about values, and quote them


def load(dataset: Dataset, batch: Batch, manifest: Manifest) -> int:
    """Stage the rows of an export in a table of the run's own, made anew; returns their number.

    Raises AirlockError when Snowflake has another number of rows than the manifest.
    """
    key_of(dataset, batch)
    staging = _staging(dataset, manifest)
    with _session(manifest) as cursor, TemporaryDirectory(prefix="airlock-export-") as folder:
        file = Path(folder) / f"{manifest.batch_id}.parquet"
        with storage.reading(manifest) as source, file.open("wb") as target:
            copyfileobj(source, target)
        # Without quotes, as Snowflake documents the stage of a table; the name has letters, digits and _ only.
        stage = f"{dataset.staging_schema}.%{_staging_name(dataset, manifest)}"
        cursor.execute(f"create or replace transient table {staging} ({_columns(manifest)})")
        cursor.execute(f"put 'file://{file}' @{stage} auto_compress = false overwrite = true")
        cursor.execute(
            f"copy into {staging} from @{stage} file_format = {_FORMAT} match_by_column_name = case_insensitive"
        )
        # COPY also succeeds when it finds no file.
        [(rows,)] = cursor.execute(f"select count(*) from {staging}").fetchall()
    if rows != manifest.rows:
        raise AirlockError(
            f"Snowflake staged {rows} rows of {manifest.table} of {manifest.day}, and the export has {manifest.rows}: "
            f"look at the COPY into {staging} in Snowflake's query history."
        )
    return int(rows)


def validate(dataset: Dataset, batch: Batch, manifest: Manifest, ti: Any) -> None:
    """Compare the staged rows with the manifest: their number, and of each column the values and the sum.

    What was found is stored in the warehouse and reported. Raises GateClosed when they differ.
    """
    from include.pipeline.validate import conclude

    batch_id, day = key_of(dataset, batch)
    started_at, clock = datetime.now(UTC), perf_counter()
    with _session(manifest) as cursor:
        found = _figures(cursor, manifest, _staging(dataset, manifest))
    compared = checks.compare(
        "manifest",
        "staged batch",
        dataset.staging_name(dataset.publishes[0]),
        (manifest.rows, manifest.figures),
        found,
    )
    outcome = Outcome(dataset.name, started_at, perf_counter() - clock, [compared])
    with connect(dataset.connection) as connection:
        conclude(connection, dataset, outcome, batch_id, day, ti)


def publish(dataset: Dataset, batch: Batch, manifest: Manifest, dag_run: Any, outlet_events: Any) -> dict[str, Any]:
    """Replace the day in the published table, in one transaction; returns object, day, batch_id and rows.

    Again for an export that readers see already, it changes nothing. Raises PermanentError, and leaves what readers
    saw, when the day would not be like the manifest.
    """
    from include.pipeline import assets
    from include.quality import report

    batch_id, day = key_of(dataset, batch)
    with connect(dataset.connection) as connection:
        register.lock(connection, f"{dataset.name}/{day}")  # two that replace one day at once would add up
        with _session(manifest) as cursor:
            if not _holds(cursor, dataset, manifest):
                _replace_day(cursor, dataset, manifest)
            cursor.execute(f"drop table if exists {_staging(dataset, manifest)}")
        # So that the day is not late; a rollback refuses, since the batch is not staged in the warehouse.
        register.register(connection, manifest.table, "day", day, batch_id, Run(dag_run.dag_id, dag_run.run_id))
        extras = assets.extras(connection, dataset, batch["day"], batch_id)
        connection.commit()
        page = report.refresh(connection, dataset.name, batch_id, settings().report_root)
    for name, extra in extras.items():
        outlet_events[assets.asset(name)].extra = {**extra, "report": page}
    return {"object": manifest.table, "day": manifest.day, "batch_id": manifest.batch_id, "rows": manifest.rows}


def holds(dataset: Dataset, manifest: Manifest) -> bool:
    """Return whether readers see the rows of this export, and no others of its day."""
    with _session(manifest) as cursor:
        return _holds(cursor, dataset, manifest)


@contextmanager
def _session(manifest: Manifest) -> Iterator[Any]:
    """Yield a cursor; what Snowflake refuses becomes a PermanentError that says which table and day it was for.

    One that may pass becomes an AirlockError; others, such as one that it cannot be reached, are raised as they are.
    """
    try:
        from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook
        from snowflake.connector.errors import IntegrityError, ProgrammingError
    except ModuleNotFoundError:
        raise PermanentError(
            f"The connection {SNOWFLAKE} makes Snowflake the target, and its provider is not installed: add "
            "apache-airflow-providers-snowflake as docs/snowflake.md says, or remove the connection."
        ) from None
    try:
        with closing(SnowflakeHook(SNOWFLAKE).get_conn()) as connection, connection.cursor() as cursor:
            # An account or a user may have set them otherwise.
            cursor.execute(
                "alter session set autocommit = true, quoted_identifiers_ignore_case = false, timezone = 'UTC'"
            )
            yield cursor
    except (IntegrityError, ProgrammingError) as error:
        kind = PermanentError if error.sqlstate.startswith(_PERMANENT) else AirlockError
        reason = "a value does not fit" if error.errno >= _VALUES else error.raw_msg
        raise kind(
            f"Snowflake refused {manifest.table} of {manifest.day}: {reason} (error {error.errno}, query "
            f"{error.sfqid}). If a staging table is missing, clear the run from its task load_to_warehouse on; if a "
            "right is missing, grant it as docs/snowflake.md says."
        ) from None  # it quotes the statement, and values


def _replace_day(cursor: Any, dataset: Dataset, manifest: Manifest) -> None:
    """Make the staged rows those of the day, and no others, in one transaction."""
    published, registered = _qualified(manifest.table), _registered(dataset)
    day, names = _day(dataset), ", ".join(map(_name, manifest.columns))
    cursor.execute(f"create table if not exists {published} ({_columns(manifest)})")
    cursor.execute(f"create table if not exists {registered} ({_REGISTER})")
    cursor.execute("begin")
    try:
        cursor.execute(f"delete from {published} where {_name(day)} = %s", [manifest.day])
        cursor.execute(f"insert into {published} ({names}) select {names} from {_staging(dataset, manifest)}")
        found = _figures(cursor, manifest, published, day)
        if found != (manifest.rows, manifest.figures):
            differing = [name for name, figures in manifest.figures.items() if found[1][name] != figures]
            raise PermanentError(
                f"{manifest.table} would have {found[0]} rows of {manifest.day} in Snowflake, and the export has "
                f"{manifest.rows}; columns that differ: {', '.join(differing) or 'none'}. Nothing is published. "
                "Compare its columns' types with the export's, then clear the run from its task load_to_warehouse on."
            )
        cursor.execute(f"delete from {registered} where table_name = %s and day = %s", [manifest.table, manifest.day])
        cursor.execute(
            f"insert into {registered} (table_name, day, batch_id, sha256, published_at) "
            "values (%s, %s, %s, %s, current_timestamp)",
            [manifest.table, manifest.day, manifest.batch_id, manifest.sha256],
        )
    except BaseException:
        cursor.execute("rollback")
        raise
    cursor.execute("commit")


def _holds(cursor: Any, dataset: Dataset, manifest: Manifest) -> bool:
    from snowflake.connector.errors import ProgrammingError

    # A run that is cleared can export other rows under its batch_id: the checksum tells them apart.
    export = [manifest.table, manifest.day, manifest.batch_id, manifest.sha256]
    wanted = (manifest.rows, manifest.figures)
    try:
        seen = cursor.execute(
            f"select 1 from {_registered(dataset)} "
            "where table_name = %s and day = %s and batch_id = %s and sha256 = %s",
            export,
        ).fetchall()
        return bool(seen) and _figures(cursor, manifest, _qualified(manifest.table), _day(dataset)) == wanted
    except ProgrammingError as error:
        if error.errno != _MISSING:
            raise
        return False  # nothing was published yet


def _figures(cursor: Any, manifest: Manifest, table: str, day_column: str = "") -> tuple[int, dict[str, Figures]]:
    """Return the number of rows in a table, or of its day, and the figures of the export's columns, counted there."""
    counted = ["count(*)"]
    for column, figures in manifest.figures.items():
        # A type that the column has already: whatever stands in for Snowflake sums exactly only what is cast.
        total = f"sum({_name(column)}::{_type(manifest, column)})::varchar"
        counted += [f"count({_name(column)})", "null" if figures.sum is None else total]
    statement = f"select {', '.join(counted)} from {table}"
    if day_column:
        cursor.execute(f"{statement} where {_name(day_column)} = %s", [manifest.day])
    else:
        cursor.execute(statement)
    [(rows, *found)] = cursor.fetchall()
    pairs = zip(found[::2], found[1::2], strict=True)
    return rows, {
        column: Figures(count, None if figures.sum is None else sum_text(total))
        for (column, figures), (count, total) in zip(manifest.figures.items(), pairs, strict=True)
    }


def _columns(manifest: Manifest) -> str:
    return ", ".join(f"{_name(column)} {_type(manifest, column)}" for column in manifest.columns)


def _type(manifest: Manifest, column: str) -> str:
    """Return the type of a column in Snowflake."""
    arrow = manifest.columns[column]
    if number := re.fullmatch(r"decimal128\((\d+), (\d+)\)", arrow):
        precision, scale = map(int, number.groups())
        if scale <= 37:
            return f"number({precision}, {scale})"
    if arrow not in _TYPES:
        raise PermanentError(
            f"{manifest.table}.{column} is {arrow} in the export of {manifest.day}, which Snowflake has no type for: "
            "it holds at most 37 digits behind the point. Give the source's column fewer, and clear the run from "
            "its start task on."
        )
    return _TYPES[arrow]


def _day(dataset: Dataset) -> str:
    [table] = dataset.publishes
    assert isinstance(table, Table)  # noqa: S101 - of views there is no day to replace
    return table.day


def _staging(dataset: Dataset, manifest: Manifest) -> str:
    return _qualified(f"{dataset.staging_schema}.{_staging_name(dataset, manifest)}")


def _staging_name(dataset: Dataset, manifest: Manifest) -> str:
    return f"{dataset.publishes[0].name}_{manifest.batch_id.replace('-', '')}"


def _registered(dataset: Dataset) -> str:
    return _qualified(f"{dataset.staging_schema}.published")


def _qualified(table: str) -> str:
    """Return `<schema>.<table>` as identifiers."""
    return ".".join(map(_name, table.split(".")))


def _name(name: str) -> str:
    """Return a name as an identifier, in capitals: that is how Snowflake reads one without quotes."""
    return '"{}"'.format(name.upper().replace('"', '""'))
