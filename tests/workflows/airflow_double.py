"""A double of a deployment's Airflow: the requests that a deploy makes, answered and written beside the other calls.

That the client speaks Airflow's language is shown with a real Airflow, in tests/local/test_smoke_run.py.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from scripts.deploy import DEPLOYED

TIMES = {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-01-01T00:00:12Z"}


class AirflowDouble:
    """State and answers of the double."""

    def __init__(self, server: HTTPServer, token: str, dags: Path, calls: Path) -> None:
        self.url = server.url_for("/").rstrip("/")
        self.token, self.dags, self.calls = token, dags, calls
        self.variables: dict[str, str] = {}
        self.paused = {path.stem: True for path in dags.glob("*.py")}
        self.failing: set[str] = set()
        """DAGs whose runs fail."""
        self.source: Callable[[str], str] = lambda dag_id: (self.dags / f"{dag_id}.py").read_text()
        server.expect_request(re.compile(".*")).respond_with_handler(self.answer)

    @property
    def deployed(self) -> str | None:
        """Give the commit that is remembered."""
        return self.variables.get(DEPLOYED)

    def answer(self, request: Request) -> Response:
        """Answer one request."""
        if request.path == "/api/v2/monitor/health":
            return _json({part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")})
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _json({"detail": "Unauthorized"}, 401)
        match request.method, request.path.removeprefix("/api/v2/").split("/"):
            case "GET", ["dags"]:
                dags = [
                    {"dag_id": it, "fileloc": f"/usr/local/airflow/dags/{it}.py", "is_stale": False}
                    for it in self.paused
                ]
                return _json({"dags": dags})
            case "GET", ["importErrors"]:
                return _json({"import_errors": []})
            case "GET", ["dagSources", dag_id]:
                return _json({"content": self.source(dag_id)})
            case "GET", ["dags", dag_id]:
                return _json({"is_paused": self.paused[dag_id]})
            case "PATCH", ["dags", dag_id]:
                self.paused[dag_id] = request.get_json()["is_paused"]
                return _json({})
            case "POST", ["dags", dag_id, "dagRuns"]:
                assert not self.paused[dag_id], "the run would stay queued"
                self._note("run", dag_id)
                return _json({"dag_run_id": request.get_json()["dag_run_id"]})
            case "GET", ["dags", dag_id, "dagRuns", _]:
                return _json({"state": self._state(dag_id), **TIMES})
            case "GET", ["dags", dag_id, "dagRuns", _, "taskInstances"]:
                return _json({"task_instances": [{"task_id": "work", "state": self._state(dag_id), "try_number": 1}]})
            case "GET", ["dags", _, "dagRuns", _, "taskInstances", _, "logs", _]:
                return _json({"content": [{"event": "it went wrong", "error_detail": []}]})
            case "GET", ["variables", key]:
                return _json({"value": self.variables[key]}) if key in self.variables else _json({}, 404)
            case "PATCH", ["variables", key] if key not in self.variables:
                return _json({}, 404)
            case "PATCH" | "POST", ["variables", *_]:
                body = request.get_json()
                self.variables[body["key"]] = body["value"]
                self._note("remember", body["value"])
                return _json({})
        return _json({"detail": f"the double does not know {request.method} {request.path}"}, 400)

    def _state(self, dag_id: str) -> str:
        return "failed" if dag_id in self.failing else "success"

    def _note(self, *call: str) -> None:
        with self.calls.open("a") as calls:
            calls.write(json.dumps({"call": ["airflow", *call]}) + "\n")


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")
