"""Run DAGs on a deployment, wait for them, and tell what came of it.

AIRFLOW_URL=https://... ASTRO_API_TOKEN=... python -m scripts.smoke_run market_etl__taskflow_api [...]

Each DAG runs with its own default params; a run for a day replaces that day, so running again is harmless. A paused
DAG is let run for this and paused again. Exit status 0 only when every run succeeded.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import tenacity
from rich.console import Console

from scripts import job_summary
from scripts.airflow_api import AirflowApi, AirflowApiError
from scripts.dag_runs import RunsTakeTooLong, failures, result, summary, table, wait

RUN_SECONDS = 30 * 60
REACHED_SECONDS = 15 * 60
_LOG_LINES = 15


class SmokeFailed(Exception):
    """A run failed, or could not be made; the text says which and why."""


class Unreachable(SmokeFailed):
    """Airflow does not answer."""


def client(address: str, token: str, patience: float = 300) -> AirflowApi:
    """Give a client of a deployment; Astro writes its address with or without scheme, `?orgId=` and `/api/v2`."""
    parts = urlsplit(address if "://" in address else f"https://{address}")
    path = parts.path.rstrip("/").removesuffix("/api/v2").removesuffix("/api/v1").removesuffix("/home")
    return AirflowApi(f"{parts.scheme}://{parts.netloc}{path}", token, patience)


def reach(airflow: AirflowApi, seconds: float = REACHED_SECONDS, pause: float = 5) -> None:
    """Wait until Airflow answers and all its parts are up; raises SmokeFailed, at once when the token is refused."""

    def may_come(error: BaseException) -> bool:
        # While a deployment wakes up or is made, another server answers in its place: not found, or a page.
        refused = isinstance(error, AirflowApiError) and error.status in (301, 302, 303, 307, 401, 403)
        return isinstance(error, AirflowApiError | requests.RequestException) and not refused

    try:
        # What needs a token first: health is told to everybody.
        for asked in (airflow.dag_ids, airflow.healthy):
            up = tenacity.Retrying(
                retry=tenacity.retry_if_exception(may_come) | tenacity.retry_if_result(lambda it: it is False),
                wait=tenacity.wait_fixed(pause),
                stop=tenacity.stop_after_delay(seconds),
                retry_error_callback=_last,
            )(asked)
            if up is False:
                raise Unreachable(f"Airflow's scheduler or DAG processor was not healthy after {seconds / 60:.0f} min.")
    except AirflowApiError as error:
        if error.status < 404:
            raise SmokeFailed(
                f"Airflow refused the token (status {error.status}): ASTRO_API_TOKEN has to be a valid API token that "
                "may administer this deployment."
            ) from None
        raise Unreachable(_unreachable(seconds, error)) from None
    except requests.RequestException as error:
        raise Unreachable(_unreachable(seconds, error)) from None


def _last(state: tenacity.RetryCallState) -> object:
    return state.outcome.result() if state.outcome else None


def _unreachable(seconds: float, error: Exception) -> str:
    return (
        f"Airflow did not answer within {seconds / 60:.0f} min ({type(error).__name__}: {str(error)[:300]}). "
        "If the deployment hibernates: astro deployment wake-up DEPLOYMENT-ID --for 1h, then run this again."
    )


@contextmanager
def _let_run(airflow: AirflowApi, dag_id: str) -> Iterator[None]:
    """Unpause a DAG until the end of the context; it is left as it was found."""
    was_paused = airflow.paused(dag_id)
    if was_paused:
        airflow.pause(dag_id, False)
    try:
        yield
    finally:
        if was_paused:
            airflow.pause(dag_id, True)


def run(
    airflow: AirflowApi,
    console: Console,
    dag_id: str,
    conf: dict[str, Any] | None = None,
    seconds: float = RUN_SECONDS,
    pause: float = 2,
) -> None:
    """Run one DAG to its end and print what came of it; raises SmokeFailed. Its params are its own unless given."""
    try:
        with _let_run(airflow, dag_id):
            run_id = f"smoke__{datetime.now(UTC).isoformat()}"
            airflow.trigger(dag_id, conf, run_id)
            link = f"{airflow.url}/dags/{dag_id}/runs/{quote(run_id, safe='')}"
            console.print(f"{dag_id}: {link}", soft_wrap=True, markup=False)
            (state,) = wait(airflow, console, {dag_id: run_id}, seconds=seconds, pause=pause)
        came = result(airflow, state)
        console.print(table([came]))
        job_summary.add(f"{summary([came])}\n\n[The run in Airflow]({link})")
        if not came.ok:
            told = failures(airflow, [came], _LOG_LINES)
            for task, why in told:
                console.print(f"\n{task} failed:\n{why}", markup=False, soft_wrap=True)
                job_summary.add(f"**{task} failed**\n\n{job_summary.block(why)}")
            tasks = ", ".join(task for task, _ in told) or f"no task; the run's state is {state.state}"
            raise SmokeFailed(f"The run of {dag_id} failed: {tasks}. {link}")
    except RunsTakeTooLong as error:
        raise SmokeFailed(f"{str(error).capitalize()}. {link}") from None
    except (AirflowApiError, requests.RequestException) as error:
        raise SmokeFailed(f"{dag_id}: {error}") from None


def main() -> int:
    """Run the DAGs that were named; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dag_id", nargs="+")
    console = Console(highlight=False, width=120)
    try:
        airflow = client(os.environ["AIRFLOW_URL"], os.environ["ASTRO_API_TOKEN"])
        reach(airflow)
        for dag_id in parser.parse_args().dag_id:
            run(airflow, console, dag_id)
    except KeyError as error:
        print(f"{error.args[0]} is not set: see python -m scripts.smoke_run --help", file=sys.stderr)
        return 2
    except SmokeFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
