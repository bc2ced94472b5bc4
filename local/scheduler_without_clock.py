"""Airflow's scheduler, which starts the runs that people, backfills and assets ask for, and none because of the time.

With the replay there is no data of yesterday, so a run by the clock would fail. Airflow's own setting for this,
USE_JOB_SCHEDULE, would also keep the runs from starting that are scheduled on assets.
"""

from typing import Any

from airflow.__main__ import main
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner


def _create_none(self: SchedulerJobRunner, dag_models: Any, session: Any) -> None:
    """Leave out the runs that are due. Airflow makes those of assets and backfills elsewhere."""


if __name__ == "__main__":
    SchedulerJobRunner._create_dag_runs = _create_none  # type: ignore[method-assign]
    main()  # type: ignore[no-untyped-call]
