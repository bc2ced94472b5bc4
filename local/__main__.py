"""The commands of one machine: `python -m local demo | up | down | sql`. The Makefile calls them."""

import argparse
import math
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, date, datetime

import psycopg
from requests import RequestException
from rich.console import Console

from include.errors import AirlockError, PermanentError
from include.market.calendar import check_completed, closed_reason, last_completed_session
from include.params import parse_day
from include.settings import settings
from include.warehouse.roles import APP
from local import database, demo, postgres, sample_data
from local.platform import ApiChoice, Stopped, platform, reader, stopped_by_signals
from local.prices import recorded_days
from local.processes import free_port, stop_marked, wait_until
from local.state import LocalError, State
from scripts.airflow_api import AirflowApiError

UI_PORT = 8080  # Airflow's own default, if nobody has it
DEMO_DAY = date(2023, 8, 1)
# 1: something failed; 2: the command cannot be carried out as it was given, and nothing was started.
FAILED, REFUSED = 1, 2


class Refused(Exception):
    """What was asked for cannot be done; the text says what to ask for instead."""


def main() -> int:
    """Run one command; gives its exit status."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("demo", "up"):
        command = commands.add_parser(name)
        command.add_argument("--api", default="replay", help="replay (default) or live")
        if name == "demo":
            command.add_argument("--date", default="", help="YYYY-MM-DD")
    commands.add_parser("down")
    sql = commands.add_parser("sql")
    sql.add_argument("--as", dest="role", default="reader", help="reader (default) or app, as which the DAGs connect")
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
    """Let nothing of the user's shell lead our connections elsewhere: libpq's settings, or a proxy to ourselves."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    kept = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, [kept, "127.0.0.1", "localhost", "::1"]))


def _day(choice: ApiChoice, asked: str) -> date:
    """Give the session to load; raises Refused when it cannot have prices."""
    now = datetime.now(UTC)
    try:
        day = parse_day("DATE", asked) or (DEMO_DAY if choice == "replay" else last_completed_session(now))
    except PermanentError:
        raise Refused(f"DATE={asked}: write a day as YYYY-MM-DD, such as DATE={DEMO_DAY}") from None
    try:
        check_completed(day, now)
        reason = closed_reason(day)
    except PermanentError as error:
        raise Refused(str(error)) from None
    if reason:
        raise Refused(f"Nothing to load: {reason}. Choose another DATE.")
    if choice == "replay":
        first, last = recorded_days()
        if not first <= day <= last:
            raise Refused(
                f"The replay has prices from {first} to {last}, not of {day}: choose a DATE in between, or "
                "use the real service with API=live."
            )
    return day


def _demo(state: State, console: Console, api: str, asked: str) -> int:
    choice, key = _api(api)
    day = _day(choice, asked)
    console.print(f"Airlock demo: {day}, market API {choice}")
    with platform(state, console, api=choice, api_key=key, schedule=False, port=free_port()) as running:
        console.print(f"  Running the DAGs (Airflow's UI meanwhile: {running.ui})")
        # The sample data ends in 2023; and a demo for an earlier day than the last one shall work, too.
        views = {"as_of": min(day, sample_data.LAST).isoformat(), "allow_older": True}
        market = {"market_date": day.isoformat()}
        runs = demo.run_dags(running, console, {**dict.fromkeys(demo.MARKET_DAGS, market), demo.VIEWS_DAG: views})
        results = demo.collect(running, runs)
        demo.show(console, running, results)
    ok = all(result.ok for result in results)
    if ok:
        console.print(
            '\nLook at the rows: make sql Q="select * from market.transformed_market_data"\n'
            '             and: make sql Q="select * from daily_operations.top_selling_items_by_location"\n'
            "Look around in Airflow: make up"
        )
    return 0 if ok else FAILED


def _up(state: State, console: Console, api: str) -> int:
    choice, key = _api(api)
    with platform(
        state, console, api=choice, api_key=key, schedule=choice == "live", port=free_port(UI_PORT)
    ) as running:
        console.print(
            f"\nAirflow's UI: {running.ui}   (no login; loopback only)\n"
            + (
                "The market API's replay and the views' sample data are of January to September 2023: trigger a DAG\n"
                "with a market_date or as_of of that time. The scheduler starts no runs of its own.\n"
                if choice == "replay"
                else "The scheduler starts the DAGs' runs on their schedules. The views' sample data ends in\n"
                "September 2023: pause daily_operations_view_update, or fill its source tables.\n"
            )
            + "Stop with Ctrl-C, or `make down` from elsewhere."
        )
        wait_until(lambda: False, "The platform", running.processes, seconds=math.inf)
    return FAILED


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
        raise Refused('Nothing to ask: make sql Q="select * from market.transformed_market_data"')
    if role not in ("reader", "app"):
        raise Refused(f"ROLE={role}: write ROLE=reader (the default) or ROLE=app, as which the DAGs connect.")
    with database.running_server(state, settings().database_url) as server:
        login = (
            reader(state, server) if role == "reader" else server.as_role(APP, state.secrets[APP], database.WAREHOUSE)
        )
        return database.query(login, query)


def _api(name: str) -> tuple[ApiChoice, str]:
    if name == "replay":
        return "replay", ""
    if name != "live":
        raise Refused(f"API={name}: write API=replay (recorded prices, the default) or API=live.")
    key = settings().polygon_api_key
    if not key:
        raise Refused("API=live needs a key of the market API: export POLYGON_API_KEY=... and run it again.")
    return "live", key


if __name__ == "__main__":
    sys.exit(main())
