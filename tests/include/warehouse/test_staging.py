"""Staging tables and views follow the declarations, and a message's statements repair those that no longer fit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from include.dataset import Dataset, InvalidDeclaration, Table, View, always_open, next_day_at
from include.datasets import DATASETS
from include.errors import PermanentError
from include.pipeline.batch import batch_id
from include.pipeline.publish import publish_batch
from include.warehouse.columns import check_staging
from include.warehouse.migrate import migrate
from include.warehouse.register import Run
from include.warehouse.roles import APP, READER
from include.warehouse.staging import ensure_schemas, ensure_staging
from local.login import Login
from tests.conftest import fresh_warehouse
from tests.include.warehouse.migrations import write
from tests.toy import TOYS

DAY = date(2023, 8, 1)
ALL = (*DATASETS, *TOYS)
EVERYTHING = [(dataset, each) for dataset in ALL for each in dataset.publishes]
NAMES = [dataset.published_name(each) for dataset, each in EVERYTHING]
Columns = list[tuple[str, str]]
Change = Callable[[str], str]


@pytest.fixture(scope="module")
def database(postgres: Login) -> Iterator[Login]:
    """Return a warehouse in which nothing is ever committed."""
    with fresh_warehouse(postgres) as login:
        yield login


@pytest.fixture
def admin(database: Login) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the admin, in a transaction that is rolled back."""
    with database.connect() as connection, connection.transaction(force_rollback=True):
        yield connection


@contextmanager
def as_role(connection: psycopg.Connection[Any], role: str = APP) -> Iterator[psycopg.Connection[Any]]:
    """Let the admin's connection have no rights but those of a role. An error is rolled back."""
    with connection.transaction():
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        yield connection
        connection.execute("reset role")


def columns(connection: psycopg.Connection[Any], relation: str) -> Columns:
    return connection.execute(
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        [relation],
    ).fetchall()


def privileges(connection: psycopg.Connection[Any], relation: str) -> dict[str, set[str]]:
    """Return what each role may do, apart from the owner."""
    granted = connection.execute(
        "select coalesce(rolname, 'public'), privilege_type from pg_class "
        "cross join aclexplode(relacl) left join pg_roles on pg_roles.oid = grantee "
        "where pg_class.oid = %s::regclass and grantee <> relowner",
        [relation],
    ).fetchall()
    return {role: {right for other, right in granted if other == role} for role, _ in granted}


def indexes(connection: psycopg.Connection[Any], relation: str) -> set[str]:
    found = connection.execute(
        "select pg_get_indexdef(indexrelid) from pg_index where indrelid = %s::regclass", [relation]
    ).fetchall()
    return {definition.split(" USING ")[1] for (definition,) in found}


