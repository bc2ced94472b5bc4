"""Columns: those that a table or query has, those of its staging table, and the migration when they differ."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from include.dataset import Dataset, Table, View
from include.errors import PermanentError

ANY_DAY = "2023-01-01"
"""Stands for the day where it does not matter: a query has the same columns for every day."""
_BATCH_COLUMNS = 2  # batch_id and loaded_at, which every staging table has before the columns of its table or query


@dataclass(frozen=True)
class Column:
    """A column of a query, table or view."""

    name: str
    type: str

    def __str__(self) -> str:
        return f"{_quoted(self.name)} {self.type}"


def identifier(name: str) -> sql.Identifier:
    """Return a name of the form `schema.table` as it is put into SQL."""
    return sql.Identifier(*name.split("."))


def check_staging(connection: psycopg.Connection[Any], dataset: Dataset) -> None:
    """Check that every query of a dataset can run, and that its staging tables have the columns to be published.

    Raises PermanentError, which says what to change: the query, or the schema and by which migration.
    """
    for each in dataset.publishes:
        wanted = wanted_columns(connection, dataset, each)
        found = staging_columns(connection, dataset, each)
        if found is None:
            raise PermanentError(
                f"{dataset.staging_name(each)} does not exist yet: run the DAG warehouse_migrations (on one machine, "
                "make demo and make up do)."
            )
        check_columns(dataset, each, wanted, found)


def query(dataset: Dataset, view: View) -> sql.SQL:
    """Return the query of a view; `%(as_of)s` in it stands for the day.

    Raises PermanentError when there is none, or Airflow's templates, through which it runs, would change its text.
    """
    path = dataset.query_path(view)
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise PermanentError(f"{_query_file(dataset, view)} does not exist: write the view's query there.") from None
    if found := re.search("{[{%#]", text):
        raise PermanentError(
            f"{_query_file(dataset, view)}: {found[0]} means something to Airflow's templates: put a space after {{."
        )
    return sql.SQL(text)


def wanted_columns(connection: psycopg.Connection[Any], dataset: Dataset, each: Table | View) -> list[Column]:
    """Return the columns of a published table, or of a view's query.

    Raises PermanentError when there is no such table, or Postgres cannot run the query.
    """
    if isinstance(each, View):
        described = sql.SQL("select * from (\n{}\n) as query limit 0").format(query(dataset, each))
        with query_errors(connection, dataset, each):
            return _columns(connection, connection.execute(described, {"as_of": ANY_DAY}))
    found = columns_of(connection, dataset.published_name(each))
    if found is None:
        raise PermanentError(
            f"No table {dataset.published_name(each)}: create it in a migration in "
            f"include/datasets/{dataset.folder.name}/migrations, or correct its name in dataset.py; then run the DAG "
            "warehouse_migrations."
        )
    return found


def staging_columns(connection: psycopg.Connection[Any], dataset: Dataset, each: Table | View) -> list[Column] | None:
    """Return the columns of a staging table without batch_id and loaded_at; None when there is no such table."""
    found = columns_of(connection, dataset.staging_name(each))
    return None if found is None else found[_BATCH_COLUMNS:]


def columns_of(connection: psycopg.Connection[Any], name: str) -> list[Column] | None:
    """Return the columns of a table or view; None when there is none of that name."""
    relation = identifier(name)
    exists = connection.execute("select to_regclass(%s) is not null", [relation.as_string(connection)]).fetchone()
    if exists != (True,):
        return None
    return _columns(connection, connection.execute(sql.SQL("select * from {} limit 0").format(relation)))


@contextmanager
def query_errors(connection: psycopg.Connection[Any], dataset: Dataset, view: View) -> Iterator[None]:
    """Raise a PermanentError that names the file when Postgres refuses what is made of a view's query."""
    try:
        with connection.transaction():
            yield
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        raise PermanentError(f"{_query_file(dataset, view)}: {str(error).strip()}") from error


