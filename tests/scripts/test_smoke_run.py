"""What a deployment that sleeps, breaks or refuses does to the smoke run; a good run is in tests/local."""

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from scripts import smoke_run
from scripts.airflow_api import AirflowApi, AirflowApiError
from scripts.smoke_run import SmokeFailed, client, reach

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
def test_an_address_is_taken_as_astro_writes_it(address: str) -> None:
    assert client(address, "token").url == "https://cluster.astronomer.run/deployment"


def up(httpserver: HTTPServer, before: list[Response]) -> AirflowApi:
    """Give a client of a server that first gives some other answers."""
    answers = iter(before)

    def dags(_request: Request) -> Response:
        return next(answers, None) or Response('{"dags": []}', content_type="application/json")

    httpserver.expect_request("/api/v2/dags").respond_with_handler(dags)
    httpserver.expect_request("/api/v2/monitor/health").respond_with_json(HEALTHY)
    return client(httpserver.url_for("/"), "token", patience=5)


@pytest.mark.parametrize(
    "answer",
    [
        Response("no such deployment", 404),
        Response("bad gateway", 502),
        Response("waking up", 503),
        Response("<html>come back later</html>", 200),
    ],
    ids=lambda it: it.status,
)
def test_a_deployment_that_wakes_up_is_waited_for(httpserver: HTTPServer, answer: Response) -> None:
    reach(up(httpserver, [answer]), seconds=5, pause=0.01)


def test_one_that_stays_asleep_is_not_waited_for_for_ever(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/dags").respond_with_data("asleep", status=404)
    with pytest.raises(SmokeFailed, match="astro deployment wake-up"):
        reach(client(httpserver.url_for("/"), "token"), seconds=0.05, pause=0.01)


def test_an_address_where_nobody_is_is_told() -> None:
    with pytest.raises(SmokeFailed, match="did not answer"):
        reach(client("http://127.0.0.1:9", "token", patience=0.05), seconds=0.05, pause=0.01)


@pytest.mark.parametrize("status", [401, 403, 302])
def test_a_refused_token_fails_at_once_and_is_not_told(httpserver: HTTPServer, status: int) -> None:
    httpserver.expect_request("/api/v2/dags").respond_with_data(
        "no", status=status, headers={"Location": httpserver.url_for("/login")}
    )
    with pytest.raises(SmokeFailed, match="ASTRO_API_TOKEN has to be") as failed:
        reach(client(httpserver.url_for("/"), "very-secret"), seconds=60)
    assert len(httpserver.log) == 1
    assert "very-secret" not in str(failed.value)


def test_an_unhealthy_scheduler_is_told(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/dags").respond_with_json({"dags": []})
    httpserver.expect_request("/api/v2/monitor/health").respond_with_json(HEALTHY | {"scheduler": None})
    with pytest.raises(SmokeFailed, match="not healthy"):
        reach(client(httpserver.url_for("/"), "token"), seconds=0.05, pause=0.01)


def test_without_its_variables_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_URL", raising=False)
    assert smoke_run.main() == 2
    assert "AIRFLOW_URL is not set" in capsys.readouterr().err


def test_a_lost_connection_is_repeated_for_reads_only(httpserver: HTTPServer) -> None:
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
