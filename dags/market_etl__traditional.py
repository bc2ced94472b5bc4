"""
### Market ETL, with traditional operators

Loads one XNYS session of daily prices into staging, checks it with Great Expectations and publishes it to
`market.transformed_market_data`. Every weekday at 09:00 UTC it loads the previous weekday; a day on which the
exchange is closed is skipped. Running a day again replaces it.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronDataIntervalTimetable

from include.alerts.callbacks import failed, recovered
from include.market import tasks
from include.market.dag_params import MARKET_PARAMS

with DAG(
    dag_id="market_etl__traditional",
    description="Polygon API to Postgres through a quality gate (traditional operators)",
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
    tags=["market", "traditional"],
):
    start = PythonOperator(task_id="start", python_callable=tasks.open_batch)
    extract_market_data = PythonOperator(
        task_id="extract_market_data",
        python_callable=tasks.extract_market_data,
        op_kwargs={"batch": start.output},
    )
    flatten_market_data = PythonOperator(
        task_id="flatten_market_data",
        python_callable=tasks.flatten_market_data,
        op_kwargs={"batch": start.output, "answers": extract_market_data.output},
    )
    transform_market_data = PythonOperator(
        task_id="transform_market_data",
        python_callable=tasks.transform_market_data,
        op_kwargs={"batch": start.output, "rows": flatten_market_data.output},
    )
    load_market_data = PythonOperator(
        task_id="load_market_data",
        python_callable=tasks.load_market_data,
        op_kwargs={"batch": start.output, "rows": transform_market_data.output},
    )
    validate_market_data = PythonOperator(
        task_id="validate_market_data",
        python_callable=tasks.validate_market_data,
        op_kwargs={"batch": start.output},
    )
    publish_market_data = PythonOperator(
        task_id="publish_market_data",
        python_callable=tasks.publish_market_data,
        op_kwargs={"batch": start.output},
        on_success_callback=recovered,
    )
    end = EmptyOperator(task_id="end")

    load_market_data >> validate_market_data >> publish_market_data >> end
