"""`make demo`: the DAGs for one day through a real Airflow, and a table of what came of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.live import Live
from rich.table import Table

from local.platform import Platform
from local.processes import check_running
from local.state import LocalError
from scripts.airflow_api import FINISHED, RunState, TaskState

MARKET_DAGS = ("market_etl__traditional", "market_etl__taskflow_api")
VIEWS_DAG = "daily_operations_view_update"
# What publish tasks name as their object, and the column that holds its day.
_DAY_COLUMNS = {"market.transformed_market_data": "market_date"}
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
_TOLD = _ENDED | {"up_for_retry"}
_RUN_SECONDS = 900


@dataclass(frozen=True)
class Result:
    """What one run came to, read from Airflow and the warehouse after it ended."""

    run: RunState
    tasks: list[TaskState]
    gate: dict[str, Any] | None
    published: dict[str, Any] | None
    rows: dict[str, int]
    """How many rows readers see of each object that was published."""

    @property
    def ok(self) -> bool:
        """Tell whether the run succeeded and its gate let the batch through."""
        return self.run.state == "success" and bool(self.gate) and self.gate["verdict"] != "failed"  # type: ignore[index]


def run_dags(platform: Platform, console: Console, confs: Mapping[str, dict[str, Any]]) -> list[RunState]:
    """Trigger DAGs together, each with its params, and show their tasks until all have ended; gives the last states.

    Raises LocalError when a process of Airflow's ends meanwhile, or when the runs take too long.
    """
    runs = {dag_id: platform.airflow.trigger(dag_id, conf) for dag_id, conf in confs.items()}
    deadline = time.monotonic() + _RUN_SECONDS
    told: set[tuple[str, TaskState]] = set()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            check_running(platform.processes)
            states = [platform.airflow.run(dag_id, run_id) for dag_id, run_id in runs.items()]
            tasks = {dag_id: platform.airflow.tasks(dag_id, run_id) for dag_id, run_id in runs.items()}
            if console.is_terminal:
                live.update(_progress(tasks))
            else:
                told = _tell(console, tasks, told)
            if all(run.state in FINISHED for run in states):
                return states
            if time.monotonic() > deadline:
                raise LocalError(
                    f"The runs have not ended after {_RUN_SECONDS // 60} minutes: look at them in `make up`."
                )
            time.sleep(0.5)


def collect(platform: Platform, runs: Sequence[RunState]) -> list[Result]:
    """Read what the runs came to: states and XComs from Airflow, the rows that readers see from the warehouse."""
    return [_result(platform, run) for run in runs]


def _result(platform: Platform, run: RunState) -> Result:
    tasks = platform.airflow.tasks(run.dag_id, run.run_id)

    def pushed_by(kind: str) -> dict[str, Any] | None:
        names = [task.task_id for task in tasks if task.task_id.startswith(f"{kind}_")]
        return platform.airflow.xcom(run.dag_id, run.run_id, names[0]) if names else None

    published = pushed_by("publish")
    return Result(
        run=platform.airflow.run(run.dag_id, run.run_id),
        tasks=tasks,
        gate=pushed_by("validate"),
        published=published,
        rows=_rows(platform, published) if published else {},
    )


def _rows(platform: Platform, published: dict[str, Any]) -> dict[str, int]:
    name = published["object"]
    with platform.reader.connect() as connection:
        if column := _DAY_COLUMNS.get(name):
            of_the_day = sql.SQL("{} = {}").format(sql.Identifier(column), published["day"])
            return {name: _count(connection, name, of_the_day)}
        views = connection.execute(
            "select object from warehouse.publication where batch_id = %s and is_current order by object",
            [published["batch_id"]],
        ).fetchall()
        return {str(view): _count(connection, str(view), sql.SQL("true")) for (view,) in views}


def _count(connection: psycopg.Connection[Any], name: str, where: sql.Composable) -> int:
    query = sql.SQL("select count(*) from {} where {}").format(sql.Identifier(*name.split(".")), where)
    return int(connection.execute(query).fetchall()[0][0])


def table(results: Sequence[Result]) -> Table:
    """Draw the results as a table."""
    drawn = Table()
    drawn.add_column("DAG", no_wrap=True)
    drawn.add_column("Day", no_wrap=True)
    drawn.add_column("State")
    for column in ("Tasks", "Seconds", "Rows published", "Expectations passed"):
        drawn.add_column(column, justify="right")
    for result in results:
        done = sum(task.state == "success" for task in result.tasks)
        gate = result.gate
        drawn.add_row(
            result.run.dag_id,
            result.published["day"] if result.published else "",
            f"[{'green' if result.ok else 'red'}]{result.run.state}",
            f"{done} of {len(result.tasks)}",
            "" if result.run.seconds is None else f"{result.run.seconds:.1f}",
            _told_rows(result.rows),
            f"{gate['passed']} of {gate['passed'] + gate['failed']}" if gate else "not run",
        )
    return drawn


def _told_rows(rows: Mapping[str, int]) -> str:
    if not rows:
        return "none"
    return f"{sum(rows.values())}" + (f" in {len(rows)} views" if len(rows) > 1 else "")


def show(console: Console, platform: Platform, results: Sequence[Result]) -> None:
    """Print the table, where the reports are, and why what failed has failed."""
    console.print()
    console.print(table(results))
    home = None
    for result in results:
        if result.gate and result.gate["report"]:
            page = Path(result.gate["report"].removeprefix("file://"))
            home = page.parents[2] / "index.html"
            # As an address, which is quoted, so that it can be clicked.
            console.print(f"Report of {result.run.dag_id}: {page.as_uri()}", soft_wrap=True)
    if home:
        console.print(f"All datasets: {home.as_uri()}", soft_wrap=True)
    for result in results:
        for task in result.tasks:
            if task.state == "failed":
                console.print(f"\n[red]{result.run.dag_id}.{task.task_id} failed:[/red]")
                why = platform.airflow.failure(result.run.dag_id, result.run.run_id, task)
                console.print(why or "its log says no more", markup=False, soft_wrap=True)


def _progress(tasks: dict[str, list[TaskState]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for dag_id, states in tasks.items():
        done = sum(task.state in _ENDED for task in states)
        now = next((task.task_id for task in states if task.state in ("running", "queued", "up_for_retry")), "")
        grid.add_row(f"  {dag_id}", f"[green]{'━' * done}[/][dim]{'━' * (len(states) - done)}[/]", now)
    return grid


def _tell(
    console: Console, tasks: dict[str, list[TaskState]], told: set[tuple[str, TaskState]]
) -> set[tuple[str, TaskState]]:
    now = {(dag_id, task) for dag_id, states in tasks.items() for task in states if task.state in _TOLD}
    for dag_id, task in sorted(now - told, key=lambda each: (each[0], each[1].task_id)):
        console.print(f"  {dag_id}.{task.task_id}: {task.state}", highlight=False)
    return now
