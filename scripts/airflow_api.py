"""The part of Airflow's REST API (v2) that the demo and the workflows use."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

FINISHED = frozenset({"success", "failed"})


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

    `url` is the server's root; `token` goes into the Authorization header. Reads are repeated when the
    connection breaks, triggers are not. Raises AirflowApiError when Airflow refuses, requests' own errors when
    it cannot be reached.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._root = f"{url.rstrip('/')}/api/v2"
        self._session = requests.Session()
        self._session.mount("http", HTTPAdapter(max_retries=Retry(5, backoff_factor=0.2, allowed_methods=["GET"])))
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
        return {dag["dag_id"] for dag in self._get("dags", limit=1000)["dags"] if not dag["is_stale"]}

    def import_errors(self) -> list[str]:
        """Give the tracebacks of DAG files that cannot be imported."""
        return [
            f"{error['filename']}:\n{error['stack_trace']}"
            for error in self._get("importErrors", limit=100)["import_errors"]
        ]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run without a logical date, its params from `conf`; gives its run id."""
        run = self._request("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def fail_unfinished_runs(self, before: datetime) -> int:
        """Mark the running and queued runs failed that were queued before a time; gives how many there were."""
        runs = self._get("dags/~/dagRuns", state=["running", "queued"], limit=1000)["dag_runs"]
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
        found = self._get(f"{_path(dag_id, run_id)}/taskInstances", limit=1000)
        return [TaskState(each["task_id"], each["state"], each["try_number"]) for each in found["task_instances"]]

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

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._request("GET", path, params=params)

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._session.request(method, f"{self._root}/{path}", timeout=(5, 60), **options)
        if not response.ok:
            raise AirflowApiError(
                f"{method} {path}: {response.status_code} {response.text[:1000]}", response.status_code
            )
        return dict(response.json())


def _path(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
