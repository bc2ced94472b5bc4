"""Wait for DAG runs over Airflow's REST API and report their results: for the demo, and after a deploy to Astro."""

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
_LOGGED = _ENDED | {"up_for_retry"}
_COLUMNS = ("DAG", "Day", "State", "Tasks", "Seconds", "Rows published", "Expectations passed")


class RunsTakeTooLong(Exception):
    """Raised when the runs have not ended within the time limit."""


@dataclass(frozen=True)
class Result:
    """The result of one run."""

    run: RunState
    tasks: list[TaskState]
    gate: dict[str, Any] | None
    """What the validate tasks pushed as XCom, in sum; None when none of them did, or the DAG has none."""
    published: dict[str, Any] | None
    """The XCom of the first publish task that pushed one; None as above."""
    rows: Mapping[str, int]
    """The number of rows per published object."""

    @property
    def gated(self) -> bool:
        """Return whether the DAG has a quality gate."""
        return any(_is_a("validate", task) for task in self.tasks)

    @property
    def ok(self) -> bool:
        """Return whether the run succeeded and its quality gate, if there is one, passed the batch."""
        passed = bool(self.gate) and self.gate["verdict"] != "failed"  # type: ignore[index]
        return self.run.state == "success" and (passed or not self.gated)


def wait(
    airflow: AirflowApi,
    console: Console,
    runs: Mapping[str, str],
    *,
    seconds: float,
    check: Callable[[], None] = lambda: None,
    pause: float = 1.0,
) -> list[RunState]:
    """Show the tasks of the given runs (run id by DAG id) until all runs have ended; returns their last states.

    `check` is called before each poll and may raise to stop the wait. Raises RunsTakeTooLong.
    """
    deadline = time.monotonic() + seconds
    logged: set[tuple[str, TaskState]] = set()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            check()
            states = [airflow.run(dag_id, run_id) for dag_id, run_id in runs.items()]
            tasks = {dag_id: airflow.tasks(dag_id, run_id) for dag_id, run_id in runs.items()}
            if console.is_terminal:
                live.update(_progress(tasks))
            else:
                logged = _log_changes(console, tasks, logged)
            if all(run.state in FINISHED for run in states):
                return states
            if time.monotonic() > deadline:
                unfinished = ", ".join(f"{run.dag_id} ({run.state})" for run in states if run.state not in FINISHED)
                raise RunsTakeTooLong(f"after {seconds / 60:.0f} minutes these runs have not ended: {unfinished}")
            time.sleep(pause)


def result(
    airflow: AirflowApi, run: RunState, rows: Callable[[dict[str, Any]], Mapping[str, int]] | None = None
) -> Result:
    """Read the result of a run; `rows` counts the published rows, without it the count of the publish task is used."""
    tasks = airflow.tasks(run.dag_id, run.run_id)

    def xcoms_of(kind: str) -> list[dict[str, Any]]:
        pushed = (airflow.xcom(run.dag_id, run.run_id, task.task_id) for task in tasks if _is_a(kind, task))
        return [values for values in pushed if values]

    published, gates = xcoms_of("publish"), xcoms_of("validate")
    counted = [rows(each) if rows else {each["object"]: each["rows"]} for each in published]
    return Result(
        run=airflow.run(run.dag_id, run.run_id),
        tasks=tasks,
        gate=_sum(gates) if gates else None,
        published=published[0] if published else None,
        rows={name: count for each in counted for name, count in each.items()},
    )


def _is_a(kind: str, task: TaskState) -> bool:
    name = task.task_id.rpartition(".")[2]  # within its task group
    return name == kind or name.startswith(f"{kind}_")


def _sum(gates: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what several gates found as if it were one gate: failed when one failed, with the page of that one."""
    worst = next((gate for gate in gates if gate["verdict"] == "failed"), gates[0])
    return {**worst, **{each: sum(gate[each] for gate in gates) for each in ("passed", "failed")}}


def table(results: Sequence[Result]) -> Table:
    """Return the results as a table for the terminal."""
    grid = Table()
    for number, column in enumerate(_COLUMNS):
        grid.add_column(column, no_wrap=number < 2, justify="left" if number < 3 else "right")
    for each in results:
        dag, day, state, *figures = _row(each)
        grid.add_row(dag, day, f"[{'green' if each.ok else 'red'}]{state}", *figures)
    return grid


def summary(results: Sequence[Result]) -> str:
    """Return the same table as Markdown, for the summary page of a job."""
    return job_summary.table(_COLUMNS, map(_row, results))


def failures(airflow: AirflowApi, results: Sequence[Result], lines: int = 0) -> list[tuple[str, str]]:
    """Return each failed task of the runs, with its error message and the last lines of its log."""
    failed = []
    for each in results:
        for task in each.tasks:
            if task.state == "failed":
                message = airflow.failure(each.run.dag_id, each.run.run_id, task) or "its log has no error message"
                log = airflow.log(each.run.dag_id, each.run.run_id, task.task_id, task.try_number) if lines else []
                events = [f"  | {entry['event']}" for entry in log if entry.get("event")][-lines:]
                failed.append((f"{each.run.dag_id}.{task.task_id}", "\n".join([message, *events])))
    return failed


def _row(each: Result) -> list[str]:
    done = sum(task.state == "success" for task in each.tasks)
    gate = each.gate
    return [
        each.run.dag_id,
        each.published["day"] if each.published else "",
        each.run.state,
        f"{done} of {len(each.tasks)}",
        "" if each.run.seconds is None else f"{each.run.seconds:.1f}",
        _row_count(each.rows),
        f"{gate['passed']} of {gate['passed'] + gate['failed']}" if gate else "not run" if each.gated else "",
    ]


def _row_count(rows: Mapping[str, int]) -> str:
    if not rows:
        return "none"
    return f"{sum(rows.values())}" + (f" in {len(rows)} objects" if len(rows) > 1 else "")


def _progress(tasks: Mapping[str, Collection[TaskState]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for dag_id, states in tasks.items():
        done = sum(task.state in _ENDED for task in states)
        active = next((task.task_id for task in states if task.state in ("running", "queued", "up_for_retry")), "")
        grid.add_row(f"  {dag_id}", f"[green]{'━' * done}[/][dim]{'━' * (len(states) - done)}[/]", active)
    return grid


def _log_changes(
    console: Console, tasks: Mapping[str, Collection[TaskState]], logged: set[tuple[str, TaskState]]
) -> set[tuple[str, TaskState]]:
    """Print the states that are not in `logged`; returns all current states, for the next call."""
    current = {(dag_id, task) for dag_id, states in tasks.items() for task in states if task.state in _LOGGED}
    for dag_id, task in sorted(current - logged, key=lambda each: (each[0], each[1].task_id)):
        console.print(f"  {dag_id}.{task.task_id}: {task.state}", highlight=False)
    return current
