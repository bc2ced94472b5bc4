"""What the tasks of advanced_daily_dashboard_refresh do, apart from those of the market, which has its own."""

import logging
import time
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from include import datasets
from include.dataset import Dataset
from include.datasets.analytics.dataset import ANALYTICS, TABLES
from include.errors import PermanentError
from include.lake.storage import Manifest
from include.pipeline import batch as batches
from include.pipeline.batch import Batch
from include.settings import settings
from include.task_errors import as_task
from include.warehouse import register
from include.warehouse.connections import connect
from include.warehouse.register import Run

log = logging.getLogger(__name__)
_BY_TABLE: dict[str, Dataset] = {dataset.publishes[0].name: dataset for dataset in ANALYTICS}


@as_task
def decide_day(dag_run: Any, params: dict[str, Any]) -> dict[str, str]:
    """Return the day: the param, else the data interval's start, else the day before the run."""
    day = batches.batch_day(dag_run, "as_of", params["as_of"], lambda at: at.astimezone(UTC).date() - timedelta(days=1))
    return {"day": day.isoformat()}


@as_task
def extract_to_s3(table: str, dag_run: Any, ti: Any) -> dict[str, Any]:
    """Open the batch of a table and export the day's rows; returns both: `batch`, and `manifest`.

    Fails when the table has no rows of the day, and leaves an earlier export as it is.
    """
    from include.lake import storage
    from include.lake.export import export

    dataset, source, day = _BY_TABLE[table], TABLES[table], _day(ti)
    batch = batches.open_batch(dataset, dag_run, day)
    with connect(dataset.connection) as connection:
        manifest = export(
            connection,
            source,
            day,
            table=dataset.published_name(dataset.publishes[0]),
            batch_id=UUID(batch["batch_id"]),
            run=Run(dag_run.dag_id, dag_run.run_id),
        )
    if not manifest.rows:
        raise PermanentError(
            f"{source.table} has no rows of {day}: fill it, then clear this task and those after it. If such days are "
            "right, let closed_reason in include/datasets/analytics/dataset.py say why."
        )
    log.info("%s: %s rows, %s bytes", storage.folder(storage.EXPORTS, manifest.key), manifest.rows, manifest.bytes)
    return {"batch": batch, "manifest": asdict(manifest)}


@as_task
def validate_export(table: str, ti: Any) -> None:
    """Compare the exported object, as it is read back, with the source table; fails when they differ."""
    from include.lake import checks
    from include.lake.export import figures_of_object, figures_of_query
    from include.pipeline.validate import conclude
    from include.quality.outcome import Outcome

    dataset, exported = _BY_TABLE[table], _manifest(ti, table)
    batch_id, day = batches.key_of(dataset, _batch(ti, table))
    started_at, clock = datetime.now(UTC), time.perf_counter()
    with connect(dataset.connection) as connection:
        wanted = figures_of_query(connection, TABLES[table].query(day), exported)
        compared = checks.compare("source", "export", exported.table, wanted, figures_of_object(exported))
        outcome = Outcome(dataset.name, started_at, time.perf_counter() - clock, [compared])
        conclude(connection, dataset, outcome, batch_id, day, ti)


@as_task
def load_to_warehouse(table: str, ti: Any) -> int:
    """Stage the exported rows in the target, where readers do not see them; returns their number."""
    from include.datasets.analytics.targets import target

    return target().load(_BY_TABLE[table], _batch(ti, table), _manifest(ti, table))


@as_task
def validate_load(table: str, ti: Any) -> None:
    """Compare what was staged with the manifest and run the gate on it; fails when one of them fails."""
    from include.datasets.analytics.targets import target

    target().validate(_BY_TABLE[table], _batch(ti, table), _manifest(ti, table), ti)


@as_task
def publish(table: str, dag_run: Any, ti: Any, outlet_events: Any) -> dict[str, Any]:
    """Replace the day that readers see of a table, in one transaction; returns object, day, batch_id and rows."""
    from include.datasets.analytics.targets import target

    return target().publish(_BY_TABLE[table], _batch(ti, table), _manifest(ti, table), dag_run, outlet_events)