def check_columns(dataset: Dataset, each: Table | View, wanted: list[Column], found: list[Column]) -> None:
    """Compare the columns of a table or query with those of its staging table, in their order.

    Raises PermanentError, which says what to change: the query, or the schema and by which migration.
    """
    if wanted == found:
        return
    steps, then = _migration(dataset, each, wanted, found)
    staging = dataset.staging_name(each)
    if isinstance(each, View):
        source, undo = f"{_query_file(dataset, each)} returns", "Restore the query, or write"
    else:
        source, undo = f"{dataset.published_name(each)} has", "Write"
    differ = f"{source} other columns than {staging} has"
    if [column.name for column in then] != [column.name for column in wanted]:
        order = ", ".join(column.name for column in then)
        if isinstance(each, View):
            raise PermanentError(f"{differ}: select them in the order {order}.")
        steps, undo = [f"DROP TABLE IF EXISTS {staging}"], "Their order differs. Write"
    raise PermanentError(
        f"{differ}. {undo} the next migration in include/datasets/{dataset.folder.name}/migrations with\n"
        + "\n".join(f"    {step};" for step in steps)
        + "\n"
        + (
            "RENAME is for the same figure under a new name: for another figure, DROP and ADD. A dropped view is "
            "created again after the migrations; what was granted on it or built on it is not."
            if isinstance(each, View)
            else "A dropped staging table is created again after the migrations, without its batches: what was "
            "published stays, and cannot be rolled back."
            if steps[0].startswith("DROP TABLE")
            else "RENAME is for the same figure under a new name: for another figure, DROP and ADD."
        )
    )


def _query_file(dataset: Dataset, view: View) -> str:
    return f"include/datasets/{dataset.folder.name}/{view.name}.sql"


def _columns(connection: psycopg.Connection[Any], described: psycopg.Cursor[Any]) -> list[Column]:
    result = described.pgresult
    columns = described.description
    assert result  # noqa: S101 - psycopg has the result of what it executed
    assert columns  # noqa: S101
    names = [column.name for column in columns]
    types = connection.execute(
        "select format_type(oid, modifier) from unnest(%s::oid[], %s::int[]) with ordinality as _ (oid, modifier, n) "
        "order by n",
        [[column.type_code for column in columns], [result.fmod(number) for number in range(len(names))]],
    ).fetchall()
    return [Column(name, type_) for name, (type_,) in zip(names, types, strict=True)]


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _migration(
    dataset: Dataset, each: Table | View, wanted: list[Column], found: list[Column]
) -> tuple[list[str], list[Column]]:
    """Return the statements that make a staging table fit its table or query, and its columns after them.

    They say IF EXISTS, since on a new database the staging table is created after all migrations, and fits.
    """
    table, view = f"ALTER TABLE IF EXISTS {dataset.staging_name(each)}", dataset.published_name(each)
    is_view = isinstance(each, View)
    new = [column for column in wanted if column.name not in {other.name for other in found}]
    gone = [column for column in found if column.name not in {other.name for other in wanted}]
    if len(new) == len(gone) == 1 and wanted.index(new[0]) == found.index(gone[0]) and new[0].type == gone[0].type:
        before, after = _quoted(gone[0].name), _quoted(new[0].name)
        steps = [f"{table} RENAME COLUMN {before} TO {after}"]
        if is_view:
            steps.append(f"ALTER VIEW IF EXISTS {view} RENAME COLUMN {before} TO {after}")
        found = [new[0] if column == gone[0] else column for column in found]
        new = gone = []
    else:
        steps = []
    types = {column.name: column.type for column in wanted}
    retyped = [column.name for column in found if types.get(column.name, column.type) != column.type]
    if is_view and (gone or retyped):
        steps.append(f"DROP VIEW IF EXISTS {view}")  # it is created again after the migrations
    steps += [f"{table} DROP COLUMN {_quoted(column.name)}" for column in gone]
    steps += [
        f"{table} ALTER COLUMN {_quoted(name)} TYPE {types[name]} USING {_quoted(name)}::{types[name]}"
        for name in retyped
    ]
    steps += [f"{table} ADD COLUMN {column}" for column in new]
    return steps, [column for column in found if column not in gone] + new
