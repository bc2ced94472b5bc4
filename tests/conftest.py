"""What all tests share: one embedded Postgres a session, and a migrated warehouse of its own for each test."""

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

# Before anything imports airflow: it makes its files where this says at import.
os.environ["AIRFLOW_HOME"] = mkdtemp(prefix="airlock-tests-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRLOCK_REPORT_ROOT"] = f"{os.environ['AIRFLOW_HOME']}/reports"

from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER
from local.login import Login
from local.postgres import embedded
from local.state import State

atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

TEMPLATE = "warehouse_template"


@pytest.fixture(scope="session", autouse=True)
def no_page_of_a_job() -> Iterator[None]:
    """Let nothing that is tested write onto the page, or into the outputs, of the job that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def state() -> Iterator[State]:
    """Give the tests' own platform state: a platform of the developer's may be running beside them."""
    # Not pytest's tmp_path: root's is closed to the user that Postgres then runs as.
    with TemporaryDirectory(prefix="airlock tests ") as folder:
        Path(folder).chmod(0o755)
        yield State(Path(folder))


@pytest.fixture(scope="session")
def postgres(state: State) -> Iterator[Login]:
    """Run the embedded server with a migrated template database."""
    with embedded(state) as admin:
        with admin.connect(autocommit=True) as connection:
            # Nothing here has to outlive the machine, and dropping a database waits for the disk.
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        migrate(
            replace(admin, dbname=TEMPLATE).connect,
            {APP: state.secrets[APP], READER: state.secrets[READER]},
        )
        yield admin


@contextmanager
def fresh_warehouse(postgres: Login) -> Iterator[Login]:
    """Make a migrated warehouse and give the admin's login to it; drops it at the end."""
    name = f"warehouse_{uuid4().hex}"
    with postgres.connect(autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
        )
        yield replace(postgres, dbname=name)
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def warehouse(postgres: Login) -> Iterator[Login]:
    """Give the admin's login to a migrated warehouse that is this test's own."""
    with fresh_warehouse(postgres) as login:
        yield login


@pytest.fixture
def app(warehouse: Login, state: State) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the test's warehouse as the DAGs do."""
    with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
        yield connection


@pytest.fixture
def repository() -> Path:
    """Give the root of the checkout."""
    return Path(__file__).resolve().parent.parent
