"""The quality report behind the login of a real API server, on which not everybody is an admin."""

import json
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
import requests

from local.airflow_stack import environment, migrate_metadata
from local.login import Login, ensure_database, ensure_role
from local.platform import METADATA
from local.processes import free_port, listening_port, running, wait_until
from local.state import State, write_private

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BAIT = "what nobody may read"
INDEX, PAGE = "<h1>Data quality</h1>", "<h1>2023-08-01</h1>"
PASSWORD = "for tests only"
BELOW = "/airflow"  # a deployment's address may have a path
DAG = """
import os
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import dag, task

PAGE = f"{os.environ['AIRLOCK_REPORT_ROOT']}/readings/2023-08-01.html"


@dag(schedule=None)
def gates():
    @task
    def taskflow(ti):
        ti.xcom_push(key="return_value", value={"verdict": "passed", "report": PAGE})

    @task
    def other():
        return {"verdict": "passed"}

    PythonOperator(task_id="traditional", python_callable=lambda: {"report": PAGE}) >> taskflow() >> other()


gates()
"""


@pytest.fixture(scope="module")
def own() -> Iterator[State]:
    """Yield a state with a report, and with a file outside the report's folder."""
    with TemporaryDirectory(prefix="airlock plugin ") as folder:
        state = State(Path(folder))
        (state.reports / "readings").mkdir()
        (state.reports / "index.html").write_text(INDEX)
        (state.reports / "readings" / "2023-08-01.html").write_text(PAGE)
        (state.folder / "bait.html").write_text(BAIT)
        (state.reports / "link.html").symlink_to(state.folder / "bait.html")
        yield state


@pytest.fixture(scope="module")
def env(own: State, postgres: Login) -> dict[str, str]:
    """Return the environment of an Airflow with logins: `viewer` has that role, `nobody` has none."""
    metadata = postgres.as_role(METADATA, own.secrets[METADATA], METADATA)
    ensure_role(postgres, metadata)
    ensure_database(postgres, METADATA, owner=METADATA)
    port = free_port()
    env = environment(own, metadata, postgres, sources={}, port=port)
    passwords = own.folder / "passwords.json"
    write_private(passwords, json.dumps({"viewer": PASSWORD, "nobody": PASSWORD}))
    dags = own.folder / "dags"
    dags.mkdir()
    (dags / "gates.py").write_text(DAG)
    env |= {
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}{BELOW}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer,nobody:",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    migrate_metadata(metadata, env)
    return env


@pytest.fixture(scope="module")
def port(own: State, env: dict[str, str]) -> Iterator[int]:
    """Run the API server, without the other processes of Airflow; returns its port."""
    port = int(env["AIRFLOW__API__PORT"])
    log = own.logs / "api-server.log"
    with running([sys.executable, "-m", "airflow", "api-server"], env, log) as server:

        def ready() -> bool:
            return listening_port(server) == port and raw(port, "/api/v2/version")[0] == 200

        wait_until(ready, "The API server", {log: server}, seconds=120)
        yield port


def raw(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Request a path below Airflow's exactly as it is written, and return status and body: other clients change it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"{BELOW}{path}", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def login(port: int, user: str) -> str:
    url = f"http://127.0.0.1:{port}{BELOW}/auth/token"
    response = requests.post(url, json={"username": user, "password": PASSWORD}, timeout=30)
    assert response.status_code == 201, response.text
    return str(response.json()["access_token"])


@pytest.fixture(scope="module")
def viewer(port: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {login(port, 'viewer')}"}


def paths(own: State) -> list[str]:
    outside = f"{own.folder}".replace(" ", "%20")
    written = [
        "../bait.html",
        "readings/../../bait.html",
        "%2e%2e/bait.html",
        "%2e%2e%2fbait.html",
        "..%2Fbait.html",
        "%252e%252e%252fbait.html",
        "..%5cbait.html",
        "..\\bait.html",
        f"/{outside}/bait.html",
        f"%2f{outside}/bait.html",
        f"file://{outside}/bait.html",
        "s3://bucket/bait.html",
        "../bait.html%00",
        "%00../bait.html",
        "../secrets.json",
        "../secrets.json%00.html",
        "link.html",
        "nothing.html",
        "readings",
    ]
    return [f"/data-quality/{path}" for path in written]


def test_without_a_login_no_page_is_served(own: State, port: int) -> None:
    pages = ["/data-quality/", "/data-quality/index.html", "/data-quality/readings/2023-08-01.html"]
    for path in [*pages, *paths(own), "/data-quality/openapi.json", "/data-quality/docs"]:
        assert raw(port, path) == (401, '{"detail":"Not authenticated"}'), path
    for headers in ({"Authorization": "Bearer nonsense"}, {"Cookie": "_token=nonsense"}):
        assert raw(port, "/data-quality/", **headers)[0] in (401, 403)


def test_a_user_without_a_role_sees_no_page(port: int) -> None:
    token = login(port, "nobody")
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"_token={token}"}):
        for path in ("/data-quality/", "/data-quality/?dag_id=gates", "/data-quality/readings/2023-08-01.html"):
            assert raw(port, path, **headers)[0] == 403


def test_a_viewer_sees_the_pages_by_token_and_by_cookie(port: int) -> None:
    token = login(port, "viewer")
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"_token={token}"}):
        assert raw(port, "/data-quality/", **headers) == (200, INDEX)
        assert raw(port, "/data-quality/readings/2023-08-01.html", **headers) == (200, PAGE)


def test_a_viewer_gets_nothing_from_outside_the_root(own: State, port: int, viewer: dict[str, str]) -> None:
    for path in paths(own):
        status, text = raw(port, path, **viewer)
        assert (status, BAIT in text, "airlock_app" in text) == (404, False, False), path
    # These leave the plugin's own addresses before Airflow looks for a plugin.
    for path in ("/data-quality/../bait.html", "/data-quality%2f..%2fbait.html", "/data-quality/..;/bait.html"):
        assert BAIT not in raw(port, path, **viewer)[1]


def test_the_navigation_has_the_entry(port: int, viewer: dict[str, str]) -> None:
    status, text = raw(port, "/api/v2/plugins", **viewer)
    assert status == 200
    [plugin] = [plugin for plugin in json.loads(text)["plugins"] if plugin["name"] == "data_quality"]
    [view] = plugin["external_views"]
    assert (view["name"], view["destination"], view["url_route"]) == ("Data quality", "nav", "data-quality")
    assert plugin["source"] == "$PLUGINS_FOLDER/data_quality.py"
    assert json.loads(raw(port, "/api/v2/plugins/importErrors", **viewer)[1])["import_errors"] == []


def test_a_task_with_a_report_links_to_it_and_no_other_does(
    env: dict[str, str], port: int, viewer: dict[str, str]
) -> None:
    done = run(
        [sys.executable, "-m", "airflow", "dags", "test", "gates"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

    def get(path: str) -> Any:
        status, text = raw(port, f"/api/v2/dags/gates/dagRuns{path}", **viewer)
        assert status == 200, text
        return json.loads(text)

    [dag_run] = get("")["dag_runs"]
    assert dag_run["state"] == "success"
    run_id = quote(dag_run["dag_run_id"])
    links = {
        task: get(f"/{run_id}/taskInstances/{task}/links")["extra_links"]
        for task in ("traditional", "taskflow", "other")
    }
    page = {"Quality report": f"{BELOW}/data-quality/readings/2023-08-01.html"}
    assert links == {"traditional": page, "taskflow": page, "other": {"Quality report": None}}
    assert raw(port, links["taskflow"]["Quality report"].removeprefix(BELOW), **viewer) == (200, PAGE)
