"""
### Market ETL, with the TaskFlow API

The same job as `market_etl__traditional`, task for task: one XNYS session of daily prices is staged, checked with
Great Expectations and published to `market.transformed_market_data`. Extract is defined here, the other tasks in
`include/market_etl__taskflow_api__helpers.py`.
"""

from airflow.sdk import CronDataIntervalTimetable, dag, task

from include import market_etl__taskflow_api__helpers as helpers
from include.datasets.market import tasks
from include.datasets.market.dag_params import MARKET_PARAMS
from include.datasets.market.dataset import MARKET
from include.pipeline.dag_defaults import dag_defaults


@dag(
    **dag_defaults(MARKET.owner),
    dag_id="market_etl__taskflow_api",
    description="Polygon API to Postgres through a quality gate (TaskFlow API)",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 9 * * 1-5", timezone="UTC"),
    params=MARKET_PARAMS,
    tags=[MARKET.name, "taskflow", "smoke"],
)
def market_etl__taskflow_api():
    @task
    def extract_market_data(batch):
        """Fetch each ticker's daily summary from the market API."""
        return tasks.extract_market_data(batch)

    batch = helpers.start()
    answers = extract_market_data(batch)
    flat_rows = helpers.flatten_market_data(batch, answers)
    rows = helpers.transform_market_data(batch, flat_rows)
    loaded = helpers.load_market_data(batch, rows)
    validated = helpers.validate_market_data(batch)
    published = helpers.publish_market_data(batch)

    loaded >> validated >> published >> helpers.end(published)


market_etl__taskflow_api()
