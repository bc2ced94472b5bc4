"""
### Market ETL, with the TaskFlow API

The same job as `market_etl__traditional`, task for task: one XNYS session of daily prices goes to staging, is
checked with Great Expectations and published to `market.transformed_market_data`. Extract is defined here, the
other tasks in `include/market_etl__taskflow_api__helpers.py`.
"""

from datetime import datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, dag, task

from include import market_etl__taskflow_api__helpers as helpers
from include.alerts.callbacks import failed
from include.market import tasks
from include.market.dag_params import MARKET_PARAMS


@dag(
    dag_id="market_etl__taskflow_api",
    description="Polygon API to Postgres through a quality gate (TaskFlow API)",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 9 * * 1-5", timezone="UTC"),
    start_date=datetime(2023, 8, 1),
    catchup=False,
    max_active_runs=1,
    on_failure_callback=failed,
    params=MARKET_PARAMS,
    default_args={
        "owner": "data-platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=30),
        "on_failure_callback": failed,
    },
    tags=["market", "taskflow"],
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
