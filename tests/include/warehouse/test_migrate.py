"""Migrations: from nothing to the newest, once, whole or not at all; and what each role may then do."""

import shutil
from collections.abc import Iterator
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
from include.daily_operations.views import public_name, views
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from include.errors import PermanentError
from include.warehouse import migrate as module
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER, set_password
from local.login import Login
from local.state import State
from tests.include.warehouse.concurrency import await_blocked

HEAD = ["0001", "0002", "0003", "0004"]
PUBLISHED = "market.transformed_market_data"
STAGED = "market_staging.transformed_market_data"
REGISTER = "warehouse.publication"
SOURCES = [f"daily_operations.{name}" for name in ("guest_attendance", "inventory", "item_sales", "labor")]
SNAPSHOTS = [f"daily_operations_snapshots.{view}" for view in views()]
VIEWS = [public_name(view) for view in views()]
RESULTS = ["quality.validation", "quality.expectation_result"]
QUARANTINE = "quality.quarantine"
INCIDENTS = "quality.incident"
QUALITY = [*RESULTS, QUARANTINE, INCIDENTS]
SCHEMAS = ("market", "market_staging", "daily_operations", "daily_operations_snapshots", "warehouse", "quality")


@pytest.fixture
def empty(postgres: Login) -> Iterator[Login]:
    """Give the admin's login to an empty database."""
    name = sql.Identifier(f"empty_{uuid4().hex}")
    with postgres.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name))
        yield replace(postgres, dbname=name.as_string().strip('"'))
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


