"""The part of Airflow's REST API (v2) that the demo and the workflows use."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import requests
import tenacity

FINISHED = frozenset({"success", "failed"})
# A gateway says these while Airflow is restarted, wakes up or is busy; asking again may help.
_PASSING = frozenset({429, 502, 503, 504})


class AirflowApiError(Exception):
    """Airflow refused a request; the text is Airflow's own, `status` the HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class TaskState:
    """One task of a run, as Airflow tells it."""

    task_id: str
    state: str | None
    try_number: int


@dataclass(frozen=True)
class RunState:
    """One DAG run, as Airflow tells it; `seconds` is None until it has ended."""

    dag_id: str
    run_id: str
    state: str
    seconds: float | None


class AirflowApi:
    """A client of one Airflow API server.

    `url` is the server's root; `token` goes into the Authorization header. What can be asked twice is repeated for
    `patience` seconds when the connection breaks or a gateway answers in Airflow's place. Raises AirflowApiError
    when Airflow refuses, requests' own errors when it cannot be reached.
    """

    def __init__(self, url: str, token: str | None = None, patience: float = 6) -> None:
        self.url = url.rstrip("/")
        self._root = f"{self.url}/api/v2"
        self._session = requests.Session()
        self._repeated = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_passing),
            wait=tenacity.wait_exponential(0.2, max=10),
            stop=tenacity.stop_after_delay(patience),
            reraise=True,
        )
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def healthy(self) -> bool:
        """Tell whether the metadata database, the scheduler and the DAG processor are all up."""
        health = self._get("monitor/health")
        return all(
            (health.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def dag_ids(self) -> set[str]:
        """Give the DAGs that are ready to be triggered."""
        return {dag["dag_id"] for dag in self._all("dags", "dags") if not dag["is_stale"]}

    def import_errors(self) -> list[str]:
        """Give the tracebacks of DAG files that cannot be imported."""
        return [f"{error['filename']}:\n{error['stack_trace']}" for error in self._all("importErrors", "import_errors")]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run without a logical date, its params from `conf`; gives its run id.

        With a run id of the caller's own the request is repeated like a read: there is never a second run.
        """
        path, body = f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}}
        if run_id is None:
            return str(self._request("POST", path, json=body)["dag_run_id"])
        try:
            self._repeated(self._request, "POST", path, json={**body, "dag_run_id": run_id})
        except AirflowApiError as error:
            if error.status != 409:  # the request before had arrived, only its answer was lost
                raise
        return run_id

    def paused(self, dag_id: str) -> bool:
        """Tell whether a DAG is paused: what is triggered then stays queued."""
        return bool(self._get(f"dags/{dag_id}")["is_paused"])

    def pause(self, dag_id: str, paused: bool) -> None:
        """Pause a DAG, or let it run."""
        self._repeated(self._request, "PATCH", f"dags/{dag_id}", json={"is_paused": paused})

    def dags_by_file(self) -> dict[str, str]:
        """Give a DAG of each DAG file, by the file's name."""
        dags = self._all("dags", "dags")
        return {PurePath(dag["fileloc"]).name: dag["dag_id"] for dag in dags if not dag["is_stale"]}

    def source(self, dag_id: str) -> str:
        """Give the text of a DAG's file, as Airflow last read it."""
        return str(self._get(f"dagSources/{dag_id}")["content"])

    def variable(self, key: str) -> str | None:
        """Give the value of an Airflow variable, or None when there is none."""
        try:
            return str(self._get(f"variables/{key}")["value"])
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise

    def set_variable(self, key: str, value: str) -> None:
        """Set an Airflow variable."""
        body = {"key": key, "value": value}
        try:
            self._repeated(self._request, "PATCH", f"variables/{key}", json=body)
        except AirflowApiError as error:
            if error.status != 404:
                raise
            self._request("POST", "variables", json=body)

    def fail_unfinished_runs(self, before: datetime) -> int:
        """Mark the running and queued runs failed that were queued before a time; gives how many there were."""
        runs = self._all("dags/~/dagRuns", "dag_runs", state=["running", "queued"])
        unfinished = [run for run in runs if _time(run["queued_at"]) < before]
        for run in unfinished:
            self._request("PATCH", _path(run["dag_id"], run["dag_run_id"]), json={"state": "failed"})
        return len(unfinished)

    def run(self, dag_id: str, run_id: str) -> RunState:
        """Give the state of a run."""
        run = self._get(_path(dag_id, run_id))
        seconds = None
        if run["start_date"] and run["end_date"]:
            seconds = (_time(run["end_date"]) - _time(run["start_date"])).total_seconds()
        return RunState(dag_id, run_id, run["state"], seconds)

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Give the states of a run's tasks."""
        found = self._all(f"{_path(dag_id, run_id)}/taskInstances", "task_instances")
        return [TaskState(each["task_id"], each["state"], each["try_number"]) for each in found]

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Give what a task returned, or None when it returned nothing."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            return self._get(path, deserialize="true")["value"]
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[dict[str, Any]]:
        """Give the entries of a task's log: `event`, `level` and more."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        return [entry for entry in self._get(path, full_content="true")["content"] if isinstance(entry, dict)]

    def failure(self, dag_id: str, run_id: str, task: TaskState) -> str | None:
        """Give the message of the exception that ended a task's last try, or None when its log has none."""
        raised = [
            detail
            for entry in self.log(dag_id, run_id, task.task_id, task.try_number)
            for detail in entry.get("error_detail") or []
            if not detail["is_cause"]
        ]
        return f"{raised[-1]['exc_type']}: {raised[-1]['exc_value']}" if raised else None

    def _all(self, path: str, key: str, **params: Any) -> list[dict[str, Any]]:
        """Give a whole list, page by page: at once a server gives its maximum_page_limit at most, which is 100."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._get(path, limit=100, offset=len(found), **params)
            found += page[key]
            if not page[key] or len(found) >= page.get("total_entries", 0):
                return found

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._repeated(self._request, "GET", path, params=params)

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        # No redirects: they lead to a page for people to log in, which is no answer.
        response = self._session.request(
            method, f"{self._root}/{path}", timeout=(5, 60), allow_redirects=False, **options
        )
        if not response.ok or response.is_redirect:
            raise AirflowApiError(
                f"{method} {path}: {response.status_code} {response.text[:1000]}", response.status_code
            )
        return dict(response.json())


def _passing(error: BaseException) -> bool:
    if isinstance(error, AirflowApiError):
        return error.status in _PASSING
    return isinstance(error, requests.ConnectionError | requests.Timeout)


def _path(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
