"""Environments from the first apply to the last destroy: the real AWS provider against moto, a double of the Astro one.

dev in `make test`, with its faults; prod only in `make test-infra`. Most of the time the provider waits for a database.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from include import settings
from tests.terraform.astro_double.running import ORGANIZATION, AstroDouble
from tests.terraform.aws_double import ACCOUNT, REGION, AwsDouble, aws_double
from tests.terraform.conftest import Terraform, copy_of_terraform

CONNECTIONS = {
    "postgres_admin_conn": "airlock_admin",
    "postgres_market_conn": "airlock_app",
    "postgres_daily_operational_conn": "airlock_app",
    "postgres_reader_conn": "airlock_reader",
}
SETTINGS = {
    "region": REGION,
    "availability_zones": [f"{REGION}a", f"{REGION}b"],
    "astro_organization_id": ORGANIZATION,
    "repository": "example/airlock",
    "contact_emails": ["planted-2c9f@example.com"],
}
NO_CHANGES, CHANGES = 0, 2

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Environment:
    """One environment in a copy of the checkout, and what stands behind it."""

    name: str
    folder: Path
    terraform: Terraform
    aws: AwsDouble
    astro: AstroDouble

    def configure(self, **values: Any) -> None:
        """Write backend.hcl and terraform.tfvars, as a person does."""
        here = self.folder / "terraform" / "environments" / self.name
        (here / "backend.hcl").write_text(f'bucket = "airlock-state-{ACCOUNT}"\nregion = "{REGION}"\n')
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**SETTINGS, **values}.items()]
        (here / "terraform.tfvars").write_text("\n".join(lines))

    def run(self, action: str, *arguments: str, status: int = 0) -> str:
        """Run what `make plan`, `make apply` and `make destroy` run."""
        program = self.folder / "scripts" / "infrastructure.py"
        return self.terraform.run(sys.executable, program, action, self.name, *arguments, status=status)

    def apply(self, status: int = 0) -> str:
        """Apply without a question."""
        return self.run("apply", "-auto-approve", status=status)

    def plan(self, *arguments: str, status: int) -> str:
        """Plan, and tell by the exit status whether anything differs."""
        return self.run("plan", "-detailed-exitcode", "-lock=false", *arguments, status=status)

    def passwords(self) -> dict[str, str]:
        """Give what lies in the secret that everything else is made from."""
        secret = self.aws.secret(f"airlock-{self.name}/passwords")
        assert secret
        passwords: dict[str, str] = json.loads(secret)
        return passwords

    def everything_written(self) -> dict[str, str]:
        """Give every version of the state, and all that lies in the folder, by where it is."""
        s3 = self.aws.client("s3")
        bucket = f"airlock-state-{ACCOUNT}"
        written = {
            f"state {version['VersionId']}": s3.get_object(
                Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"]
            )["Body"].read().decode()
            for version in s3.list_object_versions(Bucket=bucket)["Versions"]
        }  # fmt: skip
        files = [path for path in self.folder.rglob("*") if path.is_file() and "providers" not in path.parts]
        return written | {str(path.relative_to(self.folder)): path.read_text(errors="replace") for path in files}


def where(text: str, written: dict[str, str]) -> list[str]:
    """Say where a text stands."""
    return [place for place, content in written.items() if text in content]


def connections_agree(environment: Environment) -> None:
    """Check that the database, the connections and the secret have the same passwords."""
    aws, passwords = environment.aws, environment.passwords()
    name = f"airlock-{environment.name}"
    assert len(set(passwords.values())) == 3
    assert aws.database_password(name) == passwords["admin"]
    for connection, login in CONNECTIONS.items():
        stored = json.loads(aws.secret(f"{name}/connections/{connection}") or "{}")
        assert stored["login"] == login
        assert stored["password"] == passwords[login.removeprefix("airlock_")]


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsDouble]:
    with aws_double() as double:
        yield double


@pytest.fixture(scope="module")
def account(
    tmp_path_factory: pytest.TempPathFactory, terraform: Terraform, aws: AwsDouble, astro: AstroDouble
) -> Environment:
    """An AWS account after `make bootstrap`; which environment is dev unless a test says so."""
    folder = copy_of_terraform(tmp_path_factory.mktemp("account"))
    ready = terraform.within({**aws.environment, **astro.environment})
    program = folder / "scripts" / "infrastructure.py"
    ready.run(sys.executable, program, "bootstrap", REGION, "-auto-approve")
    return Environment("dev", folder, ready, aws, astro)


@pytest.mark.timeout(1500)
def test_dev_from_its_first_apply_to_its_destroy(account: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    dev, aws, astro = account, account.aws, account.astro
    dev.configure()

    # A first apply that stops before the placeholder has its version: a plan reads it, when it is there.
    dev.run("apply", "-auto-approve", "-target=module.secrets.aws_secretsmanager_secret.placeholder")

    # One that stops between the passwords and the database.
    aws.failing.add("create_db_instance")
    output = dev.apply(status=1)
    assert "create_db_instance fails" in output
    made = list(dev.passwords().values())
    assert aws.secret("airlock-dev/connections/postgres_market_conn") is None

    # The next one makes it good.
    output += dev.apply()
    connections_agree(dev)
    first = dev.passwords()
    made += first.values()

    (state,) = aws.client("s3").list_objects_v2(Bucket=f"airlock-state-{ACCOUNT}")["Contents"]
    head = aws.client("s3").head_object(Bucket=f"airlock-state-{ACCOUNT}", Key=state["Key"])
    assert head["ServerSideEncryption"] == "aws:kms"
    assert len(astro.api.alerts) == 2

    # Nothing is left to do; and a plan of a pull request, without reading a resource or a secret, says so, too.
    output += dev.plan(status=NO_CHANGES)
    output += dev.plan("-refresh=false", "-out=nothing.tfplan", status=NO_CHANGES)

    airflow_finds_its_connections_and_buckets(dev, monkeypatch)
    the_database_is_open_to_the_deployment_only(dev)

    # In place: more storage and new passwords; an apply that stops between secret and database, resumed.
    dev.configure(database_storage_gb=30, passwords_version=2)
    planned = dev.plan("-out=rotation.tfplan", status=CHANGES)
    assert not re.search("aws_db_instance.*must be replaced", planned)
    aws.failing.add("modify_db_instance")
    output += planned + dev.apply(status=1)
    assert aws.database_password("airlock-dev") == first["admin"]
    assert dev.passwords()["admin"] != first["admin"]
    assert first["app"] in str(aws.secret("airlock-dev/connections/postgres_market_conn"))  # DAGs still get in
    made += dev.passwords().values()
    output += dev.apply()
    connections_agree(dev)
    second = dev.passwords()
    assert not set(second.values()) & set(made)
    (database,) = aws.client("rds").describe_db_instances()["DBInstances"]
    assert database["AllocatedStorage"] == 30
    output += dev.plan(status=NO_CHANGES)

    # What somebody changes by hand is seen.
    group = database["VpcSecurityGroups"][0]["VpcSecurityGroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "198.51.100.0/24"}]}
    aws.client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    (deployment,) = astro.api.deployments.values()
    deployment["environmentVariables"] = deployment["environmentVariables"][1:]
    drifted = dev.plan(status=CHANGES)
    assert "198.51.100.0/24" in drifted
    assert "astro_deployment.this" in drifted

    # No password anywhere; the search is one that finds: an address that has to be in state and output.
    for name in ("nothing", "rotation"):
        file = dev.folder / "terraform" / "environments" / "dev" / f"{name}.tfplan"
        shutil.unpack_archive(file, file.with_suffix(".unpacked"), format="zip")
    written = {"output": output, **dev.everything_written()}
    found = " ".join(where("planted-2c9f", written))
    for place in ("output", "state", "rotation.unpacked"):
        assert place in found
    for password in (*made, *second.values()):
        assert where(password, written) == []

    # Nothing is left of it.
    dev.run("destroy", "-auto-approve")
    nothing_is_left(dev)


def airflow_finds_its_connections_and_buckets(dev: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow read and write with the environment variables that the deployment received."""
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
    from airflow.sdk import ObjectStoragePath

    (deployment,) = dev.astro.api.deployments.values()
    received = {each["key"]: each["value"] for each in deployment["environmentVariables"]}
    assert not any(each["isSecret"] for each in deployment["environmentVariables"])
    for name, value in {**dev.aws.environment, **received}.items():
        monkeypatch.setenv(name, value)

    # Airlock's own are read by the settings module; Airflow's are options that it has.
    own = {name for name in received if name.startswith(("AIRLOCK_", "POLYGON_"))}
    assert own
    for name in own:
        assert name in Path(settings.__file__).read_text()
    assert settings.settings().report_root == f"s3://aws_default@airlock-dev-reports-{ACCOUNT}/reports"
    from airflow.configuration import conf

    for name in received.keys() - own - {"AIRFLOW_CONN_AWS_DEFAULT"}:
        section, option = name.removeprefix("AIRFLOW__").lower().split("__")
        assert conf.has_option(section, option)

    backend = SecretsManagerBackend(**json.loads(received["AIRFLOW__SECRETS__BACKEND_KWARGS"]))
    for connection, login in CONNECTIONS.items():
        found = backend.get_connection(connection)
        assert found
        assert (found.login, found.schema) == (login, "warehouse")
        assert found.extra_dejson["sslmode"] == "verify-full"
        certificates = Path(found.extra_dejson["sslrootcert"]).relative_to("/usr/local/airflow")
        assert (Path(settings.__file__).parent.parent / certificates).exists()
    assert backend.get_connection("slack_alerts_conn") is None
    assert backend.get_variable("POLYGON_API_KEY") is None
    dev.aws.client("secretsmanager").put_secret_value(
        SecretId="airlock-dev/variables/POLYGON_API_KEY", SecretString="put by hand"
    )
    assert backend.get_variable("POLYGON_API_KEY") == "put by hand"

    page = ObjectStoragePath(received["AIRLOCK_REPORT_ROOT"]) / "page.html"
    page.write_text("seen")
    objects = dev.aws.client("s3").get_object(Bucket=f"airlock-dev-reports-{ACCOUNT}", Key="reports/page.html")
    assert objects["Body"].read() == b"seen"


