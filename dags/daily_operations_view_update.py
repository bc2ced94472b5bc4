"""
### Daily operations: view update

The queries of all views run server-side and in parallel, each into a staging table that readers do not see. When all
of them have passed one gate, the views of the schema `daily_operations` switch to the new batch in one transaction.
Runs every day at 12:00 UTC for the day before.
"""

from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param

from include.alerts.callbacks import recovered
from include.datasets.daily_operations import tasks
from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.pipeline.assets import lineage
from include.pipeline.dag_defaults import dag_defaults
from include.pipeline.refresh import REFRESH_PARAMETERS, RefreshOperator, refresh_statements

with DAG(
    **dag_defaults(DAILY_OPERATIONS.owner),
    dag_id="daily_operations_view_update",
    description="All views refreshed in parallel, checked, and published together",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 12 * * *", timezone="UTC"),
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
    template_searchpath=[str(Path(__file__).resolve().parent.parent / "include")],
    tags=[DAILY_OPERATIONS.name],
):
    start = PythonOperator(task_id="start", python_callable=tasks.open_batch)
    refreshes = [
        RefreshOperator(
            task_id=f"refresh_{view.name}",
            conn_id=DAILY_OPERATIONS.connection,
            sql=refresh_statements(DAILY_OPERATIONS, view),
            parameters=REFRESH_PARAMETERS,
            do_xcom_push=False,
        )
        for view in DAILY_OPERATIONS.publishes
    ]
    batch = {"batch": start.output}
    validate_views = PythonOperator(task_id="validate_views", python_callable=tasks.validate_views, op_kwargs=batch)
    publish_views = PythonOperator(
        task_id="publish_views",
        python_callable=tasks.publish_views,
        op_kwargs=batch,
        on_success_callback=recovered,
        **lineage(DAILY_OPERATIONS),
    )
    end = EmptyOperator(task_id="end")

    start >> refreshes >> validate_views >> publish_views >> end
