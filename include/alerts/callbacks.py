"""What Airflow calls when a task has failed at its last try, and when a DAG's work is done.

Both run in the task's process, which Airflow kills 20 s after the task's end: a failure that no retry can fix would
then be retried. So nothing here waits for long: 3 s to reach the warehouse, 6 s for Slack, and 7 s for an answer of the
warehouse, where another process may be reporting the same incident. Heavy modules are imported inside: DAG files import
this one.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from include import datasets
from include.errors import PermanentError
from include.warehouse.connections import connect

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

log = logging.getLogger(__name__)

_QUICK: dict[str, Any] = {
    "connect_timeout": 3,
    "tcp_user_timeout": 7_000,
    "limits": {"statement_timeout": "7s", "lock_timeout": "7s"},
}


def failed(context: "Context") -> None:
    """Report, as on_failure_callback of tasks and DAGs, that a gate closed or that a task failed at its last try.

    Airflow calls a task's callback after its last try only, and not at all when the process was killed, for example
    because memory ran out. So DAGs have this callback as well: the DAG processor calls it at the end of a failed run,
    without an error, for the task that failed last, or that had not finished when the run's time was up.
    """
    from include.alerts import incidents, messages, notify
    from include.alerts.incidents import Incident
    from include.quality.outcome import GateClosed

    ti: Any = context["ti"]
    error = context.get("exception")
    closed = getattr(error, "__cause__", None)  # the cause of Airflow's own exception, which ends the task at once
    batch = _batch(ti)
    if isinstance(closed, GateClosed):
        incident = Incident(closed.outcome.checkpoint, "gate", closed.day)
        message = messages.gate_closed(incident, closed, closed.report or ti.log_url)
    else:
        incident = Incident(f"{ti.dag_id}.{ti.task_id}", "task", _batch_day(batch) or _run_day(context))
        message = messages.task_failed(incident, ti.try_number, error or _time_is_up(context), ti.log_url)
    try:
        with _warehouse(batch) as connection:
            if error or not incidents.gate_closed(connection, ti.dag_id, ti.run_id):
                notify.alarm(connection, incident, message)
    except Exception as problem:  # the warehouse may be what failed: two messages are better than none
        log.warning("The incident is not recorded: %s", messages.clean(f"{type(problem).__name__}: {problem}"))
        notify.send(message)


def recovered(context: "Context") -> None:
    """Report, as on_success_callback of a DAG's last working task, which incidents this run or a publication ended."""
    from include.alerts import incidents, messages, notify

    ti: Any = context["ti"]
    batch = _batch(ti)
    try:
        day = _batch_day(batch)
        with _warehouse(batch) as connection:
            ended = [each for dataset in datasets.DATASETS for each in incidents.ended_for_dataset(connection, dataset)]
            ended += incidents.ended_for_dag(connection, ti.dag_id, day or _run_day(context), of_batch=bool(day))
            notify.all_clear(connection, ended, ti.log_url)
    except Exception as problem:
        log.warning("No recovery is reported: %s", messages.clean(f"{type(problem).__name__}: {problem}"))


@contextmanager
def _warehouse(batch: dict[str, Any]) -> "Iterator[psycopg.Connection[Any]]":
    """Connect as the dataset of the run's batch, else as another: all of them reach the one warehouse."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    own_first = sorted(datasets.DATASETS, key=lambda dataset: dataset.name != batch.get("dataset"))
    for dataset in own_first:
        try:
            connected = connect(dataset.connection, **_QUICK)
        except AirflowNotFoundException:  # of a dataset that is not set up yet
            continue
        with connected as connection:
            yield connection
        return
    raise PermanentError("no dataset in include/datasets has a connection to the warehouse")


def _batch(ti: Any) -> dict[str, Any]:
    """Return the batch that the run's `start` task opened; empty when there is none."""
    try:
        batch = ti.xcom_pull(task_ids="start")
    except Exception:  # the DAG has no start task, or Airflow cannot be reached
        return {}
    return batch if isinstance(batch, dict) else {}


def _batch_day(batch: dict[str, Any]) -> date | None:
    try:
        return date.fromisoformat(batch["day"])
    except (KeyError, TypeError, ValueError):  # no batch, or the `start` of a DAG that pushes something else
        return None


def _time_is_up(context: "Context") -> str | None:
    """Return what happened, when Airflow ended a run that took too long."""
    if context.get("reason") != "timed_out":
        return None
    return f"the run had not ended after {context['dag'].dagrun_timeout}, so Airflow ended it"


def _run_day(context: "Context") -> date:
    run: Any = context.get("dag_run")
    moment = (run.data_interval_start or run.run_after) if run else datetime.now(UTC)
    return moment.astimezone(UTC).date()
