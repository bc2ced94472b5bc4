"""Refresh four views one after the other, then all at once, from a large table in an embedded Postgres of its own.

At once cannot take less than the work divided by the cores, nor less than the longest refresh: that is the limit.
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

from jinja2 import FileSystemLoader, PrefixLoader
from jinja2.sandbox import SandboxedEnvironment  # as Airflow does
from rich.console import Console
from rich.table import Table

from benchmarks.orders.dataset import ORDERS
from include.dataset import View
from include.pipeline.refresh import refresh_statements
from include.warehouse.migrate import migrate
from local.login import Login
from local.postgres import embedded
from local.state import ROOT, State

ROWS = 300_000
ROUNDS = 5
DAY = "2023-08-01"


def main() -> None:
    """Measure, and print a table."""
    console = Console()
    with TemporaryDirectory(prefix="airlock-bench-") as folder:
        Path(folder).chmod(0o755)  # root's Postgres runs as another user, who must be able to enter
        with embedded(State(Path(folder))) as admin:
            with admin.connect(autocommit=True) as connection:
                connection.execute("create database warehouse")
            warehouse = replace(admin, dbname="warehouse")
            with console.status(f"Filling a source table with {ROWS:,} rows ..."):
                _fill(warehouse)
            alone, serial, parallel = _measure(console, warehouse)
    _show(console, alone, serial, parallel)


def _fill(warehouse: Login) -> None:
    migrate(warehouse.connect, {}, [ORDERS])
    with warehouse.connect(autocommit=True) as connection:
        connection.execute(
            "insert into orders.order_line select n, %s::date, 'Shop ' || n %% 1000, 'Product ' || n %% 30011, "
            "'Customer ' || n %% 200003, 1 + n %% 7, n %% 500, n %% 10 = 0 from generate_series(1, %s) as n",
            [DAY, ROWS],
        )
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def _measure(console: Console, warehouse: Login) -> tuple[dict[str, float], float, float]:
    """Return the seconds of each refresh alone, of all in turn, and of all at once; medians of interleaved rounds."""
    work: dict[str, Callable[[], None]] = {
        view.name: partial(_refresh, warehouse, view) for view in ORDERS.publishes if isinstance(view, View)
    }
    rounds = []
    with console.status("Refreshing ...") as status, ThreadPoolExecutor(len(work)) as executor:
        for number in range(ROUNDS + 1):  # the first one fills the cache
            status.update(f"Refreshing, round {number} of {ROUNDS} ...")
            alone = {name: _seconds(refresh) for name, refresh in work.items()}
            at_once = _seconds(lambda: list(executor.map(_call, work.values())))
            rounds.append((alone, at_once))
    counted = rounds[1:]
    return (
        {name: median(alone[name] for alone, _ in counted) for name in work},
        median(sum(alone.values()) for alone, _ in counted),
        median(at_once for _, at_once in counted),
    )


def _refresh(warehouse: Login, view: View) -> None:
    # The templates name a dataset's queries by their path in include/; those of this dataset are here.
    folders = {"datasets": ORDERS.folder.parent, "pipeline": ROOT / "include" / "pipeline"}
    templates = SandboxedEnvironment(
        loader=PrefixLoader({name: FileSystemLoader(folder) for name, folder in folders.items()})
    )
    batch = {"as_of": DAY, "batch_id": str(uuid4())}
    with warehouse.connect() as connection:
        for template in refresh_statements(ORDERS, view):
            connection.execute(templates.from_string(template).render().encode(), batch)


def _call(refresh: Callable[[], None]) -> None:
    refresh()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _show(console: Console, alone: dict[str, float], serial: float, parallel: float) -> None:
    cores = len(os.sched_getaffinity(0))
    limit = max(serial / cores, *alone.values())
    table = Table(title=f"{len(alone)} refreshes from {ROWS:,} rows, {cores} cores, median of {ROUNDS} rounds")
    table.add_column("")
    table.add_column("Seconds", justify="right")
    table.add_column("Ratio to one after the other", justify="right")
    for name, seconds in alone.items():
        table.add_row(f"[dim]{name} alone", f"[dim]{seconds:.2f}", "")
    for name, seconds in (("one after the other", serial), ("at once", parallel), ("the limit", limit)):
        table.add_row(name, f"{seconds:.2f}", f"{seconds / serial:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
