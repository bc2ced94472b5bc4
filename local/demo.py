"""`make demo`: every dataset's DAGs for one day through a real Airflow, and a table of the results."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import sql
from rich.console import Console

from include.dataset import Dataset, Table
from include.datasets import DATASETS
from include.warehouse.columns import identifier
from local.platform import Platform
from local.processes import check_running
from local.sources import Source
from local.state import LocalError
from scripts import job_summary
from scripts.airflow_api import RunState
from scripts.dag_runs import Result, RunsTakeTooLong, failures, result, summary, table, wait

_RUN_SECONDS = 900


def confs(platform: Platform, sources: Mapping[str, Source], day: date) -> dict[str, dict[str, Any]]:
    """Return the DAGs of the datasets that have a stand-in, each with the params of a run for a day.

    The DAGs of a dataset are those that carry its name as a tag.
    """
    return {
        dag.dag_id: source.params(day)
        for name, source in sources.items()
        for dag in sorted(platform.airflow.dags(), key=lambda dag: dag.dag_id)
        if name in dag.tags
    }


def run_dags(platform: Platform, console: Console, confs: Mapping[str, dict[str, Any]]) -> list[RunState]:
    """Trigger DAGs together, each with its params, and show their tasks until all have ended; returns the last states.

    Raises LocalError when a process of Airflow's ends meanwhile, or when the runs take too long.
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


def _rows(platform: Platform, published: dict[str, Any]) -> dict[str, int]:
    [dataset] = [each for each in DATASETS if each.label == published["object"]]
    with platform.reader.connect() as connection:
        return {
            dataset.published_name(each): int(
                connection.execute(_count(dataset, each, published["day"])).fetchall()[0][0]  # type: ignore[call-overload]
            )
            for each in dataset.publishes
        }


def _count(dataset: Dataset, each: Any, day: str) -> sql.Composed:
    of_the_day = sql.SQL("{} = {}").format(sql.Identifier(each.day), day) if isinstance(each, Table) else sql.SQL("true")
    return sql.SQL("select count(*) from {} where {}").format(identifier(dataset.published_name(each)), of_the_day)


def show(console: Console, platform: Platform, results: Sequence[Result]) -> None:
    """Print the table, where the reports are, and why what failed has failed."""
    console.print()
    console.print(table(results))
    job_summary.add(f"## Demo\n\n{summary(results)}")
    home = None
    for each in results:
        if each.gate and each.gate["report"]:
            page = Path(each.gate["report"].removeprefix("file://"))
            home = page.parents[2] / "index.html"
            # As an address, which is quoted, so that it can be clicked.
            console.print(f"Report of {each.run.dag_id}: {page.as_uri()}", soft_wrap=True)
    if home:
        console.print(f"All datasets: {home.as_uri()}", soft_wrap=True)
    for task, why in failures(platform.airflow, results):
        console.print(f"\n[red]{task} failed:[/red]")
        console.print(why, markup=False, soft_wrap=True)
        job_summary.add(f"**{task} failed**\n\n{job_summary.block(why)}")


def next_steps(console: Console) -> None:
    """Print what to do after a demo that succeeded."""
    console.print()
    console.print("Query what was published:", *(name for each in DATASETS for name in each.published_names), sep="\n  ")
    console.print(f'with make sql Q="select * from {DATASETS[0].published_names[0]}"', markup=False)
    console.print("Look around in Airflow: make up")
