"""
### Data freshness

Looks every hour whether readers see the last day of each dataset that is due: the market's last session, by the
exchange's calendar, from 10:00 UTC of the next weekday on, and the day before in the views from 13:00 UTC. What is late
is told once, and once more when it has arrived. A dataset that was never published is not late.
"""

from datetime import datetime, timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

from include.alerts import freshness
from include.alerts.callbacks import failed, recovered


@dag(
    dag_id="data_freshness",
    description="Tells when a dataset's last due day is not published",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime(2023, 8, 1),
    catchup=False,
    max_active_runs=1,
    on_failure_callback=failed,
    default_args={
        "owner": "data-platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=30),
        "on_failure_callback": failed,
        "on_success_callback": recovered,
    },
    tags=["quality"],
)
def data_freshness():
    @task(multiple_outputs=False)
    def check_freshness(ti=None):
        """Tell of every dataset that is late; gives what was found of each."""
        return freshness.check_freshness(ti)

    check_freshness()


data_freshness()
