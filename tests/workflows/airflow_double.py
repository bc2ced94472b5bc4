"""A double of the Airflow API of a deployment. It answers the requests of a deploy and records its runs and variables.

tests/local/test_up.py shows with a real Airflow that the client uses the API correctly.
"""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from scripts.deploy import DEPLOYED
from scripts.smoke_run import TAG

SMOKE_DAG = "library_daily"  # a made-up DAG, the only one with the tag `smoke`
TIMES = {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-01-01T00:00:12Z"}


class AirflowDouble:
    """The state of the double, and its answers."""

    def __init__(self, server: HTTPServer, token: str, dags: Path, calls: Path) -> None:
        self.url = server.url_for("/").rstrip("/")
        self.token, self.dags, self.calls = token, dags, calls
        self.variables: dict[str, str] = {}
        self.paused = dict.fromkeys([SMOKE_DAG, *(path.stem for path in dags.glob("*.py"))], True)
        self.parsed = itertools.count()  # used as the time at which all files were last parsed
        self.failing: set[str] = set()
        """DAGs whose runs fail."""
        self.source: Callable[[str], str] = lambda dag_id: (self.dags / f"{dag_id}.py").read_text()
        server.expect_request(re.compile(".*")).respond_with_handler(self.answer)

    @property
    def deployed(self) -> str | None:
        """Return the commit that is stored as deployed."""
        return self.variables.get(DEPLOYED)

    def answer(self, request: Request) -> Response:
        """Answer one request."""
        if request.path == "/api/v2/monitor/health":
            return _json({part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")})
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _json({"detail": "Unauthorized"}, 401)
        match request.method, request.path.removeprefix("/api/v2/").split("/"):
            case "GET", ["dags"]:
                parsed = str(next(self.parsed))
                return _json({"dags": [self._dag(dag_id, parsed) for dag_id in self.paused]})
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
                assert not self.paused[dag_id], "a run of a paused DAG stays queued"
                self._record("run", dag_id)
                return _json({"dag_run_id": request.get_json()["dag_run_id"]})
            case "GET", ["dags", dag_id, "dagRuns", _]:
                return _json({"state": self._state(dag_id), **TIMES})
            case "GET", ["dags", dag_id, "dagRuns", _, "taskInstances"]:
                return _json({"task_instances": [{"task_id": "work", "state": self._state(dag_id), "try_number": 1}]})
            case "GET", ["dags", _, "dagRuns", _, "taskInstances", _, "logs", _]:
                return _json({"content": [{"event": "the source is empty", "error_detail": []}]})
            case "GET", ["variables", key]:
                return _json({"value": self.variables[key]}) if key in self.variables else _json({}, 404)
            case "PATCH", ["variables", key] if key not in self.variables:
                return _json({}, 404)
            case "PATCH" | "POST", ["variables", *_]:
                body = request.get_json()
                self.variables[body["key"]] = body["value"]
                self._record("store", body["value"])
                return _json({})
        return _json({"detail": f"the double does not know {request.method} {request.path}"}, 400)

    def _state(self, dag_id: str) -> str:
        return "failed" if dag_id in self.failing else "success"

    def _dag(self, dag_id: str, parsed: str) -> dict[str, object]:
        return {
            "dag_id": dag_id,
            "fileloc": f"/usr/local/airflow/dags/{dag_id}.py",
            "tags": [{"name": TAG}] if dag_id == SMOKE_DAG else [],
            "last_parsed_time": parsed,
            "is_stale": False,
        }

    def _record(self, *call: str) -> None:
        with self.calls.open("a") as calls:
            calls.write(json.dumps({"call": ["airflow", *call]}) + "\n")


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")
