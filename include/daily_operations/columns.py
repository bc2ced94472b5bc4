"""The columns that a view's query gives, and those that its snapshot table has: the second follow the first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from include.daily_operations.views import ANY_DAY, PUBLIC, SNAPSHOTS, query, views
from include.errors import PermanentError


@dataclass(frozen=True)
class Column:
    """A column of a query, table or view."""

    name: str
    type: str

    def __str__(self) -> str:
        return f"{_quoted(self.name)} {self.type}"


def check_queries(connection: psycopg.Connection[Any]) -> None:
    """Make sure that every query can run and gives the columns of its snapshot table.

    Raises PermanentError, which says what to change: the query, or the schema by which migration.
    """
    for view in views():
        given = columns_given(connection, view)
        kept = columns_kept(connection, view)
        if kept is None:
            raise PermanentError(f"View {view} has no table {SNAPSHOTS}.{view} yet: run the DAG warehouse_migrations.")
        check_columns(view, given, kept)


def columns_given(connection: psycopg.Connection[Any], view: str) -> list[Column]:
    """Give the columns of a view's query. Raises PermanentError when Postgres cannot run it."""
    described = sql.SQL("select * from (\n{}\n) as query limit 0").format(query(view))
    with told_of(connection, view):
        return _columns(connection, connection.execute(described, {"as_of": ANY_DAY}))


def columns_kept(connection: psycopg.Connection[Any], view: str) -> list[Column] | None:
    """Give the columns of a view's snapshot table, without batch_id and loaded_at; None when there is no table."""
    found = columns_of(connection, SNAPSHOTS, view)
    return None if found is None else found[2:]


def columns_of(connection: psycopg.Connection[Any], schema: str, name: str) -> list[Column] | None:
    """Give the columns of a table or view; None when there is none of that name."""
    relation = sql.Identifier(schema, name)
    exists = connection.execute("select to_regclass(%s) is not null", [relation.as_string(connection)]).fetchone()
    if exists != (True,):
        return None
    return _columns(connection, connection.execute(sql.SQL("select * from {} limit 0").format(relation)))


@contextmanager
def told_of(connection: psycopg.Connection[Any], view: str) -> Iterator[None]:
    """Say by a PermanentError which file is to blame when Postgres refuses what is made of its query."""
    try:
        with connection.transaction():
            yield
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        raise PermanentError(f"include/daily_operations/{view}.sql: {str(error).strip()}") from error


def check_columns(view: str, wanted: list[Column], found: list[Column]) -> None:
    """Compare a query's columns with those of its snapshot table, which it fills in their order.

    Raises PermanentError, which says what to change: the query, or the schema by which migration.
    """
    if wanted == found:
        return
    steps, then = _migration(view, wanted, found)
    told = f"include/daily_operations/{view}.sql gives other columns than {SNAPSHOTS}.{view} has"
    if [column.name for column in then] != [column.name for column in wanted]:
        raise PermanentError(f"{told}: give them in the order {', '.join(column.name for column in then)}.")
    raise PermanentError(
        f"{told}. Put the query back, or write the next migration in include/warehouse/migrations/versions with\n"
        + "\n".join(f"    {step};" for step in steps)
        + "\nRENAME is for the same figure under a new name: for another figure, DROP and ADD. A dropped view is made "
        "again after the migrations; what was granted on it or built on it is not."
    )


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


def _migration(view: str, wanted: list[Column], found: list[Column]) -> tuple[list[str], list[Column]]:
    """Give the statements that make the snapshot table fit its query, and its columns after them.

    IF EXISTS, since on a new database the table is made after all migrations, as its query wants it.
    """
    table, public = f"ALTER TABLE IF EXISTS {SNAPSHOTS}.{view}", f"{PUBLIC}.{view}"
    new = [column for column in wanted if column.name not in {other.name for other in found}]
    gone = [column for column in found if column.name not in {other.name for other in wanted}]
    if len(new) == len(gone) == 1 and wanted.index(new[0]) == found.index(gone[0]) and new[0].type == gone[0].type:
        before, after = _quoted(gone[0].name), _quoted(new[0].name)
        steps = [
            f"{table} RENAME COLUMN {before} TO {after}",
            f"ALTER VIEW IF EXISTS {public} RENAME COLUMN {before} TO {after}",
        ]
        found = [new[0] if column == gone[0] else column for column in found]
        new = gone = []
    else:
        steps = []
    types = {column.name: column.type for column in wanted}
    retyped = [column.name for column in found if types.get(column.name, column.type) != column.type]
    if gone or retyped:
        steps.append(f"DROP VIEW IF EXISTS {public}")  # it is made again after the migrations
    steps += [f"{table} DROP COLUMN {_quoted(column.name)}" for column in gone]
    steps += [
        f"{table} ALTER COLUMN {_quoted(name)} TYPE {types[name]} USING {_quoted(name)}::{types[name]}"
        for name in retyped
    ]
    steps += [f"{table} ADD COLUMN {column}" for column in new]
    return steps, [column for column in found if column not in gone] + new
