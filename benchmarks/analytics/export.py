"""Export a table to S3 and load it into its staging table, as the tasks of the dashboard DAG do: seconds and memory.

Against `psql \\copy` of the same table out to a CSV file and in again. The table has 13 columns of 10 types. The
database is an embedded Postgres, and S3 is moto's server on the same machine.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from benchmarks.process import most_memory, psql
from include.datasets.analytics.targets.warehouse import frames
from include.lake import export
from include.lake.export import Source
from include.pipeline.load import load_batch
from include.warehouse.register import Run
from local.login import Login
from local.postgres import embedded
from local.sources.analytics import SOURCE
from local.state import State

SIZES = (10_000, 1_000_000, 3_000_000)
DAY = date(2023, 8, 1)
_SOURCE = Source("shop.orders", "day", ("day", "id"))
_TABLE = """
    drop schema if exists shop cascade;
    create schema shop;
    create table shop.orders as
    select
        '2023-08-01'::date as day, number as id, number % 100 as shop, number * 1000003::bigint as receipt,
        (number % 9973)::numeric(10, 2) / 100 as price, (number % 7)::smallint as pieces, number / 3.0::float8 as share,
        number % 2 = 0 as paid, 'customer ' || number as customer, nullif('note ' || number % 5, 'note 0') as note,
        timestamptz '2023-08-01 00:00Z' + number * interval '50 ms' as sold_at, '2023-09-01'::date as due,
        gen_random_uuid() as reference
    from generate_series(1, {rows}) as number;
    create table shop.staged as select null::uuid as batch_id, now() as loaded_at, * from shop.orders with no data;
    alter table shop.staged alter loaded_at set default now();
    create table shop.copied as select * from shop.orders with no data;
    analyze shop.orders;
"""


def main() -> None:
    """Measure, and print a table."""
    console = Console()
    table = Table(title="A table with 13 columns: to Parquet on S3, and from there into staging")
    for name in ("Rows", "Out", "Bytes", "In", "Memory over the start", "psql out", "psql in"):
        table.add_column(name, justify="right")
    with TemporaryDirectory(prefix="airlock-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # root's Postgres runs as another user, who must be able to enter
        state = State(folder)
        with embedded(state) as admin, SOURCE.running(state, admin, live=False) as started:
            os.environ |= started.env
            with admin.connect(autocommit=True) as connection:
                connection.execute("create database warehouse")
            warehouse = replace(admin, dbname="warehouse")
            with warehouse.connect(autocommit=True) as connection:
                connection.execute("create schema warehouse")
                connection.execute(
                    "create function warehouse.claim_batch(text, uuid) returns void language sql as 'select null::void'"
                )
            for rows in SIZES:
                with console.status(f"{rows:,} rows ..."), get_context("spawn").Pool(1) as process:
                    # In a process of its own, so that its memory is that of this size.
                    table.add_row(f"{rows:,}", *process.apply(_measure, (warehouse, folder, rows)))
    console.print(table)


def _measure(warehouse: Login, folder: Path, rows: int) -> list[str]:
    with warehouse.connect(autocommit=True) as connection:
        connection.execute(_TABLE.format(rows=rows).encode())
    before, batch_id = most_memory(), uuid4()
    with warehouse.connect() as connection:
        with _timed() as out:
            manifest = export.export(
                connection, _SOURCE, DAY, table="shop.orders", batch_id=batch_id, run=Run("benchmark", "a run")
            )
        with _timed() as into:
            load_batch(connection, "shop.staged", batch_id, frames(manifest))
    used = most_memory() - before
    csv = folder / "orders.csv"
    with _timed() as psql_out:
        psql(warehouse, f"\\copy (select * from shop.orders order by day, id) to '{csv}' with (format csv)")  # noqa: S608
    with _timed() as psql_in:
        psql(warehouse, f"\\copy shop.copied from '{csv}' with (format csv)")
    seconds = [f"{each[0]:.1f} s" for each in (out, into, psql_out, psql_in)]
    return [seconds[0], f"{manifest.bytes / 2**20:.1f} MB", seconds[1], f"{used:.0f} MB", *seconds[2:]]


@contextmanager
def _timed() -> Iterator[list[float]]:
    started, seconds = time.perf_counter(), [0.0]
    yield seconds
    seconds[0] = time.perf_counter() - started


if __name__ == "__main__":
    main()
