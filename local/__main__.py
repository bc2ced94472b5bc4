"""The commands of one machine: `python -m local demo | up | backfill | down | sql`. The Makefile calls them."""

import argparse
import math
import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from requests import RequestException
from rich.console import Console

from include.errors import AirlockError
from include.settings import settings
from include.warehouse.roles import APP, READER
from local import database, postgres
from local.processes import Stopped, stop_marked, stopped_by_signals, wait_until
from local.state import LocalError, Refused, State
from scripts.airflow_api import AirflowApi, AirflowApiError

if TYPE_CHECKING:
    from local.sources import Source

UI_PORT = 8080  # Airflow's own default, if it is free
# 1: something failed; 2: the command cannot be carried out as it was given, and nothing was started.
FAILED, REFUSED = 1, 2


def main() -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("demo", "up", "backfill"):
        command = commands.add_parser(name)
        command.add_argument("--api", default="replay", help="replay (default) or live")
        if name == "demo":
            command.add_argument("--date", default="", help="YYYY-MM-DD")
        if name == "backfill":
            command.add_argument("--from", dest="first", default="", help="YYYY-MM-DD")
            command.add_argument("--to", dest="last", default="", help="YYYY-MM-DD")
            command.add_argument("--dataset", default="", help="the first one with a table, if not given")
    commands.add_parser("down")
    sql = commands.add_parser("sql")
    sql.add_argument("--as", dest="role", default="reader", help="reader (default) or app, the role of the DAGs")
    sql.add_argument("query")
    arguments = parser.parse_args()

    _shield()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    state = State.chosen()
    try:
        with stopped_by_signals():
            if arguments.command == "demo":
                return _demo(state, console, arguments.api, arguments.date)
            if arguments.command == "up":
                return _up(state, console, arguments.api)
            if arguments.command == "backfill":
                return _backfill(state, console, arguments)
            if arguments.command == "down":
                return _down(state, console)
            return _sql(state, arguments.query, arguments.role)
    except (Refused, LocalError, AirlockError, AirflowApiError, RequestException, psycopg.OperationalError) as error:
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False, soft_wrap=True)
        return REFUSED if isinstance(error, Refused) else FAILED
    except Stopped as stopped:
        console.print("Stopped.")
        return stopped.status


def _shield() -> None:
    """Remove what could misdirect our connections from the environment: libpq's settings, or a proxy to ourselves."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    kept = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, [kept, "127.0.0.1", "localhost", "::1"]))


def _demo(state: State, console: Console, api: str, asked: str) -> int:
    live = _live(api)
    sources = _sources()
    if not sources:
        raise Refused(
            "No dataset has a stand-in for its source, so there is nothing to run: local/sources/__init__.py describes "
            "how to write one."
        )
    # Imported here, like all that knows the datasets: `down` and `sql` work even when a declaration is broken.
    from local import demo
    from local.platform import platform

    day = demo.choose_day(sources, live, asked)
    console.print(f"Airlock demo: {day}, {'real services' if live else 'recorded data'}")
    with platform(state, console, sources, live=live, schedule=False, port=0) as running:
        confs = demo.confs(running, console, sources, day)
        console.print(f"  Running the DAGs (Airflow's UI meanwhile: {running.ui})")
        results = demo.collect(running, demo.run_dags(running, console, confs))
        demo.show(console, running, results)
    if not all(result.ok for result in results):
        return FAILED
    demo.next_steps(console, results)
    return 0


def _up(state: State, console: Console, api: str) -> int:
    live = _live(api)
    sources = _sources()
    for source in sources.values():
        source.check(None, live)
    from local.platform import platform

    with platform(state, console, sources, live=live, schedule=live, port=UI_PORT) as running:
        state.show_ui(running.ui)
        console.print(f"\nAirflow's UI: {running.ui}   (no login; loopback only)")
        console.print(
            "The scheduler starts the DAGs' runs on their schedules."
            if live
            else "No DAG starts because of the time: trigger one. What is scheduled on assets starts."
        )
        for source in sources.values():
            if note := source.note(live):
                console.print(f"  {note}", markup=False, soft_wrap=True)
        console.print("Stop with Ctrl-C, or `make down` from elsewhere.")
        wait_until(lambda: False, "The platform", running.processes, seconds=math.inf)
    return FAILED


def _backfill(state: State, console: Console, arguments: argparse.Namespace) -> int:
    live = _live(arguments.api)
    sources = _sources()
    from local import backfill
    from local.platform import platform

    wanted = backfill.choose(sources, live, arguments.first, arguments.last, arguments.dataset)
    console.print(f"Airlock backfill: {wanted.dataset.name}, {wanted.first} to {wanted.last}")
    how = "Ctrl-C stops; the same command goes on from there."
    if ui := state.ui:
        console.print(f"  With the platform that is running at {ui}. {how}")
        outcomes = backfill.run(AirflowApi(ui), {}, console, wanted)
    else:
        with platform(state, console, sources, live=live, schedule=False, port=0) as running:
            console.print(f"  Airflow's UI meanwhile: {running.ui}. {how}")
            outcomes = backfill.run(running.airflow, running.processes, console, wanted)
    backfill.show(console, wanted, outcomes)
    return FAILED if any(each.what == "failed" for each in outcomes) else 0


def _down(state: State, console: Console) -> int:
    holder = state.holder()
    if holder:
        console.print(f"Stopping process {holder} ...")
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while state.holder() == holder:
            if time.monotonic() > deadline:
                raise LocalError(f"Process {holder} did not stop within a minute: kill -9 {holder}")
            time.sleep(0.1)
    left = stop_marked(str(state.folder))
    if postgres.has_data(state):
        left += postgres.stop_leftover(state)
    console.print("Stopped." if holder or left else "Nothing was running.")
    return 0


def _sql(state: State, query: str, role: str) -> int:
    if not query.strip():
        raise Refused('No query: make sql Q="select * from warehouse.publication"')
    if role not in ("reader", "app"):
        raise Refused(f"ROLE={role}: write ROLE=reader (the default) or ROLE=app, the role of the DAGs.")
    with database.running_server(state, settings().database_url) as server:
        user = READER if role == "reader" else APP
        return database.query(server.as_role(user, state.secrets[user], database.WAREHOUSE), query)


def _live(api: str) -> bool:
    if api not in ("replay", "live"):
        raise Refused(f"API={api}: write API=replay (recorded data, the default) or API=live (the real services).")
    return api == "live"


def _sources() -> "dict[str, Source]":
    """Return the stand-ins of the declared datasets. Raises Refused when no dataset is declared."""
    from include import datasets
    from local.sources import sources

    if not datasets.DATASETS:
        raise Refused("No dataset is declared, so there is nothing to start: `make dataset NAME=fx_rates` adds one.")
    return sources(datasets.DATASETS)


if __name__ == "__main__":
    sys.exit(main())
