"""`make demo`: the DAGs for one day through a real Airflow, and a table of what came of it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console

from local.platform import Platform
from local.processes import check_running
from local.state import LocalError
from scripts import job_summary
from scripts.airflow_api import RunState
from scripts.dag_runs import Result, RunsTakeTooLong, failures, result, summary, table, wait

MARKET_DAGS = ("market_etl__traditional", "market_etl__taskflow_api")
VIEWS_DAG = "daily_operations_view_update"
# What publish tasks name as their object, and the column that holds its day.
_DAY_COLUMNS = {"market.transformed_market_data": "market_date"}
_RUN_SECONDS = 900


def run_dags(platform: Platform, console: Console, confs: Mapping[str, dict[str, Any]]) -> list[RunState]:
    """Trigger DAGs together, each with its params, and show their tasks until all have ended; gives the last states.

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
    """Read what the runs came to: states and XComs from Airflow, the rows that readers see from the warehouse."""
    return [result(platform.airflow, run, partial(_rows, platform)) for run in runs]


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
