"""
### Warehouse migrations

Brings the warehouse's schema up to date, all of it or nothing, and gives the roles `airlock_app` and
`airlock_reader` the passwords that their connections hold. Run it after every deploy; running it again changes
nothing. Needs the connections `postgres_admin_conn`, `postgres_market_conn` and
`postgres_daily_operational_conn`; `postgres_reader_conn` is optional.
"""

from datetime import datetime, timedelta

from airflow.sdk import dag, task

from include.alerts.callbacks import failed, recovered
from include.warehouse import tasks


@dag(
    dag_id="warehouse_migrations",
    description="Versioned migrations of the warehouse and the passwords of its roles",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2023, 8, 1),
    max_active_runs=1,
    on_failure_callback=failed,
    default_args={
        "owner": "data-platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "on_failure_callback": failed,
        "on_success_callback": recovered,
    },
    tags=["warehouse"],
)
def warehouse_migrations():
    @task
    def migrate():
        """Apply what is missing; gives the revisions that were applied."""
        return tasks.migrate()

    migrate()


warehouse_migrations()
