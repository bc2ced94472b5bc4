"""The dashboard DAG through a real Airflow: an open and a closed day, a table that fails, and what assets start."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from psycopg import sql
from rich.console import Console

from include.datasets import DATASETS
from include.datasets.analytics.dataset import ANALYTICS, SCHEMA, TABLES
from include.datasets.market.dataset import MARKET
from include.warehouse.columns import identifier
from local import demo
from local.platform import Platform
from local.processes import wait_until
from local.state import ROOT
from scripts.airflow_api import FINISHED
from scripts.dag_runs import Result
from tests.local.running import new_state, up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DAG = "advanced_daily_dashboard_refresh"
OPEN, CLOSED = f"{demo.DAY}", "2023-08-05"
CLOSED_GATES = 50
CONSUMER = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "assets.md").read_text(), re.DOTALL)
# As the tasks of a dataset do, but with a gate that is closed from the start.
MANY_GATES = f"""
from airflow.sdk import dag, task, task_group
from include.datasets.market.dataset import MARKET
from include.errors import PermanentError
from include.pipeline.assets import lineage
from include.pipeline.dag_defaults import dag_defaults
from include.task_errors import as_task


@as_task
def validate(number):
    raise PermanentError("The gate closed")


@as_task
def publish(outlet_events):
    outlet_events[lineage(MARKET)["outlets"][0]].extra = {{"day": "2023-08-01"}}


@dag(**dag_defaults(), schedule=None)
def closed_gates():
    @task_group
    def day(number):
        task(validate)(number) >> task(**lineage(MARKET))(publish)()

    day.expand(number=list(range({CLOSED_GATES})))


closed_gates()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Start a copy of the checkout, which has the consumer of the docs as well."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("dags", "great_expectations", "include", "local", "plugins", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert CONSUMER
    (copy / "dags" / "after_new_prices.py").write_text(CONSUMER[1])
    (copy / "dags" / "closed_gates.py").write_text(MANY_GATES)
    with new_state() as state, up(state, copy) as started:
        yield started.platform


def run(running: Platform, as_of: str, dag_id: str = DAG, **conf: Any) -> Result:
    """Run a DAG to its end, and return its result."""
    runs = demo.run_dags(running, Console(width=120), {dag_id: {"as_of": as_of, **conf} if dag_id == DAG else conf})
    [result] = demo.collect(running, runs)
    return result


def states(result: Result) -> dict[str, str | None]:
    return {task.task_id: task.state for task in result.tasks}


def events(running: Platform) -> list[dict[str, Any]]:
    answer = requests.get(f"{running.ui}/api/v2/assets/events?limit=200", timeout=30)
    answer.raise_for_status()
    return list(answer.json()["asset_events"])


def consumed(running: Platform) -> list[Any]:
    """Return what the consumer of the docs read, by its runs, when none of them is at work."""
    dag_id = "after_new_prices"

    def runs() -> list[dict[str, Any]]:
        return list(requests.get(f"{running.ui}/api/v2/dags/{dag_id}/dagRuns", timeout=30).json()["dag_runs"])

    wait_until(lambda: all(each["state"] in FINISHED for each in runs()), dag_id, {}, seconds=120)
    return [running.airflow.xcom(dag_id, each["dag_run_id"], "read_days") for each in runs()]


def differing(running: Platform, table: str, day: str) -> list[Any]:
    """Return the rows of a day that only the source or only the published table has."""
    source, published = TABLES[table], identifier(f"{SCHEMA}.{table}")
    where = sql.SQL("where {} = {}").format(sql.Identifier(source.day_column), sql.Literal(day))
    one, other = (sql.SQL("select * from {} {}").format(name, where) for name in (identifier(source.table), published))
    query = sql.SQL("({0} except {1}) union all ({1} except {0})").format(one, other)
    with running.admin.connect() as connection:
        return connection.execute(query).fetchall()