@pytest.fixture
def role(warehouse: Login) -> Iterator[Login]:
    """Give the login of a role of this test's own: passwords belong to the whole server."""
    login = warehouse.as_role(f"tester_{uuid4().hex}", "the old one", warehouse.dbname)
    name = sql.Identifier(login.user)
    with warehouse.connect(autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login").format(name))
        set_password(admin, login.user, login.password)
        yield login
        admin.execute(sql.SQL("drop role {}").format(name))


def ask(database: Login, question: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(question.encode()).fetchall()


def test_an_empty_database_is_brought_to_the_newest_revision_once(empty: Login) -> None:
    assert migrate(empty.connect, {}) == HEAD
    assert ask(empty, "select version_num from warehouse.alembic_version") == [(HEAD[-1],)]
    assert migrate(empty.connect, {}) == []
    assert ask(empty, f"select count(*) from {PUBLISHED}") == [(0,)]


def test_two_that_migrate_at_once_take_turns(empty: Login) -> None:
    # In processes: Alembic is not made for threads.
    with empty.connect() as gatekeeper, ProcessPoolExecutor(2, get_context("fork")) as executor:
        gatekeeper.execute("select pg_advisory_xact_lock(hashtextextended('airlock migrations', 0))")
        runs = [executor.submit(migrate, empty.connect, {}) for _ in range(2)]
        await_blocked(empty, sessions=2)
        gatekeeper.commit()
        assert sorted(run.result() for run in runs) == [[], HEAD]


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
            first = executor.submit(migrate, warehouse.connect, {role.user: "the first's"})
            assert reached.wait(30)
            second = executor.submit(migrate, warehouse.connect, {role.user: "the second's"})
            await_blocked(warehouse)
        finally:
            go_on.set()
        assert (first.result(), second.result()) == ([], [])
    replace(role, password="the second's").connect().close()


def test_a_database_that_newer_code_migrated_is_left_alone(warehouse: Login, role: Login) -> None:
    with warehouse.connect() as admin:
        admin.execute("update warehouse.alembic_version set version_num = '9999'")

    with pytest.raises(PermanentError, match=r"9999.*newer code, deploy that code"):
        migrate(warehouse.connect, {role.user: "the new one"})

    assert ask(warehouse, "select version_num from warehouse.alembic_version") == [("9999",)]
    role.connect().close()


def test_a_migration_that_fails_leaves_nothing(empty: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = shutil.copytree(module._MIGRATIONS, tmp_path / "migrations % and more")
    step = migrations / "versions" / "0002_publications.py"
    (step.parent / "9999_fails.py").write_text(
        step.read_text()
        .replace('revision = "0002"', 'revision = "9999"')
        .replace('down_revision = "0001"', f'down_revision = "{HEAD[-1]}"')
    )
    (step.parent / "9999_fails.sql").write_text("create table market.half (a int); select 1 / 0;")
    monkeypatch.setattr(module, "_MIGRATIONS", migrations)

    with pytest.raises(DBAPIError, match="division by zero"):
        migrate(empty.connect, {})

    assert ask(empty, f"select nspname from pg_namespace where nspname in ({', '.join(map(repr, SCHEMAS))})") == []


def test_a_password_is_changed_and_the_old_one_no_longer_works(warehouse: Login, role: Login) -> None:
    password = "n:e w'\\$%é"
    migrate(warehouse.connect, {role.user: password})

    replace(role, password=password).connect().close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        role.connect()


def test_no_password_is_in_the_servers_log(warehouse: Login, role: Login, state: State) -> None:
    password = uuid4().hex
    migrate(partial(warehouse.connect, options="-c log_statement=all"), {role.user: password})

    log = (state.logs / "postgres.log").read_text()
    assert f'alter role "{role.user}" password \'SCRAM-SHA-256$' in log
    assert password not in log


def test_the_published_table_is_what_its_users_know(warehouse: Login) -> None:
    figures = ("open_price", "high_price", "low_price", "close_price", "change", "volume")
    assert ask(
        warehouse,
        "select column_name, data_type, is_nullable, column_default from information_schema.columns "
        "where table_schema = 'market' and table_name = 'transformed_market_data' order by ordinal_position",
    ) == [
        ("market_date", "date", "NO", None),
        ("ticker", "text", "NO", None),
        *((figure, "double precision", "NO", None) for figure in figures),
    ]
    assert ask(
        warehouse,
        "select constraint_type, column_name from information_schema.table_constraints "
        "join information_schema.key_column_usage using (constraint_schema, constraint_name) "
        "where table_constraints.table_schema = 'market' order by ordinal_position",
    ) == [("PRIMARY KEY", "market_date"), ("PRIMARY KEY", "ticker")]


def test_the_roles_may_log_in_and_nothing_else(postgres: Login) -> None:
    assert ask(
        postgres,
        "select rolname, rolcanlogin, rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls, "
        "exists (select from pg_auth_members where member = pg_roles.oid) "
        f"from pg_roles where rolname in ('{APP}', '{READER}') order by rolname",
    ) == [(APP, True, False, False), (READER, True, False, False)]


SET_ASIDE = ("checkpoint", "asset", "day", "batch_id", "dag_id", "run_id", "quarantined_at", "row_data", "rules")
REGISTERED = ("object", "scope", "day", "batch_id", "dag_id", "run_id", "published_at", "restores")
FORBIDDEN = {
    APP: [
        "create table public.mine (a int)",
        "create table market.mine (a int)",
        "create table market_staging.mine (a int)",
        "create table daily_operations.mine (a int)",
        "create view daily_operations.mine as select 1 as a",
        "create table daily_operations_snapshots.mine (a int)",
        "create table warehouse.mine (a int)",
        "create schema mine",
        f"alter table {PUBLISHED} add column mine int",
        f"alter table {STAGED} add column mine int",
        f"drop table {PUBLISHED}",
        f"drop table {STAGED}",
        f"truncate {PUBLISHED}",
        "update warehouse.alembic_version set version_num = '0'",
        # History: what was published may cease to be what readers see, and nothing else of it changes.
        *(f"update {REGISTER} set {column} = {column}" for column in REGISTERED),
        f"delete from {REGISTER}",
        f"truncate {REGISTER}",
        f"drop table {REGISTER}",
        # What other systems fill.
        *(f"insert into {source} default values" for source in SOURCES),
        *(f"delete from {source}" for source in SOURCES),
        "update daily_operations.guest_attendance set quantity_sold = 0",
        *(f"update {snapshots} set batch_id = batch_id" for snapshots in SNAPSHOTS),
        *(f"truncate {snapshots}" for snapshots in SNAPSHOTS),
        *(f"drop view {view}" for view in VIEWS),
        *(f"create or replace view {view} as select 1 as a" for view in VIEWS),
        # What gates found is removed when it is old, and never changed; a quarantined row stays as it was.
        "create table quality.mine (a int)",
        *(f"truncate {table}" for table in QUALITY),
        *(f"drop table {table}" for table in QUALITY),
        *(f"alter table {table} add column mine int" for table in QUALITY),
        "update quality.validation set verdict = 'passed'",
        "update quality.validation set rows_checked = 0",
        "update quality.expectation_result set verdict = 'passed'",
        "update quality.expectation_result set sample = '[]'",
        *(f"update {QUARANTINE} set {column} = {column}" for column in SET_ASIDE),
        *(f"update {INCIDENTS} set {column} = {column}" for column in ("subject", "kind", "day", "opened_at")),
        f"delete from {INCIDENTS}",
        "alter role airlock_reader password null",
    ],
    READER: [
        f"insert into {PUBLISHED} (ticker) values ('A')",
        f"update {PUBLISHED} set ticker = 'A'",
        f"delete from {PUBLISHED}",
        f"select from {STAGED}",
        "select from warehouse.alembic_version",
        *(f"select from {hidden}" for hidden in (*SOURCES, *SNAPSHOTS)),
        f"insert into {REGISTER} (object) values ('a')",
        f"update {REGISTER} set is_current = false",
        f"delete from {REGISTER}",
        *(f"insert into {table} default values" for table in QUALITY),
        *(f"update {table} set day = day" for table in QUALITY if table != "quality.expectation_result"),
        "update quality.expectation_result set verdict = 'passed'",
        f"update {QUARANTINE} set repaired = row_data",
        f"update {INCIDENTS} set closed_at = now()",
        *(f"delete from {table}" for table in QUALITY),
        *(f"truncate {table}" for table in QUALITY),
        "create table daily_operations.mine (a int)",
        "create table public.mine (a int)",
        "create table market.mine (a int)",
        "create table quality.mine (a int)",
    ],
}


@pytest.mark.parametrize("name", [APP, READER])
def test_a_role_may_not(warehouse: Login, state: State, name: str) -> None:
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
    readable = (PUBLISHED, REGISTER, *VIEWS, *QUALITY)
    assert [ask(reader, f"select count(*) from {each}") for each in readable] == [[(0,)]] * len(readable)


def test_the_app_may_note_a_repair_and_where_it_went(app: psycopg.Connection[Any]) -> None:
    app.execute(f"update {QUARANTINE} set repaired = row_data, returned_in = batch_id")
    app.execute(f"update {INCIDENTS} set closed_at = now(), message = ''")


def test_the_results_of_a_validation_go_with_it(app: psycopg.Connection[Any]) -> None:
    app.execute(
        "insert into quality.validation (checkpoint, suite, asset, day, batch_id, dag_id, run_id, started_at, seconds, "
        "verdict, rows_checked, rows_quarantined) values "
        "('c', 's', 'a', '2023-08-01', gen_random_uuid(), 'd', 'r', now(), 1, 'passed', 1, 0)"
    )
    app.execute(
        "insert into quality.expectation_result (validation_id, position, expectation, type, arguments, severity, "
        "verdict, observed, sample) select id, 0, 'e', 't', '{}', 'critical', 'passed', '1', '[]' "
        "from quality.validation"
    )

    app.execute("delete from quality.validation")

    assert app.execute("select count(*) from quality.expectation_result").fetchone() == (0,)
