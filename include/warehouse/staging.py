"""What the platform derives from a declaration: staging tables, public views, and who may use them.

Created with the migrations, by the admin, and never by a run.
"""

from typing import Any

import psycopg
from psycopg import sql

from include.dataset import Dataset, InvalidDeclaration, Table, View
from include.errors import PermanentError
from include.warehouse import queries
from include.warehouse.columns import (
    ANY_DAY,
    Column,
    check_columns,
    columns_of,
    identifier,
    query,
    query_errors,
    staging_columns,
    wanted_columns,
)
from include.warehouse.roles import APP, READER

# Replacing a day leaves as many dead rows as the day has. By default Postgres cleans up only when a fifth of the table
# is dead: in a table of years, that would be months of replaced days.
_AUTOVACUUM = sql.SQL("autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000")


def ensure_schemas(connection: psycopg.Connection[Any], dataset: Dataset) -> None:
    """Create the schemas of a dataset that are missing: of what it publishes, and of its staging tables."""
    for name, roles in ((dataset.schema, (APP, READER)), (dataset.staging_schema, (APP,))):
        schema = sql.Identifier(name)
        connection.execute(sql.SQL("create schema if not exists {}").format(schema))
        users = sql.SQL(", ").join(map(sql.Identifier, roles))
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(schema, users))


def ensure_staging(connection: psycopg.Connection[Any], dataset: Dataset) -> None:
    """Create the staging tables and views of a dataset that are missing, and grant the roles what they need.

    A view gets the new columns of its staging table. Runs in the caller's transaction. Raises PermanentError when
    the declaration does not fit the tables, a query cannot run, columns need a migration, or a name is taken.
    """
    for each in dataset.publishes:
        wanted = wanted_columns(connection, dataset, each)
        _check_declared(connection, dataset, each, wanted)
        found = staging_columns(connection, dataset, each)
        if found is None:
            _create_staging_table(connection, dataset, each)
        else:
            check_columns(dataset, each, wanted, found)
        if isinstance(each, View):
            _refuse_taken_name(connection, dataset, each, ours=found is not None)
            if columns_of(connection, dataset.published_name(each)) != wanted:
                _create_view(connection, dataset, each, wanted)
        for table in (dataset.staging_name(each), *([] if isinstance(each, View) else [dataset.published_name(each)])):
            connection.execute(sql.SQL("alter table {} set ({})").format(identifier(table), _AUTOVACUUM))
        _grant(connection, dataset, each)


def _check_declared(
    connection: psycopg.Connection[Any], dataset: Dataset, each: Table | View, columns: list[Column]
) -> None:
    types = {column.name: column.type for column in columns}
    where = f"include/datasets/{dataset.folder.name}/dataset.py: {each.name}"
    for column in types:
        if column in ("batch_id", "loaded_at") or "%" in column:
            raise InvalidDeclaration(
                f"{where} has the column {column!r}: rename it, since batch_id and loaded_at are columns of every "
                "staging table, and % is not supported in a name."
            )
    for column in each.key:
        if column not in types:
            raise InvalidDeclaration(
                f"{where} has the key column {column!r}, which does not exist: choose of {', '.join(types)}."
            )
    if isinstance(each, Table):
        generated = connection.execute(
            "select attname::text from pg_attribute "
            "where attrelid = %s::regclass and (attidentity <> '' or attgenerated <> '') and not attisdropped",
            [identifier(dataset.published_name(each)).as_string(connection)],
        ).fetchone()
        if generated:
            raise InvalidDeclaration(
                f"{where} has the generated column {generated[0]}: a batch has a value for every column, so compute it "
                "in transform, or in a view on top."
            )
        if types[each.day] != "date":
            raise InvalidDeclaration(
                f"{where} has the day column {each.day}, which is a {types[each.day]}: it must be a date."
            )
        found = connection.execute(
            "select array_agg(attname::text order by attname) from pg_index "
            "inner join pg_attribute on attrelid = indrelid and attnum = any(indkey) "
            "where indrelid = %s::regclass and indisprimary",
            [identifier(dataset.published_name(each)).as_string(connection)],
        ).fetchone()
        primary_key = (found and found[0]) or []
        if sorted(each.key) != primary_key:
            raise InvalidDeclaration(
                f"{where} has the key {', '.join(each.key)}, and the table's primary key is "
                f"{', '.join(primary_key) or 'missing'}: make them the same."
            )


def _create_staging_table(connection: psycopg.Connection[Any], dataset: Dataset, each: Table | View) -> None:
    statement = sql.SQL(queries.read("warehouse/create_staging_table"))
    table = identifier(dataset.staging_name(each))
    if isinstance(each, View):
        # A statement that defines something takes no values from outside: they are bound on our side.
        with query_errors(connection, dataset, each), psycopg.ClientCursor(connection) as cursor:
            cursor.execute(statement.format(table=table, query=query(dataset, each)), {"as_of": ANY_DAY})
        return
    published = identifier(dataset.published_name(each))
    connection.execute(statement.format(table=table, query=sql.SQL("select * from {}").format(published)))
    # A column that a load leaves out gets the default that it has in the published table.
    for column, default in connection.execute(
        "select attname::text, pg_get_expr(adbin, adrelid) from pg_attrdef "
        "inner join pg_attribute on attrelid = adrelid and attnum = adnum where adrelid = %s::regclass",
        [published.as_string(connection)],
    ).fetchall():
        set_default = sql.SQL("alter table {} alter column {} set default {}")
        connection.execute(set_default.format(table, sql.Identifier(column), sql.SQL(default)))
    # Batches of a day that are no longer kept are found, and removed, when the day is published.
    connection.execute(
        sql.SQL("create index on {} using brin ({}) with (pages_per_range = 32, autosummarize = on)").format(
            table, sql.Identifier(each.day)
        )
    )


def _refuse_taken_name(connection: psycopg.Connection[Any], dataset: Dataset, view: View, *, ours: bool) -> None:
    name = dataset.published_name(view)
    kind = connection.execute(
        "select relkind from pg_class where oid = to_regclass(%s)", [identifier(name).as_string(connection)]
    ).fetchone()
    if kind and not (ours and kind == ("v",)):
        raise PermanentError(
            f"include/datasets/{dataset.folder.name}/{view.name}.sql: {name} is something else already: choose another "
            "name."
        )


def _create_view(connection: psycopg.Connection[Any], dataset: Dataset, view: View, columns: list[Column]) -> None:
    with query_errors(connection, dataset, view):
        connection.execute(
            sql.SQL(queries.read("warehouse/create_view")).format(
                view=identifier(dataset.published_name(view)),
                columns=sql.SQL(", ").join(sql.Identifier("staged", column.name) for column in columns),
                staging=identifier(dataset.staging_name(view)),
                name=dataset.published_name(view),
            )
        )


def _grant(connection: psycopg.Connection[Any], dataset: Dataset, each: Table | View) -> None:
    published, staging = (identifier(name(each)) for name in (dataset.published_name, dataset.staging_name))
    for privileges, table, role in (
        ("select, insert, update, delete", staging, APP),  # the quarantine puts repaired rows in with an update
        ("select, insert, delete" if isinstance(each, Table) else "select", published, APP),
        ("select", published, READER),
    ):
        connection.execute(sql.SQL("grant {} on {} to {}").format(sql.SQL(privileges), table, sql.Identifier(role)))
