"""The views follow their queries: made from the files, checked against the tables, and healed as a message says."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from include.daily_operations import views
from include.daily_operations.columns import check_queries
from include.daily_operations.publish import publish_views
from include.daily_operations.schema import ensure_views
from include.daily_operations.views import FOLDER, SNAPSHOTS
from tests.include.daily_operations.resort import DAY, GOOD, VIEWS, fill, refresh

from include.errors import PermanentError
from include.warehouse.register import Run
from include.warehouse.roles import APP, READER
from local.login import Login
from local.state import State
from tests.conftest import fresh_warehouse

ADMISSION, ORDERS, SELLERS, LABOR = VIEWS
COLUMNS = {
    ADMISSION: [
        ("admission_date", "date"),
        ("entrance_name", "text"),
        ("total_quantity_sold", "bigint"),
        ("total_gross_revenue", "numeric"),
    ],
    ORDERS: [("inventory_date", "date"), ("item_name", "text"), ("quantity_on_hand", "integer")],
    SELLERS: [
        ("sales_date", "date"),
        ("location_name", "text"),
        ("item_name", "text"),
        ("quantity_rank", "bigint"),
    ],
    LABOR: [
        ("employee_name", "text"),
        ("ytd_hours_worked", "numeric"),
        ("ytd_pre_tax_earnings", "numeric"),
        ("ytd_post_tax_earnings", "numeric"),
    ],
}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a copy of the folder of the views that a test may change."""
    copy = Path(shutil.copytree(FOLDER, tmp_path / "daily_operations"))
    monkeypatch.setattr(views, "FOLDER", copy)
    return copy