def test_an_open_day_is_published_in_all_branches_and_starts_who_waits_for_it(running: Platform) -> None:
    result = run(running, OPEN, tickers=["AAPL", "AMZN"])

    assert result.ok, states(result)
    assert {task for task, state in states(result).items() if state != "success"} == {"market_closed_notification"}
    assert result.rows.keys() == {MARKET.label, *(dataset.label for dataset in ANALYTICS)}
    assert [differing(running, table, OPEN) for table in TABLES] == [[]] * len(TABLES)
    found = {each["extra"]["object"]: each for each in events(running)}
    assert found.keys() == result.rows.keys()
    for name, rows in result.rows.items():
        extra = found[name]["extra"]
        assert (extra["day"], extra["rows"], extra["verdict"]) == (OPEN, rows, "passed")
        assert (running.reports / extra["report"].split("/reports/")[1]).is_file()
    wait_until(lambda: consumed(running) == [[OPEN]], "the consumer", {}, seconds=60)


def test_a_rollback_emits_an_event_as_well(running: Platform) -> None:
    run(running, OPEN, tickers=["AAPL"])
    before = events(running)

    result = run(running, OPEN, "publication_rollback", object=MARKET.label, day=OPEN)

    assert result.run.state == "success"
    [event] = [each for each in events(running) if each not in before]
    assert event["extra"]["object"] == MARKET.label
    assert event["extra"]["rolled_back"] is True
    assert event["extra"]["rows"] == 2
    wait_until(lambda: len(consumed(running)) == 3, "the consumer", {}, seconds=60)


def test_on_a_closed_day_the_tables_are_published_and_the_closed_market_is_reported(running: Platform) -> None:
    result = run(running, CLOSED)

    assert result.ok, states(result)
    skipped = {task for task, state in states(result).items() if state == "skipped"}
    assert skipped == {task for task in states(result) if task.startswith("process_market_data.")}
    assert states(result)["market_closed_notification"] == "success"
    assert states(result)["end"] == "success"
    assert [differing(running, table, CLOSED) for table in TABLES] == [[]] * len(TABLES)


def test_a_table_that_fails_stops_no_other_and_all_outcomes_are_one_message(running: Platform) -> None:
    day, before = "2023-08-02", events(running)
    with running.admin.connect() as admin:
        admin.execute("update daily_operations.labor set post_tax_earnings = 9999 where labor_date = %s", [day])

    result = run(running, day, tickers=["AAPL"])

    assert result.run.state == "failed"
    failed = {task for task, state in states(result).items() if state == "failed"}
    assert failed == {"labor.validate_load", "end"}
    others = [dataset.label for dataset in ANALYTICS if dataset.label != f"{SCHEMA}.labor"]
    assert {each["extra"]["object"] for each in events(running) if each not in before} == {MARKET.label, *others}
    assert [differing(running, table, day) for table in TABLES if table != "labor"] == [[]] * len(others)
    with running.admin.connect() as admin:
        messages = admin.execute(
            "select subject, message from quality.incident where day = %s and starts_with(subject, %s)", [day, DAG]
        ).fetchall()
        gates = admin.execute("select subject from quality.incident where day = %s and kind = 'gate'", [day]).fetchall()
    assert gates == [(f"{SCHEMA}_labor",)]
    [(subject, message)] = messages
    assert subject == f"{DAG}.end"
    for branch in ("inventory: done", "labor: failed in validate_load", "process_market_data: done"):
        assert branch in message


def test_closed_gates_emit_no_event(running: Platform) -> None:
    before = events(running)

    result = run(running, OPEN, "closed_gates")

    gates = [task.state for task in result.tasks if task.task_id == "day.validate"]
    assert gates == ["failed"] * CLOSED_GATES
    assert events(running) == before


def test_no_scheduled_run_was_started_by_the_clock(running: Platform) -> None:
    answer = requests.get(f"{running.ui}/api/v2/dags/~/dagRuns?run_type=scheduled", timeout=30).json()
    assert answer["dag_runs"] == []
    assert {dataset.schema for dataset in DATASETS} <= {tag for dag in running.airflow.dags() for tag in dag.tags}