def the_database_is_open_to_the_deployment_only(dev: Environment) -> None:
    """Look at the rules of its security group."""
    (database,) = dev.aws.client("rds").describe_db_instances()["DBInstances"]
    (group,) = dev.aws.client("ec2").describe_security_groups(
        GroupIds=[database["VpcSecurityGroups"][0]["VpcSecurityGroupId"]]
    )["SecurityGroups"]
    (rule,) = group["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (5432, 5432)
    addresses = {each["CidrIp"] for each in rule["IpRanges"]}
    assert addresses == {f"{ip}/32" for ip in dev.astro.api.external_ips}


def nothing_is_left(environment: Environment) -> None:
    """Ask AWS and Astro for everything that an environment had."""
    aws, api = environment.aws, environment.astro.api
    name = f"airlock-{environment.name}"
    assert aws.client("rds").describe_db_instances()["DBInstances"] == []
    buckets = [each["Name"] for each in aws.client("s3").list_buckets()["Buckets"]]
    assert buckets == [f"airlock-state-{ACCOUNT}"]
    assert [each["Name"] for each in aws.client("secretsmanager").list_secrets()["SecretList"]] == []
    assert [each for each in aws.client("ec2").describe_vpcs()["Vpcs"] if not each["IsDefault"]] == []
    assert [each for each in aws.client("iam").list_roles()["Roles"] if each["RoleName"].startswith(name)] == []
    assert aws.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert (api.workspaces, api.deployments, api.notification_channels, api.alerts) == ({}, {}, {}, {})


@pytest.mark.infra
@pytest.mark.timeout(2400)
def test_prod_in_two_applies_and_protected(account: Environment) -> None:
    prod = replace(account, name="prod")
    aws, astro = prod.aws, prod.astro
    cluster = "cl0000000000000000000001x"
    prod.configure(cluster_id=cluster)

    prod.apply()
    connections_agree(prod)
    (database,) = aws.client("rds").describe_db_instances()["DBInstances"]
    assert (database["MultiAZ"], database["DeletionProtection"], database["PubliclyAccessible"]) == (True, True, False)
    ec2 = aws.client("ec2")
    group = database["VpcSecurityGroups"][0]["VpcSecurityGroupId"]
    assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == []
    (deployment,) = astro.api.deployments.values()
    assert (deployment["type"], deployment["clusterId"], deployment["isHighAvailability"]) == (
        "DEDICATED",
        cluster,
        True,
    )

    # Astronomer opens the peering, and the second apply accepts it.
    theirs = ec2.create_vpc(CidrBlock="172.20.0.0/19")["Vpc"]["VpcId"]
    ours = database["DBSubnetGroup"]["VpcId"]
    peering = ec2.create_vpc_peering_connection(VpcId=theirs, PeerVpcId=ours)["VpcPeeringConnection"]
    identity = peering["VpcPeeringConnectionId"]
    prod.configure(cluster_id=cluster, peering={"connection_id": identity, "astro_cidr": "172.20.0.0/19"})
    prod.apply()
    (rule,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert [each["CidrIp"] for each in rule["IpRanges"]] == ["172.20.0.0/19"]
    (seen,) = ec2.describe_vpc_peering_connections()["VpcPeeringConnections"]
    assert seen["Status"]["Code"] == "active"
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [ours]}])["RouteTables"]
    assert identity in {route.get("VpcPeeringConnectionId") for table in tables for route in table["Routes"]}
    prod.plan(status=NO_CHANGES)

    # Not destroyed until the protection is lifted on purpose; then all of it.
    said = prod.run("destroy", "-auto-approve", status=1)
    assert "airlock-prod is protected" in said
    assert len(aws.client("rds").describe_db_instances()["DBInstances"]) == 1
    lifted = {"database_deletion_protection": False, "unprotect_database": "airlock-prod"}
    prod.configure(cluster_id=cluster, **lifted)
    prod.apply()
    prod.run("destroy", "-auto-approve")
    ec2.delete_vpc(VpcId=theirs)
    nothing_is_left(prod)
    snapshots = aws.client("rds").describe_db_snapshots()["DBSnapshots"]
    assert [each["DBSnapshotIdentifier"][:19] for each in snapshots] == ["airlock-prod-final-"]


