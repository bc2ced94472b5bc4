"""The whole platform on one machine: database, migrations, stand-ins of the sources, Airflow."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from rich.console import Console

from include import datasets
from include.settings import settings
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER
from local import airflow_stack, postgres
from local.database import WAREHOUSE, server
from local.interrupted_runs import end_interrupted_runs
from local.login import Login, ensure_database, ensure_role
from local.processes import Processes, check_running, listening_socket, owner_of, stop_marked
from local.sources import Source
from local.state import LocalError, State
from scripts.airflow_api import AirflowApi

METADATA = "airlock_airflow"


@dataclass(frozen=True)
class Platform:
    """A running platform."""

    airflow: AirflowApi
    ui: str
    admin: Login
    """Logs in to the warehouse as the admin."""
    reader: Login
    """Logs in to the warehouse as people do who query it."""
    processes: Processes
    """The embedded Postgres, the stand-ins and Airflow's, by their logs, in the order in which they need each other."""
    reports: Path
    """The folder of the quality report."""


@contextmanager
def platform(
    state: State,
    console: Console,
    sources: Mapping[str, Source],
    *,
    live: bool,
    schedule: bool,
    port: int,
) -> Iterator[Platform]:
    """Start everything in order, and stop all of it at the end, however the end comes.

    `sources` are the stand-ins of the datasets' sources, by dataset; `live` lets them use the real services.
    `schedule` says whether the scheduler starts runs when their time has come. `port` is the API server's and the
    UI's if it is free, else another is taken; 0: any. Raises LocalError or PermanentError, which say what to do; when
    a process has died, it is about that process, whatever failed because of it.
    """
    processes: Processes = {}
    with ExitStack() as stack:
        stack.enter_context(state.running())
        if orphans := stop_marked(str(state.folder)):
            console.print(f"  processes that an earlier run left behind, now stopped: {orphans}")
        shutil.rmtree(state.temporary)
        stack.callback(stop_marked, str(state.folder))

        listener = stack.enter_context(listening_socket(port))
        chosen = listener.getsockname()[1]
        if port not in (0, chosen):
            console.print(f"  port {port} is taken by {owner_of(port)}: Airflow's UI gets port {chosen}")
        root = None
        try:
            with _step(console, "Postgres"):
                root = stack.enter_context(server(state, settings().database_url, processes))
                metadata = root.as_role(METADATA, state.secrets[METADATA], METADATA)
                ensure_role(root, metadata)
                ensure_database(root, METADATA, owner=METADATA)
                ensure_database(root, WAREHOUSE, owner=root.user)
                warehouse = replace(root, dbname=WAREHOUSE)
            with _step(console, "Warehouse migrations"):
                migrate(warehouse.connect, {role: state.secrets[role] for role in (APP, READER)}, datasets.DATASETS)
            env: dict[str, str] = {}
            for dataset, source in sources.items():
                with _step(console, f"Source of {dataset}"):
                    stand_in = stack.enter_context(source.running(state, warehouse, live))
                env.update(stand_in.env)
                processes.update(stand_in.processes)
            env = airflow_stack.environment(state, metadata, warehouse, sources=env, port=chosen)
            with _step(console, "Airflow's metadata"):
                airflow_stack.migrate_metadata(metadata, env)
                interrupted = end_interrupted_runs(metadata, warehouse)
            for run_state, runs in interrupted.items():
                console.print(f"  runs that were interrupted earlier, now marked {run_state}: {runs}")
            with _step(console, "Airflow"):
                client, components = stack.enter_context(
                    airflow_stack.airflow(state, env, listener, processes, schedule=schedule)
                )
            processes.update(components)
            yield Platform(
                airflow=client,
                ui=env["AIRFLOW__API__BASE_URL"],
                admin=warehouse,
                reader=warehouse.as_role(READER, state.secrets[READER], WAREHOUSE),
                processes=processes,
                reports=state.reports,
            )
        except Exception:
            if root:
                raise_root_cause(state, root, processes)
            raise
        finally:
            console.print("Stopping ...")


def raise_root_cause(state: State, database: Login, processes: Processes) -> None:
    """Raise LocalError when something failed because a process died; Postgres first, which takes others with it."""
    log = postgres.log(state)
    embedded = {log: processes[log]} if log in processes else {}
    check_running(embedded)
    if embedded and (killed := postgres.killed_process(state)):
        raise LocalError(
            "A process of Postgres was killed. Postgres then cut all connections, and Airflow does not survive that. "
            f"Look for a lack of memory (dmesg), then start the platform again.\n  {killed}"
        )
    try:
        database.connect().close()
    except psycopg.OperationalError as error:
        for process in embedded.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)  # its connections end before it does
        check_running(embedded)
        raise LocalError(f"Postgres does not answer: {error}. Start the platform again when it does.") from error
    check_running(processes)


@contextmanager
def _step(console: Console, name: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{name} ..."):
        yield
    console.print(f"  [green]✓[/green] {name} [dim]{time.monotonic() - started:.1f} s[/dim]")