@pytest.fixture
def admin(warehouse: Login) -> Iterator[psycopg.Connection[Any]]:
    with warehouse.connect(autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def untouched(postgres: Login) -> Iterator[psycopg.Connection[Any]]:
    """Connect, as the admin, to one warehouse for all tests in which nothing may be changed."""
    with fresh_warehouse(postgres) as login, login.connect(autocommit=True) as connection:
        yield connection


def columns(connection: psycopg.Connection[Any], relation: str) -> list[tuple[str, str]]:
    return connection.execute(
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        [relation],
    ).fetchall()


def privileges(connection: psycopg.Connection[Any], relation: str) -> dict[str, set[str]]:
    """Give what each role may do, the owner's own rights apart."""
    granted = connection.execute(
        "select coalesce(rolname, 'public'), privilege_type from pg_class "
        "cross join aclexplode(relacl) left join pg_roles on pg_roles.oid = grantee "
        "where pg_class.oid = %s::regclass and grantee <> relowner",
        [relation],
    ).fetchall()
    return {role: {right for other, right in granted if other == role} for role, _ in granted}


def ensure(admin: psycopg.Connection[Any]) -> None:
    with admin.transaction():
        ensure_views(admin)


def schema(admin: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Give all there is of both schemas, so that a change of any kind is seen."""
    return admin.execute(
        "select c.oid, c.relname, c.relkind, c.relowner, c.relacl::text, a.attname, a.atttypid, a.attnum "
        "from pg_class c left join pg_attribute a on a.attrelid = c.oid "
        "where relnamespace in ('daily_operations'::regnamespace, 'daily_operations_snapshots'::regnamespace) "
        "order by c.oid, a.attnum"
    ).fetchall()


@pytest.mark.parametrize("view", VIEWS)
def test_each_query_has_a_table_and_a_view(untouched: psycopg.Connection[Any], view: str) -> None:
    table, public = f"{SNAPSHOTS}.{view}", f"daily_operations.{view}"

    assert columns(untouched, public) == COLUMNS[view]
    assert columns(untouched, table) == [
        ("batch_id", "uuid"),
        ("loaded_at", "timestamp with time zone"),
        *COLUMNS[view],
    ]
    # What is published cannot be updated, and is removed by nobody but retention.
    assert privileges(untouched, table) == {APP: {"SELECT", "INSERT", "DELETE"}}
    assert privileges(untouched, public) == {APP: {"SELECT"}, READER: {"SELECT"}}
    indexed = "select pg_get_indexdef(indexrelid) from pg_index where indrelid = %s::regclass"
    assert [line.split(" USING ")[1] for (line,) in untouched.execute(indexed, [table])] == ["btree (batch_id)"]
    [(comment,)] = untouched.execute("select obj_description(%s::regclass)", [table]).fetchall()
    assert "by batch; readers see the published one" in comment


def test_what_is_there_stays_as_it_is(untouched: psycopg.Connection[Any]) -> None:
    before = schema(untouched)

    ensure(untouched)

    assert schema(untouched) == before


def test_what_was_dropped_is_made_again(admin: psycopg.Connection[Any]) -> None:
    admin.execute(f"drop view daily_operations.{ORDERS}".encode())
    admin.execute(f"drop table {SNAPSHOTS}.{LABOR} cascade".encode())

    ensure(admin)

    for view in (ORDERS, LABOR):
        assert columns(admin, f"daily_operations.{view}") == COLUMNS[view]
        assert privileges(admin, f"daily_operations.{view}") == {APP: {"SELECT"}, READER: {"SELECT"}}
    assert privileges(admin, f"{SNAPSHOTS}.{LABOR}") == {APP: {"SELECT", "INSERT", "DELETE"}}


# Every kind of column, and what a query may be beside a plain SELECT.
FIFTH = """
-- A comment; with 'quotes', {braces} and a literal %% sign.
WITH worked AS (SELECT * FROM daily_operations.labor WHERE labor_date = %(as_of)s)
SELECT
    labor_date,
    hours_worked,
    'a' AS letter,
    'abc'::varchar(10) AS word,
    ARRAY[1.5::numeric(4, 2)] AS list,
    now() AS "Moment of Truth",
    employee_name LIKE '%%a' AS "select"
FROM worked
-- and at the end"""


def test_a_new_file_is_a_new_view(admin: psycopg.Connection[Any], app: psycopg.Connection[Any], folder: Path) -> None:
    fill(admin, **GOOD)
    (folder / "user.sql").write_text(FIFTH)  # a reserved word will do as a name
    with pytest.raises(PermanentError) as refused:
        check_queries(app)
    assert str(refused.value) == (
        "View user has no table daily_operations_snapshots.user yet: run the DAG warehouse_migrations."
    )

    app.rollback()
    ensure(admin)

    check_queries(app)
    assert columns(admin, "daily_operations.user") == [
        ("labor_date", "date"),
        ("hours_worked", "numeric(5,2)"),
        ("letter", "text"),
        ("word", "character varying(10)"),
        ("list", "numeric(4,2)[]"),
        ("Moment of Truth", "timestamp with time zone"),
        ("select", "boolean"),
    ]
    assert privileges(admin, "daily_operations.user") == {APP: {"SELECT"}, READER: {"SELECT"}}
    assert privileges(admin, f"{SNAPSHOTS}.user") == {APP: {"SELECT", "INSERT", "DELETE"}}
    publish_views(app, refresh(app), DAY, Run("update", "a run"), keep=7)
    found = app.execute('select hours_worked, word, "select" from daily_operations.user order by 1').fetchall()
    assert [(float(hours), word, ends) for hours, word, ends in found] == [
        (0, "abc", False),
        (4, "abc", False),
        (7.5, "abc", True),
    ]


# What is done to a query, and the statements that the message gives for it.
TABLE, PUBLIC = f"ALTER TABLE IF EXISTS {SNAPSHOTS}.{ADMISSION}", f"daily_operations.{ADMISSION}"
Change = Callable[[str], str]


def replaced(old: str, new: str) -> Change:
    def change(query: str) -> str:
        assert query.count(old) == 1
        return query.replace(old, new)

    return change


def append(column: str) -> Change:
    return replaced("AS total_gross_revenue", f"AS total_gross_revenue,\n    {column}")


def both(first: Change, second: Change) -> Change:
    return lambda query: second(first(query))


REVENUE = "sum(ticket_price * quantity_sold)"
RENAME = replaced("AS total_quantity_sold", "AS tickets")
RETYPE = replaced("sum(quantity_sold)", "sum(quantity_sold)::numeric(12, 1)")
REMOVE = replaced("    sum(quantity_sold) AS total_quantity_sold,\n", "")
HEALED: dict[str, tuple[Change, list[str]]] = {
    "added": (append("max(ticket_price) AS dearest"), [f'{TABLE} ADD COLUMN "dearest" numeric']),
    "two added": (
        append("max(ticket_price)::numeric(10,2) AS dearest, count(*) AS prices"),
        [f'{TABLE} ADD COLUMN "dearest" numeric(10,2)', f'{TABLE} ADD COLUMN "prices" bigint'],
    ),
    "renamed": (
        RENAME,
        [
            f'{TABLE} RENAME COLUMN "total_quantity_sold" TO "tickets"',
            f'ALTER VIEW IF EXISTS {PUBLIC} RENAME COLUMN "total_quantity_sold" TO "tickets"',
        ],
    ),
    "removed": (REMOVE, [f"DROP VIEW IF EXISTS {PUBLIC}", f'{TABLE} DROP COLUMN "total_quantity_sold"']),
    "retyped": (
        RETYPE,
        [
            f"DROP VIEW IF EXISTS {PUBLIC}",
            f'{TABLE} ALTER COLUMN "total_quantity_sold" TYPE numeric(12,1) USING "total_quantity_sold"::numeric(12,1)',
        ],
    ),
    "removed, retyped and added": (
        both(both(REMOVE, replaced(REVENUE, f"{REVENUE}::double precision")), append("count(*) AS prices")),
        [
            f"DROP VIEW IF EXISTS {PUBLIC}",
            f'{TABLE} DROP COLUMN "total_quantity_sold"',
            f'{TABLE} ALTER COLUMN "total_gross_revenue" TYPE double precision '
            'USING "total_gross_revenue"::double precision',
            f'{TABLE} ADD COLUMN "prices" bigint',
        ],
    ),
    "the last one exchanged for one of another type": (
        replaced(f"{REVENUE} AS total_gross_revenue", "true AS was_open"),
        [
            f"DROP VIEW IF EXISTS {PUBLIC}",
            f'{TABLE} DROP COLUMN "total_gross_revenue"',
            f'{TABLE} ADD COLUMN "was_open" boolean',
        ],
    ),
}


@pytest.fixture
def published(admin: psycopg.Connection[Any], app: psycopg.Connection[Any]) -> None:
    fill(admin, **GOOD)
    publish_views(app, refresh(app), DAY, Run("update", "a run"), keep=7)
    app.commit()


def read(connection: psycopg.Connection[Any], view: str = ADMISSION) -> list[dict[str, Any]]:
    cursor = connection.execute(f"select * from daily_operations.{view} order by 1, 2".encode())
    assert cursor.description
    return [dict(zip([column.name for column in cursor.description], row, strict=True)) for row in cursor]


def told_steps(message: str) -> list[str]:
    """Give the statements that a message tells to write."""
    return [line.strip().removesuffix(";") for line in message.splitlines() if line.startswith("    ")]


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("kind", HEALED)
def test_changed_columns_are_told_with_the_migration_that_heals_them(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any], folder: Path, kind: str
) -> None:
    change, steps = HEALED[kind]
    before, rows = schema(admin), read(admin)
    file = folder / f"{ADMISSION}.sql"
    file.write_text(change(file.read_text()))

    messages = []
    for check, connection in ((ensure_views, admin), (check_queries, app)):
        with pytest.raises(PermanentError) as refused, connection.transaction():
            check(connection)
        messages.append(str(refused.value))
    app.rollback()

    assert messages[0] == messages[1]
    assert messages[0].startswith(
        f"include/daily_operations/{ADMISSION}.sql gives other columns than {SNAPSHOTS}.{ADMISSION} has. Put the query "
        "back, or write the next migration in include/warehouse/migrations/versions with\n"
    )
    assert told_steps(messages[0]) == steps
    assert schema(admin) == before

    with admin.transaction():  # as a migration does
        for step in steps:
            admin.execute(step.encode())
        ensure_views(admin)

    check_queries(app)
    healed = read(admin)
    names = {"total_quantity_sold": "tickets"} if kind == "renamed" else {}
    kept = [{names.get(name, name): value for name, value in row.items()} for row in rows]
    assert len(healed) == len(rows)
    for row, old in zip(healed, kept, strict=True):  # what is new is empty in what was published before
        assert row == {name: old.get(name) for name in row}
    assert privileges(admin, PUBLIC) == {APP: {"SELECT"}, READER: {"SELECT"}}
    publish_views(app, refresh(app), DAY, Run("update", "another run"), keep=7)
    assert len(read(app)) == len(rows)
    assert None not in [value for row in read(app) for value in row.values()]


@pytest.mark.parametrize("kind", HEALED)
def test_the_same_migration_does_no_harm_where_nothing_is_yet(
    admin: psycopg.Connection[Any], folder: Path, kind: str
) -> None:
    """On a new database, where the tables are made after all migrations."""
    change, steps = HEALED[kind]
    file = folder / f"{ADMISSION}.sql"
    file.write_text(change(file.read_text()))
    admin.execute(f"drop table {SNAPSHOTS}.{ADMISSION} cascade".encode())

    with admin.transaction():
        for step in steps:
            admin.execute(step.encode())
        ensure_views(admin)
        check_queries(admin)


ORDERLY = "admission_date, entrance_name, total_quantity_sold, total_gross_revenue"
OUT_OF_ORDER: dict[str, tuple[Change, str]] = {
    "two exchanged": (
        both(
            REMOVE,
            append("sum(quantity_sold) AS total_quantity_sold"),
        ),
        ORDERLY,
    ),
    "one added in the middle": (
        replaced("    sum(quantity_sold)", "    count(*) AS prices,\n    sum(quantity_sold)"),
        f"{ORDERLY}, prices",
    ),
    "one renamed and another added in the middle": (
        both(RENAME, replaced("    entrance_name,", "    count(*) AS prices,\n    entrance_name,")),
        "admission_date, entrance_name, total_gross_revenue, prices, tickets",
    ),
}


@pytest.mark.parametrize("kind", OUT_OF_ORDER)
def test_columns_in_another_order_are_told_with_the_right_one(
    untouched: psycopg.Connection[Any], folder: Path, kind: str
) -> None:
    change, order = OUT_OF_ORDER[kind]
    file = folder / f"{ADMISSION}.sql"
    file.write_text(change(file.read_text()))

    with pytest.raises(PermanentError) as refused:
        check_queries(untouched)

    assert str(refused.value) == (
        f"include/daily_operations/{ADMISSION}.sql gives other columns than {SNAPSHOTS}.{ADMISSION} has: "
        f"give them in the order {order}."
    )


UNUSABLE = {
    "a column that is not there": ("broken", "SELECT nonesuch FROM daily_operations.labor", 'column "nonesuch" does'),
    "a table that is not there": (
        "broken",
        "SELECT * FROM daily_operations.staff",
        'relation "daily_operations.staff"',
    ),
    "no SQL": ("broken", "SELEKT 1 AS one", "syntax error at or near"),
    "nothing": ("broken", "", "syntax error"),
    "a semicolon at the end": ("broken", "SELECT 1 AS one;\n", 'syntax error at or near ";"'),
    "two statements": ("broken", "SELECT 1 AS one; SELECT 2 AS two", 'syntax error at or near ";"'),
    "a single percent sign": ("broken", "SELECT '5 %' AS discount", "placeholders, got '%''"),
    "another value than the day": ("broken", "SELECT %(day)s AS day", "query parameter missing: day"),
    "a constant that is no date": ("broken", "SELECT 'soon'::date AS day", "invalid input syntax for type date"),
    "two columns of one name": ("broken", "SELECT 1 AS one, 2 AS one", 'column "one" specified more than once'),
    "a column of ours": ("broken", "SELECT 1 AS batch_id", 'column "batch_id" specified more than once'),
    "what Postgres has no way to do": (
        "broken",
        "WITH gone AS (DELETE FROM daily_operations.labor RETURNING *) SELECT * FROM gone",
        "data-modifying statement must be at the top level",
    ),
    "another database": ("broken", "SELECT * FROM other.public.staff", "cross-database references are not implemented"),
    "an expression to Airflow": (
        "broken",
        "SELECT '{{1,2},{3,4}}'::int[] AS matrix",
        "{{ means something to",
    ),
    "a statement to Airflow": ("broken", "SELECT '{%%' AS text", "{% means something to"),
    "a comment to Airflow": ("broken", "SELECT '{# so #}' AS text", "{# means something to"),
    "the name of a source table": ("labor", "SELECT 1 AS one", "is something else already"),
    "its name and its columns": ("labor", "SELECT * FROM daily_operations.labor", "is something else already"),
    "capitals in its name": ("Broken", "SELECT 1 AS one", "a view's name is at most 63 lower-case letters and"),
    "SQL in its name": ("a;b", "SELECT 1 AS one", "a view's name is at most 63 lower-case letters and"),
    "too long a name": ("a" * 64, "SELECT 1 AS one", "a view's name is at most 63 lower-case letters and"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_that_cannot_be_a_view_is_named(untouched: psycopg.Connection[Any], folder: Path, kind: str) -> None:
    name, text, told = UNUSABLE[kind]
    before = schema(untouched)
    (folder / f"{name}.sql").write_text(text)

    with pytest.raises(PermanentError) as refused:
        ensure(untouched)

    assert str(refused.value).startswith(f"include/daily_operations/{name}.sql: ")
    assert told in str(refused.value)
    assert schema(untouched) == before


SOURCE_CHANGES = {
    "a column renamed": (
        "alter table daily_operations.inventory rename column quantity_on_hand to stock",
        'column "quantity_on_hand" does not exist',
    ),
    "the table dropped": (
        "drop table daily_operations.inventory",
        'relation "daily_operations.inventory" does not exist',
    ),
    "not for the DAGs to read": (
        f"revoke select on daily_operations.inventory from {APP}",
        "permission denied for table inventory",
    ),
}


@pytest.mark.parametrize("kind", SOURCE_CHANGES)
def test_a_source_that_changed_is_told_before_a_run_refreshes(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any], kind: str
) -> None:
    statement, told = SOURCE_CHANGES[kind]
    check_queries(app)
    app.commit()
    admin.execute(statement.encode())

    with pytest.raises(PermanentError) as refused:
        check_queries(app)

    assert str(refused.value).startswith(f"include/daily_operations/{ORDERS}.sql: {told}")


def test_a_source_column_of_another_type_is_told_with_its_migration(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    admin.execute("alter table daily_operations.inventory alter column quantity_on_hand type numeric(8, 2)")

    with pytest.raises(PermanentError) as refused:
        check_queries(app)

    assert told_steps(str(refused.value)) == [
        f"DROP VIEW IF EXISTS daily_operations.{ORDERS}",
        f'ALTER TABLE IF EXISTS {SNAPSHOTS}.{ORDERS} ALTER COLUMN "quantity_on_hand" TYPE numeric(8,2) '
        'USING "quantity_on_hand"::numeric(8,2)',
    ]


@pytest.mark.usefixtures("published")
def test_an_added_column_leaves_a_view_of_the_users_own_in_its_place(
    admin: psycopg.Connection[Any], folder: Path, warehouse: Login, state: State
) -> None:
    admin.execute(f"create view public.report as select entrance_name from {PUBLIC}".encode())
    admin.execute(f"grant select on public.report to {READER}".encode())
    file = folder / f"{ADMISSION}.sql"
    file.write_text(append("max(ticket_price) AS dearest")(file.read_text()))
    admin.execute(f"{TABLE} ADD COLUMN dearest numeric".encode())

    ensure(admin)

    assert columns(admin, PUBLIC) == [*COLUMNS[ADMISSION], ("dearest", "numeric")]
    with warehouse.as_role(READER, state.secrets[READER], warehouse.dbname).connect() as reader:
        assert reader.execute("select * from public.report order by 1").fetchall() == [("Gate",), ("Lift",), ("Pier",)]


def test_a_failure_at_one_view_leaves_none_of_the_others_made(untouched: psycopg.Connection[Any], folder: Path) -> None:
    before = schema(untouched)
    (folder / "a_good_one.sql").write_text("SELECT 1 AS one")
    (folder / "broken.sql").write_text("SELECT nonesuch")

    with pytest.raises(PermanentError, match=r"broken\.sql"):
        ensure(untouched)

    assert schema(untouched) == before


@pytest.mark.parametrize("name", ['"Mixed Case"', '"order"'])
def test_the_migration_heals_names_that_need_quotes(admin: psycopg.Connection[Any], folder: Path, name: str) -> None:
    file = folder / f"{ADMISSION}.sql"
    file.write_text(append(f"count(*) AS {name}")(file.read_text()))
    with pytest.raises(PermanentError) as refused:
        ensure(admin)

    for step in told_steps(str(refused.value)):
        admin.execute(step.encode())

    ensure(admin)
