"""
### Market ETL, with traditional operators

Loads one XNYS session of daily prices into staging, checks it with Great Expectations and publishes it to
`market.transformed_market_data`. Every weekday at 09:00 UTC it loads the previous weekday; a day on which the
exchange is closed is skipped. Running a day again replaces it.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronDataIntervalTimetable

from include.alerts.callbacks import recovered
from include.datasets.market import tasks
from include.datasets.market.dag_params import MARKET_PARAMS
from include.datasets.market.dataset import MARKET
from include.pipeline.assets import lineage
from include.pipeline.dag_defaults import dag_defaults

with DAG(
    **dag_defaults(MARKET.owner),
    dag_id="market_etl__traditional",
    description="Polygon API to Postgres through a quality gate (traditional operators)",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 9 * * 1-5", timezone="UTC"),
    params=MARKET_PARAMS,
    tags=[MARKET.name, "traditional"],
):
    start = PythonOperator(task_id="start", python_callable=tasks.open_batch)
    batch = {"batch": start.output}
    extract_market_data = PythonOperator(
        task_id="extract_market_data", python_callable=tasks.extract_market_data, op_kwargs=batch
    )
    flatten_market_data = PythonOperator(
        task_id="flatten_market_data",
        python_callable=tasks.flatten_market_data,
        op_kwargs={**batch, "answers": extract_market_data.output},
    )
    transform_market_data = PythonOperator(
        task_id="transform_market_data",
        python_callable=tasks.transform_market_data,
        op_kwargs={**batch, "rows": flatten_market_data.output},
    )
    load_market_data = PythonOperator(
        task_id="load_market_data",
        python_callable=tasks.load_market_data,
        op_kwargs={**batch, "rows": transform_market_data.output},
    )
    validate_market_data = PythonOperator(
        task_id="validate_market_data", python_callable=tasks.validate_market_data, op_kwargs=batch
    )
    publish_market_data = PythonOperator(
        task_id="publish_market_data",
        python_callable=tasks.publish_market_data,
        op_kwargs=batch,
        on_success_callback=recovered,
        **lineage(MARKET),
    )
    end = EmptyOperator(task_id="end")

    load_market_data >> validate_market_data >> publish_market_data >> end
