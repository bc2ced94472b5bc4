"""The tasks of market_etl__taskflow_api, but for extract, which its DAG file defines."""

from typing import TYPE_CHECKING, Any

from airflow.sdk import task

from include.alerts.callbacks import recovered
from include.market import tasks
from include.market.tasks import Batch

if TYPE_CHECKING:
    import pandas

    from include.market.flatten import Answer


@task(multiple_outputs=False)
def start(dag_run: Any = None, params: Any = None) -> Batch:
    """Decide which session the run loads; skips the run on a day on which XNYS is closed."""
    return tasks.open_batch(dag_run, params)


@task
def flatten_market_data(batch: Batch, answers: "list[Answer]") -> "pandas.DataFrame":
    """Turn the service's answers into one row a ticker."""
    return tasks.flatten_market_data(batch, answers)


@task
def transform_market_data(batch: Batch, rows: "pandas.DataFrame") -> "pandas.DataFrame":
    """Add what is derived."""
    return tasks.transform_market_data(batch, rows)


@task
def load_market_data(batch: Batch, rows: "pandas.DataFrame") -> int:
    """Stage the rows, where readers do not see them."""
    return tasks.load_market_data(batch, rows)


@task
def validate_market_data(batch: Batch, ti: Any = None) -> None:
    """Run the gate on the staged batch."""
    tasks.validate_market_data(batch, ti)


@task(multiple_outputs=False, on_success_callback=recovered)
def publish_market_data(batch: Batch, dag_run: Any = None) -> dict[str, Any]:
    """Open the inner door: replace the day in the published table by the validated batch."""
    return tasks.publish_market_data(batch, dag_run)


@task
def end(published: dict[str, Any]) -> None:
    """Tell what was published."""
    print("{rows} rows of {day} are published in {object}".format(**published))
