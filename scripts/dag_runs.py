"""Runs of DAGs, triggered over Airflow's REST API, waited for and told: by the demo here, after a deploy on Astro."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from scripts import job_summary
from scripts.airflow_api import FINISHED, AirflowApi, RunState, TaskState

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
_TOLD = _ENDED | {"up_for_retry"}
_COLUMNS = ("DAG", "Day", "State", "Tasks", "Seconds", "Rows published", "Expectations passed")


class RunsTakeTooLong(Exception):
    """The runs had not ended when the time was over."""


@dataclass(frozen=True)
class Result:
    """What one run came to."""

    run: RunState
    tasks: list[TaskState]
    gate: dict[str, Any] | None
    """What the validating task pushed; None when the DAG has none, or it pushed nothing."""
    published: dict[str, Any] | None
    """What the publishing task pushed."""
    rows: Mapping[str, int]
    """How many rows each published object has."""

    @property
    def gated(self) -> bool:
        """Tell whether the DAG has a gate."""
        return any(task.task_id.startswith("validate_") for task in self.tasks)

    @property
    def ok(self) -> bool:
        """Tell whether the run succeeded and its gate, if it has one, let the batch through."""
        passed = bool(self.gate) and self.gate["verdict"] != "failed"  # type: ignore[index]
        return self.run.state == "success" and (passed or not self.gated)


def wait(
    airflow: AirflowApi,
    console: Console,
    runs: Mapping[str, str],
    *,
    seconds: float,
    check: Callable[[], None] = lambda: None,
    pause: float = 0.5,
) -> list[RunState]:
    """Show the tasks of runs, given as DAG and run id, until all runs have ended; gives their last states.

    `check` is called between looks, to raise when waiting on has no sense. Raises RunsTakeTooLong.
    """
    deadline = time.monotonic() + seconds
    told: set[tuple[str, TaskState]] = set()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            check()
            states = [airflow.run(dag_id, run_id) for dag_id, run_id in runs.items()]
            tasks = {dag_id: airflow.tasks(dag_id, run_id) for dag_id, run_id in runs.items()}
            if console.is_terminal:
                live.update(_progress(tasks))
            else:
                told = _tell(console, tasks, told)
            if all(run.state in FINISHED for run in states):
                return states
            if time.monotonic() > deadline:
                unfinished = ", ".join(f"{run.dag_id} ({run.state})" for run in states if run.state not in FINISHED)
                raise RunsTakeTooLong(f"after {seconds / 60:.0f} minutes these runs have not ended: {unfinished}")
            time.sleep(pause)


def result(
    airflow: AirflowApi, run: RunState, rows: Callable[[dict[str, Any]], Mapping[str, int]] | None = None
) -> Result:
    """Read what a run came to; `rows` counts what readers see of what was published, else the task's word is taken."""
    tasks = airflow.tasks(run.dag_id, run.run_id)

    def pushed_by(kind: str) -> dict[str, Any] | None:
        names = [task.task_id for task in tasks if task.task_id.startswith(f"{kind}_")]
        return airflow.xcom(run.dag_id, run.run_id, names[0]) if names else None

    published = pushed_by("publish")
    return Result(
        run=airflow.run(run.dag_id, run.run_id),
        tasks=tasks,
        gate=pushed_by("validate"),
        published=published,
        rows={} if not published else rows(published) if rows else {published["object"]: published["rows"]},
    )


def table(results: Sequence[Result]) -> Table:
    """Draw the results as a table for the terminal."""
    drawn = Table()
    for number, column in enumerate(_COLUMNS):
        drawn.add_column(column, no_wrap=number < 2, justify="left" if number < 3 else "right")
    for each in results:
        dag, day, state, *figures = _row(each)
        drawn.add_row(dag, day, f"[{'green' if each.ok else 'red'}]{state}", *figures)
    return drawn


def summary(results: Sequence[Result]) -> str:
    """Give the same table as Markdown, for the page of a job."""
    return job_summary.table(_COLUMNS, map(_row, results))


def failures(airflow: AirflowApi, results: Sequence[Result], lines: int = 0) -> list[tuple[str, str]]:
    """Give every failed task of some runs with the message it failed with and the last lines of its log."""
    told = []
    for each in results:
        for task in each.tasks:
            if task.state == "failed":
                why = airflow.failure(each.run.dag_id, each.run.run_id, task) or "its log says no more"
                log = airflow.log(each.run.dag_id, each.run.run_id, task.task_id, task.try_number) if lines else []
                events = [str(entry["event"]) for entry in log if entry.get("event")][-lines:]
                told.append((f"{each.run.dag_id}.{task.task_id}", "\n".join([why, *(f"  | {it}" for it in events)])))
    return told


def _row(each: Result) -> list[str]:
    done = sum(task.state == "success" for task in each.tasks)
    gate = each.gate
    return [
        each.run.dag_id,
        each.published["day"] if each.published else "",
        each.run.state,
        f"{done} of {len(each.tasks)}",
        "" if each.run.seconds is None else f"{each.run.seconds:.1f}",
        _told_rows(each.rows),
        f"{gate['passed']} of {gate['passed'] + gate['failed']}" if gate else "not run" if each.gated else "",
    ]


def _told_rows(rows: Mapping[str, int]) -> str:
    if not rows:
        return "none"
    return f"{sum(rows.values())}" + (f" in {len(rows)} views" if len(rows) > 1 else "")


def _progress(tasks: Mapping[str, Collection[TaskState]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for dag_id, states in tasks.items():
        done = sum(task.state in _ENDED for task in states)
        now = next((task.task_id for task in states if task.state in ("running", "queued", "up_for_retry")), "")
        grid.add_row(f"  {dag_id}", f"[green]{'━' * done}[/][dim]{'━' * (len(states) - done)}[/]", now)
    return grid


def _tell(
    console: Console, tasks: Mapping[str, Collection[TaskState]], told: set[tuple[str, TaskState]]
) -> set[tuple[str, TaskState]]:
    now = {(dag_id, task) for dag_id, states in tasks.items() for task in states if task.state in _TOLD}
    for dag_id, task in sorted(now - told, key=lambda each: (each[0], each[1].task_id)):
        console.print(f"  {dag_id}.{task.task_id}: {task.state}", highlight=False)
    return now