def schema(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return everything in the schemas of all datasets, so that any change is seen."""
    names = [name for dataset in (*ALL, SHARES, LEDGER) for name in (dataset.name, dataset.staging_schema)]
    return connection.execute(
        "select c.oid, c.relname, c.relkind, c.relowner, c.relacl::text, a.attname, a.atttypid, a.attnum "
        "from pg_class c left join pg_attribute a on a.attrelid = c.oid "
        "where relnamespace in (select oid from pg_namespace where nspname = any(%s)) order by c.oid, a.attnum",
        [names],
    ).fetchall()


RIGHTS = {"SELECT", "INSERT", "UPDATE", "DELETE"}


@pytest.mark.parametrize(("dataset", "each"), EVERYTHING, ids=NAMES)
def test_everything_published_has_a_staging_table_of_its_columns(
    admin: psycopg.Connection[Any], dataset: Dataset, each: Table | View
) -> None:
    staging, published = dataset.staging_name(each), dataset.published_name(each)

    batch_columns, others = columns(admin, staging)[:2], columns(admin, staging)[2:]
    assert batch_columns == [("batch_id", "uuid"), ("loaded_at", "timestamp with time zone")]
    assert others == columns(admin, published)
    assert others != []
    day = [each.day] if isinstance(each, Table) else []
    options = "WITH (pages_per_range='32', autosummarize='on')"
    assert indexes(admin, staging) == {f"brin ({column}) {options}" for column in ["batch_id", *day]}
    assert privileges(admin, staging) == {APP: RIGHTS}
    assert privileges(admin, published) == {APP: RIGHTS - {"UPDATE"} if day else {"SELECT"}, READER: {"SELECT"}}
    constraints = admin.execute(
        "select conname from pg_constraint where conrelid = %s::regclass and contype <> 'n'", [staging]
    )
    assert constraints.fetchall() == []  # the gate must see, and report, what a constraint would refuse


@pytest.mark.parametrize("condition", ["batch_id = {batch_id}", "day = {day}"])
def test_a_batch_of_a_large_staging_table_is_found_without_reading_the_others(
    admin: psycopg.Connection[Any], condition: str
) -> None:
    days = [DAY + timedelta(days=number) for number in range(100)]
    batches = {
        day: batch_id(SimpleNamespace(dag_id="toy_dag", run_id=f"scheduled__{day}"), "readings", day) for day in days
    }
    for day, key in batches.items():
        admin.execute(
            "insert into readings_staging.measured (batch_id, day, sensor, value) "
            "select %s, %s, 'sensor ' || number, number from generate_series(1, 1000) as number",
            [key, day],
        )
    for column in ("batch_id", "day"):  # as autovacuum does
        admin.execute("select brin_summarize_new_values(%s)", [f"readings_staging.measured_{column}_idx"])
    admin.execute("analyze readings_staging.measured")

    statement = f"explain (analyze, buffers, format json) select * from readings_staging.measured where {condition}"
    [([plan],)] = admin.execute(
        sql.SQL(statement).format(batch_id=sql.Literal(batches[days[50]]), day=sql.Literal(days[50]))
    ).fetchall()
    [(pages,)] = admin.execute("select relpages from pg_class where oid = 'readings_staging.measured'::regclass")
    assert plan["Plan"]["Actual Rows"] == 1000
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < pages / 5


@pytest.mark.parametrize(("dataset", "each"), EVERYTHING, ids=NAMES)
def test_a_large_table_is_vacuumed_after_a_few_replaced_days(
    admin: psycopg.Connection[Any], dataset: Dataset, each: Table | View
) -> None:
    tables = [dataset.staging_name(each)] + ([dataset.published_name(each)] if isinstance(each, Table) else [])
    for name in tables:
        [(set_here,)] = admin.execute("select reloptions from pg_class where oid = %s::regclass", [name]).fetchall()
        options = {option: float(value) for option, value in (each.split("=") for each in set_here)}
        dead = options["autovacuum_vacuum_threshold"] + options["autovacuum_vacuum_scale_factor"] * 2 * 252 * 11_000
        assert dead < 7 * 11_000  # two years of a market with 11,000 rows a day


@pytest.mark.parametrize("dataset", ALL, ids=lambda dataset: dataset.name)
def test_readers_may_use_the_schema_of_what_is_published_and_not_that_of_the_staging_tables(
    admin: psycopg.Connection[Any], dataset: Dataset
) -> None:
    granted = [
        (role, name, right)
        for role in (APP, READER)
        for name in (dataset.schema, dataset.staging_schema)
        for right in ("usage", "create")
        if admin.execute("select has_schema_privilege(%s, %s, %s)", [role, name, right]).fetchone() == (True,)
    ]

    assert granted == [
        (APP, dataset.schema, "usage"),
        (APP, dataset.staging_schema, "usage"),
        (READER, dataset.schema, "usage"),
    ]


@pytest.mark.parametrize(("dataset", "each"), EVERYTHING, ids=NAMES)
def test_a_staged_row_always_has_its_batch_and_the_time_of_its_load(
    admin: psycopg.Connection[Any], dataset: Dataset, each: Table | View
) -> None:
    staging = dataset.staging_name(each)
    with as_role(admin):
        admin.execute(f"insert into {staging} (batch_id) values (gen_random_uuid())".encode())
    assert admin.execute(f"select loaded_at = now() from {staging}".encode()).fetchall() == [(True,)]

    for column in ("batch_id", "loaded_at"):
        with pytest.raises(psycopg.errors.NotNullViolation), as_role(admin):
            admin.execute(f"update {staging} set {column} = null".encode())


@pytest.mark.parametrize("dataset", ALL, ids=lambda dataset: dataset.name)
def test_a_second_migration_changes_nothing(admin: psycopg.Connection[Any], dataset: Dataset) -> None:
    before = schema(admin)

    ensure_schemas(admin, dataset)
    ensure_staging(admin, dataset)

    assert schema(admin) == before
    with as_role(admin):
        check_staging(admin, dataset)


@pytest.mark.parametrize(("dataset", "each"), EVERYTHING, ids=NAMES)
def test_what_was_dropped_is_created_again(
    admin: psycopg.Connection[Any], dataset: Dataset, each: Table | View
) -> None:
    staging, published = dataset.staging_name(each), dataset.published_name(each)

    def described(name: str) -> tuple[object, ...]:
        return (columns(admin, name), privileges(admin, name), indexes(admin, name))

    before = (described(staging), described(published))

    for drop in [f"drop view {published}"] * isinstance(each, View) + [f"drop table {staging} cascade"]:
        admin.execute(drop.encode())
        ensure_staging(admin, dataset)
        assert (described(staging), described(published)) == before


@pytest.mark.parametrize(("dataset", "each"), EVERYTHING, ids=NAMES)
def test_a_missing_staging_table_is_reported_before_a_run_needs_it(
    admin: psycopg.Connection[Any], dataset: Dataset, each: Table | View
) -> None:
    admin.execute(f"drop table {dataset.staging_name(each)} cascade".encode())

    with pytest.raises(PermanentError) as refused, as_role(admin):
        check_staging(admin, dataset)

    assert str(refused.value).startswith(
        f"{dataset.staging_name(each)} does not exist yet: run the DAG warehouse_migrations"
    )


# A dataset with a view of four columns, of the table of the toy with views; and one with a table.
QUERY = """\
SELECT
    day,
    sensor,
    sum(amount) AS amount,
    round(sum(amount) / 10.0, 2) AS share
FROM rollups.source
WHERE day = %(as_of)s
GROUP BY day, sensor
"""
VIEW = View("by_sensor", key=("day", "sensor"))
SHARES = Dataset(
    name="shares",
    title="Shares",
    owner="tests",
    connection="postgres_shares_conn",
    publishes=(VIEW,),
    closed_reason=always_open,
    due=next_day_at(13),
    folder=Path("shares"),
)
SHARES_COLUMNS = [("day", "date"), ("sensor", "text"), ("amount", "bigint"), ("share", "numeric")]

TABLE_SQL = """\
CREATE TABLE ledger.entries (
    day date NOT NULL,
    account text NOT NULL,
    amount integer,
    note numeric,
    PRIMARY KEY (day, account)
);
"""
TABLE = Table("entries", key=("day", "account"), day="day")
LEDGER = Dataset(
    name="ledger",
    title="Ledger",
    owner="tests",
    connection="postgres_ledger_conn",
    publishes=(TABLE,),
    closed_reason=always_open,
    due=next_day_at(13),
    folder=Path("ledger"),
)


@pytest.fixture
def shares(tmp_path: Path) -> Dataset:
    """Return the dataset with a view, whose folder a test may change."""
    folder = tmp_path / "shares"
    folder.mkdir()
    (folder / "by_sensor.sql").write_text(QUERY)
    return replace(SHARES, folder=folder)


@pytest.fixture
def ledger(tmp_path: Path) -> Dataset:
    """Return the dataset with a table, whose folder a test may change."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    return replace(LEDGER, folder=folder)


def fill_source(admin: psycopg.Connection[Any]) -> None:
    admin.execute(
        "insert into rollups.source values ('2023-08-01', 'north', 20), ('2023-08-01', 'south', 5), "
        "('2023-08-02', 'north', 100)"
    )


def refresh(connection: psycopg.Connection[Any], dataset: Dataset) -> UUID:
    """Stage what the queries of a dataset's views return."""
    batch_id = uuid4()
    for view in dataset.publishes:
        query = (dataset.folder / f"{view.name}.sql").read_text()
        statement = (
            f"insert into {dataset.staging_name(view)} select %(batch_id)s, now(), query.* from ({query}\n) query"
        )
        connection.execute(statement.encode(), {"batch_id": batch_id, "as_of": DAY})
    return batch_id


def publish(connection: psycopg.Connection[Any], dataset: Dataset, batch_id: UUID) -> int:
    return publish_batch(connection, dataset, batch_id, DAY, Run("a_dag", f"run of {batch_id}"), keep=7)


def read(connection: psycopg.Connection[Any], name: str) -> list[dict[str, Any]]:
    """Return the rows of a table or view, in the order of its first two columns."""
    cursor = connection.execute(f"select * from {name} order by 1, 2".encode())
    assert cursor.description
    return [dict(zip([column.name for column in cursor.description], row, strict=True)) for row in cursor]


def steps_in(message: str) -> list[str]:
    """Return the statements that a message says to write."""
    return [line.strip() for line in message.splitlines() if line.startswith("    ")]


def refusals(admin: psycopg.Connection[Any], dataset: Dataset) -> set[str]:
    """Return the messages of a migration and of a run, neither of which may change anything."""
    before = schema(admin)
    messages = set()
    with pytest.raises(PermanentError) as refused, admin.transaction():
        ensure_staging(admin, dataset)
    messages.add(str(refused.value))
    with pytest.raises(PermanentError) as refused, as_role(admin):
        check_staging(admin, dataset)
    messages.add(str(refused.value))
    assert schema(admin) == before
    return messages


def replaced(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert text.count(old) == 1
        return text.replace(old, new)

    return change


def appended(columns: str) -> Change:
    return replaced("AS share", f"AS share,\n    {columns}")


def both(first: Change, second: Change) -> Change:
    return lambda text: second(first(text))


STAGED, SHOWN = "ALTER TABLE IF EXISTS shares_staging.by_sensor", "shares.by_sensor"
SHARE = "round(sum(amount) / 10.0, 2)"
RENAMED = replaced("AS amount", "AS quantity")
RETYPED = replaced("sum(amount) AS amount", "sum(amount)::numeric(12, 1) AS amount")
REMOVED = replaced("    sum(amount) AS amount,\n", "")
CHANGED_QUERIES: dict[str, tuple[Change, list[str]]] = {
    "added": (appended("max(amount) AS highest"), [f'{STAGED} ADD COLUMN "highest" integer;']),
    "two added": (
        appended("max(amount)::numeric(10,2) AS highest, count(*) AS number"),
        [f'{STAGED} ADD COLUMN "highest" numeric(10,2);', f'{STAGED} ADD COLUMN "number" bigint;'],
    ),
    "added, with names that need quotes": (
        appended('max(amount) AS "Highest One", count(*) AS "order"'),
        [f'{STAGED} ADD COLUMN "Highest One" integer;', f'{STAGED} ADD COLUMN "order" bigint;'],
    ),
    "renamed": (
        RENAMED,
        [
            f'{STAGED} RENAME COLUMN "amount" TO "quantity";',
            f'ALTER VIEW IF EXISTS {SHOWN} RENAME COLUMN "amount" TO "quantity";',
        ],
    ),
    "renamed, and another added": (
        both(RENAMED, appended("count(*) AS number")),
        [
            f"DROP VIEW IF EXISTS {SHOWN};",
            f'{STAGED} DROP COLUMN "amount";',
            f'{STAGED} ADD COLUMN "quantity" bigint;',
            f'{STAGED} ADD COLUMN "number" bigint;',
        ],
    ),
    "removed": (REMOVED, [f"DROP VIEW IF EXISTS {SHOWN};", f'{STAGED} DROP COLUMN "amount";']),
    "retyped": (
        RETYPED,
        [
            f"DROP VIEW IF EXISTS {SHOWN};",
            f'{STAGED} ALTER COLUMN "amount" TYPE numeric(12,1) USING "amount"::numeric(12,1);',
        ],
    ),
    "removed, retyped and added": (
        both(both(REMOVED, replaced(SHARE, f"{SHARE}::double precision")), appended("count(*) AS number")),
        [
            f"DROP VIEW IF EXISTS {SHOWN};",
            f'{STAGED} DROP COLUMN "amount";',
            f'{STAGED} ALTER COLUMN "share" TYPE double precision USING "share"::double precision;',
            f'{STAGED} ADD COLUMN "number" bigint;',
        ],
    ),
    "the last one exchanged for one of another type": (
        replaced(f"{SHARE} AS share", "true AS was_open"),
        [
            f"DROP VIEW IF EXISTS {SHOWN};",
            f'{STAGED} DROP COLUMN "share";',
            f'{STAGED} ADD COLUMN "was_open" boolean;',
        ],
    ),
}
# Columns for which the order of the query is not that of the staging table after these statements.
REORDERS = {"renamed, and another added"}


def edit_query(dataset: Dataset, change: Change) -> None:
    path = dataset.folder / "by_sensor.sql"
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize("kind", sorted(set(CHANGED_QUERIES) - REORDERS))
def test_a_changed_query_is_reported_with_the_statements_that_repair_its_table(
    admin: psycopg.Connection[Any], shares: Dataset, kind: str
) -> None:
    change, steps = CHANGED_QUERIES[kind]
    fill_source(admin)
    ensure_schemas(admin, shares)
    ensure_staging(admin, shares)
    with as_role(admin):
        publish(admin, shares, refresh(admin, shares))
    before = read(admin, SHOWN)
    assert [row["share"] for row in before] == [2, 0.5]
    edit_query(shares, change)

    [message] = refusals(admin, shares)
    assert message == (
        "include/datasets/shares/by_sensor.sql returns other columns than shares_staging.by_sensor has. Restore the "
        "query, or write the next migration in include/datasets/shares/migrations with\n"
        + "".join(f"    {step}\n" for step in steps)
        + "RENAME is for the same figure under a new name: for another figure, DROP and ADD. A dropped view is created "
        "again after the migrations; what was granted on it or built on it is not."
    )

    for step in steps_in(message):
        admin.execute(step.encode())
    ensure_staging(admin, shares)

    after = read(admin, SHOWN)
    names = {"amount": "quantity"} if kind == "renamed" else {}
    kept = [{names.get(name, name): value for name, value in row.items()} for row in before]
    assert len(after) == len(before)
    for row, old in zip(after, kept, strict=True):  # what is new is empty in what was published before
        assert row == {name: old.get(name) for name in row}
    assert privileges(admin, SHOWN) == {APP: {"SELECT"}, READER: {"SELECT"}}
    with as_role(admin):
        check_staging(admin, shares)
        publish(admin, shares, refresh(admin, shares))
    with as_role(admin, READER):
        rows = read(admin, SHOWN)
    assert len(rows) == len(before)
    assert None not in [value for row in rows for value in row.values()]


@pytest.mark.parametrize("kind", sorted(set(CHANGED_QUERIES) - REORDERS))
def test_the_same_statements_do_no_harm_in_a_new_database(
    admin: psycopg.Connection[Any], shares: Dataset, kind: str
) -> None:
    """There, the staging table is created after all migrations."""
    change, steps = CHANGED_QUERIES[kind]
    edit_query(shares, change)
    ensure_schemas(admin, shares)

    for step in steps:
        admin.execute(step.encode())
    ensure_staging(admin, shares)

    with as_role(admin):
        check_staging(admin, shares)


ORDER = "day, sensor, amount, share"
OUT_OF_ORDER: dict[str, tuple[Change, str]] = {
    "two exchanged": (both(REMOVED, appended("sum(amount) AS amount")), ORDER),
    "one added in the middle": (
        replaced("    sum(amount)", "    count(*) AS number,\n    sum(amount)"),
        f"{ORDER}, number",
    ),
    "one renamed, and another added in the middle": (
        both(RENAMED, replaced("    sensor,\n", "    count(*) AS number,\n    sensor,\n")),
        "day, sensor, share, number, quantity",
    ),
    "one renamed, and another added at the end": (
        both(RENAMED, appended("count(*) AS number")),
        "day, sensor, share, quantity, number",
    ),
}


@pytest.mark.parametrize("kind", OUT_OF_ORDER)
def test_a_query_whose_columns_are_in_another_order_is_reported_with_the_right_one(
    admin: psycopg.Connection[Any], shares: Dataset, kind: str
) -> None:
    change, order = OUT_OF_ORDER[kind]
    ensure_schemas(admin, shares)
    ensure_staging(admin, shares)
    edit_query(shares, change)

    assert refusals(admin, shares) == {
        "include/datasets/shares/by_sensor.sql returns other columns than shares_staging.by_sensor has: select them in "
        f"the order {order}."
    }


ENTRIES, STAGED_ENTRIES = "ALTER TABLE ledger.entries", "ALTER TABLE IF EXISTS ledger_staging.entries"
DROP_STAGED = ["DROP TABLE IF EXISTS ledger_staging.entries;"]
# What a migration does to the table, and the statements that the message gives for its staging table.
CHANGED_TABLES: dict[str, tuple[list[str], list[str]]] = {
    "added": ([f"{ENTRIES} ADD COLUMN currency text"], [f'{STAGED_ENTRIES} ADD COLUMN "currency" text;']),
    "two added, with names that need quotes": (
        [f'{ENTRIES} ADD COLUMN "Due Day" date, ADD COLUMN "order" varchar(3)'],
        [
            f'{STAGED_ENTRIES} ADD COLUMN "Due Day" date;',
            f'{STAGED_ENTRIES} ADD COLUMN "order" character varying(3);',
        ],
    ),
    "renamed": (
        [f"{ENTRIES} RENAME COLUMN amount TO quantity"],
        [f'{STAGED_ENTRIES} RENAME COLUMN "amount" TO "quantity";'],
    ),
    "dropped": ([f"{ENTRIES} DROP COLUMN amount"], [f'{STAGED_ENTRIES} DROP COLUMN "amount";']),
    "retyped": (
        [f"{ENTRIES} ALTER COLUMN amount TYPE numeric(12, 1)"],
        [f'{STAGED_ENTRIES} ALTER COLUMN "amount" TYPE numeric(12,1) USING "amount"::numeric(12,1);'],
    ),
    "retyped to what needs a cast": (
        [f"{ENTRIES} ALTER COLUMN note TYPE integer USING note::integer"],
        [f'{STAGED_ENTRIES} ALTER COLUMN "note" TYPE integer USING "note"::integer;'],
    ),
    "dropped, retyped and added": (
        [
            f"{ENTRIES} DROP COLUMN amount, ALTER COLUMN note TYPE double precision",
            f"{ENTRIES} ADD COLUMN currency text",
        ],
        [
            f'{STAGED_ENTRIES} DROP COLUMN "amount";',
            f'{STAGED_ENTRIES} ALTER COLUMN "note" TYPE double precision USING "note"::double precision;',
            f'{STAGED_ENTRIES} ADD COLUMN "currency" text;',
        ],
    ),
    "dropped, and added again at the end": (
        [f"{ENTRIES} DROP COLUMN amount", f"{ENTRIES} ADD COLUMN amount integer"],
        DROP_STAGED,
    ),
    "renamed, and another added": (
        [f"{ENTRIES} RENAME COLUMN amount TO quantity", f"{ENTRIES} ADD COLUMN currency text"],
        DROP_STAGED,
    ),
}
ENTRY = {"day": DAY, "account": "cash", "amount": 3, "note": 2}


def stage_entry(connection: psycopg.Connection[Any], dataset: Dataset) -> UUID:
    """Stage a row that has the values of ENTRY in the columns that it has, and a text or number in all others."""
    batch_id = uuid4()
    staging = dataset.staging_name(TABLE)
    values = {
        name: ENTRY.get(name, DAY if type_ == "date" else "9") for name, type_ in columns(connection, staging)[2:]
    }
    statement = sql.SQL("insert into {} (batch_id, {}) values ({}, {})").format(
        sql.Identifier(*staging.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.Placeholder(),
        sql.SQL(", ").join([sql.Placeholder()] * len(values)),
    )
    connection.execute(statement, [batch_id, *values.values()])
    return batch_id


@pytest.mark.parametrize("kind", CHANGED_TABLES)
def test_a_changed_table_is_reported_with_the_statements_that_repair_its_staging_table(
    admin: psycopg.Connection[Any], ledger: Dataset, kind: str
) -> None:
    changes, steps = CHANGED_TABLES[kind]
    ensure_schemas(admin, ledger)
    admin.execute(TABLE_SQL.encode())
    ensure_staging(admin, ledger)
    with as_role(admin):
        publish(admin, ledger, stage_entry(admin, ledger))
    for change in changes:
        admin.execute(change.encode())
    before, staged_before = read(admin, "ledger.entries"), read(admin, "ledger_staging.entries")

    [message] = refusals(admin, ledger)
    assert message == (
        "ledger.entries has other columns than ledger_staging.entries has. "
        + ("Their order differs. " if steps == DROP_STAGED else "")
        + "Write the next migration in include/datasets/ledger/migrations with\n"
        + "".join(f"    {step}\n" for step in steps)
        + (
            "A dropped staging table is created again after the migrations, without its batches: what was published "
            "stays, and cannot be rolled back."
            if steps == DROP_STAGED
            else "RENAME is for the same figure under a new name: for another figure, DROP and ADD."
        )
    )

    for step in steps_in(message):
        admin.execute(step.encode())
    ensure_staging(admin, ledger)

    assert columns(admin, "ledger_staging.entries")[2:] == columns(admin, "ledger.entries")
    assert privileges(admin, "ledger_staging.entries") == {APP: RIGHTS}
    assert read(admin, "ledger.entries") == before
    names = {"amount": "quantity"} if kind == "renamed" else {}
    kept = [{names.get(name, name): value for name, value in row.items()} for row in staged_before]
    for row, old in zip(read(admin, "ledger_staging.entries"), kept, strict=steps != DROP_STAGED):
        assert row == {name: old.get(name) for name in row}
    with as_role(admin):
        check_staging(admin, ledger)
        publish(admin, ledger, stage_entry(admin, ledger))
    with as_role(admin, READER):
        [row] = read(admin, "ledger.entries")
    assert None not in row.values()


@pytest.mark.parametrize("kind", CHANGED_TABLES)
def test_the_statements_for_a_staging_table_do_no_harm_in_a_new_database(
    admin: psycopg.Connection[Any], ledger: Dataset, kind: str
) -> None:
    changes, steps = CHANGED_TABLES[kind]
    ensure_schemas(admin, ledger)

    for statement in (TABLE_SQL, *changes, *steps):
        admin.execute(statement.encode())
    ensure_staging(admin, ledger)

    with as_role(admin):
        check_staging(admin, ledger)


def test_a_message_is_followed_on_an_old_database_and_on_a_new_one(
    warehouse: Login, postgres: Login, ledger: Dataset, shares: Dataset
) -> None:
    """With real migrations: the folders of both datasets are applied from their start, and from where they were."""
    both_of_them = (ledger, shares)
    write(ledger.folder / "migrations", "0001_entries", TABLE_SQL)
    assert migrate(warehouse.connect, {}, both_of_them) == ["ledger/0001"]
    write(ledger.folder / "migrations", "0002_currency", f"{ENTRIES} ADD COLUMN currency text;")
    edit_query(shares, RETYPED)

    for number, (dataset, applied) in enumerate(
        [(ledger, ["ledger/0002", "ledger/0003"]), (shares, ["shares/0001"])], start=1
    ):
        with pytest.raises(PermanentError, match=f"include/datasets/{dataset.name}/migrations") as refused:
            migrate(warehouse.connect, {}, both_of_them)
        stem = "0003_staging" if dataset is ledger else "0001_staging"
        write(dataset.folder / "migrations", stem, "\n".join(steps_in(str(refused.value))))
        assert migrate(warehouse.connect, {}, both_of_them[:number]) == applied

    with fresh_warehouse(postgres) as new:
        assert migrate(new.connect, {}, both_of_them) == ["ledger/0001", "ledger/0002", "ledger/0003", "shares/0001"]
        found = []
        for login in (warehouse, new):
            assert migrate(login.connect, {}, both_of_them) == []
            with login.connect() as connection:
                names = [
                    name(each)
                    for dataset in both_of_them
                    for each in dataset.publishes
                    for name in (dataset.published_name, dataset.staging_name)
                ]
                found.append([(columns(connection, name), privileges(connection, name)) for name in names])
    assert found[0] == found[1]


# Every kind of column, and what a query may be other than a plain SELECT.
UNUSUAL = """
-- A comment; with 'quotes', {braces} and a literal %% sign.
WITH found AS (SELECT * FROM rollups.source WHERE day = %(as_of)s)
SELECT
    day,
    amount::numeric(5, 2) AS amount,
    'a' AS letter,
    'abc'::varchar(10) AS word,
    ARRAY[1.5::numeric(4, 2)] AS list,
    now() AS "Moment of Truth",
    sensor LIKE '%%h' AS "select"
FROM found
-- and at the end"""


def test_a_new_view_is_created_with_its_staging_table(admin: psycopg.Connection[Any], shares: Dataset) -> None:
    fill_source(admin)
    ensure_schemas(admin, shares)
    ensure_staging(admin, shares)
    more = replace(shares, publishes=(VIEW, View("user", key=("day", "select"))))  # a reserved word will do as a name
    (shares.folder / "user.sql").write_text(UNUSUAL)
    with pytest.raises(PermanentError, match=r"^shares_staging\.user does not exist yet: run the DAG"), as_role(admin):
        check_staging(admin, more)

    ensure_staging(admin, more)

    assert columns(admin, "shares.user") == [
        ("day", "date"),
        ("amount", "numeric(5,2)"),
        ("letter", "text"),
        ("word", "character varying(10)"),
        ("list", "numeric(4,2)[]"),
        ("Moment of Truth", "timestamp with time zone"),
        ("select", "boolean"),
    ]
    with as_role(admin):
        check_staging(admin, more)
        publish(admin, more, refresh(admin, more))
    with as_role(admin, READER):
        found = admin.execute('select amount, word, "select" from shares.user order by amount').fetchall()
    assert found == [(5, "abc", True), (20, "abc", True)]


UNUSABLE = {
    "a column that is not there": ("SELECT nonesuch FROM rollups.source", 'column "nonesuch" does not exist'),
    "a table that is not there": ("SELECT * FROM rollups.nonesuch", 'relation "rollups.nonesuch" does not exist'),
    "no SQL": ("SELEKT 1 AS one", "syntax error at or near"),
    "nothing": ("", "syntax error"),
    "a semicolon at the end": ("SELECT 1 AS one;\n", 'syntax error at or near ";"'),
    "two statements": ("SELECT 1 AS one; SELECT 2 AS two", 'syntax error at or near ";"'),
    "a single percent sign": ("SELECT '5 %' AS discount", "placeholders, got '%''"),
    "another value than the day": ("SELECT %(day)s AS day", "query parameter missing: day"),
    "a constant that is no date": ("SELECT 'soon'::date AS day", "invalid input syntax for type date"),
    "two columns of one name": ("SELECT 1 AS one, 2 AS one", 'column "one" specified more than once'),
    "what Postgres cannot do": (
        "WITH gone AS (DELETE FROM rollups.source RETURNING *) SELECT * FROM gone",
        "data-modifying statement must be at the top level",
    ),
    "another database": ("SELECT * FROM other.public.staff", "cross-database references are not implemented"),
    "an expression to Airflow": (
        "SELECT '{{1,2},{3,4}}'::int[] AS matrix",
        "{{ means something to Airflow's templates",
    ),
    "a statement to Airflow": ("SELECT '{%%' AS text", "{% means something to Airflow's templates"),
    "a comment to Airflow": ("SELECT '{# so #}' AS text", "{# means something to Airflow's templates"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_query_that_cannot_be_a_view_is_named(admin: psycopg.Connection[Any], shares: Dataset, kind: str) -> None:
    text, message = UNUSABLE[kind]
    broken = replace(shares, publishes=(VIEW, View("broken", key=("one",))))
    ensure_schemas(admin, broken)
    before = schema(admin)
    (broken.folder / "broken.sql").write_text(text)

    with pytest.raises(PermanentError) as refused, admin.transaction():
        ensure_staging(admin, broken)

    assert str(refused.value).startswith("include/datasets/shares/broken.sql: ")
    assert message in str(refused.value)
    assert schema(admin) == before  # nothing of the good view, either


def test_a_view_without_a_query_is_named(admin: psycopg.Connection[Any], shares: Dataset) -> None:
    (shares.folder / "by_sensor.sql").unlink()
    ensure_schemas(admin, shares)

    with pytest.raises(PermanentError) as refused:
        ensure_staging(admin, shares)

    assert str(refused.value) == ("include/datasets/shares/by_sensor.sql does not exist: write the view's query there.")


@pytest.mark.parametrize(
    ("statement", "query"),
    [
        ("create table shares.by_sensor (one int)", "SELECT 1 AS one"),  # and with the columns of the query
        ("create table shares.by_sensor (two int)", "SELECT 1 AS one"),
        ("create view shares.by_sensor as select 1 as one", "SELECT 1 AS one"),
        ("create materialized view shares.by_sensor as select 1 as one", "SELECT 1 AS one"),
        ("create sequence shares.by_sensor", "SELECT 1 AS one"),
    ],
)
def test_a_name_that_something_else_has_is_refused(
    admin: psycopg.Connection[Any], shares: Dataset, statement: str, query: str
) -> None:
    one = replace(shares, publishes=(View("by_sensor", key=("one",)),))
    ensure_schemas(admin, one)
    admin.execute(statement.encode())
    (one.folder / "by_sensor.sql").write_text(query)

    with pytest.raises(PermanentError) as refused:
        ensure_staging(admin, one)

    assert str(refused.value) == (
        "include/datasets/shares/by_sensor.sql: shares.by_sensor is something else already: choose another name."
    )


SOURCE_CHANGES = {
    "a column renamed": ("alter table rollups.source rename column amount to number", 'column "amount" does not exist'),
    "the table dropped": ("drop table rollups.source", 'relation "rollups.source" does not exist'),
    "not for the DAGs to read": (f"revoke select on rollups.source from {APP}", "permission denied for table source"),
}


@pytest.mark.parametrize("kind", SOURCE_CHANGES)
def test_a_source_that_changed_is_reported_before_a_run_refreshes(
    admin: psycopg.Connection[Any], shares: Dataset, kind: str
) -> None:
    statement, message = SOURCE_CHANGES[kind]
    ensure_schemas(admin, shares)
    ensure_staging(admin, shares)
    with as_role(admin):
        check_staging(admin, shares)
    admin.execute(statement.encode())

    with pytest.raises(PermanentError) as refused, as_role(admin):
        check_staging(admin, shares)

    assert str(refused.value).startswith(f"include/datasets/shares/by_sensor.sql: {message}")


def test_a_source_column_of_another_type_is_reported_with_its_migration(
    admin: psycopg.Connection[Any], shares: Dataset
) -> None:
    edit_query(shares, replaced("sum(amount) AS amount", "max(amount) AS amount"))
    ensure_schemas(admin, shares)
    ensure_staging(admin, shares)
    admin.execute("alter table rollups.source alter column amount type numeric(8, 2)")

    [message] = refusals(admin, shares)

    assert steps_in(message) == [
        f"DROP VIEW IF EXISTS {SHOWN};",
        f'{STAGED} ALTER COLUMN "amount" TYPE numeric USING "amount"::numeric;',
    ]


def test_an_added_column_leaves_a_view_of_the_users_own_in_its_place(
    admin: psycopg.Connection[Any], shares: Dataset
) -> None:
    fill_source(admin)
    ensure_schemas(admin, shares)
    ensure_staging(admin, shares)
    with as_role(admin):
        publish(admin, shares, refresh(admin, shares))
    admin.execute("create view public.report as select sensor from shares.by_sensor")
    admin.execute(f"grant select on public.report to {READER}".encode())
    edit_query(shares, appended("max(amount) AS highest"))
    admin.execute(f"{STAGED} ADD COLUMN highest integer".encode())

    ensure_staging(admin, shares)

    assert columns(admin, SHOWN) == [*SHARES_COLUMNS, ("highest", "integer")]
    with as_role(admin, READER):
        assert admin.execute("select * from public.report order by 1").fetchall() == [("north",), ("south",)]


def declared(**changes: Any) -> Callable[[Dataset], Dataset]:
    def change(dataset: Dataset) -> Dataset:
        publishes: Any = (replace(dataset.publishes[0], **changes),)
        return replace(dataset, publishes=publishes)

    return change


WHERE = "include/datasets/ledger/dataset.py: entries has"
MISDECLARED: dict[str, tuple[str, Callable[[Dataset], Dataset], str]] = {
    "an unknown key column": (
        TABLE_SQL,
        declared(key=("day", "name")),
        f"{WHERE} the key column 'name', which does not exist: choose of day, account, amount, note.",
    ),
    "an unknown day column": (
        TABLE_SQL,
        declared(key=("date", "account"), day="date"),
        f"{WHERE} the key column 'date', which does not exist: choose of day, account, amount, note.",
    ),
    "a key of fewer columns than the primary key": (
        TABLE_SQL,
        declared(key=("day",)),
        f"{WHERE} the key day, and the table's primary key is account, day: make them the same.",
    ),
    "a key of more columns than the primary key": (
        TABLE_SQL,
        declared(key=("day", "account", "note")),
        f"{WHERE} the key day, account, note, and the table's primary key is account, day: make them the same.",
    ),
    "no primary key": (
        "CREATE TABLE ledger.entries (day date, account text UNIQUE NOT NULL);",
        lambda dataset: dataset,
        f"{WHERE} the key day, account, and the table's primary key is missing: make them the same.",
    ),
    "a day that is a timestamp": (
        TABLE_SQL.replace("day date", "day timestamptz"),
        lambda dataset: dataset,
        f"{WHERE} the day column day, which is a timestamp with time zone: it must be a date.",
    ),
    **{
        f"a column {name}": (
            TABLE_SQL.replace("note numeric", f'"{name}" numeric'),
            lambda dataset: dataset,
            f"{WHERE} the column {name!r}: rename it, since batch_id and loaded_at are columns of every staging table, "
            "and % is not supported in a name.",
        )
        for name in ("batch_id", "loaded_at", "share_%")
    },
    **{
        f"a column {kind}": (
            TABLE_SQL.replace("note numeric", f"note bigint GENERATED {kind}"),
            lambda dataset: dataset,
            f"{WHERE} the generated column note: a batch has a value for every column, so compute it in transform, or "
            "in a view on top.",
        )
        for kind in ("ALWAYS AS IDENTITY", "BY DEFAULT AS IDENTITY", "ALWAYS AS (2) STORED")
    },
    "a day that is a text": (
        TABLE_SQL,
        declared(day="account"),
        f"{WHERE} the day column account, which is a text: it must be a date.",
    ),
}


@pytest.mark.parametrize("kind", MISDECLARED)
def test_a_declaration_that_does_not_fit_its_table_is_refused(
    admin: psycopg.Connection[Any], ledger: Dataset, kind: str
) -> None:
    table, change, message = MISDECLARED[kind]
    ensure_schemas(admin, ledger)
    admin.execute(table.encode())
    before = schema(admin)

    with pytest.raises(InvalidDeclaration) as refused, admin.transaction():
        ensure_staging(admin, change(ledger))

    assert str(refused.value) == message
    assert schema(admin) == before


def test_a_column_that_a_load_leaves_out_gets_its_default(admin: psycopg.Connection[Any], ledger: Dataset) -> None:
    ensure_schemas(admin, ledger)
    admin.execute(TABLE_SQL.replace("note numeric", "note numeric NOT NULL DEFAULT 7").encode())
    ensure_staging(admin, ledger)

    admin.execute("insert into ledger_staging.entries (batch_id, day, account) values (gen_random_uuid(), now(), 'a')")

    assert admin.execute("select note from ledger_staging.entries").fetchone() == (7,)


def test_the_order_of_a_key_does_not_matter(admin: psycopg.Connection[Any], ledger: Dataset) -> None:
    ensure_schemas(admin, ledger)
    admin.execute(TABLE_SQL.encode())

    ensure_staging(admin, declared(key=("account", "day"))(ledger))


def test_a_column_of_a_views_key_must_be_in_its_query(admin: psycopg.Connection[Any], shares: Dataset) -> None:
    ensure_schemas(admin, shares)

    with pytest.raises(InvalidDeclaration) as refused:
        ensure_staging(admin, declared(key=("day", "senser"))(shares))

    assert str(refused.value) == (
        "include/datasets/shares/dataset.py: by_sensor has the key column 'senser', which does not exist: choose of "
        "day, sensor, amount, share."
    )


def test_a_table_that_no_migration_creates_is_named(admin: psycopg.Connection[Any], ledger: Dataset) -> None:
    ensure_schemas(admin, ledger)

    for check in (ensure_staging, check_staging):
        with pytest.raises(
            PermanentError, match=r"^No table ledger\.entries: create it in a migration in .*ledger/mig"
        ):
            check(admin, ledger)
