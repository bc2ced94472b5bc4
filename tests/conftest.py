"""What all tests share: one embedded Postgres per session, and a migrated warehouse for each test."""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

# Before anything imports airflow: it creates its files where this says at import.
os.environ["AIRFLOW_HOME"] = mkdtemp(prefix="airlock-tests-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRLOCK_REPORT_ROOT"] = f"{os.environ['AIRFLOW_HOME']}/reports"

from include.datasets import DATASETS
from include.errors import PermanentError
from include.pipeline.declarations import check_declarations
from include.quality import gate
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER
from local.login import Login
from local.postgres import embedded
from local.state import State
from tests.faults.catalogue import OUTCOMES
from tests.toy import SUITES, TOYS

atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

# A declaration that cannot work stops the tests here, with a sentence that says what to change.
check_declarations(DATASETS)

TEMPLATE = "warehouse_template"
# Whatever changes the schema leaves a mark, so that a warehouse is used by the next test only if it is as it was.
_MARK_CHANGES = """
    create schema testing;
    create table testing.changed (at timestamptz);
    create function testing.mark() returns event_trigger security definer language plpgsql as
        $$ begin insert into testing.changed values (now()); end $$;
    create event trigger mark_change on ddl_command_end execute function testing.mark();
    create event trigger mark_drop on sql_drop execute function testing.mark();
"""


@pytest.fixture(scope="session", autouse=True)
def no_page_of_a_job() -> Iterator[None]:
    """Keep tests from writing onto the page, or into the outputs, of the CI job that runs them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def state() -> Iterator[State]:
    """Return the tests' own platform state: a platform of the developer's may be running beside them."""
    # Not pytest's tmp_path: root's is closed to the user that Postgres then runs as.
    with TemporaryDirectory(prefix="airlock tests ") as folder:
        Path(folder).chmod(0o755)
        yield State(Path(folder))


@pytest.fixture(scope="session")
def postgres(state: State) -> Iterator[Login]:
    """Run the embedded server with a migrated template database, which has all datasets and the toys."""
    with embedded(state) as admin:
        with admin.connect(autocommit=True) as connection:
            # Nothing here has to outlive the machine, and dropping a database waits for the disk.
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        template = replace(admin, dbname=TEMPLATE)
        try:
            migrate(template.connect, {role: state.secrets[role] for role in (APP, READER)}, (*DATASETS, *TOYS))
        except PermanentError as error:
            pytest.exit(f"The datasets of include/datasets cannot be migrated.\n{error}", returncode=1)
        with template.connect(autocommit=True) as connection:
            connection.execute(_MARK_CHANGES)
        yield admin


@contextmanager
def fresh_warehouse(postgres: Login) -> Iterator[Login]:
    """Create a migrated warehouse and yield the admin's login to it; drop it at the end."""
    name = f"warehouse_{uuid4().hex}"
    with postgres.connect(autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
        )
        yield replace(postgres, dbname=name)
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


class _Spare:
    """A warehouse that one test after the other uses, emptied in between: creating one takes far longer."""

    def __init__(self, postgres: Login) -> None:
        self._postgres = postgres
        self._context: Any = None
        self.login: Login | None = None

    def take(self) -> Login:
        """Return the warehouse; creates it if there is none."""
        if not self.login:
            self._context = fresh_warehouse(self._postgres)
            self.login = self._context.__enter__()
        return self.login

    def give_back(self) -> None:
        """Empty the warehouse, or drop it when its schema was changed."""
        assert self.login
        with self.login.connect(autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
            changed = admin.execute("select 1 from testing.changed limit 1").fetchone()
            if not changed:
                self._empty(admin)
        if changed:
            self.drop()

    @staticmethod
    def _empty(admin: psycopg.Connection[Any]) -> None:
        tables = admin.execute(
            "select format('%I.%I', schemaname, relname), pg_relation_size(relid) > 1000000 from pg_stat_user_tables "
            "where relname not like 'migrations\\_%' and pg_relation_size(relid) > 0"
        ).fetchall()
        admin.execute("set session_replication_role = replica")  # no foreign key gives the order
        for name, large in tables:  # deleting is many times faster than truncating, unless there is much
            admin.execute((f"truncate {name} cascade" if large else f"delete from {name}").encode())
        admin.execute("select setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) from pg_sequences")

    def drop(self) -> None:
        """Drop the warehouse."""
        if self.login:
            self._context.__exit__(None, None, None)
            self.login = None


@pytest.fixture(scope="session")
def spare(postgres: Login) -> Iterator[_Spare]:
    """Keep the warehouse that tests share one after the other."""
    spare = _Spare(postgres)
    yield spare
    spare.drop()


@pytest.fixture
def warehouse(spare: _Spare) -> Iterator[Login]:
    """Return the admin's login to a migrated, empty warehouse, which no other test uses meanwhile."""
    yield spare.take()
    spare.give_back()


@pytest.fixture
def app(warehouse: Login, state: State) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the test's warehouse as the DAGs do."""
    with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def toy_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Great Expectations project with the suites of the toy datasets."""
    project = tmp_path_factory.mktemp("project") / "great_expectations"
    shutil.copytree(SUITES, project / "expectations")
    shutil.copy(gate.PROJECT / "great_expectations.yml", project)
    return project


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, toy_project: Path) -> None:
    """Let the platform know the toy datasets, with their suites, and no other."""
    monkeypatch.setattr("include.datasets.DATASETS", TOYS)
    monkeypatch.setattr(gate, "PROJECT", toy_project)


@pytest.fixture
def repository() -> Path:
    """Return the root of the checkout."""
    return Path(__file__).resolve().parent.parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each fault did, if faults were tested in this process."""
    if OUTCOMES:
        terminalreporter.section("faults")
        width = max(len(each.fault) for each in OUTCOMES)
        for each in OUTCOMES:
            terminalreporter.line(f"{each.fault:{width}}  {each.outcome:18} {each.table:28} {each.seconds:6.1f} s")
