"""The views through a real Airflow: all of them at once, lost connections, closed gates, rollbacks, and a kill."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import pytest
import requests
from psycopg.rows import dict_row
from rich.console import Console

from include.dataset import suite_name
from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.warehouse import register
from include.warehouse.roles import READER
from local import demo
from local.database import WAREHOUSE
from local.platform import METADATA, Platform
from local.postgres import embedded
from local.processes import wait_until
from local.sources.daily_operations import SOURCE
from local.state import State
from scripts.airflow_api import FINISHED, TaskState
from scripts.dag_runs import Result
from tests.datasets.daily_operations.daily_views import (
    WANTED,
    Views,
    await_all_at_work,
    refreshes_held,
    visible,
    wanted,
)
from tests.datasets.daily_operations.resort import ORDERS, VIEWS, view
from tests.include.warehouse.concurrency import await_true, terminate
from tests.local.running import Up, command, kill_all, new_state, number_of_expectations, up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GOOD = f"{demo.DAY}"
VIEWS_DAG = "daily_operations_view_update"
ROLLBACK_DAG = "publication_rollback"
REFRESHES = [f"refresh_{each.name}" for each in DAILY_OPERATIONS.publishes]
LOST = f"refresh_{ORDERS}"
"""The task whose connection is cut."""


@pytest.fixture(scope="module")
def started() -> Iterator[Up]:
    """Start a platform as another process, so that it can be killed."""
    with new_state() as state, up(state) as started:
        yield started


@pytest.fixture(scope="module")
def running(started: Up) -> Platform:
    """Return the platform."""
    return started.platform


def run(running: Platform, conf: dict[str, Any], dag_id: str = VIEWS_DAG) -> Result:
    """Run a DAG to its end, and return its result."""
    [result] = demo.collect(running, demo.run_dags(running, Console(width=120), {dag_id: conf}))
    return result


def finished(running: Platform, run_id: str) -> Result:
    """Wait for the end of a run of the views' DAG, and return its result."""

    def ended() -> bool:
        return running.airflow.run(VIEWS_DAG, run_id).state in FINISHED

    wait_until(ended, run_id, {}, seconds=300)
    [result] = demo.collect(running, [running.airflow.run(VIEWS_DAG, run_id)])
    return result


def states(result: Result) -> dict[str, str | None]:
    return {task.task_id: task.state for task in result.tasks}


def after_refreshes(validate: str | None, publish: str | None) -> dict[str, str | None]:
    """Return the states of all tasks when the refreshes have succeeded."""
    return {
        "start": "success",
        **dict.fromkeys(REFRESHES, "success"),
        "validate_views": validate,
        "publish_views": publish,
        "end": publish,
    }


def message(running: Platform, result: Result, task_id: str) -> str:
    """Return the message with which a task failed, which has to be at its first try: a retry would not help."""
    task = next(task for task in result.tasks if task.task_id == task_id)
    assert (task.state, task.try_number) == ("failed", 1)
    return str(running.airflow.failure(result.run.dag_id, result.run.run_id, task))


def publications(running: Platform, name: str) -> list[dict[str, Any]]:
    """Return what the register shows readers of a view, oldest first."""
    with running.reader.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select * from warehouse.publication where object = %s order by id",
            [DAILY_OPERATIONS.published_name(view(name))],
        ).fetchall()


@pytest.fixture(scope="module")
def good(running: Platform) -> Result:
    """Run the DAG as `make demo` does."""
    return run(running, SOURCE.params(demo.DAY))


def test_a_good_day_is_published(running: Platform, good: Result) -> None:
    assert good.ok
    assert set(states(good).values()) == {"success"}
    assert all(wanted(running.admin, GOOD).values())
    assert visible(running.reader) == wanted(running.admin, GOOD)
    assert good.rows.keys() == set(DAILY_OPERATIONS.published_names)
    for name, rows in wanted(running.admin, GOOD).items():
        assert good.rows[DAILY_OPERATIONS.published_name(view(name))] == len(rows)


@dataclass(frozen=True)
class TwoRuns:
    """Two runs of the DAG that were triggered together, and what was seen of them then."""

    day: str
    first: str
    second: str
    backends: dict[str, int]
    """The server processes in which the first run refreshed each view."""
    second_then: str
    """The state of the second run, while the first was refreshing."""
    before: Views


