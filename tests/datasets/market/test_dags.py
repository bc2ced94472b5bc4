"""The two market DAGs: the same job, scheduled and wired as it is meant to be."""

import inspect
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.exceptions import ParamValidationError
from airflow.timetables.base import DataInterval
from pendulum import instance

from include import market_etl__taskflow_api__helpers as helpers
from include.datasets.market import tasks
from include.datasets.market.dataset import MARKET
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from scripts.smoke_run import TAG
from tests.dags.dags import as_dag_run, dags, next_run, resolved
from tests.include.warehouse.airflow_connections import give

TASKFLOW, TRADITIONAL = "market_etl__taskflow_api", "market_etl__traditional"
# What the tasks do, in their order: the functions of the module that both DAGs wire.
FUNCTIONS = {
    "start" if name == "open_batch" else name: function
    for name, function in vars(tasks).items()
    if inspect.isfunction(function) and function.__module__ == tasks.__name__
}
CHAIN = [*FUNCTIONS, "end"]
EXTRACT = "extract_market_data"

each_dag = pytest.mark.parametrize("dag_id", [TASKFLOW, TRADITIONAL])


@each_dag
def test_the_dag_is_one_chain_of_the_same_tasks(dag_id: str) -> None:
    dag = dags()[dag_id]
    assert MARKET.name in dag.tags
    assert dag.start_date == datetime(2023, 8, 1, tzinfo=UTC)
    # Each task waits for the one before it, so that the order below is the only one there is.
    ordered = dag.topological_sort()  # type: ignore[no-untyped-call]  # Airflow's own, without annotations
    assert [task.task_id for task in ordered] == CHAIN
    for before, after in pairwise(CHAIN):
        assert after in dag.get_task(before).downstream_task_ids


def test_the_traditional_dag_calls_the_functions_of_the_dataset() -> None:
    operators = {task.task_id: task for task in dags()[TRADITIONAL].tasks}
    assert isinstance(operators.pop("end"), EmptyOperator)
    assert {
        task_id: task.python_callable for task_id, task in operators.items() if isinstance(task, PythonOperator)
    } == FUNCTIONS


def test_the_taskflow_dag_defines_extract_and_takes_the_others_from_its_helpers() -> None:
    functions = {
        task.task_id: task.python_callable for task in dags()[TASKFLOW].tasks if isinstance(task, PythonOperator)
    }
    extract = functions.pop(EXTRACT)
    assert extract.__module__.endswith(TASKFLOW)
    assert not hasattr(helpers, EXTRACT)
    assert functions == {task_id: getattr(helpers, task_id).function for task_id in CHAIN if task_id != EXTRACT}
    assert {task_id: functions[task_id] for task_id in FUNCTIONS if task_id != EXTRACT} == {
        task_id: function for task_id, function in FUNCTIONS.items() if task_id != EXTRACT
    }


@each_dag
@pytest.mark.parametrize(
    ("previous_run", "run", "loaded"),
    [
        (date(2023, 7, 31), date(2023, 8, 1), date(2023, 7, 31)),
        (date(2023, 8, 3), date(2023, 8, 4), date(2023, 8, 3)),
        pytest.param(date(2023, 8, 4), date(2023, 8, 7), date(2023, 8, 4), id="Monday loads Friday"),
        pytest.param(date(2023, 11, 3), date(2023, 11, 6), date(2023, 11, 3), id="New York's clocks change"),
    ],
)
def test_a_run_at_nine_loads_the_previous_weekday(
    warehouse: Login,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    dag_id: str,
    previous_run: date,
    run: date,
    loaded: date,
) -> None:
    def nine(day: date) -> datetime:
        return datetime(day.year, day.month, day.day, 9, tzinfo=UTC)

    give(monkeypatch, MARKET.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    dag = dags()[dag_id]
    info = next_run(dag, nine(previous_run))
    assert info.run_after == nine(run)
    assert info.data_interval == DataInterval(instance(nine(loaded)), instance(nine(run)))
    assert tasks.open_batch(as_dag_run(dag, info), dag.params.dump())["day"] == loaded.isoformat()


@each_dag
def test_the_dag_asks_for_a_session_and_tickers(dag_id: str) -> None:
    params = dags()[dag_id].params
    params.validate()
    assert params.dump() == {"market_date": None, "tickers": ["AAPL", "AMZN"]}


@each_dag
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("market_date", None),
        ("market_date", "2023-08-01"),
        ("tickers", ["KIMpL"]),
        ("tickers", ["BRK.B", "AAPL", "MSFT"]),
    ],
)
def test_the_dag_accepts_what_is_well_formed(dag_id: str, name: str, value: object) -> None:
    assert resolved(dags()[dag_id], name, value) == value


@each_dag
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("market_date", "2023-02-30"),
        ("market_date", "20230801"),
        ("market_date", "2023-08-01T09:00:00"),
        ("market_date", "yesterday"),
        ("market_date", 20230801),
        ("tickers", []),
        ("tickers", None),
        ("tickers", "AAPL"),
        ("tickers", ["AAPL", "AAPL"]),
        ("tickers", ["AAPL; drop table market"]),
        ("tickers", ["../v1/marketstatus"]),
        ("tickers", [""]),
        ("tickers", [7]),
    ],
)
def test_the_dag_refuses_what_is_malformed(dag_id: str, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        resolved(dags()[dag_id], name, value)


def test_a_deploy_runs_one_of_the_two_dags() -> None:
    assert [dag_id for dag_id in (TASKFLOW, TRADITIONAL) if TAG in dags()[dag_id].tags] == [TASKFLOW]
