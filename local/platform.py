"""The whole platform on one machine: database, migrations, stand-ins of the sources, Airflow."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen

from rich.console import Console

from include import datasets
from include.settings import settings
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER
from local import airflow_stack
from local.database import WAREHOUSE, server
from local.login import Login, ensure_database, ensure_role
from local.processes import Processes, stop_marked
from local.sources import Source
from local.state import State
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
    """Airflow's processes and the stand-ins'."""
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
    `schedule` says whether the scheduler may start runs of its own. `port` is the API server's and the UI's. Raises
    LocalError or PermanentError, which say what to do.
    """
    started = datetime.now(UTC)
    with ExitStack() as stack:
        stack.enter_context(state.running())
        if orphans := stop_marked(str(state.folder)):
            console.print(f"  processes that an earlier run left behind, now stopped: {orphans}")
        shutil.rmtree(state.temporary)
        stack.callback(stop_marked, str(state.folder))

        try:
            with _step(console, "Postgres"):
                root = stack.enter_context(server(state, settings().database_url))
                metadata = root.as_role(METADATA, state.secrets[METADATA], METADATA)
                ensure_role(root, metadata)
                ensure_database(root, METADATA, owner=METADATA)
                ensure_database(root, WAREHOUSE, owner=root.user)
                warehouse = replace(root, dbname=WAREHOUSE)
            with _step(console, "Warehouse migrations"):
                migrate(warehouse.connect, {role: state.secrets[role] for role in (APP, READER)}, datasets.DATASETS)
            env: dict[str, str] = {}
            processes: dict[Path, Popen[bytes]] = {}
            for dataset, source in sources.items():
                with _step(console, f"Source of {dataset}"):
                    stand_in = stack.enter_context(source.running(state, warehouse, live))
                env.update(stand_in.env)
                processes.update(stand_in.processes)
            env = airflow_stack.environment(state, metadata, warehouse, sources=env, schedule=schedule, port=port)
            with _step(console, "Airflow's metadata"):
                airflow_stack.migrate_metadata(metadata, env)
            with _step(console, "Airflow"):
                client, components = stack.enter_context(airflow_stack.airflow(state, env))
                processes.update(components)
                interrupted = client.fail_unfinished_runs(before=started)
            if interrupted:
                console.print(f"  runs that were interrupted earlier, now marked failed: {interrupted}")
            yield Platform(
                airflow=client,
                ui=env["AIRFLOW__API__BASE_URL"],
                admin=warehouse,
                reader=warehouse.as_role(READER, state.secrets[READER], WAREHOUSE),
                processes=processes,
                reports=state.reports,
            )
        finally:
            console.print("Stopping ...")


@contextmanager
def _step(console: Console, name: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{name} ..."):
        yield
    console.print(f"  [green]✓[/green] {name} [dim]{time.monotonic() - started:.1f} s[/dim]")
