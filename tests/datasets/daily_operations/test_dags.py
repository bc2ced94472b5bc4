"""The DAG of the views: scheduled and wired as it is meant to be."""

from datetime import UTC, date, datetime, timedelta

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
from airflow.timetables.base import DataInterval
from pendulum import instance

from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.datasets.daily_operations.tasks import open_batch
from include.pipeline.refresh import RefreshOperator
from local.login import Login
from local.state import State
from tests.dags.dags import as_dag_run, dags, next_run, resolved
from tests.datasets.daily_operations.resort import as_app
from tests.include.warehouse.airflow_connections import give

REFRESHES = {f"refresh_{view.name}" for view in DAILY_OPERATIONS.publishes}


@pytest.fixture
def dag() -> DAG:
    return dags()["daily_operations_view_update"]


@pytest.mark.parametrize(
    "day",
    [
        date(2023, 8, 1),
        pytest.param(date(2023, 8, 6), id="a Sunday, too"),
        pytest.param(date(2023, 11, 5), id="New York's clocks change"),
        pytest.param(date(2023, 12, 31), id="the last of a year"),
    ],
)
def test_a_run_at_noon_refreshes_the_day_before(
    dag: DAG, warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, day: date
) -> None:
    def noon(of: date) -> datetime:
        return datetime(of.year, of.month, of.day, 12, tzinfo=UTC)

    give(monkeypatch, DAILY_OPERATIONS.connection, as_app(warehouse, state))
    next_day = day + timedelta(days=1)
    info = next_run(dag, noon(day))
    assert info.run_after == noon(next_day)
    assert info.data_interval == DataInterval(instance(noon(day)), instance(noon(next_day)))
    assert open_batch(as_dag_run(dag, info), dag.params.dump())["day"] == day.isoformat()


def test_the_views_are_refreshed_side_by_side_and_published_behind_one_gate(dag: DAG) -> None:
    assert DAILY_OPERATIONS.name in dag.tags
    assert dag.start_date == datetime(2023, 8, 1, tzinfo=UTC)
    # Validate and publish also wait for start itself, which passes the batch to them.
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == {
        "start": set(),
        **{refresh: {"start"} for refresh in REFRESHES},
        "validate_views": {"start"} | REFRESHES,
        "publish_views": {"start", "validate_views"},
        "end": {"publish_views"},
    }
    # Nothing but Airflow's own limits may keep the refreshes from running at once.
    assert {(task.pool, task.max_active_tis_per_dag) for task in dag.tasks} == {("default_pool", None)}
    assert dag.max_active_tasks >= len(REFRESHES)


def test_a_refresh_is_the_servers_work_in_one_transaction(dag: DAG) -> None:
    for task_id in REFRESHES:
        task = dag.get_task(task_id)
        assert isinstance(task, RefreshOperator)
        assert task.conn_id == DAILY_OPERATIONS.connection
        assert task.autocommit is False
        assert task.do_xcom_push is False, "no row of a result goes through Airflow"


def test_the_dag_asks_for_a_day(dag: DAG) -> None:
    dag.params.validate()
    assert dag.params.dump() == {"as_of": None, "allow_older": False}


@pytest.mark.parametrize(
    ("name", "value"), [("as_of", None), ("as_of", "2023-08-01"), ("allow_older", True), ("allow_older", False)]
)
def test_the_dag_accepts_what_is_well_formed(dag: DAG, name: str, value: object) -> None:
    assert resolved(dag, name, value) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("as_of", "2023-02-30"),
        ("as_of", "20230801"),
        ("as_of", "2023-08-01T12:00:00"),
        ("as_of", "yesterday"),
        ("as_of", 20230801),
        ("allow_older", None),
        ("allow_older", "true"),
        ("allow_older", 1),
    ],
)
def test_the_dag_refuses_what_is_malformed(dag: DAG, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        resolved(dag, name, value)
