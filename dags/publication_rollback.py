"""
### Publication rollback

Goes back to what readers saw before: of one day of the market table, or of all views of daily operations together.
One transaction, and a publication of its own in the register `warehouse.publication`: rolling back twice goes two
publications back, and running the publishing DAG again goes forward. Run it by hand.
"""

from datetime import datetime, timedelta

from airflow.sdk import Param, dag, task

from include.alerts.callbacks import failed, recovered
from include.warehouse import tasks


@dag(
    dag_id="publication_rollback",
    description="Back to the previous publication of a market day or of the daily views",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2023, 8, 1),
    max_active_runs=1,
    on_failure_callback=failed,
    params={
        "object": Param(
            tasks.ROLLED_BACK[0],
            enum=list(tasks.ROLLED_BACK),
            title="Table or group of views",
            description="The market table goes back by one day of it, the views go back together.",
        ),
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="Market table: the day to restore. Views: go back to that day; empty: the publication before.",
        ),
    },
    default_args={
        "owner": "data-platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "on_failure_callback": failed,
        "on_success_callback": recovered,
    },
    tags=["daily_operations", "market", "warehouse"],
)
def publication_rollback():
    @task(multiple_outputs=False)
    def roll_back(dag_run=None, params=None):
        """Restore the previous publication; gives what is shown now."""
        return tasks.roll_back(dag_run, params)

    roll_back()


publication_rollback()
