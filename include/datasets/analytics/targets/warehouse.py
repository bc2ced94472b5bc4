"""The schema analytics of the warehouse: each table is a dataset like any other, with staging, gate and register."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from psycopg import sql

from include.dataset import Dataset
from include.lake import checks, export
from include.lake.storage import Manifest
from include.pipeline import load as loading
from include.pipeline import tasks
from include.pipeline.batch import Batch, key_of
from include.quality.outcome import Outcome
from include.warehouse import register
from include.warehouse.columns import identifier
from include.warehouse.connections import connect

if TYPE_CHECKING:
    import pandas


def load(dataset: Dataset, batch: Batch, manifest: Manifest) -> int:
    """Stage the rows of an export under the run's batch_id; returns their number."""
    return loading.load(dataset, batch, frames(manifest))


def validate(dataset: Dataset, batch: Batch, manifest: Manifest, ti: Any) -> None:
    """Compare the staged rows with the manifest, then run the gate on them; fails when one of them fails."""
    from include.pipeline.validate import conclude, validate_batch

    batch_id, day = key_of(dataset, batch)
    staging = dataset.staging_name(dataset.publishes[0])
    staged = sql.SQL("select * from {} where batch_id = {}").format(identifier(staging), sql.Literal(batch_id))
    started_at, clock = datetime.now(UTC), time.perf_counter()
    with connect(dataset.connection) as connection:
        found = export.figures_of_query(connection, staged, manifest)
        compared = checks.compare("manifest", "staged batch", staging, (manifest.rows, manifest.figures), found)
        outcome = Outcome(dataset.name, started_at, time.perf_counter() - clock, [compared])
        if outcome.verdict == "failed":
            conclude(connection, dataset, outcome, batch_id, day, ti)
        validate_batch(connection, dataset, batch_id, day, {**batch["params"], "rows": manifest.rows}, ti)


def publish(dataset: Dataset, batch: Batch, manifest: Manifest, dag_run: Any, outlet_events: Any) -> dict[str, Any]:
    """Replace the day in the published table, in one transaction; returns object, day, batch_id and rows."""
    return tasks.publish(dataset, batch, dag_run, outlet_events)


def holds(dataset: Dataset, manifest: Manifest) -> bool:
    """Return whether readers see the rows of this export."""
    with connect(dataset.connection) as connection:
        seen = register.current(connection, manifest.table, date.fromisoformat(manifest.day))
    return seen is not None and str(seen.batch_id) == manifest.batch_id


def frames(manifest: Manifest) -> "Iterator[pandas.DataFrame]":
    """Yield an export's rows as frames, in which a number stays what it is, also beside a NULL."""
    import pandas
    import pyarrow

    numbers = (pyarrow.int16(), pyarrow.int32(), pyarrow.int64(), pyarrow.float32(), pyarrow.float64())
    types = {each: pandas.ArrowDtype(each) for each in (*numbers, pyarrow.bool_())}
    for batch in export.batches(manifest):
        yield batch.to_pandas(types_mapper=types.get)