@as_task
def archive_s3_files() -> dict[str, int]:
    """Move exports that are old enough to the archive, if readers see their rows; returns how many, by table.

    Raises PermanentError, after all others were looked at, for those that could not be read.
    """
    from include.lake import storage

    moved, unreadable = dict.fromkeys(TABLES, 0), []
    for table, dataset in _BY_TABLE.items():
        for day in storage.exported_days(dataset.published_name(dataset.publishes[0])):
            try:
                moved[table] += _archive(dataset, day)
            except PermanentError as error:
                unreadable.append(f"{error}")
    if unreadable:
        raise PermanentError("\n".join(unreadable))
    return moved


def _archive(dataset: Dataset, day: str) -> bool:
    """Return whether the export of a day was old enough, and its rows published, so that it is in the archive now."""
    from include.datasets.analytics.targets import target
    from include.lake import storage

    table = dataset.published_name(dataset.publishes[0])
    manifest = storage.current(table, day)
    latest = datetime.now(UTC) - timedelta(days=settings().archive_after_days)
    if not manifest or datetime.fromisoformat(manifest.exported_at) > latest:
        return False
    with connect(dataset.connection) as connection:
        register.lock(connection, manifest.lock)
        if storage.current(table, day) != manifest:  # it was exported again meanwhile
            return False
        if not target().holds(dataset, manifest):
            log.warning("The export of %s of %s stays: it is old enough, and its rows are not published", table, day)
            return False
        storage.archive(manifest)
    return True


@as_task
def check_market_open(dataset: str, ti: Any) -> str:
    """Return which branch runs: that of the dataset, or the message that its source is closed."""
    _, reason = _closed(ti, dataset)
    return "market_closed_notification" if reason else "process_market_data"


@as_task
def market_closed_notification(dataset: str, ti: Any) -> None:
    """Send why the market has no data for the day, where alerts go."""
    from include.alerts import messages, notify

    day, reason = _closed(ti, dataset)
    notify.send(messages.note(f"No {dataset} data for {day}", str(reason), ti.log_url))


@as_task
def report_outcomes(ti: Any, dag_run: Any) -> dict[str, str]:
    """Return what became of each branch of the run. Raises PermanentError, with all of them, when one failed."""
    states = ti.get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])[dag_run.run_id]
    branches: dict[str, list[tuple[str, str]]] = {}
    for task_id, state in states.items():
        branch, _, task = task_id.rpartition(".")
        if task_id != ti.task_id:
            branches.setdefault(branch or task, []).append((task, str(state)))
    outcomes = {branch: _outcome(tasks) for branch, tasks in branches.items()}
    for branch, outcome in outcomes.items():
        log.info("%s: %s", branch, outcome)
    if any(outcome.startswith("failed") for outcome in outcomes.values()):
        _record_closed_gates(ti, outcomes)
        raise PermanentError("\n".join(f"{branch}: {outcome}" for branch, outcome in sorted(outcomes.items())))
    return outcomes


def _record_closed_gates(ti: Any, outcomes: dict[str, str]) -> None:
    """Open the incident of each gate that closed, without a message: one that names all branches is sent.

    While it is open, the day is not reported as late as well; it ends when the day is published.
    """
    from include.alerts.incidents import Incident, open_incident

    for table, dataset in _BY_TABLE.items():
        if outcomes.get(table, "").startswith("failed in validate_"):
            with connect(dataset.connection) as connection:
                open_incident(connection, Incident(dataset.name, "gate", _day(ti)), f"{table}: {outcomes[table]}")


def _outcome(tasks: list[tuple[str, str]]) -> str:
    failed = [task for task, state in tasks if state == "failed"]
    if failed or any(state == "upstream_failed" for _, state in tasks):
        return f"failed in {', '.join(failed)}" if failed else "failed before it began"
    return "skipped" if any(state == "skipped" for _, state in tasks) else "done"


# The values of earlier tasks are pulled here: as arguments in the DAG file, each would be one more line in its graph.
def _day(ti: Any) -> date:
    return date.fromisoformat(ti.xcom_pull(task_ids="start")["day"])


def _batch(ti: Any, table: str) -> Batch:
    batch: Batch = ti.xcom_pull(task_ids=f"{table}.extract_to_s3")["batch"]
    return batch


def _manifest(ti: Any, table: str) -> Manifest:
    return Manifest.read(ti.xcom_pull(task_ids=f"{table}.extract_to_s3")["manifest"])


def _closed(ti: Any, name: str) -> tuple[date, str | None]:
    """Return the run's day, and why a dataset's source is closed on it."""
    [dataset] = [each for each in datasets.DATASETS if each.name == name]
    day = _day(ti)
    return day, dataset.closed_reason(day)
