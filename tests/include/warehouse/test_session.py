"""A session behaves alike whatever the server is set to, behind a proxy as well, and waits for nothing without end."""

import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pandas as pd
import psycopg
import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors
from psycopg import sql

from include.errors import AirlockError, PermanentError
from include.pipeline import tasks
from include.pipeline.load import load
from include.pipeline.validate import validate
from include.warehouse import register, session
from include.warehouse.connections import connect
from include.warehouse.migrate import LIMITS, migrate
from include.warehouse.roles import APP, READER
from local.login import Login, ensure_role
from local.postgres import embedded
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import await_blocked, kill_midway
from tests.include.warehouse.conftest import empty_database
from tests.include.warehouse.migrations import numbers, write
from tests.include.warehouse.pooler import pooler
from tests.toy import READINGS, TOYS
from tests.toy.batches import DAY, GOOD, PUBLISHED, SENSORS, TaskInstance, as_batch

HOSTILE = {
    "client_encoding": "LATIN1",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "array_nulls": "off",
    "xmloption": "document",
    "xmlbinary": "hex",
    "search_path": "nowhere",
    "row_security": "off",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "default_text_search_config": "pg_catalog.german",
    "gin_fuzzy_search_limit": "1",
    "exit_on_error": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "transaction_timeout": "1s",
    "restrict_nonsystem_relation_kind": "view",
}
"""Settings that a user may change, each to a value that would change what the platform does, or end it."""
LEVELS = ("database {database}", "role {role}", "role {role} in database {database}", "role all")


@contextmanager
def settings(admin: Login, level: str, values: dict[str, str]) -> Iterator[None]:
    """Set defaults of new sessions, and reset them at the end."""
    level = level.format(database=f'"{admin.dbname}"', role=APP)
    with admin.connect(autocommit=True) as connection:
        for name, value in values.items():
            connection.execute(sql.SQL("alter {} set {} = {}").format(sql.SQL(level), sql.Identifier(name), value))
        try:
            yield
        finally:
            connection.execute(sql.SQL("alter {} reset all").format(sql.SQL(level)))


@pytest.fixture
def login(warehouse: Login, state: State) -> Login:
    return warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)


@pytest.fixture
def reader(warehouse: Login, state: State) -> Login:
    return warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)


@pytest.fixture
def proxied(login: Login) -> Iterator[Login]:
    with TemporaryDirectory(prefix="airlock pooler ") as folder, pooler(login, Path(folder)) as through:
        yield through


def run(login: Login, monkeypatch: pytest.MonkeyPatch, reports: Path) -> Callable[[], list[object]]:
    """Return a function that loads, validates and publishes a day, and returns all that came of it."""
    for dataset in TOYS:
        give(monkeypatch, dataset.connection, login)
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(reports))

    def pipeline() -> list[object]:
        batch = as_batch(uuid4())
        frame = pd.DataFrame([{**each, "value": 0.1 + 0.2} for each in GOOD])
        ti = TaskInstance()
        load(READINGS, batch, frame)
        validate(READINGS, batch, ti)
        validated = ti.pushed["return_value"]
        page = Path(validated.pop("report").removeprefix("file://")).read_text().replace(batch["batch_id"], "")
        outcome = tasks.publish(
            READINGS, batch, SimpleNamespace(dag_id="toy_dag", run_id="a run"), OutletEventAccessors()
        )
        outcome.pop("batch_id")
        with connect(READINGS.connection) as connection:
            rows = connection.execute(f"select day, sensor, value from {PUBLISHED} order by sensor".encode())
            return [validated, outcome, rows.fetchall(), re.sub(r"[\d.]", "", page)]

    return pipeline


@pytest.fixture
def pipeline(toys: None, login: Login, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[object]]:
    return run(login, monkeypatch, tmp_path)


@pytest.mark.parametrize("level", LEVELS)
def test_no_setting_of_a_server_changes_a_run(
    warehouse: Login, pipeline: Callable[[], list[object]], level: str
) -> None:
    expected = pipeline()
    assert expected[2] == [(DAY, sensor, 0.1 + 0.2) for sensor in SENSORS]

    with settings(warehouse, level, HOSTILE):
        assert pipeline() == expected


