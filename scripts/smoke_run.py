"""Run DAGs on a deployment, wait for them, and report the results.

AIRFLOW_URL=https://... ASTRO_API_TOKEN=... python -m scripts.smoke_run            every DAG with the tag `smoke`
AIRFLOW_URL=https://... ASTRO_API_TOKEN=... python -m scripts.smoke_run DAG_ID...  these DAGs

Each DAG runs with its default params. A run replaces the day that it loads, so it can be repeated. A paused DAG is
unpaused for the run and then paused again. The exit status is 0 only when every run succeeded.
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

TAG = "smoke"
RUN_SECONDS = 30 * 60
REACHED_SECONDS = 15 * 60
_LOG_LINES = 15


class SmokeFailed(Exception):
    """Raised when a run failed or could not be started; the text says which run and why."""


class Unreachable(SmokeFailed):
    """Raised when Airflow does not answer."""


def client(address: str, token: str, patience: float = 300) -> AirflowApi:
    """Return a client of a deployment; Astro writes the address with or without scheme, `?orgId=` and `/api/v2`."""
    parts = urlsplit(address if "://" in address else f"https://{address}")
    path = parts.path.rstrip("/").removesuffix("/api/v2").removesuffix("/api/v1").removesuffix("/home")
    return AirflowApi(f"{parts.scheme}://{parts.netloc}{path}", token, patience)


def reach(airflow: AirflowApi, seconds: float = REACHED_SECONDS, pause: float = 5) -> None:
    """Wait until Airflow answers and all its parts are up.

    Raises Unreachable after `seconds`, and SmokeFailed at once when Airflow refuses the token.
    """

    def may_recover(error: BaseException) -> bool:
        # While a deployment is created or wakes up, another server answers in its place: with 404 or with a web page.
        refused = isinstance(error, AirflowApiError) and error.status in (301, 302, 303, 307, 401, 403)
        return isinstance(error, AirflowApiError | requests.RequestException) and not refused

    try:
        # First a request that needs the token: anybody may read the health.
        for request in (airflow.dag_ids, airflow.healthy):
            up = tenacity.Retrying(
                retry=tenacity.retry_if_exception(may_recover)
                | tenacity.retry_if_result(lambda response: response is False),
                wait=tenacity.wait_fixed(pause),
                stop=tenacity.stop_after_delay(seconds),
                retry_error_callback=_last_result,
            )(request)
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


def _last_result(state: tenacity.RetryCallState) -> object:
    return state.outcome.result() if state.outcome else None


def _unreachable(seconds: float, error: Exception) -> str:
    return (
        f"Airflow did not answer within {seconds / 60:.0f} min ({type(error).__name__}: {str(error)[:300]}). "
        "If the deployment hibernates: astro deployment wake-up DEPLOYMENT-ID --for 1h, then run this again."
    )


def tagged(airflow: AirflowApi, console: Console) -> list[str]:
    """Return the ids of the DAGs with the tag `smoke`, sorted; when there is none, print how to add the tag.

    Raises SmokeFailed when Airflow does not list its DAGs.
    """
    try:
        dag_ids = sorted(dag.dag_id for dag in airflow.dags() if TAG in dag.tags)
    except (AirflowApiError, requests.RequestException) as error:
        raise SmokeFailed(f"The DAGs cannot be listed: {error}") from None
    if not dag_ids:
        text = f'No DAG has the tag `{TAG}`, so no smoke run was started. To add one: tags=[..., "{TAG}"] in the DAG.'
        console.print(text, markup=False, soft_wrap=True)
        job_summary.add(text)
    return dag_ids


@contextmanager
def _unpaused(airflow: AirflowApi, dag_id: str) -> Iterator[None]:
    """Unpause a DAG inside the context; pause it again at the end if it was paused before."""
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
    """Run one DAG to its end and print the result; `conf` overrides its default params. Raises SmokeFailed."""
    try:
        with _unpaused(airflow, dag_id):
            run_id = f"smoke__{datetime.now(UTC).isoformat()}"
            airflow.trigger(dag_id, conf, run_id)
            link = f"{airflow.url}/dags/{dag_id}/runs/{quote(run_id, safe='')}"
            console.print(f"{dag_id}: {link}", soft_wrap=True, markup=False)
            (state,) = wait(airflow, console, {dag_id: run_id}, seconds=seconds, pause=pause)
        outcome = result(airflow, state)
        console.print(table([outcome]))
        job_summary.add(f"{summary([outcome])}\n\n[The run in Airflow]({link})")
        if not outcome.ok:
            failed = failures(airflow, [outcome], _LOG_LINES)
            for task, message in failed:
                console.print(f"\n{task} failed:\n{message}", markup=False, soft_wrap=True)
                job_summary.add(f"**{task} failed**\n\n{job_summary.block(message)}")
            tasks = ", ".join(task for task, _ in failed) or f"no task; the run's state is {state.state}"
            raise SmokeFailed(f"The run of {dag_id} failed: {tasks}. {link}")
    except RunsTakeTooLong as error:
        raise SmokeFailed(f"{str(error).capitalize()}. {link}") from None
    except (AirflowApiError, requests.RequestException) as error:
        raise SmokeFailed(f"{dag_id}: {error}") from None


def main() -> int:
    """Run the DAGs with the given ids, or those with the tag; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dag_id", nargs="*", help=f"without one: every DAG with the tag `{TAG}`")
    dag_ids = parser.parse_args().dag_id
    try:
        address, token = os.environ["AIRFLOW_URL"], os.environ["ASTRO_API_TOKEN"]
    except KeyError as error:
        print(f"{error.args[0]} is not set: see python -m scripts.smoke_run --help", file=sys.stderr)
        return 2
    console = Console(highlight=False, width=120)
    try:
        airflow = client(address, token)
        reach(airflow)
        for dag_id in dag_ids or tagged(airflow, console):
            run(airflow, console, dag_id)
    except SmokeFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