@pytest.fixture(scope="module")
def two_runs(running: Platform, good: Result) -> TwoRuns:
    """Trigger two runs, and cut one connection of the first."""
    day = "2023-08-02"
    conf = {"as_of": day, "allow_older": True}
    before = visible(running.reader)
    with refreshes_held(running.admin):
        first, second = (running.airflow.trigger(VIEWS_DAG, conf) for _ in range(2))
        backends = await_all_at_work(running.admin)
        second_then = running.airflow.run(VIEWS_DAG, second).state
        terminate(running.admin, backends[ORDERS])
    return TwoRuns(day, first, second, backends, second_then, before)


def test_the_views_are_refreshed_at_once_and_a_lost_connection_leaves_what_they_show(
    running: Platform, two_runs: TwoRuns
) -> None:
    assert set(two_runs.backends) == set(VIEWS)
    assert len(set(two_runs.backends.values())) == len(VIEWS)

    def lost() -> bool:
        tasks = running.airflow.tasks(VIEWS_DAG, two_runs.first)
        return {task.task_id: task.state for task in tasks} == {**after_refreshes(None, None), LOST: "up_for_retry"}

    wait_until(lost, "The refresh whose connection was cut", {}, seconds=120)
    assert visible(running.reader) == two_runs.before


def test_a_retry_refreshes_the_view_whose_connection_was_lost_and_the_next_run_waits_for_it(
    started: Up, running: Platform, two_runs: TwoRuns
) -> None:
    secret = started.state.secrets[METADATA]
    with running.admin.as_role(METADATA, secret, METADATA).connect() as airflow:  # let the retry be due now
        airflow.execute("update task_instance set end_date = end_date - interval '1 h' where state = 'up_for_retry'")
    first, second = (finished(running, run_id) for run_id in (two_runs.first, two_runs.second))
    assert [first.run.state, second.run.state] == ["success", "success"]
    tries = {task.task_id: task.try_number for task in first.tasks if task.task_id in REFRESHES}
    assert tries == {**dict.fromkeys(REFRESHES, 1), LOST: 2}
    assert two_runs.second_then == "queued"
    assert visible(running.reader) == wanted(running.admin, two_runs.day) != two_runs.before
    for name in WANTED:
        lines = publications(running, name)[-2:]
        assert [(line["run_id"], line["is_current"]) for line in lines] == [
            (two_runs.first, False),
            (two_runs.second, True),
        ]


@pytest.fixture
def before(running: Platform, good: Result) -> Views:
    """Return what the views show when no run is under way that could change it."""
    url = f"{running.ui}/api/v2/dags/{VIEWS_DAG}/dagRuns"
    for each in requests.get(url, {"state": ["running", "queued"]}, timeout=10).json()["dag_runs"]:
        finished(running, each["dag_run_id"])
    return visible(running.reader)


def test_a_published_run_that_is_cleared_publishes_a_batch_of_its_own(
    running: Platform, good: Result, before: Views
) -> None:
    assert good.published
    url = f"{running.ui}/api/v2/dags/{VIEWS_DAG}/dagRuns/{quote(good.run.run_id, safe='')}/clear"
    requests.post(url, json={"dry_run": False, "only_failed": False}, timeout=10).raise_for_status()

    again = finished(running, good.run.run_id)

    assert again.ok
    assert again.published
    assert {task.try_number for task in again.tasks} == {2}
    assert again.published["batch_id"] != good.published["batch_id"]
    assert again.rows == good.rows
    assert visible(running.reader) == wanted(running.admin, GOOD)
    for name in WANTED:
        of_the_run = [line for line in publications(running, name) if line["run_id"] == again.run.run_id]
        assert [(str(line["batch_id"]), line["is_current"]) for line in of_the_run] == [
            (good.published["batch_id"], False),
            (again.published["batch_id"], True),
        ]


@contextmanager
def source_changed(running: Platform, change: str, back: str) -> Iterator[None]:
    """Change the source tables within the context."""
    with running.admin.connect(autocommit=True) as connection:
        connection.execute(change.encode())
        try:
            yield
        finally:
            connection.execute(back.encode())


