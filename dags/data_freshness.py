"""
### Data freshness

Checks every hour whether readers see the last day of each dataset that is due. Each dataset declares when its day is
due, and which days have no data. What is late is reported once, and once more when it has arrived. A dataset that was
never published is not late.
"""

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

from include.alerts import freshness
from include.alerts.callbacks import recovered
from include.pipeline.dag_defaults import dag_defaults


@dag(
    **dag_defaults(longest_run=timedelta(minutes=55)),
    dag_id="data_freshness",
    description="Reports when a dataset's last due day is not published",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 * * * *", timezone="UTC"),
    tags=["quality"],
)
def data_freshness():
    @task(multiple_outputs=False, on_success_callback=recovered)
    def check_freshness(ti=None):
        """Report every dataset that is late; returns what was found for each."""
        return freshness.check_freshness(ti)

    check_freshness()


data_freshness()
