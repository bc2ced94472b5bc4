"""The tasks of market_etl__taskflow_api, except extract_market_data, which its DAG file defines."""

from airflow.sdk import task

from include.alerts.callbacks import recovered
from include.datasets.market import tasks
from include.datasets.market.dataset import MARKET
from include.pipeline.assets import lineage

start = task(multiple_outputs=False, task_id="start")(tasks.open_batch)
flatten_market_data = task(tasks.flatten_market_data)
transform_market_data = task(tasks.transform_market_data)
load_market_data = task(tasks.load_market_data)
validate_market_data = task(tasks.validate_market_data)
publish_market_data = task(multiple_outputs=False, on_success_callback=recovered, **lineage(MARKET))(
    tasks.publish_market_data
)


@task
def end(published: dict[str, object]) -> None:
    """Log what was published."""
    print("{rows} rows of {day} are published in {object}".format(**published))
