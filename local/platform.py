"""The whole platform on one machine, put together: database, market API, migrations, Airflow."""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Literal

import requests
from rich.console import Console

from include.settings import settings
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER
from local import airflow_stack, sample_data
from local.database import WAREHOUSE, server
from local.login import Login, ensure_database, ensure_role
from local.prices import REPLAY_KEY
from local.processes import MARK, Processes, free_port, listens, running, stop_marked, wait_until
from local.state import ROOT, State
from scripts.airflow_api import AirflowApi

METADATA = "airlock_airflow"
DAGS = {path.stem for path in (ROOT / "dags").glob("*.py")}

ApiChoice = Literal["replay", "live"]


@dataclass(frozen=True)
class Platform:
    """A running platform."""

    airflow: AirflowApi
    ui: str
    admin: Login
    """Logs in to the warehouse as the admin."""
    reader: Login
    processes: Processes
    """Airflow's processes and the replay's."""


@contextmanager
def platform(
    state: State,
    console: Console,
    *,
    api: ApiChoice,
    api_key: str,
    schedule: bool,
    port: int,
    prices: Path | None = None,
) -> Iterator[Platform]:
    """Start everything in order, and stop all of it at the end, however the end comes.

    `port` is the API server's and the UI's; `prices` is another file of prices for the replay than its own.
    Raises LocalError with what to do.
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
                migrate(warehouse.connect, {role: state.secrets[role] for role in (APP, READER)})
            with _step(console, "Sample data"), warehouse.connect() as admin:
                sample_data.load(admin)
            market_api = settings().polygon_base_url
            processes: Processes = {}
            if api == "replay":
                with _step(console, "Market API replay"):
                    market_api, processes = stack.enter_context(_replay(state, prices))
                api_key = REPLAY_KEY
            env = airflow_stack.environment(
                state,
                metadata,
                warehouse,
                market_api=market_api,
                api_key=api_key,
                schedule=schedule,
                port=port,
            )
            with _step(console, "Airflow's metadata"):
                airflow_stack.migrate_metadata(metadata, env)
            with _step(console, "Airflow"):
                client, components = stack.enter_context(airflow_stack.airflow(state, env, DAGS))
                cut_off = client.fail_unfinished_runs(before=started)
            if cut_off:
                console.print(
                    f"  {cut_off} runs that were cut off earlier are marked failed; clear one to run it again"
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
    """Give the login with which people look at the warehouse."""
    return server.as_role(READER, state.secrets[READER], WAREHOUSE)


@contextmanager
def _replay(state: State, prices: Path | None) -> Iterator[tuple[str, Processes]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = state.logs / "market-api.log"
    command = [sys.executable, "-m", "local.market_api", "--port", str(port)]
    if prices:
        command += ["--data", str(prices)]
    with running(command, {"PYTHONPATH": str(ROOT), MARK: str(state.folder)}, log) as process:

        def ready() -> bool:
            try:
                return listens(process, port) and requests.get(f"{url}/healthz", timeout=5).ok
            except requests.ConnectionError:
                return False

        wait_until(ready, "The market API replay", {log: process}, seconds=60)
        yield url, {log: process}


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
    """Let the first Ctrl-C, SIGTERM or hang-up raise Stopped; later ones do not disturb the clearing up."""
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
