"""The views of daily operations: one for each `.sql` file beside this one, which holds nothing but its SELECT.

What a query gives is kept in `daily_operations_snapshots.<view>`, and `daily_operations.<view>` shows readers the
published batch of it. `%(as_of)s` stands for the day in a query, so a literal % is written %%.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.errors import PermanentError
from include.warehouse.roles import APP, READER

FOLDER = Path(__file__).resolve().parent
PUBLIC = "daily_operations"
SNAPSHOTS = "daily_operations_snapshots"
_ANY_DAY = "2023-01-01"  # a query's columns are the same for every day


@dataclass(frozen=True)
class Column:
    """A column of a query, table or view."""

    name: str
    type: str

    def __str__(self) -> str:
        return f"{_quoted(self.name)} {self.type}"


def views() -> list[str]:
    """Give the names of the views, in alphabetical order.

    Raises PermanentError when a file's name could not be an identifier: names are put into SQL as they are.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.sql"))
    for name in names:
        if not re.fullmatch("[a-z_]{1,63}", name):
            raise PermanentError(
                f"include/daily_operations/{name}.sql: a view's name is at most 63 lower-case letters and underscores"
            )
    return names


def public_name(view: str) -> str:
    """Give the name under which readers and the register of publications know a view."""
    return f"{PUBLIC}.{view}"


def check_queries(connection: psycopg.Connection[Any]) -> None:
    """Make sure that every query can run and gives the columns of its snapshot table.

    Raises PermanentError, which says what to change: the query, or the schema by which migration.
    """
    for view in views():
        wanted = _query_columns(connection, view)
        if not _exists(connection, SNAPSHOTS, view):
            raise PermanentError(f"View {view} has no table {SNAPSHOTS}.{view} yet: run the DAG warehouse_migrations.")
        _check_columns(view, wanted, _relation_columns(connection, SNAPSHOTS, view)[2:])


def ensure_views(connection: psycopg.Connection[Any]) -> None:
    """Make the snapshot table and the public view of each query that has none; the admin's part of a migration.

    The public view follows when its snapshot table got a column. Runs in the caller's transaction. Raises
    PermanentError as `check_queries` does.
    """
    for view in views():
        wanted = _query_columns(connection, view)
        if not _exists(connection, SNAPSHOTS, view):
            _create_snapshots(connection, view)
        _check_columns(view, wanted, _relation_columns(connection, SNAPSHOTS, view)[2:])
        if not _exists(connection, PUBLIC, view) or _relation_columns(connection, PUBLIC, view) != wanted:
            _show(connection, view, wanted)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _query(view: str) -> sql.SQL:
    text = (FOLDER / f"{view}.sql").read_text()
    if found := re.search("{[{%#]", text):
        raise PermanentError(
            f"include/daily_operations/{view}.sql: {found[0]} means something to Airflow's templates: write {{ "
            "and what follows it apart."
        )
    return sql.SQL(text)


def _query_columns(connection: psycopg.Connection[Any], view: str) -> list[Column]:
    described = sql.SQL("select * from (\n{}\n) as query limit 0").format(_query(view))
    with _told_of(connection, view):
        return _columns(connection, connection.execute(described, {"as_of": _ANY_DAY}))


def _relation_columns(connection: psycopg.Connection[Any], schema: str, view: str) -> list[Column]:
    return _columns(
        connection, connection.execute(sql.SQL("select * from {} limit 0").format(sql.Identifier(schema, view)))
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


def _exists(connection: psycopg.Connection[Any], schema: str, view: str) -> bool:
    name = sql.Identifier(schema, view).as_string(connection)
    found = connection.execute("select relkind from pg_class where oid = to_regclass(%s)", [name]).fetchone()
    if found and schema == PUBLIC and found != ("v",):
        raise PermanentError(f"include/daily_operations/{view}.sql: {name} is no view already: choose another name.")
    return bool(found)


@contextmanager
def _told_of(connection: psycopg.Connection[Any], view: str) -> Iterator[None]:
    """Say which file is to blame when Postgres refuses what is made of its query."""
    try:
        with connection.transaction():
            yield
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        raise PermanentError(f"include/daily_operations/{view}.sql: {str(error).strip()}") from error


def _create_snapshots(connection: psycopg.Connection[Any], view: str) -> None:
    # A statement that defines something takes no values from outside: they are bound on our side.
    with _told_of(connection, view), psycopg.ClientCursor(connection) as cursor:
        cursor.execute(
            sql.SQL(
                """
                create table {table} as
                select null::uuid as batch_id, null::timestamptz as loaded_at, query.*
                from (
                {query}
                ) as query with no data;
                comment on table {table} is 'What each run''s query gave, by batch; readers see the published one.';
                create index on {table} (batch_id);
                grant select, insert, delete on {table} to {app}
                """
            ).format(table=sql.Identifier(SNAPSHOTS, view), query=_query(view), app=sql.Identifier(APP)),
            {"as_of": _ANY_DAY},
        )


def _show(connection: psycopg.Connection[Any], view: str, columns: list[Column]) -> None:
    with _told_of(connection, view):
        connection.execute(
            sql.SQL(
                """
                create or replace view {view} as
                select {columns}
                from {snapshots} as snapshot
                inner join warehouse.publication on publication.batch_id = snapshot.batch_id
                where publication.object = {name} and publication.is_current;
                grant select on {view} to {app}, {reader}
                """
            ).format(
                view=sql.Identifier(PUBLIC, view),
                columns=sql.SQL(", ").join(sql.Identifier("snapshot", column.name) for column in columns),
                snapshots=sql.Identifier(SNAPSHOTS, view),
                name=sql.Literal(public_name(view)),
                app=sql.Identifier(APP),
                reader=sql.Identifier(READER),
            )
        )


def _check_columns(view: str, wanted: list[Column], found: list[Column]) -> None:
    """Compare a query's columns with those of its snapshot table, which a query fills in their order."""
    if wanted == found:
        return
    steps, then = _migration(view, wanted, found)
    told = f"include/daily_operations/{view}.sql gives other columns than {SNAPSHOTS}.{view} has"
    if [column.name for column in then] != [column.name for column in wanted]:
        raise PermanentError(f"{told}: give them in the order {', '.join(column.name for column in then)}.")
    raise PermanentError(
        f"{told}. Put the query back, or write the next migration in include/warehouse/migrations/versions with\n"
        + "\n".join(f"    {step};" for step in steps)
    )


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
