"""`make demo`: both market DAGs for one day through a real Airflow, and a table of what came of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql
from rich.console import Console
from rich.live import Live
from rich.table import Table

from local.platform import Platform
from local.processes import check_running
from local.state import LocalError
from scripts.airflow_api import FINISHED, RunState, TaskState

MARKET_DAGS = ("market_etl__traditional", "market_etl__taskflow_api")
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
    rows: int | None

    @property
    def ok(self) -> bool:
        """Tell whether the run succeeded and its gate let the batch through."""
        return self.run.state == "success" and bool(self.gate) and self.gate["verdict"] != "failed"  # type: ignore[index]


def run_dags(platform: Platform, console: Console, dags: Sequence[str], conf: dict[str, Any]) -> list[RunState]:
    """Trigger the DAGs together and show their tasks until all have ended; gives the runs' last states.

    Raises LocalError when a process of Airflow's ends meanwhile, or when the runs take too long.
    """
    runs = {dag_id: platform.airflow.trigger(dag_id, conf) for dag_id in dags}
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
    """Read what the runs came to: states from Airflow, the gate from its XCom, the rows from the warehouse."""
    return [
        Result(
            run=platform.airflow.run(run.dag_id, run.run_id),
            tasks=platform.airflow.tasks(run.dag_id, run.run_id),
            gate=platform.airflow.xcom(run.dag_id, run.run_id, "validate_market_data"),
            rows=_rows(platform, platform.airflow.xcom(run.dag_id, run.run_id, "publish_market_data")),
        )
        for run in runs
    ]


def _rows(platform: Platform, published: dict[str, Any] | None) -> int | None:
    if not published:
        return None
    query = sql.SQL("select count(*) from {} where {} = %s").format(
        sql.Identifier(*published["object"].split(".")),
        sql.Identifier(_DAY_COLUMNS[published["object"]]),
    )
    with platform.reader.connect() as connection:
        ((count,),) = connection.execute(query, [published["day"]]).fetchall()
    return int(str(count))


def table(results: Sequence[Result], title: str) -> Table:
    """Draw the results as a table."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    drawn.add_column("DAG", no_wrap=True)
    drawn.add_column("State")
    for column in ("Tasks", "Seconds", "Rows published", "Expectations passed"):
        drawn.add_column(column, justify="right")
    for result in results:
        done = sum(task.state == "success" for task in result.tasks)
        gate = result.gate
        drawn.add_row(
            result.run.dag_id,
            f"[{'green' if result.ok else 'red'}]{result.run.state}",
            f"{done} of {len(result.tasks)}",
            "" if result.run.seconds is None else f"{result.run.seconds:.1f}",
            "none" if result.rows is None else str(result.rows),
            f"{gate['passed']} of {gate['passed'] + gate['failed']}" if gate else "not run",
        )
    return drawn


def show(console: Console, platform: Platform, results: Sequence[Result], title: str) -> None:
    """Print the table, where the reports are, and why what failed has failed."""
    console.print()
    console.print(table(results, title))
    for result in results:
        if result.gate and result.gate["report"]:
            page = Path(result.gate["report"].removeprefix("file://")).as_uri()  # quoted, so that it can be clicked
            console.print(f"Report of {result.run.dag_id}: {page}", soft_wrap=True)
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
