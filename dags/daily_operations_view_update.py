"""
### Daily operations: view update

Four queries run server-side and in parallel, each into a snapshot that readers do not see. When all of them have
passed one gate, the four views of the schema `daily_operations` change to the new snapshots in one transaction.
Every day at 12:00 UTC for the day before. A `.sql` file beside the four is a fifth view.
"""

from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param

from include.alerts.callbacks import failed, recovered
from include.daily_operations import tasks
from include.daily_operations.views import views
from include.warehouse.connections import DAILY_OPERATIONS

INCLUDE = Path(__file__).resolve().parent.parent / "include"

with DAG(
    dag_id="daily_operations_view_update",
    description="Four views refreshed in parallel, checked, and published together",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 12 * * *", timezone="UTC"),
    start_date=datetime(2023, 8, 1),
    catchup=False,
    max_active_runs=1,
    on_failure_callback=failed,
    params={
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="Empty: the start of the run's data interval, else the day before the run.",
        ),
        "allow_older": Param(
            False,
            type="boolean",
            title="Allow an older day",
            description="Publish the day even when the views show a later one.",
        ),
    },
    template_searchpath=[str(INCLUDE)],
    default_args={
        "owner": "data-platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=30),
        "on_failure_callback": failed,
    },
    tags=["daily_operations"],
):
    start = PythonOperator(task_id="start", python_callable=tasks.open_batch)
    refreshes = [
        SQLExecuteQueryOperator(
            task_id=f"refresh_{view}",
            conn_id=DAILY_OPERATIONS,
            # One transaction. The view is no param, which a run's conf could override.
            sql=[
                f"{{% set view = '{view}' %}}{{% include 'sql/daily_operations/{statement}.sql' %}}"
                for statement in ("claim_batch", "refresh_view")
            ],
            parameters=start.output,
            do_xcom_push=False,
        )
        for view in views()
    ]
    validate_views = PythonOperator(
        task_id="validate_views", python_callable=tasks.validate_views, op_kwargs={"batch": start.output}
    )
    publish_views = PythonOperator(
        task_id="publish_views",
        python_callable=tasks.publish_views,
        op_kwargs={"batch": start.output},
        on_success_callback=recovered,
    )
    end = EmptyOperator(task_id="end")

    start >> refreshes >> validate_views >> publish_views >> end
