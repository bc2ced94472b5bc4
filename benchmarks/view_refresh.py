"""Four refreshes one after the other against four at once, on large source tables, in an embedded Postgres of its own.

At once cannot be faster than the work divided by the cores, nor than the longest of the four: that is the limit.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader
from rich.console import Console
from rich.table import Table

from include.daily_operations.views import views
from include.warehouse.migrate import migrate
from local.login import Login
from local.postgres import embedded
from local.state import State

INCLUDE = Path(__file__).resolve().parent.parent / "include"
ROWS = 1_000_000
ROUNDS = 5
DAY = "2023-08-01"

# Each gives one day (labor: 200 days up to it) of ROWS rows.
SOURCES = {
    "guest_attendance": "select date '{day}', 'Entrance ' || n % 1000, n / 1000, 1 + n % 7",
    "inventory": "select date '{day}', 'Item ' || n, n % 500, n % 10 = 0",
    "item_sales": "select date '{day}', 'Location ' || n % 100, 'Item ' || n % 20000, n % 97, n / 20000",
    "labor": "select date '{day}' - n % 200, 'Employee ' || n / 200, 8, 160, 120",
}


def main() -> None:
    """Measure, and print a table."""
    console = Console()
    with TemporaryDirectory(prefix="airlock-bench-") as folder:
        Path(folder).chmod(0o755)  # root's Postgres runs as another user, who must be able to enter
        with embedded(State(Path(folder))) as admin:
            with admin.connect(autocommit=True) as connection:
                connection.execute("create database warehouse")
            warehouse = replace(admin, dbname="warehouse")
            with console.status(f"Making four source tables of {ROWS:,} rows ..."):
                _fill(warehouse)
            alone, serial, parallel = _measure(console, warehouse)
    _show(console, alone, serial, parallel)


def _fill(warehouse: Login) -> None:
    migrate(warehouse.connect, {})
    with warehouse.connect(autocommit=True) as connection:
        for table, select in SOURCES.items():
            rows = select.format(day=DAY)
            connection.execute(
                f"insert into daily_operations.{table} {rows} from generate_series(0, {ROWS - 1}) as n".encode()
            )
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def _measure(console: Console, warehouse: Login) -> tuple[dict[str, float], float, float]:
    """Give the seconds of each refresh alone, of all in turn, and of all at once; medians of interleaved rounds."""
    work: dict[str, Callable[[], None]] = {view: partial(_refresh, warehouse, view) for view in views()}
    rounds = []
    with console.status("Refreshing ...") as status, ThreadPoolExecutor(len(work)) as executor:
        for number in range(ROUNDS + 1):  # the first one fills the cache
            status.update(f"Refreshing, round {number} of {ROUNDS} ...")
            alone = {view: _seconds(refresh) for view, refresh in work.items()}
            at_once = _seconds(lambda: list(executor.map(_call, work.values())))
            rounds.append((alone, at_once))
    counted = rounds[1:]
    return (
        {view: median(alone[view] for alone, _ in counted) for view in work},
        median(sum(alone.values()) for alone, _ in counted),
        median(at_once for _, at_once in counted),
    )


def _refresh(warehouse: Login, view: str) -> None:
    templates = Environment(loader=FileSystemLoader(INCLUDE), autoescape=False)  # noqa: S701 - SQL
    with warehouse.connect() as connection:
        batch = {"batch_id": str(uuid4()), "as_of": DAY}
        for name in ("claim_batch", "refresh_view"):
            statement = templates.get_template(f"sql/daily_operations/{name}.sql").render(view=view)
            connection.execute(statement.encode(), batch)


def _call(refresh: Callable[[], None]) -> None:
    refresh()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _show(console: Console, alone: dict[str, float], serial: float, parallel: float) -> None:
    cores = len(os.sched_getaffinity(0))
    limit = max(serial / cores, *alone.values())
    table = Table(title=f"{len(alone)} refreshes over {ROWS:,} rows each, {cores} cores, median of {ROUNDS}")
    table.add_column("")
    table.add_column("Seconds", justify="right")
    table.add_column("Ratio to one after the other", justify="right")
    for view, seconds in alone.items():
        table.add_row(f"[dim]{view} alone", f"[dim]{seconds:.2f}", "")
    for name, seconds in (("one after the other", serial), ("at once", parallel), ("the limit", limit)):
        table.add_row(name, f"{seconds:.2f}", f"{seconds / serial:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
