"""The choice of the DAGs, and deployments that sleep or refuse; a run on a real Airflow is in tests/local."""

import sys

import pytest
from pytest_httpserver import HTTPServer
from rich.console import Console
from werkzeug import Request, Response

from scripts import smoke_run
from scripts.airflow_api import AirflowApi, AirflowApiError
from scripts.smoke_run import SmokeFailed, client, reach
from tests.scripts.conftest import Airflow

HEALTHY = {part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")}


@pytest.mark.parametrize(
    "address",
    [
        "https://cluster.astronomer.run/deployment",
        "cluster.astronomer.run/deployment",
        "cluster.astronomer.run/deployment/?orgId=org_1",
        "https://cluster.astronomer.run/deployment/home?orgId=org_1",
        "cluster.astronomer.run/deployment/api/v2",
    ],
)
def test_an_address_can_be_written_as_astro_writes_it(address: str) -> None:
    assert client(address, "token").url == "https://cluster.astronomer.run/deployment"


def healthy_after(httpserver: HTTPServer, first: Response) -> AirflowApi:
    """Return a client of a server whose first response is another one."""
    responses = iter([first])

    def dags(_request: Request) -> Response:
        return next(responses, None) or Response('{"dags": []}', content_type="application/json")

    httpserver.expect_request("/api/v2/dags").respond_with_handler(dags)
    httpserver.expect_request("/api/v2/monitor/health").respond_with_json(HEALTHY)
    return client(httpserver.url_for("/"), "token", patience=5)


@pytest.mark.parametrize(
    "response",
    [
        Response("no such deployment", 404),
        Response("bad gateway", 502),
        Response("waking up", 503),
        Response("<html>come back later</html>", 200),
    ],
    ids=lambda response: response.status,
)
def test_the_smoke_run_waits_for_a_deployment_that_wakes_up(httpserver: HTTPServer, response: Response) -> None:
    reach(healthy_after(httpserver, response), seconds=5, pause=0.01)


def test_the_wait_for_a_deployment_ends_after_a_time(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/dags").respond_with_data("asleep", status=404)
    with pytest.raises(SmokeFailed, match="astro deployment wake-up"):
        reach(client(httpserver.url_for("/"), "token"), seconds=0.05, pause=0.01)


def test_an_address_without_a_server_is_reported() -> None:
    with pytest.raises(SmokeFailed, match="did not answer"):
        reach(client("http://127.0.0.1:9", "token", patience=0.05), seconds=0.05, pause=0.01)


@pytest.mark.parametrize("status", [401, 403, 302])
def test_a_refused_token_fails_at_once_and_is_not_printed(httpserver: HTTPServer, status: int) -> None:
    httpserver.expect_request("/api/v2/dags").respond_with_data(
        "no", status=status, headers={"Location": httpserver.url_for("/login")}
    )
    with pytest.raises(SmokeFailed, match="ASTRO_API_TOKEN has to be") as failed:
        reach(client(httpserver.url_for("/"), "very-secret"), seconds=60)
    assert len(httpserver.log) == 1
    assert "very-secret" not in str(failed.value)


def test_an_unhealthy_scheduler_is_reported(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/dags").respond_with_json({"dags": []})
    httpserver.expect_request("/api/v2/monitor/health").respond_with_json(HEALTHY | {"scheduler": None})
    with pytest.raises(SmokeFailed, match="not healthy"):
        reach(client(httpserver.url_for("/"), "token"), seconds=0.05, pause=0.01)


def command(monkeypatch: pytest.MonkeyPatch, address: str, *dag_ids: str) -> None:
    """Set the environment and the arguments of the command."""
    monkeypatch.setenv("AIRFLOW_URL", address)
    monkeypatch.setenv("ASTRO_API_TOKEN", "token")
    monkeypatch.setattr(sys, "argv", ["smoke_run", *dag_ids])


@pytest.mark.parametrize("missing", ["AIRFLOW_URL", "ASTRO_API_TOKEN"])
def test_a_missing_variable_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    command(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.delenv(missing)
    assert smoke_run.main() == 2
    assert f"{missing} is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dag_ids", "expected"), [([], ["orders", "stock"]), (["returns"], ["returns"]), (["stock", "orders"],) * 2]
)
def test_the_command_runs_the_given_dags_or_else_the_tagged_ones(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, dag_ids: list[str], expected: list[str]
) -> None:
    airflow.tagged = {"stock", "orders"}
    command(monkeypatch, airflow.url, *dag_ids)
    assert smoke_run.main() == 0
    assert airflow.runs == [(dag_id, {}) for dag_id in expected]


def test_without_a_tagged_dag_the_command_says_how_to_add_one_and_succeeds(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, airflow.url)
    assert smoke_run.main() == 0
    assert airflow.runs == []
    output = capsys.readouterr().out
    assert "No DAG has the tag `smoke`" in output
    assert 'tags=[..., "smoke"]' in output


def test_a_failed_run_fails_the_command_and_no_further_dag_is_run(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow.tagged, airflow.failing = {"stock", "orders"}, {"orders"}
    command(monkeypatch, airflow.url)
    assert smoke_run.main() == 1
    assert [dag_id for dag_id, _ in airflow.runs] == ["orders"]
    assert "The run of orders failed: orders.work" in capsys.readouterr().err
    assert airflow.paused["orders"], "a paused DAG is paused again after a failure too"


def test_a_list_of_dags_that_cannot_be_read_is_a_failure(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/dags").respond_with_data("forbidden", status=403)
    with pytest.raises(SmokeFailed, match="The DAGs cannot be listed: GET dags: 403"):
        smoke_run.tagged(client(httpserver.url_for("/"), "token"), Console())


def test_only_reads_are_retried_after_an_error_of_a_gateway(httpserver: HTTPServer) -> None:
    calls = []

    def flaky(request: Request) -> Response:
        calls.append(request.method)
        return Response("bad gateway", 502) if len(calls) == 1 else Response('{"is_paused": true}')

    httpserver.expect_request("/api/v2/dags/d").respond_with_handler(flaky)
    assert client(httpserver.url_for("/"), "token").paused("d")
    assert calls == ["GET", "GET"]
    httpserver.expect_request("/api/v2/dags/d/dagRuns").respond_with_data("bad gateway", status=502)
    with pytest.raises(AirflowApiError, match="502"):
        AirflowApi(httpserver.url_for("/")).trigger("d")
    assert len(httpserver.log) == 3