def test_a_bad_source_closes_the_gate_for_all_views_until_it_is_repaired(running: Platform, before: Views) -> None:
    day = "2023-09-03"
    negate = (
        "update daily_operations.guest_attendance set quantity_sold = -quantity_sold"
        f" where (admission_date, entrance_name) = ('{day}', 'Main Gate')"
    )
    with source_changed(running, negate, negate):
        result = run(running, {"as_of": day})
    assert states(result) == after_refreshes("failed", "upstream_failed")
    assert result.gate
    assert result.gate["verdict"] == "failed"
    assert result.gate["passed"] + result.gate["failed"] == number_of_expectations(DAILY_OPERATIONS)
    why = message(running, result, "validate_views")
    suites = "|".join(suite_name(view(name)) for name in VIEWS)
    [line] = re.findall(rf"^critical: (?:{suites}): .*", why, re.MULTILINE)  # of the views that this test knows
    assert "admission_by_entrance: quantities and revenues are" in line
    assert "entrance_name=Main Gate" in why
    assert visible(running.reader) == before

    assert run(running, {"as_of": day}).ok
    assert visible(running.reader) == wanted(running.admin, day) != before


def test_a_source_whose_columns_changed_stops_the_run_before_anything_is_refreshed(
    running: Platform, before: Views
) -> None:
    renamed = "alter table daily_operations.inventory rename column {} to {}"
    with source_changed(running, renamed.format("order_more", "reorder"), renamed.format("reorder", "order_more")):
        result = run(running, {"as_of": "2023-09-04", "allow_older": True})
    why = r"include/datasets/daily_operations/\w+\.sql: column \"order_more\" does not exist"
    assert re.search(why, message(running, result, "start"))
    assert {state for task_id, state in states(result).items() if task_id != "start"} == {"upstream_failed"}
    assert visible(running.reader) == before


def test_an_older_day_is_published_only_when_allowed_and_can_be_rolled_back(running: Platform, before: Views) -> None:
    day = "2023-07-15"
    published = publications(running, ORDERS)[-1]

    refused = run(running, {"as_of": day})
    why = (
        f"The views of daily_operations show {published['day']}: to publish the older {day}, set the param allow_older."
    )
    assert why in message(running, refused, "start")
    assert visible(running.reader) == before

    assert run(running, {"as_of": day, "allow_older": True}).ok
    assert visible(running.reader) == wanted(running.admin, day) != before

    rollback = run(running, {"object": DAILY_OPERATIONS.label}, ROLLBACK_DAG)
    assert rollback.run.state == "success"
    assert visible(running.reader) == before
    for name in WANTED:
        now = publications(running, name)[-1]
        assert (now["dag_id"], now["run_id"], now["is_current"]) == (ROLLBACK_DAG, rollback.run.run_id, True)
        assert (now["day"], now["batch_id"]) == (published["day"], published["batch_id"])


def test_a_rollback_without_an_earlier_publication_says_so(running: Platform) -> None:
    day = "2023-08-09"
    result = run(running, {"object": DAILY_OPERATIONS.label, "day": day}, ROLLBACK_DAG)
    why = f"{DAILY_OPERATIONS.label} has no earlier publication of {day} to go back to."
    assert why in message(running, result, "roll_back")


def shown_and_wanted(state: State) -> tuple[Views, Views]:
    """Return what readers see when the platform has stopped, and what they should see of the demo's day."""
    with state.running(), embedded(state) as server:
        reader = server.as_role(READER, state.secrets[READER], WAREHOUSE)
        return visible(reader), wanted(replace(server, dbname=WAREHOUSE), GOOD)


def test_a_platform_killed_before_it_publishes_shows_the_old_views_and_the_next_run_the_new(
    started: Up, running: Platform, before: Views
) -> None:
    """The last test of the platform: it kills it, while it publishes."""
    day = "2023-08-20"
    assert before != wanted(running.admin, day)
    with closing(running.admin.connect()) as publishing:
        register.lock(publishing, DAILY_OPERATIONS.name)
        run_id = running.airflow.trigger(VIEWS_DAG, {"as_of": day, "allow_older": True})
        checked = TaskState("validate_views", "success", 1)
        wait_until(lambda: checked in running.airflow.tasks(VIEWS_DAG, run_id), "The gate", {}, seconds=120)
        await_true(
            running.admin, "select exists (select from pg_locks where locktype = 'transactionid' and not granted)", []
        )
        kill_all(started.processes())
    now, _ = shown_and_wanted(started.state)
    assert now == before

    with command(started.state, "demo") as healed:
        text, _ = healed.communicate(timeout=400)
    assert healed.returncode == 0, text
    assert "runs that were interrupted earlier, now marked failed: 1\n" in text
    now, of_the_demo = shown_and_wanted(started.state)
    assert now == of_the_demo
