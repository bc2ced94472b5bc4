"""Migrations: from nothing to the newest, once, all of them or none; and what each role may do afterwards."""

import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from include.dataset import Dataset, Table, View
from include.datasets import DATASETS
from include.errors import PermanentError
from include.warehouse import migrate as module
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER, set_password
from local.login import Login
from local.state import State
from tests.include.warehouse.concurrency import await_blocked
from tests.include.warehouse.migrations import applied, numbers, write
from tests.toy import READINGS, ROLLUPS, TOYS, batches

PLATFORM = module._MIGRATIONS / "versions"
ALL = (*DATASETS, *TOYS)
SCHEMAS = list(dict.fromkeys(name for dataset in ALL for name in (dataset.schema, dataset.staging_schema)))
PLATFORM_SCHEMAS = ("warehouse", "quality")
HEAD = numbers(PLATFORM)[-1]
TOYS_HEAD = applied(TOYS, PLATFORM)


def ask(database: Login, question: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(question.encode()).fetchall()


def schemas(database: Login) -> set[str]:
    """Return the schemas of a database, apart from those that every database has."""
    found = ask(database, "select nspname from pg_namespace where nspname !~ '^pg_'")
    return {name for (name,) in found} - {"public", "information_schema"}


def version(database: Login, name: str) -> str:
    [(number,)] = ask(database, f"select version_num from warehouse.migrations_{name}")
    return str(number)


def copied(dataset: Dataset, folder: Path) -> Dataset:
    """Return a dataset whose folder is a copy that a test may change."""
    return replace(dataset, folder=Path(shutil.copytree(dataset.folder, folder / dataset.folder.name)))


def test_an_empty_database_gets_the_platform_and_every_dataset_once(empty: Login) -> None:
    assert migrate(empty.connect, {}, ALL) == applied(ALL, PLATFORM)

    assert version(empty, "warehouse") == HEAD
    for dataset in ALL:
        migrations = numbers(dataset.folder / "migrations")
        if migrations:
            assert version(empty, dataset.schema) == migrations[-1]
    assert schemas(empty) == {*PLATFORM_SCHEMAS, *SCHEMAS}
    for dataset in ALL:
        for name in dataset.published_names:
            assert ask(empty, f"select count(*) from {name}") == [(0,)]
    assert migrate(empty.connect, {}, ALL) == []


def test_the_platform_needs_no_dataset(empty: Login) -> None:
    migrate(empty.connect, {}, ())

    assert schemas(empty) == set(PLATFORM_SCHEMAS)


def test_each_dataset_has_its_own_numbers(warehouse: Login, tmp_path: Path) -> None:
    """Two branches that add a migration to two datasets do not meet."""
    readings, rollups = (copied(dataset, tmp_path) for dataset in TOYS)
    following = {dataset: f"{len(numbers(dataset.folder / 'migrations')) + 1:04}" for dataset in (readings, rollups)}
    write(readings.folder / "migrations", f"{following[readings]}_more", "create table readings.more (a int);")
    write(rollups.folder / "migrations", f"{following[rollups]}_more", "create table rollups.more (a int);")

    assert migrate(warehouse.connect, {}, (readings, rollups)) == [
        f"readings/{following[readings]}",
        f"rollups/{following[rollups]}",
    ]

    assert ask(warehouse, "select (select count(*) from readings.more), (select count(*) from rollups.more)") == [
        (0, 0)
    ]


def test_views_of_tables_that_others_created_need_no_migration(warehouse: Login, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    folder.mkdir()
    for view in ROLLUPS.publishes:
        shutil.copy(ROLLUPS.folder / f"{view.name}.sql", folder)

    assert migrate(warehouse.connect, {}, [replace(ROLLUPS, name="again", folder=folder)]) == []

    assert ask(warehouse, "select count(*) from again.totals") == [(0,)]


def test_a_view_may_read_a_table_of_a_dataset_that_is_declared_after_it(empty: Login, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "values.sql").write_text("SELECT day, max(value) AS highest FROM readings.measured GROUP BY day")
    first = replace(ROLLUPS, name="first", folder=folder, publishes=(View("values", key=("day",)),))

    assert migrate(empty.connect, {}, (first, READINGS)) == applied((READINGS,), PLATFORM)

    assert ask(empty, "select count(*) from first.values") == [(0,)]


def test_a_dataset_that_is_no_longer_declared_stays_as_it_is(warehouse: Login, app: psycopg.Connection[Any]) -> None:
    def found() -> list[tuple[Any, ...]]:
        return ask(
            warehouse,
            "select relname, relacl::text, pg_relation_filenode(oid), (select string_agg(attname || atttypid, ',' "
            "order by attnum) from pg_attribute where attrelid = pg_class.oid) from pg_class "
            "where relnamespace in ('readings'::regnamespace, 'readings_staging'::regnamespace) "
            "or relname = 'migrations_readings' order by oid",
        )

    batch_id = batches.publish_new(app, 1.0)
    app.commit()
    before = (found(), version(warehouse, "readings"), batches.published(app), batches.staged(app))
    app.commit()
    assert before[0] != []

    for declared in ((ROLLUPS,), (), TOYS):  # and at last, it is declared again
        assert migrate(warehouse.connect, {}, declared) == []
        assert (found(), version(warehouse, "readings"), batches.published(app), batches.staged(app)) == before
        app.commit()

    batches.publish_new(app, 2.0)
    assert batches.roll_back(app) == (batch_id, len(batches.SENSORS))


def migrate_toys(login: Login) -> list[str]:
    return migrate(login.connect, {}, TOYS)


def test_two_that_migrate_at_once_take_turns(empty: Login) -> None:
    # In processes: Alembic is not made for threads.
    with empty.connect() as gatekeeper, ProcessPoolExecutor(2, get_context("fork")) as executor:
        gatekeeper.execute("create schema warehouse")
        runs = [executor.submit(migrate_toys, empty) for _ in range(2)]
        await_blocked(empty, sessions=2)
        gatekeeper.rollback()
        assert sorted(run.result() for run in runs) == [[], TOYS_HEAD]


def test_two_that_set_a_password_at_once_take_turns(
    warehouse: Login, role: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = Event(), Event()

    def set_and_linger(connection: psycopg.Connection[Any], user: str, password: str) -> None:
        set_password(connection, user, password)
        if not reached.is_set():
            reached.set()
            assert go_on.wait(30)

    monkeypatch.setattr(module, "set_password", set_and_linger)
    with ThreadPoolExecutor(2) as executor:
        try:
            first = executor.submit(migrate, warehouse.connect, {role.user: "the first's"}, ())
            assert reached.wait(30)
            second = executor.submit(migrate, warehouse.connect, {role.user: "the second's"}, ())
            await_blocked(warehouse)
        finally:
            go_on.set()
        assert (first.result(), second.result()) == ([], [])
    replace(role, password="the second's").connect().close()


@pytest.mark.parametrize("name", ["warehouse", READINGS.name])
def test_a_database_that_newer_code_migrated_is_left_alone(warehouse: Login, role: Login, name: str) -> None:
    with warehouse.connect() as admin:
        admin.execute(f"update warehouse.migrations_{name} set version_num = '9999'".encode())
    try:
        with pytest.raises(
            PermanentError,
            match=rf"^The migrations of {name} cannot .*9999.*newer code .*, deploy that code\..*make clean",
        ):
            migrate(warehouse.connect, {role.user: "the new one"}, TOYS)

        assert version(warehouse, name) == "9999"
        role.connect().close()
    finally:  # the next test gets the same warehouse, whose version tables are not emptied
        with warehouse.connect() as admin:
            folder = PLATFORM if name == "warehouse" else READINGS.folder / "migrations"
            admin.execute(f"update warehouse.migrations_{name} set version_num = %s".encode(), [numbers(folder)[-1]])


def test_a_warehouse_of_the_first_version_is_refused(empty: Login) -> None:
    with empty.connect() as admin:
        admin.execute("create schema warehouse")
        admin.execute("create table warehouse.alembic_version (version_num text)")

    with pytest.raises(PermanentError) as refused:
        migrate(empty.connect, {}, TOYS)

    assert str(refused.value) == (
        "This warehouse was made by the first version of Airlock, which cannot be upgraded: run `make clean`, then "
        "start again."
    )
    assert schemas(empty) == {"warehouse"}
    assert ask(empty, "select relname from pg_class where relnamespace = 'warehouse'::regnamespace") == [
        ("alembic_version",)
    ]


FAILING = {
    "an error": ("select 1 / 0;", "division by zero\nNothing was migrated."),
    "a commit": ("commit;", "Leave out BEGIN, COMMIT and ROLLBACK"),
    "a rollback": ("rollback;\ncreate table public.after_it (a int);", "Leave out BEGIN, COMMIT and ROLLBACK"),
    "rows for COPY": ("copy rollups.half from stdin;", "Write INSERT instead of COPY FROM STDIN"),
    "a vacuum": ("vacuum;", "VACUUM cannot run inside a transaction block"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_migration_that_fails_leaves_nothing_of_all_migrations(empty: Login, tmp_path: Path, kind: str) -> None:
    text, message = FAILING[kind]
    rollups = copied(ROLLUPS, tmp_path / "a path % with : signs")
    number = f"{len(numbers(rollups.folder / 'migrations')) + 1:04}"
    write(rollups.folder / "migrations", f"{number}_fails", f"create table rollups.half (a int);\n{text}")

    with pytest.raises(PermanentError) as refused:
        migrate(empty.connect, {}, (READINGS, rollups))

    assert str(refused.value).startswith(f"rollups/migrations/{number}_fails.sql")
    assert message in str(refused.value)
    assert schemas(empty) == set()
    assert ask(empty, "select relname from pg_class where relname = 'after_it'") == []


def test_a_declaration_that_cannot_work_leaves_nothing_of_all_migrations(empty: Login, tmp_path: Path) -> None:
    rollups = copied(ROLLUPS, tmp_path)
    (rollups.folder / "totals.sql").write_text("SELECT nonesuch")

    with pytest.raises(
        PermanentError, match=r'^include/datasets/rollups/totals\.sql: column "nonesuch" does not exist'
    ):
        migrate(empty.connect, {}, (READINGS, rollups))

    assert schemas(empty) == set()


def test_migrations_that_are_out_of_order_leave_nothing(empty: Login, tmp_path: Path) -> None:
    rollups = copied(ROLLUPS, tmp_path)
    write(rollups.folder / "migrations", "0099_gap", "select 1;")

    with pytest.raises(PermanentError, match=r"^rollups/migrations/0099_gap\.py: its number must be 0"):
        migrate(empty.connect, {}, (READINGS, rollups))

    assert schemas(empty) == set()


def test_a_password_is_changed_and_the_old_one_no_longer_works(warehouse: Login, role: Login) -> None:
    password = "n:e w'\\$%é"
    migrate(warehouse.connect, {role.user: password}, ())

    replace(role, password=password).connect().close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        role.connect()


def test_no_password_is_in_the_servers_log(warehouse: Login, role: Login, state: State) -> None:
    password = uuid4().hex
    migrate(partial(warehouse.connect, options="-c log_statement=all"), {role.user: password}, ())

    log = (state.logs / "postgres.log").read_text()
    assert f'alter role "{role.user}" password \'SCRAM-SHA-256$' in log
    assert password not in log


def test_the_roles_may_log_in_and_nothing_else(postgres: Login) -> None:
    assert ask(
        postgres,
        "select rolname, rolcanlogin, rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls, "
        "exists (select from pg_auth_members where member = pg_roles.oid) "
        f"from pg_roles where rolname in ('{APP}', '{READER}') order by rolname",
    ) == [(APP, True, False, False), (READER, True, False, False)]


REGISTER = "warehouse.publication"
QUARANTINE, INCIDENTS = "quality.quarantine", "quality.incident"
QUALITY = ["quality.validation", "quality.expectation_result", QUARANTINE, INCIDENTS]
DAY_TABLES = [(dataset, each) for dataset in ALL for each in dataset.publishes if isinstance(each, Table)]
TABLES = [dataset.published_name(each) for dataset, each in DAY_TABLES]
VIEWS = [dataset.published_name(each) for dataset in ALL if dataset.views for each in dataset.publishes]
STAGING = [dataset.staging_name(each) for dataset in ALL for each in dataset.publishes]
VERSIONS = [f"warehouse.migrations_{name}" for name in ("warehouse", *(toy.name for toy in TOYS))]
SET_ASIDE = (
    "checkpoint",
    "staging_table",
    "day",
    "batch_id",
    "dag_id",
    "run_id",
    "quarantined_at",
    "row_data",
    "rules",
)
REPORTED = ("subject", "kind", "day", "opened_at", "message")
REGISTERED = ("object", "scope", "day", "batch_id", "dag_id", "run_id", "published_at", "restores")
FORBIDDEN = {
    APP: [
        *(f"create table {schema}.mine (a int)" for schema in ("public", *PLATFORM_SCHEMAS, *SCHEMAS)),
        *(f"create view {schema}.mine as select 1 as a" for schema in SCHEMAS),
        "create schema mine",
        *(f"alter table {table} add column mine int" for table in (*TABLES, *STAGING, *QUALITY, REGISTER)),
        *(f"drop table {table}" for table in (*TABLES, *STAGING, *QUALITY, REGISTER)),
        *(f"truncate {table}" for table in (*TABLES, *STAGING, *QUALITY, REGISTER)),
        *(f"create index on {table} ((true))" for table in (*TABLES, *STAGING)),
        *(f"update {table} set version_num = '0'" for table in VERSIONS),
        # What was published may cease to be what readers see, and nothing else of that history changes.
        *(f"update {REGISTER} set {column} = {column}" for column in REGISTERED),
        f"delete from {REGISTER}",
        # A view shows what was staged, and only that.
        *(f"drop view {view}" for view in VIEWS),
        *(f"create or replace view {view} as select 1 as a" for view in VIEWS),
        # The toy's table that other systems fill.
        "insert into rollups.source default values",
        "update rollups.source set amount = 0",
        "delete from rollups.source",
        # What gates found is removed when it is old, and never changed; a quarantined row stays as it was.
        "update quality.validation set verdict = 'passed'",
        "update quality.validation set rows_checked = 0",
        "update quality.expectation_result set verdict = 'passed'",
        "update quality.expectation_result set sample = '[]'",
        "delete from quality.expectation_result",  # on its own: it goes with its validation
        # A day of a published table is replaced.
        *(f"update {dataset.published_name(each)} set {each.day} = {each.day}" for dataset, each in DAY_TABLES),
        "lock table warehouse.migrations_warehouse in access share mode",
        *(f"update {QUARANTINE} set {column} = {column}" for column in SET_ASIDE),
        *(f"update {INCIDENTS} set {column} = {column}" for column in REPORTED),
        f"delete from {INCIDENTS}",
        "alter role airlock_reader password null",
    ],
    READER: [
        *(f"insert into {name} default values" for name in (*TABLES, *QUALITY, REGISTER)),
        *(f"delete from {name}" for name in (*TABLES, *QUALITY, REGISTER)),
        *(f"truncate {name}" for name in (*TABLES, *QUALITY, REGISTER)),
        *(f"select from {hidden}" for hidden in (*STAGING, *VERSIONS, "rollups.source")),
        f"update {batches.PUBLISHED} set value = 0",
        f"update {REGISTER} set is_current = false",
        *(f"update {table} set day = day" for table in QUALITY if table != "quality.expectation_result"),
        "update quality.expectation_result set verdict = 'passed'",
        f"update {QUARANTINE} set repaired = row_data",
        f"update {INCIDENTS} set closed_at = now()",
        *(f"create table {schema}.mine (a int)" for schema in ("public", *PLATFORM_SCHEMAS, *SCHEMAS)),
        f"select warehouse.claim_batch('{batches.STAGING}', gen_random_uuid())",
        "insert into warehouse.lock values ('readings')",
        "select from warehouse.lock for update",
        *(f"select from {name} for key share" for name in (*TABLES, *QUALITY, REGISTER)),
        *(f"lock table {name} in row share mode" for name in (*TABLES, *QUALITY, REGISTER)),
    ],
}


@pytest.mark.parametrize("name", [APP, READER])
def test_a_role_has_no_right_that_it_does_not_need(warehouse: Login, state: State, name: str) -> None:
    permitted = []
    with warehouse.as_role(name, state.secrets[name], warehouse.dbname).connect() as connection:
        for statement in FORBIDDEN[name]:
            try:
                connection.execute(statement.encode())
                permitted.append(statement)
            except psycopg.errors.InsufficientPrivilege:
                pass
            connection.rollback()

    assert permitted == []


def test_the_reader_may_read_what_is_published(warehouse: Login, state: State) -> None:
    reader = warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)
    readable = (*TABLES, *VIEWS, REGISTER, *QUALITY)
    assert [ask(reader, f"select count(*) from {each}") for each in readable] == [[(0,)]] * len(readable)


def test_the_app_may_note_a_repair_and_where_it_went(app: psycopg.Connection[Any]) -> None:
    app.execute(f"update {QUARANTINE} set repaired = row_data, returned_in = batch_id".encode())
    app.execute(f"update {INCIDENTS} set closed_at = now()".encode())


def test_the_results_of_a_validation_go_with_it(app: psycopg.Connection[Any]) -> None:
    app.execute(
        "insert into quality.validation (checkpoint, suite, staging_table, day, batch_id, dag_id, run_id, started_at, "
        "seconds, verdict, rows_checked, rows_quarantined) values "
        "('c', 's', 't', '2023-08-01', gen_random_uuid(), 'd', 'r', now(), 1, 'passed', 1, 0)"
    )
    app.execute(
        "insert into quality.expectation_result (validation_id, position, expectation, type, arguments, severity, "
        "verdict, observed, sample) select id, 0, 'e', 't', '{}', 'critical', 'passed', '1', '[]' "
        "from quality.validation"
    )

    app.execute("delete from quality.validation")

    assert app.execute("select count(*) from quality.expectation_result").fetchone() == (0,)
