"""Every DAG parses, cheaply, and is scheduled, ordered and described as it is meant to be."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.simple import NullTimetable
from pendulum import instance

from include.alerts.callbacks import failed, recovered
from include.daily_operations.tasks import open_batch
from include.market.tasks import asked_for
from include.warehouse.connections import DAILY_OPERATIONS
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give

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
VIEWS_DAG = "daily_operations_view_update"
ROLLBACK_DAG = "publication_rollback"
VIEWS = ROOT / "include" / "daily_operations"
SUITES = ROOT / "great_expectations" / "expectations"
TAGS = {"daily_operations", "market", "quality", "taskflow", "traditional", "warehouse"}
# Seconds each; the DAG processor imports every DAG file anew, over and over, and so does every task.
HEAVY = ("exchange_calendars", "great_expectations", "pandas", "pyarrow", "scipy")

dag_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
market_dag = pytest.mark.parametrize("dag_id", MARKET_DAGS)


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(dag_folder=ROOT / "dags")


def test_every_file_parses_to_the_dag_of_its_name(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {path.stem for path in FILES} >= {*MARKET_DAGS, VIEWS_DAG, ROLLBACK_DAG}


def test_the_folder_has_nothing_but_dag_files(bag: DagBag) -> None:
    why = (
        "a deploy waits until Airflow has read every file of dags/ as a DAG (scripts/deploy.py, await_dags), and looks "
        "into no subfolder: helpers belong into include/"
    )
    assert {path.name for path in FILES} == {Path(dag.fileloc).name for dag in bag.dags.values()}, why
    folders = [path.name for path in (ROOT / "dags").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert folders == [], why


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
def test_every_task_that_fails_is_told_and_the_last_tells_what_is_over(bag: DagBag, path: Path) -> None:
    tasks = bag.dags[path.stem].tasks
    # Airflow does not call a task's when its process was killed (apache/airflow#60858); a DAG's it does.
    assert bag.dags[path.stem].on_failure_callback is failed
    assert {task.task_id: task.on_failure_callback for task in tasks} == {task.task_id: [failed] for task in tasks}
    # An EmptyOperator with it would be a process of its own, only to tell.
    working = [task.task_id for task in tasks if task.task_id != "end"]
    assert [task.task_id for task in tasks if task.on_success_callback] == working[-1:]
    assert all(task.on_success_callback in ([], [recovered]) for task in tasks)


def test_late_data_is_looked_for_at_every_full_hour(bag: DagBag) -> None:
    dag = bag.dags["data_freshness"]
    timetable = coerce_to_core_timetable(dag.timetable)
    last = DataInterval.exact(instance(datetime(2023, 11, 22, 9, tzinfo=UTC)))
    info = timetable.next_dagrun_info(
        last_automated_data_interval=last, restriction=TimeRestriction(None, None, catchup=True)
    )
    assert info is not None
    assert info.run_after == datetime(2023, 11, 22, 10, tzinfo=UTC)
    assert (dag.catchup, dag.max_active_runs) == (False, 1)


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


@pytest.mark.parametrize("dag_id", [*MARKET_DAGS, VIEWS_DAG])
def test_a_scheduled_dag_runs_from_august_2023_one_run_at_a_time(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert dag.start_date == datetime(2023, 8, 1, tzinfo=UTC)
    assert dag.catchup is False
    assert dag.max_active_runs == 1


def run_after(dag: DAG, previous: datetime) -> tuple[DagRunInfo, SimpleNamespace]:
    """Give the run that the scheduler makes after the one of a time, as it knows it and as its tasks do."""
    # The interval of the run before: a day, whatever the weekday, as the scheduler only looks at its end.
    before = DataInterval(instance(previous - timedelta(days=1)), instance(previous))
    info = coerce_to_core_timetable(dag.timetable).next_dagrun_info(
        last_automated_data_interval=before, restriction=TimeRestriction(None, None, catchup=True)
    )
    assert info is not None
    assert info.data_interval is not None
    dag_run = SimpleNamespace(
        dag_id=dag.dag_id,
        run_id=f"scheduled__{info.run_after}",
        data_interval_start=info.data_interval.start,
        run_after=info.run_after,
    )
    return info, dag_run


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
    info, dag_run = run_after(dag, nine(previous_run))
    assert info.run_after == nine(run)
    assert info.data_interval == DataInterval(instance(nine(loaded)), instance(nine(run)))
    assert asked_for(dag_run, dag.params.dump()) == (loaded, ["AAPL", "AMZN"])


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


@pytest.mark.parametrize(
    "day",
    [
        date(2023, 8, 1),
        pytest.param(date(2023, 8, 6), id="a Sunday, too"),
        pytest.param(date(2023, 11, 5), id="New York's clocks change"),
        pytest.param(date(2023, 12, 31), id="the last of a year"),
    ],
)
def test_a_views_run_at_noon_refreshes_the_day_before(
    bag: DagBag, warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, day: date
) -> None:
    def noon(of: date) -> datetime:
        return datetime(of.year, of.month, of.day, 12, tzinfo=UTC)

    give(monkeypatch, DAILY_OPERATIONS, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    dag, next_day = bag.dags[VIEWS_DAG], day + timedelta(days=1)
    info, dag_run = run_after(dag, noon(day))
    assert info.run_after == noon(next_day)
    assert info.data_interval == DataInterval(instance(noon(day)), instance(noon(next_day)))
    assert open_batch(dag_run, dag.params.dump())["as_of"] == day.isoformat()


def test_the_views_are_refreshed_side_by_side_and_published_behind_one_gate(bag: DagBag) -> None:
    dag = bag.dags[VIEWS_DAG]
    refreshes = {f"refresh_{path.stem}" for path in VIEWS.glob("*.sql")}
    assert refreshes >= {
        "refresh_admission_by_entrance",
        "refresh_items_to_order",
        "refresh_top_selling_items_by_location",
        "refresh_ytd_labor_metrics",
    }
    # Validate and publish also wait for start itself, which tells them the batch.
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == {
        "start": set(),
        **{refresh: {"start"} for refresh in refreshes},
        "validate_views": {"start"} | refreshes,
        "publish_views": {"start", "validate_views"},
        "end": {"publish_views"},
    }
    # Any other rule could publish a part of the views, or what did not pass.
    assert {task.trigger_rule for task in dag.tasks} == {TriggerRule.ALL_SUCCESS}
    # Nothing but Airflow's own limits may keep the refreshes from running at once.
    assert {(task.pool, task.max_active_tis_per_dag) for task in dag.tasks} == {("default_pool", None)}
    assert dag.max_active_tasks >= len(refreshes)


def test_a_refresh_is_the_servers_work(bag: DagBag) -> None:
    tasks = [task for task in bag.dags[VIEWS_DAG].tasks if task.task_id.startswith("refresh_")]
    for task in tasks:
        assert isinstance(task, SQLExecuteQueryOperator)
        assert task.conn_id == DAILY_OPERATIONS
        assert task.do_xcom_push is False, "no row of a result goes through Airflow"


def test_the_views_dag_asks_for_a_day(bag: DagBag) -> None:
    params = bag.dags[VIEWS_DAG].params
    params.validate()
    assert params.dump() == {"as_of": None, "allow_older": False}


def test_the_rollback_dag_asks_what_goes_back_and_runs_by_hand(bag: DagBag) -> None:
    dag = bag.dags[ROLLBACK_DAG]
    dag.params.validate()
    assert dag.params.dump() == {"object": "market.transformed_market_data", "day": None}
    assert isinstance(coerce_to_core_timetable(dag.timetable), NullTimetable)
    assert dag.max_active_runs == 1
    assert [task.task_id for task in dag.tasks] == ["roll_back"]


@pytest.mark.parametrize(
    ("dag_id", "name", "value"),
    [
        (VIEWS_DAG, "as_of", None),
        (VIEWS_DAG, "as_of", "2023-08-01"),
        (VIEWS_DAG, "allow_older", True),
        (VIEWS_DAG, "allow_older", False),
        (ROLLBACK_DAG, "object", "market.transformed_market_data"),
        (ROLLBACK_DAG, "object", "daily_operations"),
        (ROLLBACK_DAG, "day", None),
        (ROLLBACK_DAG, "day", "2023-08-01"),
    ],
)
def test_a_publishing_dag_takes_what_is_well_formed(bag: DagBag, dag_id: str, name: str, value: object) -> None:
    assert resolved(bag.dags[dag_id], name, value) == value


@pytest.mark.parametrize(
    ("dag_id", "name", "value"),
    [
        (VIEWS_DAG, "as_of", "2023-02-30"),
        (VIEWS_DAG, "as_of", "20230801"),
        (VIEWS_DAG, "as_of", "2023-08-01T12:00:00"),
        (VIEWS_DAG, "as_of", "yesterday"),
        (VIEWS_DAG, "as_of", 20230801),
        (VIEWS_DAG, "allow_older", None),
        (VIEWS_DAG, "allow_older", "true"),
        (VIEWS_DAG, "allow_older", 1),
        (ROLLBACK_DAG, "object", "market"),
        (ROLLBACK_DAG, "object", "warehouse.publication"),
        (ROLLBACK_DAG, "object", "daily_operations.items_to_order"),
        (ROLLBACK_DAG, "object", ""),
        (ROLLBACK_DAG, "object", None),
        (ROLLBACK_DAG, "day", "2023-02-30"),
        (ROLLBACK_DAG, "day", "the day before"),
        (ROLLBACK_DAG, "day", 20230801),
    ],
)
def test_a_publishing_dag_refuses_what_is_malformed(bag: DagBag, dag_id: str, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        resolved(bag.dags[dag_id], name, value)


def wrong_with_views(views: Path, suites: Path) -> list[str]:
    """Tell what keeps the queries and the suites of two folders from belonging together."""
    queries = {path.stem: path.read_text() for path in sorted(views.glob("*.sql"))}
    named = {path.stem: json.loads(path.read_text())["name"] for path in sorted(suites.glob("*.json"))}
    return [
        *(f"{view} has no suite" for view in queries if view not in named),
        *(f"{suite} is nobody's suite" for suite in named if suite not in {*queries, "market"}),
        *(f"{suite} is named {name} inside" for suite, name in named.items() if name != suite),
        *(
            f"{view} is more than one SELECT"
            for view, text in queries.items()
            if ";" in text or not re.match(r"SELECT\s", text)
        ),
    ]


def test_every_view_is_one_query_with_a_suite_of_its_own() -> None:
    assert wrong_with_views(VIEWS, SUITES) == []


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("views/fifth.sql", "SELECT 1 AS one\n", ["fifth has no suite"]),
        ("views/first.sql", "SELECT 1 AS one;\n", ["first is more than one SELECT"]),
        ("views/first.sql", "DELETE FROM market.transformed_market_data\n", ["first is more than one SELECT"]),
        ("suites/fifth.json", '{"name": "fifth"}', ["fifth is nobody's suite"]),
        ("suites/first.json", '{"name": "another"}', ["first is named another inside"]),
        ("views/views.py", "", []),
    ],
)
def test_a_query_or_suite_that_stands_alone_is_told(tmp_path: Path, file: str, text: str, wrong: list[str]) -> None:
    views, suites = tmp_path / "views", tmp_path / "suites"
    views.mkdir()
    suites.mkdir()
    (views / "first.sql").write_text("SELECT 1 AS one\n")
    for name in ("first", "market"):
        (suites / f"{name}.json").write_text(json.dumps({"name": name}))
    assert wrong_with_views(views, suites) == []

    (tmp_path / file).write_text(text)

    assert wrong_with_views(views, suites) == wrong
