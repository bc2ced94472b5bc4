"""
### Publication rollback

Publishes again what readers saw before: of one day of a table, or of all views of a dataset together. It is one
transaction, and a publication of its own in the register `warehouse.publication`: rolling back twice goes two
publications back, and running the publishing DAG again goes forward. Run it by hand.
"""

from airflow.sdk import Param, dag, task

from include.alerts.callbacks import recovered
from include.datasets import DATASETS
from include.pipeline import tasks
from include.pipeline.assets import ROLLED_BACK
from include.pipeline.dag_defaults import dag_defaults

OBJECTS = [dataset.label for dataset in DATASETS]


@dag(
    **dag_defaults(),
    dag_id="publication_rollback",
    description="Back to the previous publication of a table's day or of a dataset's views",
    doc_md=__doc__,
    schedule=None,
    params={
        "object": Param(
            next(iter(OBJECTS), None),
            enum=OBJECTS,
            title="Table or group of views",
            description="A table goes back by one day of it; the views of a dataset go back together.",
        ),
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="Table: the day to restore. Views: go back to that day; empty: the publication before.",
        ),
    },
    tags=["warehouse"],
)
def publication_rollback():
    @task(multiple_outputs=False, on_success_callback=recovered, outlets=[ROLLED_BACK])
    def roll_back(dag_run=None, params=None, outlet_events=None):
        """Restore the previous publication; returns what is published now."""
        return tasks.roll_back(dag_run, params, outlet_events)

    roll_back()


publication_rollback()
