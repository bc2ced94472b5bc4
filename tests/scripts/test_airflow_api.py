"""The client against canned responses; tests/local/test_up.py uses it with a real Airflow."""

import json

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from scripts.airflow_api import AirflowApi, AirflowApiError, Dag


def dag(dag_id: str, *tags: str, stale: bool = False) -> dict[str, object]:
    return {
        "dag_id": dag_id,
        "fileloc": f"/usr/local/airflow/dags/{dag_id}.py",
        "is_stale": stale,
        "last_parsed_time": "2026-01-01T00:00:00Z",
        "tags": [{"name": tag, "dag_id": dag_id, "dag_display_name": dag_id} for tag in tags],
    }


RUN = {"dag_run_id": "manual__2023-08-01T00:00:00+00:00"}


def test_the_token_is_sent_in_the_header(httpserver: HTTPServer) -> None:
    httpserver.expect_request(
        "/api/v2/monitor/health", headers={"Authorization": "Bearer secret-token"}
    ).respond_with_json({part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")})
    assert AirflowApi(httpserver.url_for("/"), "secret-token").healthy()


def test_one_unhealthy_part_makes_airflow_unhealthy(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/monitor/health").respond_with_json(
        {"metadatabase": {"status": "healthy"}, "scheduler": {"status": "healthy"}, "dag_processor": None}
    )
    assert not AirflowApi(httpserver.url_for("/")).healthy()


def test_a_run_is_triggered_once_without_a_logical_date(httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request(
        "/api/v2/dags/a_dag/dagRuns", "POST", json={"logical_date": None, "conf": {"day": "2023-08-01"}}
    ).respond_with_json(RUN)
    api = AirflowApi(httpserver.url_for("/"))
    assert api.trigger("a_dag", {"day": "2023-08-01"}) == RUN["dag_run_id"]
    assert len(httpserver.log) == 1


def test_a_trigger_with_a_run_id_is_retried_and_finds_its_own_run(httpserver: HTTPServer) -> None:
    """The first response is lost, but Airflow has started the run."""
    body: dict[str, object] = {"logical_date": None, "conf": {}, "dag_run_id": "smoke__1"}
    for status in (502, 409):
        httpserver.expect_ordered_request("/api/v2/dags/a_dag/dagRuns", "POST", json=body).respond_with_data(
            "not the run", status=status
        )
    assert AirflowApi(httpserver.url_for("/")).trigger("a_dag", run_id="smoke__1") == "smoke__1"
    assert len(httpserver.log) == 2


def test_a_refusal_is_raised_with_airflows_message_and_not_retried(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v2/dags/a_dag/dagRuns").respond_with_data('{"detail":"no such DAG"}', status=404)
    with pytest.raises(AirflowApiError, match=r"POST dags/a_dag/dagRuns: 404 .*no such DAG"):
        AirflowApi(httpserver.url_for("/")).trigger("a_dag")
    assert len(httpserver.log) == 1


def test_a_run_id_is_quoted(httpserver: HTTPServer) -> None:
    seconds = {"state": "success", "start_date": "2023-08-01T09:00:00Z", "end_date": "2023-08-01T09:00:02.5Z"}
    httpserver.expect_request("/api/v2/dags/a_dag/dagRuns/a/b+c").respond_with_json(seconds)
    assert AirflowApi(httpserver.url_for("/")).run("a_dag", "a/b+c").seconds == 2.5
    assert httpserver.log[0][0].environ["REQUEST_URI"].endswith("/a%2Fb%2Bc")


def test_the_xcom_of_a_task_that_returned_nothing_is_none(httpserver: HTTPServer) -> None:
    httpserver.expect_request(
        "/api/v2/dags/a_dag/dagRuns/r/taskInstances/t/xcomEntries/return_value"
    ).respond_with_data('{"detail":"not found"}', status=404)
    assert AirflowApi(httpserver.url_for("/")).xcom("a_dag", "r", "t") is None


def test_a_missing_server_is_an_error() -> None:
    with pytest.raises(requests.ConnectionError):
        AirflowApi("http://127.0.0.1:9", patience=0.1).run("a_dag", "r")


def test_a_list_longer_than_a_page_is_read_to_its_end(httpserver: HTTPServer) -> None:
    dags = [dag(f"dag_{number}") for number in range(250)]

    def page(request: Request) -> Response:
        first = int(request.args["offset"])
        count = min(int(request.args["limit"]), 100)  # maximum_page_limit
        body = {"dags": dags[first : first + count], "total_entries": len(dags)}
        return Response(json.dumps(body), content_type="application/json")

    httpserver.expect_request("/api/v2/dags").respond_with_handler(page)
    assert len(AirflowApi(httpserver.url_for("/")).dag_ids()) == 250


def test_a_dag_has_its_tags_and_a_stale_dag_is_left_out(httpserver: HTTPServer) -> None:
    body = {"dags": [dag("orders", "smoke", "daily"), dag("returns"), dag("old", "smoke", stale=True)]}
    httpserver.expect_request("/api/v2/dags").respond_with_json({**body, "total_entries": 3})
    assert AirflowApi(httpserver.url_for("/")).dags() == [
        Dag("orders", "orders.py", frozenset({"smoke", "daily"}), "2026-01-01T00:00:00Z"),
        Dag("returns", "returns.py", frozenset(), "2026-01-01T00:00:00Z"),
    ]
