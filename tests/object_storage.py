"""Object storage for tests: moto's S3, which can be told to fail, and a folder."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug import Response
from werkzeug.serving import make_server


class S3:
    """A server, with a bucket per test, and the answer that it gives instead of taking an object or a part of one."""

    def __init__(self) -> None:
        moto = DomainDispatcherApplication(create_backend_app)

        def application(environ: Any, start_response: Any) -> Any:
            written = environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].count("/") > 1
            if written and self.status and self.spared <= 0:
                return Response("<Error><Code>AccessDenied</Code></Error>", self.status)(environ, start_response)
            self.spared -= written
            return moto(environ, start_response)

        self.status, self.spared = 0, 0
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self.bucket = ""
        Thread(target=self._server.serve_forever, daemon=True).start()

    def fail(self, status: int, *, after: int = 0) -> None:
        """Refuse what is written, after that many requests that write."""
        self.status, self.spared = status, after

    def client(self) -> Any:
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def objects(self) -> list[str]:
        return [each["Key"] for each in self.client().list_objects_v2(Bucket=self.bucket).get("Contents", [])]


@cache
def server() -> S3:
    """Return the one server of this process: Airflow keeps the first address of a connection."""
    return S3()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """Let exports go to an empty bucket, through the connection that a deployment uses."""
    s3_server = server()
    s3_server.bucket, s3_server.status = f"exports-{uuid4()}", 0
    s3_server.client().create_bucket(Bucket=s3_server.bucket)
    extra = {"endpoint_url": s3_server.url, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "any", "password": "any", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRLOCK_EXPORT_ROOT", f"s3://aws_default@{s3_server.bucket}")
    yield s3_server
    # Moto's servers of one process share what they hold, and another test looks for what Terraform left.
    s3_server.fail(0)
    for key in s3_server.objects():
        s3_server.client().delete_object(Bucket=s3_server.bucket, Key=key)
    s3_server.client().delete_bucket(Bucket=s3_server.bucket)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let exports go to a folder."""
    monkeypatch.setenv("AIRLOCK_EXPORT_ROOT", f"file://{tmp_path}")
    return tmp_path
