"""What the tasks of daily_operations_view_update do: where the functions beside this file meet Airflow.

The refreshes themselves are SQLExecuteQueryOperators: their work is done by the server.
"""

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID

from include.airflow_edge import as_task, batch_id
from include.daily_operations import publish
from include.daily_operations.columns import check_queries
from include.daily_operations.views import PUBLIC, snapshots_name, views
from include.errors import PermanentError
from include.params import parse_day
from include.settings import settings
from include.warehouse import register
from include.warehouse.connections import DAILY_OPERATIONS, connect
from include.warehouse.register import Run

log = logging.getLogger(__name__)


class Batch(TypedDict):
    """What one run refreshes: the views as of a day, and the key under which its snapshots are kept."""

    as_of: str
    batch_id: str
    views: list[str]


@as_task
def open_batch(dag_run: Any, params: dict[str, Any]) -> Batch:
    """Decide the day: the param, else the data interval's start, else the day before the run. All in UTC.

    Fails, without retrying, for a day that is not here yet or older than the published one, and when a query
    cannot run or its columns have changed: before anything is refreshed.
    """
    if asked := parse_day("as_of", params["as_of"]):
        day = asked
    elif dag_run.data_interval_start:
        day = dag_run.data_interval_start.astimezone(UTC).date()
    else:
        day = dag_run.run_after.astimezone(UTC).date() - timedelta(days=1)
    if day > datetime.now(UTC).date():
        raise PermanentError(f"as_of is {day}, which is in the future: give today or a day before.")
    with connect(DAILY_OPERATIONS) as connection:
        check_queries(connection)
        if not params["allow_older"]:
            publish.refuse_older(connection, day)
        batch = register.unpublished(connection, batch_id(dag_run))
    log.info("Refreshing %s as of %s", ", ".join(views()), day)
    return Batch(as_of=day.isoformat(), batch_id=str(batch), views=views())


@as_task
def validate_views(batch: Batch, ti: Any) -> None:
    """Run the gate on the snapshots of all views; pushes its outcome, then fails at once if the gate closed."""
    from include.quality.tasks import pass_gate

    day = date.fromisoformat(batch["as_of"])
    _check_unchanged(batch)
    with connect(DAILY_OPERATIONS) as connection:
        check_queries(connection)  # a deploy since the start may have changed what a refresh wrote
        pass_gate(
            ti,
            connection,
            PUBLIC,
            UUID(batch["batch_id"]),
            day,
            {view: snapshots_name(view) for view in batch["views"]},
            subject=f"the views of {PUBLIC} as of {day}",
        )


@as_task
def publish_views(batch: Batch, dag_run: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Let all views show the run's batch, in one transaction."""
    from include.quality import report

    _check_unchanged(batch)
    with connect(DAILY_OPERATIONS) as connection:
        rows = publish.publish_views(
            connection,
            UUID(batch["batch_id"]),
            date.fromisoformat(batch["as_of"]),
            Run(dag_run.dag_id, dag_run.run_id),
            keep=settings().publications_kept,
            allow_older=params["allow_older"],
        )
        connection.commit()
        report.refresh(connection, PUBLIC, settings().report_root)
    return {"object": PUBLIC, "day": batch["as_of"], "batch_id": batch["batch_id"], "rows": rows}


def _check_unchanged(batch: Batch) -> None:
    if batch["views"] != views():
        raise PermanentError(
            f"The run refreshed {', '.join(batch['views'])}, and the views are {', '.join(views())} now: "
            "clear it from its start task on."
        )
