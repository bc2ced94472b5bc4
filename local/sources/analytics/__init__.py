"""Object storage for exports: moto's S3, in memory, unless AIRLOCK_EXPORT_ROOT says where they go."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import requests

from local.login import Login
from local.processes import serving
from local.sources import Source, Started
from local.state import State

BUCKET = "airlock-exports"


class ObjectStorage(Source):
    """A bucket that lasts as long as the platform runs. The tables that are exported are those of other datasets."""

    preload = ("s3fs", "pyarrow.parquet", "airflow.providers.amazon.aws.hooks.s3")

    def params(self, day: date) -> dict[str, object]:
        """Return the params of the day."""
        return {"as_of": day.isoformat()}

    @contextmanager
    def running(self, state: State, warehouse: Login, live: bool) -> Iterator[Started]:
        """Run moto's server, with a bucket in it."""
        if os.environ.get("AIRLOCK_EXPORT_ROOT"):
            yield Started()
            return
        with serving(state, "s3", ["moto.server", "-H", "127.0.0.1"], health="/moto-api/") as (url, processes):
            requests.put(f"{url}/{BUCKET}", timeout=30).raise_for_status()
            connection = {
                "conn_type": "aws",
                "login": "moto takes any key",
                "password": "moto takes any secret",
                "extra": {"endpoint_url": url, "region_name": "us-east-1"},
            }
            yield Started(
                {
                    "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
                    "AIRLOCK_EXPORT_ROOT": f"s3://aws_default@{BUCKET}",
                },
                processes,
            )


SOURCE = ObjectStorage()
