"""The snapshot table and the public view of each query: made with the migrations, by the admin, never by a run."""

from typing import Any

import psycopg
from psycopg import sql

from include.daily_operations.columns import Column, check_columns, columns_given, columns_kept, columns_of, told_of
from include.daily_operations.views import ANY_DAY, PUBLIC, SNAPSHOTS, public_name, query, views
from include.errors import PermanentError
from include.warehouse import queries


def ensure_views(connection: psycopg.Connection[Any]) -> None:
    """Make the snapshot table and the public view of each query that has none.

    The public view follows when its snapshot table got a column. Runs in the caller's transaction. Raises
    PermanentError when a query cannot run, its columns need a migration, or its name is taken.
    """
    for view in views():
        wanted = columns_given(connection, view)
        kept = columns_kept(connection, view)
        if kept is None:
            _create_snapshots(connection, view)
        else:
            check_columns(view, wanted, kept)
        _refuse_taken_name(connection, view, ours=kept is not None)
        if columns_of(connection, PUBLIC, view) != wanted:
            _show(connection, view, wanted)


def _create_snapshots(connection: psycopg.Connection[Any], view: str) -> None:
    statement = sql.SQL(queries.read("daily_operations/create_snapshots"))
    # A statement that defines something takes no values from outside: they are bound on our side.
    with told_of(connection, view), psycopg.ClientCursor(connection) as cursor:
        cursor.execute(statement.format(table=sql.Identifier(SNAPSHOTS, view), query=query(view)), {"as_of": ANY_DAY})


def _refuse_taken_name(connection: psycopg.Connection[Any], view: str, *, ours: bool) -> None:
    kind = connection.execute(
        "select relkind from pg_class where oid = to_regclass(%s)", [sql.Identifier(PUBLIC, view).as_string(connection)]
    ).fetchone()
    if kind and not (ours and kind == ("v",)):
        raise PermanentError(
            f"include/daily_operations/{view}.sql: {public_name(view)} is something else already: choose another name."
        )


def _show(connection: psycopg.Connection[Any], view: str, columns: list[Column]) -> None:
    with told_of(connection, view):
        connection.execute(
            sql.SQL(queries.read("daily_operations/create_view")).format(
                view=sql.Identifier(PUBLIC, view),
                columns=sql.SQL(", ").join(sql.Identifier("snapshot", column.name) for column in columns),
                snapshots=sql.Identifier(SNAPSHOTS, view),
                name=public_name(view),
            )
        )
