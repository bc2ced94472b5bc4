"""The client's own behaviour; that it speaks Airflow's language is shown in tests/local/test_demo.py."""

import json

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from scripts.airflow_api import AirflowApi, AirflowApiError

RUN = {"dag_run_id": "manual__2023-08-01T00:00:00+00:00"}


def test_a_token_travels_in_the_header(httpserver: HTTPServer) -> None:
    httpserver.expect_request(
        "/api/v2/monitor/health", headers={"Authorization": "Bearer secret-token"}
    ).respond_with_json({part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")})
    assert AirflowApi(httpserver.url_for("/"), "secret-token").healthy()


def test_one_unhealthy_part_is_enough(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/monitor/health").respond_with_json(
        {"metadatabase": {"status": "healthy"}, "scheduler": {"status": "healthy"}, "dag_processor": None}
    )
    assert not AirflowApi(httpserver.url_for("/")).healthy()


def test_a_run_is_triggered_once_without_a_logical_date(httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request(
        "/api/v2/dags/a_dag/dagRuns", "POST", json={"logical_date": None, "conf": {"market_date": "2023-08-01"}}
    ).respond_with_json(RUN)
    api = AirflowApi(httpserver.url_for("/"))
    assert api.trigger("a_dag", {"market_date": "2023-08-01"}) == RUN["dag_run_id"]
    assert len(httpserver.log) == 1


def test_a_trigger_with_an_id_is_repeated_and_finds_its_own_run(httpserver: HTTPServer) -> None:
    """The first answer is lost on its way; Airflow has the run."""
    body: dict[str, object] = {"logical_date": None, "conf": {}, "dag_run_id": "smoke__1"}
    for status in (502, 409):
        httpserver.expect_ordered_request("/api/v2/dags/a_dag/dagRuns", "POST", json=body).respond_with_data(
            "not the run", status=status
        )
    assert AirflowApi(httpserver.url_for("/")).trigger("a_dag", run_id="smoke__1") == "smoke__1"
    assert len(httpserver.log) == 2


def test_a_refusal_is_told_in_airflows_words_and_not_repeated(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/dags/a_dag/dagRuns").respond_with_data('{"detail":"no such DAG"}', status=404)
    with pytest.raises(AirflowApiError, match=r"POST dags/a_dag/dagRuns: 404 .*no such DAG"):
        AirflowApi(httpserver.url_for("/")).trigger("a_dag")
    assert len(httpserver.log) == 1


def test_a_run_id_is_quoted(httpserver: HTTPServer) -> None:
    seconds = {"state": "success", "start_date": "2023-08-01T09:00:00Z", "end_date": "2023-08-01T09:00:02.5Z"}
    httpserver.expect_request("/api/v2/dags/a_dag/dagRuns/a/b+c").respond_with_json(seconds)
    assert AirflowApi(httpserver.url_for("/")).run("a_dag", "a/b+c").seconds == 2.5
    assert httpserver.log[0][0].environ["REQUEST_URI"].endswith("/a%2Fb%2Bc")


def test_what_returned_nothing_is_none(httpserver: HTTPServer) -> None:
    httpserver.expect_request(
        "/api/v2/dags/a_dag/dagRuns/r/taskInstances/t/xcomEntries/return_value"
    ).respond_with_data('{"detail":"not found"}', status=404)
    assert AirflowApi(httpserver.url_for("/")).xcom("a_dag", "r", "t") is None


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(requests.ConnectionError):
        AirflowApi("http://127.0.0.1:9").run("a_dag", "r")


def test_a_list_is_read_to_its_end_though_a_server_gives_a_page_at_most(httpserver: HTTPServer) -> None:
    dags = [{"dag_id": f"dag_{number}", "is_stale": False} for number in range(250)]

    def page(request: Request) -> Response:
        first = int(request.args["offset"])
        count = min(int(request.args["limit"]), 100)  # maximum_page_limit
        body = {"dags": dags[first : first + count], "total_entries": len(dags)}
        return Response(json.dumps(body), content_type="application/json")

    httpserver.expect_request("/api/v2/dags").respond_with_handler(page)
    assert len(AirflowApi(httpserver.url_for("/")).dag_ids()) == 250
