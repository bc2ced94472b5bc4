"""The DAGs as Airflow parses them, and the runs that its scheduler would create."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from pendulum import instance

from local.state import ROOT

FOLDER = ROOT / "dags"
FILES = sorted(FOLDER.glob("*.py"))


@cache
def dag_bag() -> DagBag:
    """Return what Airflow reads in the folder; parsed once, so nothing may change it."""
    return DagBag(dag_folder=FOLDER)


def dags() -> Mapping[str, DAG]:
    """Return every DAG by its id."""
    return dag_bag().dags


def next_run(dag: DAG, previous: datetime) -> DagRunInfo:
    """Return the run that the scheduler creates after the one of a time."""
    # The interval of the run before: a day, whatever the weekday, since the scheduler only looks at its end.
    before = DataInterval(instance(previous - timedelta(days=1)), instance(previous))
    info = coerce_to_core_timetable(dag.timetable).next_dagrun_info(
        last_automated_data_interval=before, restriction=TimeRestriction(None, None, catchup=True)
    )
    assert info is not None
    return info


def as_dag_run(dag: DAG, info: DagRunInfo) -> SimpleNamespace:
    """Return a scheduled run as its tasks know it."""
    assert info.data_interval is not None
    return SimpleNamespace(
        dag_id=dag.dag_id,
        run_id=f"scheduled__{info.run_after}",
        data_interval_start=info.data_interval.start,
        run_after=info.run_after,
    )


def resolved(dag: DAG, name: str, value: object) -> object:
    """Return what a run gets for the value of a param; raises ParamValidationError for one that is refused."""
    return dag.params.get_param(name).resolve(value)
