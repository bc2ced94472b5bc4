"""`make backfill`: the DAG of a dataset for a range of days, and what became of each."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from include import datasets
from include.dataset import Dataset
from include.errors import PermanentError
from include.params import parse_day
from local.processes import Processes, check_running
from local.sources import Source
from local.state import LocalError, Refused
from scripts.airflow_api import FINISHED, AirflowApi, DatedRun
from scripts.dag_runs import failures, result

# Of four tasks that run at once, these leave two to the DAGs' scheduled runs.
_AT_ONCE = 2
_PAUSE = 1.0  # seconds between two looks


@dataclass(frozen=True)
class Backfill:
    """What was asked for."""

    dataset: Dataset
    first: date
    last: date
    conf: dict[str, object]

    @property
    def days(self) -> list[date]:
        """All of its days, in order."""
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """The first and the last moment of its days, in UTC."""
        return (
            datetime.combine(self.first, time_of_day.min, UTC),
            datetime.combine(self.last, time_of_day.max, UTC),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one day: `published`, `published before`, `skipped` or `failed`, and how many rows or why."""

    day: date
    what: str
    detail: str


def choose(sources: Mapping[str, Source], live: bool, first: str, last: str, name: str) -> Backfill:
    """Return the backfill that was asked for. Raises Refused for days or a dataset that cannot be loaded.

    Without a name, the dataset is the first one with a table: views show one day only.
    """
    from_day, to_day = _day("FROM", first), _day("TO", last)
    if from_day > to_day:
        raise Refused(f"FROM={first} is after TO={last}: exchange them.")
    tables = [dataset for dataset in datasets.DATASETS if not dataset.views and dataset.schema in sources]
    names = ", ".join(dataset.name for dataset in tables) or "none"
    dataset = next((dataset for dataset in tables if name in ("", dataset.name)), None)
    if not dataset:
        raise Refused(f"NAME={name}: a backfill needs a dataset with tables and a stand-in of its source: {names}.")
    wanted = Backfill(dataset, from_day, to_day, sources[dataset.schema].backfill_conf())
    for day in wanted.days:
        try:
            closed = dataset.closed_reason(day)
        except PermanentError as error:
            raise Refused(str(error)) from None
        if not closed:
            sources[dataset.schema].check(day, live)
    return wanted


def _day(name: str, text: str) -> date:
    try:
        day = parse_day(name, text)
    except PermanentError as error:
        raise Refused(f"{error}.") from None
    if not day:
        raise Refused(f"{name} is missing: make backfill FROM=2023-08-01 TO=2023-08-31")
    return day


def dag_of(airflow: AirflowApi, dataset: Dataset) -> str:
    """Return the first DAG that has the dataset's name as a tag. Raises LocalError when there is none."""
    found = sorted(dag.dag_id for dag in airflow.dags() if dataset.schema in dag.tags)
    if not found:
        raise LocalError(f"No DAG has the tag {dataset.schema}, so there is nothing to run.")
    return found[0]


def run(airflow: AirflowApi, processes: Processes, console: Console, wanted: Backfill) -> list[Outcome]:
    """Load the days, show the progress, and return what became of each.

    A day whose run succeeded with the same params is not loaded again. When this ends early, runs that have not
    started are given up. Raises LocalError when another backfill of the DAG is running, or one of the platform's
    processes ends.
    """
    started, dag_id = datetime.now(UTC), dag_of(airflow, wanted.dataset)
    if processes:  # a platform of our own: what is active was left by one that was killed
        for left in airflow.active_backfills(dag_id):
            airflow.cancel_backfill(left)
    before = airflow.dated_runs(dag_id, *wanted.moments)
    others = [each for each in before if each.state.state == "success" and each.conf != wanted.conf]
    with _backfill(airflow, dag_id, wanted, again="completed" if others else "failed"):
        runs = _wait(airflow, processes, console, dag_id, wanted)
    return _outcomes(airflow, wanted, runs, started)


@contextmanager
def _backfill(airflow: AirflowApi, dag_id: str, wanted: Backfill, again: str) -> Iterator[None]:
    if active := airflow.active_backfills(dag_id):
        raise LocalError(f"Backfill {active[0]} of {dag_id} is running: wait for it, or cancel it in Airflow's UI.")
    backfill = airflow.start_backfill(dag_id, *wanted.moments, dict(wanted.conf), again=again, max_active_runs=_AT_ONCE)
    try:
        yield
    finally:
        airflow.cancel_backfill(backfill)


def _wait(airflow: AirflowApi, processes: Processes, console: Console, dag_id: str, wanted: Backfill) -> list[DatedRun]:
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    reported: set[datetime] = set()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(dag_id)
        while True:
            check_running(processes)
            runs = airflow.dated_runs(dag_id, *wanted.moments)
            ended = [run for run in runs if run.state.state in FINISHED]
            progress.update(bar, completed=len(ended), total=len(runs))
            for run in ended:
                if not console.is_terminal and run.logical_date not in reported:
                    console.print(f"  {run.logical_date:%Y-%m-%d}: {run.state.state}")
                reported.add(run.logical_date)
            if len(ended) == len(runs):
                return runs
            time.sleep(_PAUSE)


def _outcomes(airflow: AirflowApi, wanted: Backfill, runs: list[DatedRun], started: datetime) -> list[Outcome]:
    found = {run.logical_date.date(): run for run in runs}
    outcomes = []
    for day in wanted.days:
        run = found.get(day)
        if closed := wanted.dataset.closed_reason(day):
            outcomes.append(Outcome(day, "skipped", closed))
        elif not run:
            outcomes.append(Outcome(day, "skipped", "the DAG's schedule has no run for it"))
        else:
            outcomes.append(_outcome(airflow, day, run, started))
    return outcomes


def _outcome(airflow: AirflowApi, day: date, run: DatedRun, started: datetime) -> Outcome:
    loaded = result(airflow, run.state)
    if run.state.state != "success":
        why = "; ".join(message.splitlines()[0] for _, message in failures(airflow, [loaded])) or "it was interrupted"
        return Outcome(day, "failed", why)
    if not loaded.published:
        return Outcome(day, "skipped", "its run had nothing to load")
    before = run.ended_at is not None and run.ended_at < started
    return Outcome(day, "published before" if before else "published", f"{loaded.published['rows']:,} rows")


def show(console: Console, wanted: Backfill, outcomes: list[Outcome]) -> None:
    """Print a line per day and a summary."""
    colours = {"published": "green", "failed": "red"}
    table = Table("Day", "Outcome", "", title=f"{wanted.dataset.title}, {wanted.first} to {wanted.last}")
    for each in outcomes:
        table.add_row(f"{each.day:%a %Y-%m-%d}", f"[{colours.get(each.what, 'dim')}]{each.what}", each.detail)
    console.print(table)
    counts = Counter(each.what for each in outcomes)
    console.print(", ".join(f"{count} {what}" for what, count in counts.items()))
    if counts["failed"]:
        console.print("Run the same command again to load only the days that failed.")
