"""What the tasks of daily_operations_view_update do.

The refreshes themselves are RefreshOperators: the server does their work.
"""

from datetime import UTC, timedelta
from typing import Any

from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.pipeline import batch as batches
from include.pipeline import tasks as pipeline
from include.pipeline.batch import Batch
from include.task_errors import as_task


@as_task
def open_batch(dag_run: Any, params: dict[str, Any]) -> Batch:
    """Decide the day: the param, else the data interval's start, else the day before the run.

    Fails before anything is refreshed when the day is in the future or older than the published one, when a query
    cannot run, and when its columns have changed.
    """
    day = batches.batch_day(dag_run, "as_of", params["as_of"], lambda at: at.astimezone(UTC).date() - timedelta(days=1))
    return batches.open_batch(DAILY_OPERATIONS, dag_run, day, allow_older=params["allow_older"])


@as_task
def validate_views(batch: Batch, ti: Any) -> None:
    """Run the gate on all views of the batch; fails at once when it closes."""
    from include.pipeline.validate import validate

    validate(DAILY_OPERATIONS, batch, ti)


@as_task
def publish_views(batch: Batch, dag_run: Any, params: dict[str, Any], outlet_events: Any) -> dict[str, Any]:
    """Let all views show the batch, in one transaction."""
    return pipeline.publish(DAILY_OPERATIONS, batch, dag_run, outlet_events, allow_older=params["allow_older"])
