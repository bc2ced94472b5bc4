"""Every DAG parses, cheaply, and is scheduled, ordered and described as it is meant to be."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import DataInterval, TimeRestriction
from pendulum import instance

from include.market.tasks import open_batch

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))
MARKET_DAGS = ("market_etl__taskflow_api", "market_etl__traditional")
HELPERS = "include.market_etl__taskflow_api__helpers"
MARKET_CHAIN = [
    "start",
    "extract_market_data",
    "flatten_market_data",
    "transform_market_data",
    "load_market_data",
    "validate_market_data",
    "publish_market_data",
    "end",
]
TAGS = {"market", "taskflow", "traditional", "warehouse"}
# Seconds each; the DAG processor imports every DAG file anew, over and over, and so does every task.
HEAVY = ("exchange_calendars", "great_expectations", "pandas", "pyarrow", "scipy")

dag_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
market_dag = pytest.mark.parametrize("dag_id", MARKET_DAGS)


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(dag_folder=ROOT / "dags")


def test_every_file_parses_to_the_dag_of_its_name(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {path.stem for path in FILES} >= set(MARKET_DAGS)


@dag_file
def test_every_dag_tells_what_it_is(bag: DagBag, path: Path) -> None:
    dag = bag.dags[path.stem]
    assert dag.description
    assert dag.doc_md
    assert dag.doc_md.strip()
    assert dag.tags
    assert dag.tags <= TAGS, "a new tag? Add it to TAGS: people filter the UI by a few known ones"
    assert {task.owner for task in dag.tasks} == {"data-platform"}


@dag_file
def test_every_task_survives_an_outage_of_three_minutes(bag: DagBag, path: Path) -> None:
    told = {task.task_id: (task.retries, task.retry_delay) for task in bag.dags[path.stem].tasks}
    assert told == dict.fromkeys(told, (3, timedelta(minutes=1)))


@dag_file
def test_a_dag_file_is_wiring_only(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 100, "move what a task does to include/"
    assert "schedule_interval" not in text, "Airflow 3 knows `schedule` only"


def test_importing_a_dag_file_loads_nothing_heavy() -> None:
    """In a process of its own: this one has imported pandas already."""
    script = f"""
import importlib.util, json, sys
loaded = {{}}
for path in sys.argv[1:]:
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("dag_file", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    loaded[path] = sorted((set(sys.modules) - before).intersection({HEAVY!r}))
print(json.dumps(loaded))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, FILES)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = json.loads(ran.stdout.splitlines()[-1])
    assert loaded == {str(path): [] for path in FILES}, "import it inside the function that needs it"


def test_the_folder_of_the_suites_does_not_hide_great_expectations() -> None:
    """With an __init__.py it would be the package that `import great_expectations` finds."""
    assert not list((ROOT / "great_expectations").rglob("__init__.py"))


@market_dag
def test_a_market_dag_runs_from_august_2023_one_run_at_a_time(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert dag.start_date == datetime(2023, 8, 1, tzinfo=UTC)
    assert dag.catchup is False
    assert dag.max_active_runs == 1


@market_dag
@pytest.mark.parametrize(
    ("previous_run", "run", "loaded"),
    [
        (date(2023, 7, 31), date(2023, 8, 1), date(2023, 7, 31)),
        (date(2023, 8, 3), date(2023, 8, 4), date(2023, 8, 3)),
        pytest.param(date(2023, 8, 4), date(2023, 8, 7), date(2023, 8, 4), id="Monday loads Friday"),
        pytest.param(date(2023, 11, 3), date(2023, 11, 6), date(2023, 11, 3), id="New York's clocks change"),
    ],
)
def test_a_market_run_at_nine_loads_the_previous_weekday(
    bag: DagBag, dag_id: str, previous_run: date, run: date, loaded: date
) -> None:
    def nine(day: date) -> datetime:
        return datetime(day.year, day.month, day.day, 9, tzinfo=UTC)

    dag = bag.dags[dag_id]
    timetable = coerce_to_core_timetable(dag.timetable)
    # The interval of the run before: a day earlier, whatever the weekday, as the scheduler only looks at its end.
    before = DataInterval(instance(nine(previous_run) - timedelta(days=1)), instance(nine(previous_run)))
    info = timetable.next_dagrun_info(
        last_automated_data_interval=before, restriction=TimeRestriction(None, None, catchup=True)
    )
    assert info is not None
    assert info.run_after == nine(run)
    assert info.data_interval == DataInterval(instance(nine(loaded)), instance(nine(run)))

    dag_run = SimpleNamespace(
        dag_id=dag_id,
        run_id=f"scheduled__{run}",
        data_interval_start=info.data_interval.start,
        run_after=info.run_after,
    )
    assert open_batch(dag_run, dag.params.dump())["market_date"] == loaded.isoformat()


@market_dag
def test_a_market_dag_is_one_chain_that_ends_when_its_gate_closes(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    # Each task waits for the one before it, so that the order below is the only one there is.
    ordered = dag.topological_sort()  # type: ignore[no-untyped-call]  # Airflow's own, without annotations
    assert [task.task_id for task in ordered] == MARKET_CHAIN
    for before, after in pairwise(MARKET_CHAIN):
        assert after in dag.get_task(before).downstream_task_ids
    # Any other rule could run publish after a validate that failed.
    assert {task.trigger_rule for task in dag.tasks} == {TriggerRule.ALL_SUCCESS}


def test_the_taskflow_dag_defines_extract_and_takes_the_others_from_its_helpers(bag: DagBag) -> None:
    dag = bag.dags["market_etl__taskflow_api"]
    homes = {it.task_id: it.python_callable.__module__ for it in dag.tasks if isinstance(it, PythonOperator)}
    assert homes.pop("extract_market_data").endswith("market_etl__taskflow_api")
    assert homes == dict.fromkeys(set(MARKET_CHAIN) - {"extract_market_data"}, HELPERS)


@market_dag
def test_a_market_dag_asks_for_a_session_and_tickers(bag: DagBag, dag_id: str) -> None:
    params = bag.dags[dag_id].params
    params.validate()
    assert params.dump() == {"market_date": None, "tickers": ["AAPL", "AMZN"]}


def resolved(dag: DAG, name: str, value: object) -> object:
    """Give what a run gets for a value that was asked for."""
    return dag.params.get_param(name).resolve(value)


@market_dag
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("market_date", None),
        ("market_date", "2023-08-01"),
        ("tickers", ["KIMpL"]),
        ("tickers", ["BRK.B", "AAPL", "MSFT"]),
    ],
)
def test_a_market_dag_takes_what_is_well_formed(bag: DagBag, dag_id: str, name: str, value: object) -> None:
    assert resolved(bag.dags[dag_id], name, value) == value


@market_dag
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
def test_a_market_dag_refuses_what_is_malformed(bag: DagBag, dag_id: str, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        resolved(bag.dags[dag_id], name, value)