@pytest.mark.parametrize("level", LEVELS[1:3])
def test_a_proxy_that_pools_transactions_changes_no_run(
    warehouse: Login,
    proxied: Login,
    pipeline: Callable[[], list[object]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    level: str,
) -> None:
    expected = pipeline()
    through = run(proxied, monkeypatch, tmp_path)

    # The connections of the proxy are idle themselves, and then the server may end them.
    with settings(warehouse, level, {**HOSTILE, "idle_session_timeout": "0"}):
        assert [through() for _ in range(2)] == [expected] * 2


def test_transactions_of_one_session_may_go_to_other_connections(proxied: Login) -> None:
    with proxied.connect() as mine, proxied.connect() as other:
        zones = {}
        for turn in range(8):
            for session_ in (mine, other) if turn % 2 else (other, mine):  # the other one's is still in use
                [(pid, zone)] = session_.execute(
                    "select pg_backend_pid(), current_setting('timezone') where %s", [True]
                ).fetchall()
                if session_ is mine:
                    zones[pid] = zone
                else:
                    other.execute("set timezone = 'Asia/Kathmandu'")  # what another application may leave behind
            mine.commit()
            other.commit()

    assert len(zones) > 1
    assert set(zones.values()) == {"UTC"}


@pytest.mark.parametrize("level", ["database {database}", "role all"])
def test_no_setting_of_a_server_changes_a_migration(warehouse: Login, postgres: Login, level: str) -> None:
    def made(database: Login) -> list[tuple[Any, ...]]:
        with database.connect() as connection:
            return connection.execute(
                "select relname, relacl::text, pg_get_viewdef(oid) from pg_class "
                "where relnamespace::regnamespace::text !~ '^(pg_|information)' and relkind in ('r', 'v', 'i') "
                "order by relname, relkind"
            ).fetchall()

    with empty_database(postgres) as plain, empty_database(postgres) as hostile:
        migrate(plain.connect, {}, TOYS)
        with settings(hostile, level, HOSTILE):
            migrate(hostile.connect, {}, TOYS)
            assert made(hostile) == made(plain) != []


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_session_has_the_same_settings_everywhere(warehouse: Login, login: Login, autocommit: bool) -> None:
    question = "select name, setting from pg_settings where lower(name) = any(%s) and name <> 'idle_session_timeout'"
    with login.connect() as connection:
        expected = connection.execute(question, [list(HOSTILE)]).fetchall()

    with settings(warehouse, "role {role}", HOSTILE), login.connect(autocommit=autocommit) as connection:
        assert connection.execute(question, [list(HOSTILE)]).fetchall() == expected


@pytest.mark.parametrize("level", LEVELS[:2])
def test_no_setting_of_a_server_hides_an_error(warehouse: Login, login: Login, level: str) -> None:
    hostile = {"exit_on_error": "on", "idle_in_transaction_session_timeout": "50ms"}
    with settings(warehouse, level, hostile), login.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1 / 0")
        time.sleep(0.1)  # longer than this server lets a transaction be idle
        connection.rollback()
        assert connection.execute("select 1").fetchone() == (1,)


# Databases that cannot be a warehouse


def test_a_database_of_another_encoding_is_refused_before_anything_is_made(postgres: Login) -> None:
    with postgres.connect(autocommit=True) as admin:
        admin.execute("create database western encoding 'LATIN1' locale 'C' template template0")
        try:
            with pytest.raises(PermanentError, match=r"western on .* has the encoding LATIN1.*create it with ENCODING"):
                migrate(replace(postgres, dbname="western").connect, {}, TOYS)
        finally:
            admin.execute("drop database western")


def test_a_server_that_is_too_old_is_refused(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "OLDEST", 99)

    with pytest.raises(PermanentError, match=r"is Postgres \d\d: use Postgres 99 or newer\.$"):
        login.connect()


def test_a_standby_is_refused_and_may_be_a_primary_later(tmp_path_factory: pytest.TempPathFactory) -> None:
    with TemporaryDirectory(prefix="airlock standby ") as folder:
        Path(folder).chmod(0o755)
        state = State(Path(folder))
        with embedded(state):
            pass
        (state.folder / "postgres" / "data" / "standby.signal").touch()
        with pytest.raises(AirlockError, match="is a standby, to which nobody can write") as refused, embedded(state):
            pass
    assert not isinstance(refused.value, PermanentError)


def test_a_role_for_which_foreign_keys_do_nothing_is_refused(warehouse: Login, login: Login) -> None:
    with (
        settings(warehouse, "role {role}", {"session_replication_role": "replica"}),
        pytest.raises(PermanentError, match=f"session_replication_role to replica for {APP}"),
    ):
        login.connect()


# Nothing waits for ever


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, login: Login) -> None:
    monkeypatch.setitem(session._CONNECTION, "connect_timeout", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            replace(login, port=silent.getsockname()[1]).connect()
    assert time.monotonic() - started < 20


def test_a_wait_for_a_lock_ends_and_names_who_holds_it(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_ASK_SECONDS", 0.1)
    with login.connect(application_name="the_dag.its_task") as holder, login.connect() as waiting:
        pid = holder.info.backend_pid
        register.lock(holder, "a name")
        waiting.execute("set local lock_timeout = '1s'")
        with pytest.raises(psycopg.errors.LockNotAvailable) as late:
            register.lock(waiting, "a name")

    assert re.search(
        rf"Held by process {pid} of {APP} \(the_dag\.its_task\), query started 2\d{{3}}-.* UTC: let "
        rf"it end, or end it with select pg_terminate_backend\({pid}\)\.$",
        str(late.value),
    )


def test_a_proxy_does_not_hide_who_holds_a_lock(login: Login, proxied: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_ASK_SECONDS", 0.1)
    with login.connect() as holder, proxied.connect() as waiting:
        register.lock(holder, "a name")
        waiting.execute("set local lock_timeout = '1s'")
        with pytest.raises(psycopg.errors.LockNotAvailable, match=f"Held by process {holder.info.backend_pid} of"):
            register.lock(waiting, "a name")


def test_a_client_that_is_killed_while_its_statement_runs_releases_its_locks(warehouse: Login, login: Login) -> None:
    def work(wait_for_kill: Callable[[int], None]) -> None:
        with login.connect(limits={"client_connection_check_interval": "50ms"}) as connection:
            register.lock(connection, "a name")
            Thread(target=wait_for_kill, args=(connection.info.backend_pid,)).start()
            connection.execute("select pg_sleep(600)")

    kill_midway(warehouse, work)
    with login.connect() as connection:
        register.lock(connection, "a name")


# Who may block whom


def test_a_lock_is_held_until_the_transaction_ends_and_leaves_no_row(
    app: psycopg.Connection[Any], warehouse: Login, login: Login
) -> None:
    def take(end: str) -> None:
        with login.connect() as connection:
            register.lock(connection, "a name")
            getattr(connection, end)()

    for ending in ("commit", "rollback"):
        register.lock(app, "a name")
        register.lock(app, "a name")
        register.lock(app, "another name")
        with ThreadPoolExecutor(2) as executor:
            waiting = [executor.submit(take, each) for each in ("rollback", "commit")]
            await_blocked(warehouse, sessions=2)
            getattr(app, ending)()
            for each in waiting:
                each.result()
    assert app.execute("select count(*) from warehouse.lock").fetchone() == (0,)


def test_a_reader_blocks_nobody(warehouse: Login, reader: Login, pipeline: Callable[[], list[object]]) -> None:
    with reader.connect() as blocker:
        for name in (f"{READINGS.name}/{DAY}", READINGS.name, "quality report", "airlock migrations"):
            blocker.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [name])
        for table in (PUBLISHED, "warehouse.publication", "quality.validation", "quality.incident"):
            blocker.execute(f"select count(*) from {table}".encode())
        with ThreadPoolExecutor(1) as executor:
            done = executor.submit(lambda: (pipeline(), pipeline(), migrate(warehouse.connect, {}, TOYS)))
            done.result(timeout=120)


def test_a_migration_that_a_reader_blocks_ends_and_names_the_reader(
    warehouse: Login, reader: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_ASK_SECONDS", 0.1)
    monkeypatch.setitem(LIMITS, "lock_timeout", "1s")
    folder = Path(shutil.copytree(READINGS.folder, tmp_path / READINGS.name))
    number = len(numbers(folder / "migrations")) + 1
    write(folder / "migrations", f"{number:04}_more", f"ALTER TABLE {PUBLISHED} ADD COLUMN more int;")

    with reader.connect(application_name="a dashboard") as blocker:
        blocker.execute(f"select count(*) from {PUBLISHED}".encode())
        with pytest.raises(psycopg.errors.LockNotAvailable, match=rf"of {READER} \(a dashboard\), query started 2"):
            migrate(warehouse.connect, {}, (replace(READINGS, folder=folder),))


def test_the_warehouse_is_for_its_roles_and_has_no_temporary_tables(postgres: Login, state: State) -> None:
    with empty_database(postgres) as database:
        migrate(database.connect, {}, ())
        stranger = database.as_role(f"tester_{uuid4().hex}", "a password", database.dbname)
        ensure_role(postgres, stranger)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            stranger.connect()
        for role in (APP, READER):
            with (
                database.as_role(role, state.secrets[role], database.dbname).connect() as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute("create temporary table mine (a int)")
        with postgres.connect(autocommit=True) as admin:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(stranger.user)))


def test_an_admin_without_the_rights_that_a_migration_needs_is_told_which(postgres: Login) -> None:
    with empty_database(postgres) as database:
        poor = database.as_role(f"tester_{uuid4().hex}", "a password", database.dbname)
        ensure_role(postgres, poor)
        name = sql.Identifier(poor.user)
        with postgres.connect(autocommit=True) as admin:
            try:
                with pytest.raises(PermanentError, match=f"The role {poor.user} must be able to create roles: ALTER"):
                    migrate(poor.connect, {}, ())
                admin.execute(sql.SQL("alter role {} createrole").format(name))
                with pytest.raises(PermanentError, match=f"must be able to alter the role {APP}, which another role"):
                    migrate(poor.connect, {}, ())
                admin.execute(
                    sql.SQL("grant {}, {} to {} with admin option").format(*map(sql.Identifier, (APP, READER)), name)
                )
                with pytest.raises(PermanentError, match=f"must be able to own the database: .* {database.dbname} "):
                    migrate(poor.connect, {}, ())
                admin.execute(sql.SQL("alter database {} owner to {}").format(sql.Identifier(database.dbname), name))
                assert migrate(poor.connect, {}, TOYS)
            finally:
                admin.execute(sql.SQL("alter database {} owner to postgres").format(sql.Identifier(database.dbname)))
                with database.connect() as owner:
                    owner.execute(sql.SQL("drop owned by {} cascade").format(name))
                admin.execute(sql.SQL("drop role {}").format(name))
