"""The database server that a platform uses: the user's own if one is named, else the embedded one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

from include.warehouse.roles import APP, READER
from local import postgres
from local.login import MADE_HERE, Login
from local.processes import Processes
from local.state import LocalError, State

WAREHOUSE = "warehouse"


@contextmanager
def server(state: State, own_url: str | None, processes: Processes | None = None) -> Iterator[Login]:
    """Yield the admin's login to a running server: the user's own at `own_url`, else the embedded one.

    Adds the embedded one to `processes`, by its log.
    """
    if own_url:
        yield _own_server(own_url)
    else:
        with postgres.embedded(state, processes) as login:
            yield login


@contextmanager
def running_server(state: State, own_url: str | None) -> Iterator[Login]:
    """Yield the admin's login as `server` does, to the embedded server of a running platform if there is one.

    Raises LocalError when no platform of this clone has ever run.
    """
    if own_url:
        yield _own_server(own_url)
    elif login := postgres.of_running_platform(state):
        yield login
    elif not postgres.has_data(state):
        raise LocalError("There is no warehouse yet: `make demo` creates it.")
    elif state.holder():
        raise LocalError("The platform is just starting: ask again in a moment.")
    else:
        with state.running(), postgres.embedded(state) as login:
            yield login


def query(login: Login, text: str) -> int:
    """Run a query in psql, its output to the terminal; returns psql's exit status.

    Raises LocalError when the login is refused.
    """
    try:
        login.connect().close()
    except psycopg.OperationalError as error:
        raise LocalError(f"{login.user} cannot read the warehouse: `make demo` creates it. ({error})") from None
    env = {
        **os.environ,
        "PGHOST": login.host,
        "PGPORT": str(login.port),
        "PGUSER": login.user,
        "PGPASSWORD": login.password,
        "PGDATABASE": login.dbname,
        # What is shown is the same on every server.
        "PGCLIENTENCODING": "UTF8",
        "PGDATESTYLE": "ISO",
        "PGTZ": "UTC",
    }
    options = ["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--pset=pager=off"]
    return subprocess.run([postgres.PROGRAMS / "psql", *options, f"--command={text}"], env=env, check=False).returncode


def _own_server(url: str) -> Login:
    try:
        parts = conninfo_to_dict(url)
        host = str(parts.pop("host"))
        if host.startswith(("/", "@")):
            # The URL and the password file with which Airflow reaches its own tables cannot name one.
            raise LocalError(
                f"AIRLOCK_DATABASE_URL names the Unix socket {host}, which is not supported: let the server listen on "
                "127.0.0.1, and write postgresql://ADMIN:PASSWORD@127.0.0.1:PORT/postgres"
            )
        login = Login(
            host=host,
            port=int(parts.pop("port", None) or 5432),
            user=str(parts.pop("user")),
            password=str(parts.pop("password", None) or ""),
            dbname=str(parts.pop("dbname", None) or "postgres"),
        )
    except (psycopg.ProgrammingError, KeyError, ValueError):
        # The parser's own message repeats the URL, password included.
        raise LocalError(
            "AIRLOCK_DATABASE_URL cannot be read: write postgresql://ADMIN:PASSWORD@HOST:PORT/postgres"
        ) from None
    if parts:  # ignoring sslmode silently would be worse than refusing it
        raise LocalError(f"AIRLOCK_DATABASE_URL: the options {', '.join(parts)} are not supported; leave them out.")
    try:
        with login.connect() as connection:
            ((may,),) = connection.execute(
                "select rolsuper or (rolcreaterole and rolcreatedb) from pg_roles where rolname = current_user"
            ).fetchall()
            comments = connection.execute(
                "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", [WAREHOUSE]
            ).fetchall()
            roles = connection.execute(
                "select rolname from pg_roles where rolname = any(%s)", [[APP, READER]]
            ).fetchall()
    except psycopg.OperationalError as error:
        raise LocalError(f"AIRLOCK_DATABASE_URL names a server that refuses the connection: {error}") from None
    if not may:
        raise LocalError(
            f"AIRLOCK_DATABASE_URL: role {login.user} must be allowed to create roles and databases "
            f"(ALTER ROLE {login.user} CREATEROLE CREATEDB)."
        )
    if comments != [(MADE_HERE,)] and (comments or roles):
        # Going on would give the roles new passwords, and lock a deployment out of its own warehouse.
        raise LocalError(
            f"AIRLOCK_DATABASE_URL names a server on which somebody else created the database {WAREHOUSE} or the roles "
            f"{APP} and {READER}: use another server."
        )
    return login
