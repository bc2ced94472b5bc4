"""A double of AWS: moto in this process, so that a test can read its internal state and make a call fail.

Limits: moto stores what the real AWS provider sends and returns it. It creates no database and enforces no policy. The
provider waits for a database as long as its own polling takes.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import boto3
import requests
from botocore.exceptions import ClientError
from moto.backends import get_backend
from moto.rds.exceptions import RDSClientError
from moto.rds.models import DBInstance, DBParameterGroup, RDSBackend
from moto.server import ThreadedMotoServer

REGION = "eu-west-1"
ACCOUNT = "123456789012"


@dataclass
class AwsDouble:
    """The address of the double, and what a test can do without Terraform."""

    url: str
    failing: set[str] = field(default_factory=set)
    """Names of methods of RDSBackend, such as create_db_instance, whose next call fails."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables with which Terraform, boto3 and Airflow find the double."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str) -> Any:
        """Return a client of one service."""
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
        )

    def database_password(self, name: str) -> str:
        """Return the last password that was set for a database, which no API of AWS returns."""
        return str(get_backend("rds")[ACCOUNT][REGION].databases[name]._master_user_password)

    def secret(self, name: str) -> str | None:
        """Return the value of a secret, or None if there is none."""
        try:
            return str(self.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise


@contextmanager
def aws_double() -> Iterator[AwsDouble]:
    """Serve an empty AWS account on a free port until the block ends."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    double = AwsDouble(f"http://{host}:{port}")
    with _repaired(), _failing(double):
        try:
            yield double
        finally:
            requests.post(f"{double.url}/moto-api/reset", timeout=30)
            server.stop()


@contextmanager
def _repaired() -> Iterator[None]:
    """Fill two gaps of moto that would show a change in every plan."""
    update = DBParameterGroup.update_parameters
    init = DBInstance.__init__

    def update_parameters(self: Any, new: Any) -> None:
        update(self, new)
        for parameter in self.parameters.values():
            parameter.setdefault("Source", "user")

    def with_performance_insights(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.performance_insights_enabled = kwargs.get("enable_performance_insights", False)
        self.performance_insights_kms_key_id = kwargs.get("performance_insights_kms_key_id")
        self.performance_insights_retention_period = kwargs.get("performance_insights_retention_period")

    with (
        patch.object(DBParameterGroup, "update_parameters", update_parameters),
        patch.object(DBInstance, "__init__", with_performance_insights),
    ):
        yield


@contextmanager
def _failing(double: AwsDouble) -> Iterator[None]:
    """Make each call fail once that a test names in `failing`."""

    def once(name: str) -> Any:
        real = getattr(RDSBackend, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if name in double.failing:
                double.failing.remove(name)
                raise RDSClientError("InvalidParameterCombination", f"{name} fails, as the test asked")
            return real(self, *args, **kwargs)

        return patch.object(RDSBackend, name, call)

    with once("create_db_instance"), once("modify_db_instance"):
        yield
