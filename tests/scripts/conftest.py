"""A checkout with DAGs, and a double of the Airflow that runs them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from scripts import deploy
from tests.workflows.airflow_double import AirflowDouble

Commit = Callable[..., str]


class Airflow(AirflowDouble):
    """The double of the workflows' tests, with tags and parse times per DAG, and a record of the runs."""

    def __init__(self, server: HTTPServer, dags: Path, calls: Path) -> None:
        super().__init__(server, "token", dags, calls)
        self.tagged: set[str] = set()
        """The DAGs with the tag `smoke`."""
        self.parse_number: Callable[[str], int] = lambda dag_id: len(server.log)
        """The number of times a DAG was parsed; by default it is parsed between any two requests."""
        self.runs: list[tuple[str, object]] = []
        """The DAGs that were run, in order, each with its conf."""

    def answer(self, request: Request) -> Response:
        """Answer one request."""
        response = super().answer(request)
        if request.method == "POST" and request.path.endswith("/dagRuns"):
            self.runs.append((request.path.split("/")[-2], request.get_json()["conf"]))
        if (request.path, response.status_code) != ("/api/v2/dags", 200):
            return response
        body = json.loads(response.get_data())
        for dag in body["dags"]:
            dag["tags"] = [{"name": "daily"}, *([{"name": "smoke"}] if dag["dag_id"] in self.tagged else [])]
            dag["last_parsed_time"] = f"2026-01-01T00:00:00.{self.parse_number(dag['dag_id']):06}Z"
        return Response(json.dumps(body), content_type="application/json")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a new git repository without a commit."""
    folder = tmp_path / "checkout"
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)  # noqa: S607
    return folder


@pytest.fixture
def commit(checkout: Path) -> Commit:
    """Return a function that writes files into the checkout, removes those whose text is None, and commits."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()

    def write(**files: str | None) -> str:
        for path, text in files.items():
            if text is None:
                (checkout / path).unlink()
            else:
                (checkout / path).parent.mkdir(parents=True, exist_ok=True)
                (checkout / path).write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "--allow-empty", "-m", "a commit")
        return git("rev-parse", "HEAD")

    return write


@pytest.fixture
def project(checkout: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with three DAGs, from which scripts/deploy.py deploys."""
    dags = {f"dags/{name}.py": f"# {name}\n" for name in ("orders", "returns", "stock")}
    commit(Dockerfile="FROM astro/runtime:1\n", **dags)
    monkeypatch.setattr(deploy, "ROOT", checkout)
    return checkout


@pytest.fixture
def airflow(httpserver: HTTPServer, project: Path, tmp_path: Path) -> Airflow:
    return Airflow(httpserver, project / "dags", tmp_path / "calls.jsonl")
