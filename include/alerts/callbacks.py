"""What Airflow calls when a task failed for good, and when a DAG's work is done.

Both run in the task's process, which Airflow kills 20 s after the task's end: a failure that no retry can heal would
then be retried. So nothing here waits for long: 3 s for the warehouse, 6 s for Slack, and as long for another process
that tells the same. Heavy modules are imported inside: DAG files import this one.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from include.warehouse.connections import MARKET, connect

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def failed(context: "Context") -> None:
    """Tell, as on_failure_callback of tasks and DAGs, that a gate closed or a task failed for good.

    Airflow calls a task's after its last try only; and not at all when its process was killed, by the kernel for want
    of memory, say. So it is a DAG's, too: called by the DAG processor at the end of a failed run, without an error, for
    the task that failed last.
    """
    from include.alerts import incidents, messages, notify
    from include.alerts.incidents import Incident
    from include.quality.outcome import GateClosed

    ti: Any = context["ti"]
    error = context.get("exception")
    closed = getattr(error, "__cause__", None)  # under Airflow's own, which ends the task at once
    if isinstance(closed, GateClosed):
        incident = Incident(closed.outcome.checkpoint, "gate", closed.day)
        message = messages.gate_closed(incident, closed, closed.report or ti.log_url)
    else:
        incident = Incident(f"{ti.dag_id}.{ti.task_id}", "task", _batch_day(ti) or _run_day(context))
        message = messages.task_failed(incident, ti.try_number, error, ti.log_url)
    try:
        with _warehouse() as connection:
            if error or not incidents.gate_closed(connection, ti.dag_id, ti.run_id):
                notify.alarm(connection, incident, message)
    except Exception as problem:  # the warehouse may be what failed: rather twice than never
        log.warning("The incident is not recorded: %s", messages.clean(f"{type(problem).__name__}: {problem}"))
        notify.send(message)


def recovered(context: "Context") -> None:
    """Tell, as on_success_callback of a DAG's last working task, what is over: by its run, or by any publication."""
    from include.alerts import incidents, messages, notify
    from include.datasets import datasets

    ti: Any = context["ti"]
    try:
        day = _batch_day(ti)
        with _warehouse() as connection:
            over = [each for dataset in datasets() for each in incidents.over_for_dataset(connection, dataset)]
            over += incidents.over_for_dag(connection, ti.dag_id, day or _run_day(context), of_batch=bool(day))
            notify.all_clear(connection, over, ti.log_url)
    except Exception as problem:
        log.warning("No recovery is told: %s", messages.clean(f"{type(problem).__name__}: {problem}"))


@contextmanager
def _warehouse() -> "Iterator[psycopg.Connection[Any]]":
    os.environ.setdefault("PGCONNECT_TIMEOUT", "3")  # the driver's own is minutes
    with connect(MARKET) as connection:
        yield connection


def _batch_day(ti: Any) -> date | None:
    """Give the day of the run's batch, which a DAG's `start` decides; None without one."""
    try:
        batch = ti.xcom_pull(task_ids="start") or {}
        return date.fromisoformat(batch.get("market_date") or batch["as_of"])
    except Exception:  # no start, no batch of it yet, or Airflow cannot say
        return None


def _run_day(context: "Context") -> date:
    run: Any = context.get("dag_run")
    moment = (run.data_interval_start or run.run_after) if run else datetime.now(UTC)
    return moment.astimezone(UTC).date()
