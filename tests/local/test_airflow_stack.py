from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from local.airflow_stack import read_files
from local.state import LocalError
from scripts.airflow_api import AirflowApi

STARTED = datetime(2023, 8, 1, 12, tzinfo=UTC)
BEFORE, AFTER = STARTED - timedelta(minutes=1), STARTED + timedelta(seconds=1)


def knows(server: HTTPServer, dags: dict[str, datetime], errors: dict[str, datetime]) -> AirflowApi:
    """Return a client of an Airflow that read files at these times, and could not import others."""
    answers: dict[str, dict[str, Any]] = {
        "dags": {
            "dags": [
                {
                    "dag_id": file.removesuffix(".py"),
                    "fileloc": f"/dags/{file}",
                    "tags": [],
                    "last_parsed_time": at.isoformat(),
                    "is_stale": False,
                }
                for file, at in dags.items()
            ],
            "total_entries": len(dags),
        },
        "importErrors": {
            "import_errors": [
                {"filename": file, "stack_trace": "No module named x", "timestamp": at.isoformat()}
                for file, at in errors.items()
            ],
            "total_entries": len(errors),
        },
    }
    for path, answer in answers.items():
        server.expect_request(f"/api/v2/{path}").respond_with_json(answer)
    return AirflowApi(server.url_for(""))


def test_what_airflow_read_before_this_start_does_not_count(httpserver: HTTPServer) -> None:
    """A DAG file may have changed since, or may have been repaired."""
    airflow = knows(httpserver, {"old.py": BEFORE, "new.py": AFTER}, {"old.py": BEFORE})
    assert read_files(airflow, STARTED) == {"new.py"}


def test_a_file_that_cannot_be_imported_is_reported_with_its_traceback(httpserver: HTTPServer) -> None:
    airflow = knows(httpserver, {"old.py": BEFORE}, {"new.py": AFTER})
    with pytest.raises(LocalError, match=r"A DAG file cannot be imported\.\nnew\.py:\nNo module named x"):
        read_files(airflow, STARTED)
