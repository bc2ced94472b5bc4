"""Every DAG parses quickly and follows the rules of the platform, whatever datasets are declared."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.simple import NullTimetable

from include.alerts.callbacks import failed, recovered
from include.dataset import Dataset
from include.datasets import DATASETS
from include.pipeline.dag_defaults import dag_defaults
from local.state import ROOT
from scripts.smoke_run import TAG as SMOKE
from tests.dags.dags import FILES, FOLDER, dag_bag, dags, next_run, resolved
from tests.toy import TOYS

PLATFORM_TAGS = {"quality", "warehouse"}
ROLLBACK = "publication_rollback"
# Seconds each; the DAG processor imports every DAG file again and again, and so does every task.
HEAVY = ("exchange_calendars", "great_expectations", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn")

every_dag = pytest.mark.parametrize("dag_id", [path.stem for path in FILES])
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_dataset = pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)


def datasets_of(dag: DAG) -> list[Dataset]:
    """Return the datasets whose tag a DAG has."""
    return [dataset for dataset in DATASETS if dataset.schema in dag.tags]


def task_ids(dag: DAG, prefix: str) -> set[str]:
    """Return the tasks whose names, within their task groups, begin so."""
    return {task.task_id for task in dag.tasks if task.task_id.rpartition(".")[2].startswith(prefix)}


def listed(callbacks: Any) -> list[Any]:
    """Return the callbacks of a DAG or task as a list, however they were passed."""
    return list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]


def test_every_file_has_one_dag_with_the_name_of_the_file() -> None:
    assert dag_bag().import_errors == {}
    assert {dag_id: Path(dag.fileloc).name for dag_id, dag in dags().items()} == {
        path.stem: path.name for path in FILES
    }, "a deploy waits until Airflow has read every file of dags/ as a DAG: put helpers into include/"


def test_the_folder_has_no_subfolder() -> None:
    folders = [path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert folders == [], "a deploy does not look into subfolders of dags/: put helpers into include/"


@every_dag
def test_a_dag_has_a_description_and_documentation(dag_id: str) -> None:
    dag = dags()[dag_id]
    assert dag.description
    assert (dag.doc_md or "").strip(), "write a docstring at the top of the file, and pass doc_md=__doc__"


@every_dag
def test_a_dag_has_the_tag_and_the_owner_of_its_dataset(dag_id: str) -> None:
    dag = dags()[dag_id]
    datasets = datasets_of(dag)
    assert datasets or dag.tags & PLATFORM_TAGS, (
        f"add a tag by which people find it: the name of its dataset, or one of {', '.join(sorted(PLATFORM_TAGS))}"
    )
    owners = {dataset.owner for dataset in datasets} or {dag_defaults()["default_args"]["owner"]}
    assert {task.owner for task in dag.tasks} <= owners, "pass the dataset's owner: **dag_defaults(DATASET.owner)"


@every_dag
def test_a_dag_does_one_run_at_a_time_and_no_past_ones(dag_id: str) -> None:
    dag = dags()[dag_id]
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.start_date, "without a start date it is never scheduled"
    assert dag.start_date <= datetime.now(UTC)


@every_dag
def test_a_task_survives_an_outage_of_three_minutes_and_does_not_run_forever(dag_id: str) -> None:
    for task in dags()[dag_id].tasks:
        assert isinstance(task.retry_delay, timedelta)
        assert (task.retries or 0) * task.retry_delay >= timedelta(minutes=3), task.task_id
        assert task.execution_timeout, f"{task.task_id} has no execution_timeout"
        assert task.execution_timeout > timedelta()


@every_dag
def test_no_task_writes_what_it_returns_into_its_log(dag_id: str) -> None:
    tasks = dags()[dag_id].tasks
    assert [task.task_id for task in tasks if getattr(task, "show_return_value_in_logs", False)] == [], (
        "leave out show_return_value_in_logs: dag_defaults turns it off, because a value can have megabytes"
    )


@every_dag
def test_a_run_does_not_hold_up_the_next_ones_forever(dag_id: str) -> None:
    dag = dags()[dag_id]
    assert dag.dagrun_timeout, "pass **dag_defaults()"
    assert dag.dagrun_timeout > max(task.execution_timeout for task in dag.tasks if task.execution_timeout)


@every_dag
def test_every_failure_is_reported(dag_id: str) -> None:
    dag = dags()[dag_id]
    # Airflow does not run a task's callback when its process was killed (apache/airflow#60858), but the DAG's.
    assert failed in listed(dag.on_failure_callback)
    reporting = {task.task_id for task in dag.tasks if failed in listed(task.on_failure_callback)}
    # One that runs whatever happened before can report for those before it.
    final = {task_id for task_id in reporting if dag.get_task(task_id).trigger_rule == TriggerRule.ALL_DONE}
    silent = [
        task.task_id
        for task in dag.tasks
        if task.task_id not in reporting and not final & task.get_flat_relative_ids(upstream=False)
    ]
    assert silent == []


@every_dag
def test_the_last_working_task_and_no_other_reports_a_recovery(dag_id: str) -> None:
    dag = dags()[dag_id]
    reporting = [task for task in dag.tasks if recovered in listed(task.on_success_callback)]
    assert len(reporting) == 1, (
        "pass on_success_callback=recovered to the last task that does something, and to no other"
    )
    # An EmptyOperator with a callback would need a process of its own.
    assert not isinstance(reporting[0], EmptyOperator)
    later = (
        {task.task_id for task in dag.tasks}
        - {reporting[0].task_id}
        - reporting[0].get_flat_relative_ids(upstream=True)
    )
    assert later <= {"end"}, f"{reporting[0].task_id} reports a recovery, and these may still fail"


@every_file
def test_a_dag_file_is_short_and_only_wires_tasks(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 100, "move what a task does to include/"
    assert "schedule_interval" not in text, "Airflow 3 has `schedule` only"
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.ClassDef), f"move {node.name} to include/"
        if isinstance(node, ast.FunctionDef):
            assert node.decorator_list, f"{node.name} is neither a DAG nor a task: move it to include/"


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


@every_dataset
def test_a_dataset_has_a_dag_that_publishes_it(dataset: Dataset) -> None:
    found = [dag_id for dag_id, dag in dags().items() if dataset.schema in dag.tags and task_ids(dag, "publish")]
    assert found, f"no DAG has the tag {dataset.schema} and a task publish_...: write one, or remove the dataset"


@every_dag
def test_what_a_dag_publishes_has_been_validated(dag_id: str) -> None:
    dag = dags()[dag_id]
    publishing = task_ids(dag, "publish")
    for task_id in publishing:
        before = dag.get_task(task_id).get_flat_relative_ids(upstream=True)
        assert before & task_ids(dag, "validate"), f"{task_id} waits for no task validate_..."
    if publishing:
        # Any other rule could publish after a gate that closed.
        ways = publishing.union(*(dag.get_task(each).get_flat_relative_ids(upstream=True) for each in publishing))
        assert {dag.get_task(each).trigger_rule for each in ways} == {TriggerRule.ALL_SUCCESS}


@every_dag
def test_a_scheduled_dag_and_one_that_a_deploy_runs_have_valid_default_params(dag_id: str) -> None:
    dag = dags()[dag_id]
    by_hand_only = isinstance(coerce_to_core_timetable(dag.timetable), NullTimetable)
    if not by_hand_only or SMOKE in dag.tags:
        dag.params.validate()


def test_late_data_is_looked_for_every_hour() -> None:
    for hour in (9, 10):
        info = next_run(dags()["data_freshness"], datetime(2023, 11, 22, hour, tzinfo=UTC))
        assert info.run_after == datetime(2023, 11, 22, hour + 1, tzinfo=UTC)


@pytest.mark.parametrize("dag_id", [ROLLBACK, "warehouse_migrations"])
def test_what_changes_the_warehouse_is_started_by_hand(dag_id: str) -> None:
    assert isinstance(coerce_to_core_timetable(dags()[dag_id].timetable), NullTimetable)


def rollback_dag(monkeypatch: pytest.MonkeyPatch, datasets: tuple[Dataset, ...]) -> DAG:
    """Return the rollback's DAG as it is parsed when these datasets are declared."""
    monkeypatch.setattr("include.datasets.DATASETS", datasets)
    bag = DagBag(dag_folder=FOLDER / f"{ROLLBACK}.py")
    assert bag.import_errors == {}
    return bag.dags[ROLLBACK]


def test_a_rollback_offers_what_the_datasets_publish(monkeypatch: pytest.MonkeyPatch) -> None:
    dag = rollback_dag(monkeypatch, TOYS)
    labels = [dataset.label for dataset in TOYS]
    dag.params.validate()
    assert dag.params.dump() == {"object": labels[0], "day": None}
    assert [resolved(dag, "object", label) for label in labels] == labels
    assert resolved(dag, "day", "2023-08-01") == "2023-08-01"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("object", "readings"),
        ("object", "rollups.totals"),
        ("object", "warehouse.publication"),
        ("object", ""),
        ("object", None),
        ("day", "2023-02-30"),
        ("day", "20230801"),
        ("day", "the day before"),
        ("day", 20230801),
    ],
)
def test_a_rollback_refuses_what_it_cannot_restore(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        resolved(rollback_dag(monkeypatch, TOYS), name, value)


def test_without_any_dataset_the_rollback_is_still_a_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    assert task_ids(rollback_dag(monkeypatch, ()), "roll_back") == {"roll_back"}