# A value, and what is said to it; the modules' own tests have more.
REFUSED_IN_DEV = {
    "astro_organization_id": ("example", "c and 24 lower-case letters and digits"),
    "repository": ("https://github.com/example/airlock", "write owner/name"),
    "contact_emails": (["data-team"], "addresses such as data-team@example.com"),
    "cluster_id": ("cl0000000000000000000001x", "a STANDARD one has none"),
    "network_cidr": ("10.42.0.0/28", "its subnets would not fit"),
    "database_instance_class": ("small", "such as db.t4g.small"),
}
REFUSED_IN_PROD = {
    "cluster_id": (None, "A DEDICATED deployment needs its cluster_id"),
    "database_deletion_protection": (False, "prod needs deletion_protection = true"),
    "database_backup_retention_days": (1, "prod keeps at least 7"),
    "availability_zones": (["eu-west-1a"], "two or more different zones"),
}


@pytest.mark.parametrize(("environment", "refused"), [("dev", REFUSED_IN_DEV), ("prod", REFUSED_IN_PROD)])
def test_what_cannot_be_is_refused_by_the_plan(
    environment: str, refused: dict[str, tuple[Any, str]], account: Environment
) -> None:
    chosen = replace(account, name=environment)
    chosen.configure(**{name: value for name, (value, _) in refused.items()})
    calls = len(chosen.astro.api.calls)

    said = chosen.plan("-refresh=false", status=1)

    flat = " ".join(re.sub("[│╷╵]", "", said).split())
    for _, told in refused.values():
        assert told in flat
    assert len(chosen.astro.api.calls) == calls


def test_an_environment_that_is_not_filled_in_says_what_to_copy(account: Environment) -> None:
    program = account.folder / "scripts" / "infrastructure.py"
    (account.folder / "terraform" / "environments" / "prod" / "backend.hcl").unlink(missing_ok=True)

    said = account.terraform.run(sys.executable, program, "plan", "prod", status=1)
    assert "backend.hcl is missing: copy backend.hcl.example" in said
    said = account.terraform.run(sys.executable, program, "plan", "qa", status=1)
    assert "write ENV=dev or ENV=prod" in said
    without_token = {key: value for key, value in account.terraform.environment.items() if key != "ASTRO_API_TOKEN"}
    said = Terraform(without_token).run(sys.executable, program, "apply", "dev", status=1)
    assert "ASTRO_API_TOKEN is not set" in said
