"""Load a whole market day, from the text of the answer to published rows, against `psql \\copy` of a ready CSV file.

Both write to an embedded Postgres of their own: Airlock with the functions that the tasks call, without the gate, psql
into a table with the same columns and key.
"""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.process import most_memory, psql
from include.datasets.market.dataset import MARKET
from include.datasets.market.flatten import Answer, flatten
from include.datasets.market.params import MARKET_COLUMNS
from include.datasets.market.transform import transform
from include.pipeline.load import load_batch
from include.pipeline.publish import publish_batch
from include.warehouse.migrate import migrate
from include.warehouse.register import Run
from local.login import Login
from local.postgres import embedded
from local.sources.market.whole_market import api_rows, whole_market
from local.state import State

SIZES = (11_000, 250_000)
ROUNDS = 5
DAY = date(2023, 8, 1)
CLOSE = 1_690_920_000_000  # the end of its session, in ms since 1970
STEPS = ("flatten", "transform", "load", "publish")


def main() -> None:
    """Measure, and print a table."""
    console = Console()
    table = Table(title=f"From the answer's text to published rows, median of {ROUNDS} rounds")
    for name in ("Rows", "psql \\copy", "Airlock", "Ratio", *STEPS, "Memory"):
        table.add_column(name, justify="right")
    with TemporaryDirectory(prefix="airlock-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # root's Postgres runs as another user, who must be able to enter
        with embedded(State(folder)) as admin:
            with admin.connect(autocommit=True) as connection:
                connection.execute("create database warehouse")
            warehouse = replace(admin, dbname="warehouse")
            migrate(warehouse.connect, {}, [MARKET])
            for rows in SIZES:
                _write(rows, folder / "answer.json", folder / "ready.csv")
                with console.status(f"{rows:,} rows ..."), get_context("spawn").Pool(1) as process:
                    # In a process of its own, so that its memory is that of this size.
                    table.add_row(f"{rows:,}", *process.apply(_measure, (warehouse, folder)))
    console.print(table)


def _measure(warehouse: Login, folder: Path) -> list[str]:
    before, rounds = most_memory(), []
    body, ready = (folder / "answer.json").read_text(), folder / "ready.csv"
    with warehouse.connect() as connection:
        for _ in range(ROUNDS + 1):  # the first one fills the caches
            _empty(warehouse)
            steps = _load(connection, body)
            used = most_memory() - before
            _empty(warehouse)
            rounds.append({"copy": _seconds(lambda: _copy(warehouse, ready)), **steps})
    counted = rounds[1:]
    copied = median(each["copy"] for each in counted)
    whole = median(sum(each[name] for name in STEPS) for each in counted)
    ratios = [f"{median(each[name] for each in counted) / copied:.2f}" for name in STEPS]
    return [f"{copied:.3f} s", f"{whole:.3f} s", f"{whole / copied:.2f}", *ratios, f"{used:.0f} MB"]


def _load(connection: psycopg.Connection[Any], body: str) -> dict[str, float]:
    """Load an answer as the tasks do; returns the seconds of each step."""
    batch_id, answers = uuid4(), [Answer(ticker=None, body=body)]
    started = time.perf_counter()
    flat = flatten(answers, DAY)
    flattened = time.perf_counter()
    frame = transform(flat, DAY, [])
    transformed = time.perf_counter()
    load_batch(connection, MARKET.staging_name(MARKET.publishes[0]), batch_id, frame)
    connection.commit()
    loaded = time.perf_counter()
    publish_batch(connection, MARKET, batch_id, DAY, Run("benchmark", str(batch_id)), keep=2)
    connection.commit()
    moments = (started, flattened, transformed, loaded, time.perf_counter())
    return {name: end - begin for name, (begin, end) in zip(STEPS, pairwise(moments), strict=True)}


def _copy(warehouse: Login, ready: Path) -> None:
    psql(warehouse, f"\\copy copied ({', '.join(MARKET_COLUMNS)}) from '{ready}' with (format csv)")


def _empty(warehouse: Login) -> None:
    with warehouse.connect(autocommit=True) as connection:
        connection.execute("create table if not exists copied (like market.transformed_market_data including all)")
        connection.execute(
            "truncate copied, market.transformed_market_data, market_staging.transformed_market_data, "
            "warehouse.publication"
        )
        connection.execute("checkpoint")


def _write(rows: int, answer: Path, ready: Path) -> None:
    """Write the answer of the market API, and the same day as a CSV file of the published columns."""
    bars = whole_market(DAY, rows)
    with ready.open("w", newline="") as file:
        csv.writer(file).writerows(
            (DAY, ticker, bar["open"], bar["high"], bar["low"], bar["close"], bar["close"] - bar["open"], bar["volume"])
            for ticker, bar in bars.items()
        )
    results = [row | {"vw": row["c"], "n": 100} for row in api_rows(bars, CLOSE)]
    body = {"status": "OK", "resultsCount": len(results), "adjusted": True, "results": results}
    answer.write_text(json.dumps(body, separators=(",", ":")))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
