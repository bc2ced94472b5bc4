"""The part of Airflow's REST API (v2) that the demo and the workflows use."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import requests
import tenacity

FINISHED = frozenset({"success", "failed"})
# A gateway returns these while Airflow restarts, wakes up or is busy: a retry may succeed.
_TRANSIENT = frozenset({429, 502, 503, 504})


class AirflowApiError(Exception):
    """Raised when Airflow refuses a request; the text is Airflow's own, `status` is the HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Dag:
    """One DAG, as the DAG processor last read it."""

    dag_id: str
    file: str
    """The name of its file, without the folder."""
    tags: frozenset[str]
    parsed_at: str | None
    """When its file was last parsed, by Airflow's clock."""


@dataclass(frozen=True)
class TaskState:
    """The state of one task of a run, as Airflow reports it."""

    task_id: str
    state: str | None
    try_number: int


@dataclass(frozen=True)
class RunState:
    """The state of one DAG run, as Airflow reports it; `seconds` is None until the run has ended."""

    dag_id: str
    run_id: str
    state: str
    seconds: float | None


@dataclass(frozen=True)
class DatedRun:
    """A run of a DAG for a logical date, with the params that it was started with."""

    state: RunState
    logical_date: datetime
    conf: dict[str, Any]
    ended_at: datetime | None


