"""A real Airflow on one machine: scheduler with LocalExecutor, DAG processor and API server, loopback only."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import requests
from psycopg import sql
from sqlalchemy import URL

from include import datasets
from include.warehouse import connections
from include.warehouse.passfile import write_passfile
from include.warehouse.roles import APP, READER
from local.login import Login
from local.processes import MARK, Processes, running, stop, wait_until
from local.state import ROOT, LocalError, State
from scripts.airflow_api import AirflowApi

_START_SECONDS = 180
# Prefixes of variables in a user's shell that would misdirect the platform; AIRFLOW_CONN_* and AIRFLOW_VAR_* are kept.
_FOREIGN = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "PG", "PYTHON")


def environment(
    state: State,
    metadata: Login,
    warehouse: Login,
    *,
    sources: Mapping[str, str],
    port: int,
) -> dict[str, str]:
    """Return the environment in which every Airflow process runs, and write the files that it names.

    `metadata` and `warehouse` are the logins of the metadata's owner and of the warehouse's admin; `sources` is what
    the stand-ins add.
    """
    url = f"http://127.0.0.1:{port}"
    (state.airflow_home / "airflow.cfg").touch()  # else the processes would all create one at once
    password_file = state.folder / "pgpass"
    write_passfile(password_file, metadata.password, database=metadata.dbname, user=metadata.user)
    app, reader = (warehouse.as_role(role, state.secrets[role], warehouse.dbname) for role in (APP, READER))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {
        **kept,
        MARK: str(state.folder),
        "TMPDIR": str(state.temporary),  # what a killed task leaves there is removed at the next start
        "SPT_NOENV": "1",  # processes that rename themselves keep their environment, and with it the mark
        "PYTHONPATH": str(ROOT),  # as on Astro, where the project's root is importable
        "PGPASSFILE": str(password_file),
        "AIRFLOW_HOME": str(state.airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # each is a process that is forked at the start
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": state.secrets["fernet"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{state.xcom}",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "65536",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # the default of 5 s fails tasks on a busy machine
        # Logs are the owner's only.
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": URL.create(
            "postgresql+psycopg2", metadata.user, None, metadata.host, metadata.port, metadata.dbname
        ).render_as_string(),
        # Without the clock, DAGs stay due, and would keep those that are scheduled on assets out of each round.
        "AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP": "1000",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",  # a changed file is read at once
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",  # seconds until a new DAG file is seen
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": state.secrets["api"],
        "AIRFLOW__API_AUTH__JWT_SECRET": state.secrets["jwt"],
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        _variable(connections.ADMIN): warehouse.as_airflow_connection(),
        _variable(connections.READER): reader.as_airflow_connection(),
        **{_variable(each.connection): app.as_airflow_connection() for each in datasets.DATASETS},
        "AIRLOCK_REPORT_ROOT": f"file://{state.reports}",
        **sources,
    }


def _variable(connection: str) -> str:
    """Return the environment variable in which Airflow looks for a connection."""
    return f"AIRFLOW_CONN_{connection.upper()}"


def migrate_metadata(metadata: Login, env: Mapping[str, str]) -> None:
    """Migrate Airflow's own tables to the installed version, unless they are at it.

    Their version is kept as the comment of the database: asking Airflow takes seconds. Raises LocalError when Airflow
    cannot migrate them.
    """
    wanted = f"airflow {version('apache-airflow')}"
    with metadata.connect(autocommit=True) as connection:
        found = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()"
        ).fetchone()
        if found == (wanted,):
            return
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=dict(env),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LocalError(f"Airflow's metadata could not be migrated:\n{(done.stdout + done.stderr)[-3000:]}")
        connection.execute(
            sql.SQL("comment on database {} is {}").format(sql.Identifier(metadata.dbname), sql.Literal(wanted))
        )


@contextmanager
def airflow(
    state: State, env: Mapping[str, str], listener: socket.socket, needed: Processes, *, schedule: bool
) -> Iterator[tuple[AirflowApi, Processes]]:
    """Run Airflow until the end of the context; yields a client once the DAGs can be triggered, and its processes.

    `listener` listens on the API server's port, and is closed here once the API server has it. `needed` are the
    processes without which Airflow cannot work. `schedule` says whether the scheduler starts runs when their time has
    come. Raises LocalError, with the end of the log, when one of those or of its own ends, or a DAG cannot be imported.
    """
    started = datetime.now(UTC)
    api = AirflowApi(env["AIRFLOW__API__BASE_URL"])
    scheduler_path = f"{env['PYTHONPATH']}{os.pathsep}{ROOT / 'local' / 'airflow_config'}"
    scheduler = "airflow" if schedule else "local.scheduler_without_clock"
    socket_file = listener.fileno()
    components: dict[str, tuple[list[str], Mapping[str, str], list[int]]] = {
        "api-server": (["local.api_server", f"{socket_file}"], env, [socket_file]),
        "scheduler": ([scheduler, "scheduler", "--skip-serve-logs"], {**env, "PYTHONPATH": scheduler_path}, []),
        "dag-processor": (["airflow", "dag-processor"], env, []),
    }
    with ExitStack() as stack:
        processes: Processes = {}
        for name, (module, its_env, inherited) in components.items():
            log = state.logs / f"{name}.log"
            command = [sys.executable, "-m", *module]
            processes[log] = stack.enter_context(running(command, its_env, log, pass_fds=inherited))
        stack.callback(stop, processes.values())  # together: each takes some seconds
        listener.close()  # else the clients of an API server that has ended would wait instead of being refused

        dag_files = {path.name for path in Path(env["AIRFLOW__CORE__DAGS_FOLDER"]).glob("*.py")}

        def ready() -> bool:
            try:
                return api.healthy() and dag_files <= read_files(api, started)
            except requests.RequestException:
                return False

        wait_until(ready, "Airflow", {**needed, **processes}, seconds=_START_SECONDS)
        yield api, processes


def read_files(api: AirflowApi, since: datetime) -> set[str]:
    """Return the names of the DAG files that Airflow has read since a time: what it knew before may be outdated.

    Raises LocalError, with the tracebacks, when a file could not be imported.
    """
    if errors := api.import_errors(since):
        raise LocalError("\n".join(["A DAG file cannot be imported.", *errors]))
    return {dag.file for dag in api.dags() if dag.parsed_at and datetime.fromisoformat(dag.parsed_at) >= since}
