"""`make demo`: the DAGs of the datasets for one day through a real Airflow, and a table of the results."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import sql
from rich.console import Console

from include import datasets
from include.dataset import Dataset, Table, View
from include.errors import PermanentError
from include.params import parse_day
from include.warehouse.columns import identifier
from local.platform import Platform
from local.processes import check_running
from local.sources import Source
from local.state import LocalError, Refused
from scripts import job_summary
from scripts.airflow_api import RunState
from scripts.dag_runs import Result, RunsTakeTooLong, failures, result, summary, table, wait

DAY = date(2023, 8, 1)
_RUN_SECONDS = 900


def choose_day(sources: Mapping[str, Source], live: bool, asked: str) -> date:
    """Return the day to load: the one that was asked for, else with `live` that of a real service, else DAY.

    Raises Refused when a dataset that has a stand-in has no data for it.
    """
    try:
        day = parse_day("DATE", asked)
    except PermanentError:
        raise Refused(f"DATE={asked}: write a day as YYYY-MM-DD, such as DATE={DAY}") from None
    if not day and live:
        day = next((found for source in sources.values() if (found := source.live_day())), None)
    day = day or DAY
    for source in sources.values():
        source.check(day, live)
    for dataset in datasets.DATASETS:
        try:
            reason = dataset.closed_reason(day) if dataset.schema in sources else None
        except PermanentError as error:
            raise Refused(str(error)) from None
        if reason:
            raise Refused(f"Nothing to load: {reason}. Choose another DATE.")
    return day


def confs(platform: Platform, console: Console, sources: Mapping[str, Source], day: date) -> dict[str, dict[str, Any]]:
    """Return the DAGs of the datasets that have a stand-in, each with the params of a run for a day.

    The DAGs of a dataset are those that have its name as a tag. Prints which datasets are left out, and why. Raises
    LocalError when none is left.
    """
    dags = sorted(platform.airflow.dags(), key=lambda dag: dag.dag_id)
    found: dict[str, dict[str, Any]] = {}
    for dataset in datasets.DATASETS:
        of_dataset = [dag.dag_id for dag in dags if dataset.schema in dag.tags]
        if not of_dataset:
            console.print(f"  {dataset.name} is left out: no DAG has its name as a tag")
        elif dataset.schema not in sources:
            console.print(f"  {dataset.name} is left out: it has no stand-in in local/sources")
        else:
            found |= {dag_id: sources[dataset.schema].params(day) for dag_id in of_dataset}
    if not found:
        raise LocalError("There is no DAG to run.")
    return found


def run_dags(platform: Platform, console: Console, confs: Mapping[str, dict[str, Any]]) -> list[RunState]:
    """Trigger DAGs together, each with its params, and show their tasks until all have ended; returns the last states.

    Raises LocalError when a process of the platform ends meanwhile, or when the runs take too long.
    """
    runs = {dag_id: platform.airflow.trigger(dag_id, conf) for dag_id, conf in confs.items()}
    try:
        return wait(
            platform.airflow,
            console,
            runs,
            seconds=_RUN_SECONDS,
            check=partial(check_running, platform.processes),
        )
    except RunsTakeTooLong as error:
        raise LocalError(f"{str(error).capitalize()}: look at them in `make up`.") from error


def collect(platform: Platform, runs: Sequence[RunState]) -> list[Result]:
    """Return the results of runs: states and XComs from Airflow, the rows that readers see from the warehouse."""
    return [result(platform.airflow, run, partial(_rows, platform)) for run in runs]


def _rows(platform: Platform, published: Mapping[str, Any]) -> dict[str, int]:
    [dataset] = [each for each in datasets.DATASETS if each.label == published["object"]]
    with platform.reader.connect() as connection:
        return {
            dataset.published_name(each): connection.execute(_count(dataset, each), published).fetchall()[0][0]
            for each in dataset.publishes
        }


def _count(dataset: Dataset, each: Table | View) -> sql.Composed:
    """Return the query that counts what readers see of a day of a table, or of a view."""
    count = sql.SQL("select count(*) from {}").format(identifier(dataset.published_name(each)))
    if isinstance(each, View):
        return count
    return count + sql.SQL(" where {} = %(day)s").format(sql.Identifier(each.day))


def show(console: Console, platform: Platform, results: Sequence[Result]) -> None:
    """Print the table, where the reports are, and why tasks failed."""
    console.print()
    console.print(table(results))
    job_summary.add(f"## Demo\n\n{summary(results)}")
    reports = {each.run.dag_id: each.gate["report"] for each in results if each.gate and each.gate["report"]}
    for dag_id, page in reports.items():
        # As an address, which is quoted, so that it can be clicked.
        console.print(f"Report of {dag_id}: {Path(page.removeprefix('file://')).as_uri()}", soft_wrap=True)
    if reports:
        console.print(f"All datasets: {(platform.reports / 'index.html').as_uri()}", soft_wrap=True)
    for task, why in failures(platform.airflow, results):
        console.print(f"\n[red]{task} failed:[/red]")
        console.print(why, markup=False, soft_wrap=True)
        job_summary.add(f"**{task} failed**\n\n{job_summary.block(why)}")


def next_steps(console: Console, results: Sequence[Result]) -> None:
    """Print what to do after a demo that succeeded."""
    console.print("\nQuery what was published:")
    for name in dict.fromkeys(name for each in results for name in each.rows):
        query = f"select * from {name}"  # noqa: S608 - printed, not run
        console.print(f'  make sql Q="{query}"', markup=False, soft_wrap=True)
    console.print("Look around in Airflow's UI:\n  make up")