class AirflowApi:
    """A client of one Airflow API server.

    `url` is the server's root; `token` is sent in the Authorization header. A request that is safe to send twice is
    retried for `patience` seconds when the connection breaks or a gateway answers in place of Airflow. Raises
    AirflowApiError when Airflow refuses a request, and the errors of `requests` when Airflow cannot be reached.
    """

    def __init__(self, url: str, token: str | None = None, patience: float = 6) -> None:
        self.url = url.rstrip("/")
        self._root = f"{self.url}/api/v2"
        self._session = requests.Session()
        self._retried = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            wait=tenacity.wait_exponential(0.2, max=10),
            stop=tenacity.stop_after_delay(patience),
            reraise=True,
        )
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def healthy(self) -> bool:
        """Return whether the metadata database, the scheduler and the DAG processor are all up."""
        health = self._get("monitor/health")
        return all(
            (health.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def dags(self) -> list[Dag]:
        """Return the DAGs that Airflow has now; a DAG that is no longer in its file is left out."""
        return [
            Dag(
                dag["dag_id"],
                PurePath(dag["fileloc"]).name,
                frozenset(tag["name"] for tag in dag["tags"]),
                dag["last_parsed_time"],
            )
            for dag in self._all("dags", "dags")
            if not dag["is_stale"]
        ]

    def dag_ids(self) -> set[str]:
        """Return the ids of the DAGs that can be triggered."""
        return {dag.dag_id for dag in self.dags()}

    def import_errors(self, since: datetime | None = None) -> list[str]:
        """Return the tracebacks of the DAG files that cannot be imported; `since` leaves out what was found before."""
        return [
            f"{error['filename']}:\n{error['stack_trace']}"
            for error in self._all("importErrors", "import_errors")
            if not since or _time(error["timestamp"]) >= since
        ]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run without a logical date, with its params from `conf`; returns the run id.

        With a run id from the caller the request is retried like a read: it can never start a second run.
        """
        path, body = f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}}
        if run_id is None:
            return str(self._request("POST", path, json=body)["dag_run_id"])
        try:
            self._retried(self._request, "POST", path, json={**body, "dag_run_id": run_id})
        except AirflowApiError as error:
            if error.status != 409:  # the earlier request arrived, only its response was lost
                raise
        return run_id

    def paused(self, dag_id: str) -> bool:
        """Return whether a DAG is paused; a run of a paused DAG stays queued."""
        return bool(self._get(f"dags/{dag_id}")["is_paused"])

    def pause(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self._retried(self._request, "PATCH", f"dags/{dag_id}", json={"is_paused": paused})

    def dags_by_file(self) -> dict[str, str]:
        """Return the id of one DAG per DAG file, by the file's name."""
        return {dag.file: dag.dag_id for dag in self.dags()}

    def source(self, dag_id: str) -> str:
        """Return the text of a DAG's file, as Airflow last read it."""
        return str(self._get(f"dagSources/{dag_id}")["content"])

    def variable(self, key: str) -> str | None:
        """Return the value of an Airflow variable, or None when it is not set."""
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
            self._retried(self._request, "PATCH", f"variables/{key}", json=body)
        except AirflowApiError as error:
            if error.status != 404:
                raise
            self._request("POST", "variables", json=body)

    def run(self, dag_id: str, run_id: str) -> RunState:
        """Return the state of a run."""
        return _run_state(dag_id, run_id, self._get(_path(dag_id, run_id)))

    def dated_runs(self, dag_id: str, first: datetime, last: datetime) -> list[DatedRun]:
        """Return the runs of a DAG whose logical date is from `first` to `last`, in order."""
        found = self._all(
            f"dags/{dag_id}/dagRuns",
            "dag_runs",
            logical_date_gte=first.isoformat(),
            logical_date_lte=last.isoformat(),
            order_by="logical_date",
        )
        return [
            DatedRun(
                _run_state(dag_id, run["dag_run_id"], run),
                _time(run["logical_date"]),
                run["conf"] or {},
                run["end_date"] and _time(run["end_date"]),
            )
            for run in found
        ]

    def start_backfill(
        self, dag_id: str, first: datetime, last: datetime, conf: dict[str, Any], *, again: str, max_active_runs: int
    ) -> int:
        """Start runs for the logical dates from `first` to `last`; returns the id of the backfill.

        `again` says which dates that had a run get another: `failed` or `completed` (all of them).
        """
        body = {
            "dag_id": dag_id,
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
            "dag_run_conf": conf,
            "reprocess_behavior": again,
            "max_active_runs": max_active_runs,
        }
        return int(self._request("POST", "backfills", json=body)["id"])

    def active_backfills(self, dag_id: str) -> list[int]:
        """Return the ids of the backfills of a DAG that have not ended."""
        found = self._all("backfills", "backfills", dag_id=dag_id)
        return [each["id"] for each in found if each["completed_at"] is None]

    def cancel_backfill(self, backfill_id: int) -> None:
        """Start no more runs of a backfill; a backfill that has ended stays as it is."""
        try:
            self._retried(self._request, "PUT", f"backfills/{backfill_id}/cancel")
        except AirflowApiError as error:
            if error.status != 409:
                raise

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the states of a run's tasks."""
        found = self._all(f"{_path(dag_id, run_id)}/taskInstances", "task_instances")
        return [TaskState(each["task_id"], each["state"], each["try_number"]) for each in found]

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return the return value of a task, or None when it returned nothing."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            return self._get(path, deserialize="true")["value"]
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[dict[str, Any]]:
        """Return the entries of a task's log, each with `event`, `level` and more."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        return [entry for entry in self._get(path, full_content="true")["content"] if isinstance(entry, dict)]

    def failure(self, dag_id: str, run_id: str, task: TaskState) -> str | None:
        """Return the message of the exception that ended a task's last try, or None when its log has none."""
        raised = [
            detail
            for entry in self.log(dag_id, run_id, task.task_id, task.try_number)
            for detail in entry.get("error_detail") or []
            if not detail["is_cause"]
        ]
        return f"{raised[-1]['exc_type']}: {raised[-1]['exc_value']}" if raised else None

    def _all(self, path: str, key: str, **params: Any) -> list[dict[str, Any]]:
        """Read a whole list, page by page: the server's maximum_page_limit, 100 by default, limits one page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._get(path, limit=100, offset=len(found), **params)
            found += page[key]
            if not page[key] or len(found) >= page.get("total_entries", 0):
                return found

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._retried(self._request, "GET", path, params=params)

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        # Do not follow redirects: they lead to a login page, which is not an answer.
        response = self._session.request(
            method, f"{self._root}/{path}", timeout=(5, 60), allow_redirects=False, **options
        )
        if not response.ok or response.is_redirect:
            raise AirflowApiError(
                f"{method} {path}: {response.status_code} {response.text[:1000]}", response.status_code
            )
        return dict(response.json())


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, AirflowApiError):
        return error.status in _TRANSIENT
    return isinstance(error, requests.ConnectionError | requests.Timeout)


def _path(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _run_state(dag_id: str, run_id: str, run: dict[str, Any]) -> RunState:
    seconds = None
    if run["start_date"] and run["end_date"]:
        seconds = (_time(run["end_date"]) - _time(run["start_date"])).total_seconds()
    return RunState(dag_id, run_id, run["state"], seconds)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
