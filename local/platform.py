"""The whole platform on one machine: database, migrations, stand-ins of the sources, Airflow."""

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType

from rich.console import Console

from include.datasets import DATASETS
from include.settings import settings
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER
from local import airflow_stack
from local.database import WAREHOUSE, server
from local.login import Login, ensure_database, ensure_role
from local.processes import Processes, stop_marked
from local.sources import Source
from local.state import ROOT, State
from scripts.airflow_api import AirflowApi

METADATA = "airlock_airflow"
DAGS = {path.stem for path in (ROOT / "dags").glob("*.py")}


@dataclass(frozen=True)
class Platform:
    """A running platform."""

    airflow: AirflowApi
    ui: str
    admin: Login
    """Logs in to the warehouse as the admin."""
    reader: Login
    processes: Processes
    """Airflow's processes and the stand-ins'."""


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

    `sources` are the stand-ins of the datasets' sources; `live` lets them use the real services. `port` is the API
    server's and the UI's. Raises LocalError with what to do.
    """
    started = datetime.now(UTC)
    with ExitStack() as stack:
        stack.enter_context(state.running())
        if orphans := stop_marked(str(state.folder)):
            console.print(f"  stopped {orphans} processes that an earlier run left behind")
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
                migrate(warehouse.connect, {role: state.secrets[role] for role in (APP, READER)}, DATASETS)
            source_env: dict[str, str] = {}
            processes: Processes = {}
            for source in sources.values():
                with _step(console, source.step) if source.step else nullcontext():
                    ready = stack.enter_context(source.running(state, warehouse, live))
                source_env |= ready.env
                processes = {**processes, **ready.processes}
            env = airflow_stack.environment(
                state, metadata, warehouse, sources=source_env, schedule=schedule, port=port
            )
            with _step(console, "Airflow's metadata"):
                airflow_stack.migrate_metadata(metadata, env)
            with _step(console, "Airflow"):
                client, components = stack.enter_context(airflow_stack.airflow(state, env, DAGS))
                cut_off = client.fail_unfinished_runs(before=started)
            if cut_off:
                console.print(
                    f"  {cut_off} runs that were interrupted earlier are marked failed; clear one to run it again"
                )
            yield Platform(
                airflow=client,
                processes={**processes, **components},
                ui=env["AIRFLOW__API__BASE_URL"],
                admin=warehouse,
                reader=reader(state, root),
            )
        finally:
            console.print("Stopping ...")


def reader(state: State, server: Login) -> Login:
    """Return the login with which people query the warehouse."""
    return server.as_role(READER, state.secrets[READER], WAREHOUSE)


@contextmanager
def _step(console: Console, name: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{name} ..."):
        yield
    console.print(f"  [green]✓[/green] {name} [dim]{time.monotonic() - started:.1f} s[/dim]")


class Stopped(BaseException):
    """A signal asked the platform to stop."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise Stopped at the first Ctrl-C, SIGTERM or hang-up; later ones do not disturb the cleanup."""
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in watched:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
