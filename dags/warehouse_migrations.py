"""
### Warehouse migrations

Brings the warehouse's schema up to date, all of it or nothing, and sets the passwords of the roles `airlock_app` and
`airlock_reader` to those that their connections hold. Run it after every deploy; running it again changes nothing.
Needs the connection `postgres_admin_conn` and that of every dataset; `postgres_reader_conn` is optional.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from include.alerts.callbacks import recovered
from include.pipeline import tasks
from include.pipeline.dag_defaults import dag_defaults


@dag(
    **dag_defaults(longest_run=timedelta(hours=12)),
    dag_id="warehouse_migrations",
    description="Versioned migrations of the warehouse and the passwords of its roles",
    doc_md=__doc__,
    schedule=None,
    tags=["warehouse"],
)
def warehouse_migrations():
    @task(execution_timeout=timedelta(hours=6), on_success_callback=recovered)  # a migration may rewrite a large table
    def migrate():
        """Apply what is missing; returns the migrations that were applied."""
        return tasks.migrate()

    migrate()


warehouse_migrations()
