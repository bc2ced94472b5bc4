"""Environments from the first apply to the destroy: the real AWS provider on moto, and a double of the Astro provider.

`make test` runs dev, with failures; only `make test-infra` also runs prod. The provider spends most of the time waiting
for the database.
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
from tests.terraform.conftest import Terraform, copy_of_terraform, declare_datasets

LIBRARY, WEATHER = "postgres_library_conn", "postgres_weather_conn"  # of made-up datasets
SETTINGS = {
    "region": REGION,
    "availability_zones": [f"{REGION}a", f"{REGION}b"],
    "astro_organization_id": ORGANIZATION,
    "repository": "example/airlock",
    "contact_emails": ["planted-2c9f@example.com"],
    "deadlines": {"orders_daily": {"utc": "10:00", "days": ["MONDAY"]}},
}
NO_CHANGES, CHANGES = 0, 2

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Environment:
    """One environment in a copy of the checkout, with its doubles of AWS and Astro."""

    name: str
    folder: Path
    terraform: Terraform
    aws: AwsDouble
    astro: AstroDouble

    def configure(self, **values: Any) -> None:
        """Write backend.hcl and terraform.tfvars, like a person."""
        here = self.folder / "terraform" / "environments" / self.name
        (here / "backend.hcl").write_text(f'bucket = "airlock-state-{ACCOUNT}"\nregion = "{REGION}"\n')
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**SETTINGS, **values}.items()]
        (here / "terraform.tfvars").write_text("\n".join(lines))

    def run(self, action: str, *arguments: str, status: int = 0) -> str:
        """Run the program behind `make plan`, `make apply` and `make destroy`."""
        program = self.folder / "scripts" / "infrastructure.py"
        return self.terraform.run(sys.executable, program, action, self.name, *arguments, status=status)

    def apply(self, status: int = 0) -> str:
        """Apply without confirmation."""
        return self.run("apply", "-auto-approve", status=status)

    def plan(self, *arguments: str, status: int) -> str:
        """Plan; the exit status shows whether there are changes."""
        return self.run("plan", "-detailed-exitcode", "-lock=false", *arguments, status=status)

    def passwords(self) -> dict[str, str]:
        """Return the passwords in the secret, which all other copies come from."""
        secret = self.aws.secret(f"airlock-{self.name}/passwords")
        assert secret
        passwords: dict[str, str] = json.loads(secret)
        return passwords

    def everything_written(self) -> dict[str, str]:
        """Return the text of every version of the state and of every file in the folder, by place."""
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
    """Return the places that contain a text."""
    return [place for place, content in written.items() if text in content]


def logins(*app_connections: str) -> dict[str, str]:
    """Return all connections with the user that each one logs in as."""
    platform = {"postgres_admin_conn": "airlock_admin", "postgres_reader_conn": "airlock_reader"}
    return platform | dict.fromkeys(app_connections, "airlock_app")


def check_passwords(environment: Environment, *app_connections: str) -> None:
    """Check that there are these connections, and that they, the database and the secret have the same passwords."""
    aws, passwords = environment.aws, environment.passwords()
    name = f"airlock-{environment.name}"
    assert len(set(passwords.values())) == 3
    assert aws.database_password(name) == passwords["admin"]
    secrets = [secret["Name"] for secret in aws.client("secretsmanager").list_secrets()["SecretList"]]
    prefix = f"{name}/connections/"
    assert {secret.removeprefix(prefix) for secret in secrets if secret.startswith(prefix)} == {
        *logins(*app_connections)
    }
    for connection, login in logins(*app_connections).items():
        stored = json.loads(aws.secret(prefix + connection) or "{}")
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
    """Return an AWS account after `make bootstrap`, with the environment dev."""
    folder = copy_of_terraform(tmp_path_factory.mktemp("account"))
    ready = terraform.within({**aws.environment, **astro.environment})
    program = folder / "scripts" / "infrastructure.py"
    ready.run(sys.executable, program, "bootstrap", REGION, "-auto-approve")
    return Environment("dev", folder, ready, aws, astro)


@pytest.mark.timeout(1500)
def test_dev_from_first_apply_to_destroy(account: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    dev, aws, astro = account, account.aws, account.astro
    dev.configure()

    # A first apply can stop after it created the placeholder secret, but not yet its version, which a plan reads.
    dev.run("apply", "-auto-approve", "-target=module.secrets.aws_secretsmanager_secret.placeholder")

    # An apply that fails between the passwords and the database ...
    aws.failing.add("create_db_instance")
    output = dev.apply(status=1)
    assert "create_db_instance fails" in output
    generated = list(dev.passwords().values())
    assert aws.secret(f"airlock-dev/connections/{LIBRARY}") is None

    # ... is completed by the next apply.
    output += dev.apply()
    check_passwords(dev, LIBRARY)
    first = dev.passwords()
    generated += first.values()

    (state,) = aws.client("s3").list_objects_v2(Bucket=f"airlock-state-{ACCOUNT}")["Contents"]
    head = aws.client("s3").head_object(Bucket=f"airlock-state-{ACCOUNT}", Key=state["Key"])
    assert head["ServerSideEncryption"] == "aws:kms"
    assert len(astro.records["astro_alerts"]) == 2

    # Then a plan shows no changes, with and without reading resources and secrets.
    output += dev.plan(status=NO_CHANGES)
    output += dev.plan("-refresh=false", "-out=nothing.tfplan", status=NO_CHANGES)

    airflow_finds_its_connections_and_buckets(dev, monkeypatch)
    airflow_may_use_its_buckets_only(dev)
    old_exports_become_cheaper_and_unfinished_ones_expire(dev)
    the_database_is_open_to_the_deployment_only(dev)

    # More storage, new passwords, one more dataset. The apply fails between secret and database, the next completes it.
    dev.configure(database_storage_gb=30, passwords_version=2)
    declare_datasets(dev.folder, LIBRARY, WEATHER)
    planned = dev.plan("-out=rotation.tfplan", status=CHANGES)
    assert not re.search("aws_db_instance.*must be replaced", planned)
    aws.failing.add("modify_db_instance")
    output += planned + dev.apply(status=1)
    assert aws.database_password("airlock-dev") == first["admin"]
    assert dev.passwords()["admin"] != first["admin"]
    assert first["app"] in str(aws.secret(f"airlock-dev/connections/{LIBRARY}"))  # DAGs can still connect
    generated += dev.passwords().values()
    output += dev.apply()
    check_passwords(dev, LIBRARY, WEATHER)
    second = dev.passwords()
    assert not set(second.values()) & set(generated)
    (database,) = aws.client("rds").describe_db_instances()["DBInstances"]
    assert database["AllocatedStorage"] == 30
    output += dev.plan(status=NO_CHANGES)

    # A plan shows what somebody changed by hand.
    group = database["VpcSecurityGroups"][0]["VpcSecurityGroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "198.51.100.0/24"}]}
    aws.client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    (deployment,) = astro.records["astro_deployment"].values()
    astro.replace("astro_deployment", {**deployment, "environment_variables": deployment["environment_variables"][1:]})
    drifted = dev.plan(status=CHANGES)
    assert "198.51.100.0/24" in drifted
    assert "astro_deployment.this" in drifted

    # Without any dataset a plan removes their connections and changes nothing else.
    declare_datasets(dev.folder)
    assert "0 to add, 0 to change, 4 to destroy" in dev.plan("-refresh=false", status=CHANGES)

    # No password was written anywhere. To prove the search, it also looks for an address that state and output contain.
    for name in ("nothing", "rotation"):
        file = dev.folder / "terraform" / "environments" / "dev" / f"{name}.tfplan"
        shutil.unpack_archive(file, file.with_suffix(".unpacked"), format="zip")
    written = {"output": output, **dev.everything_written()}
    found = " ".join(where("planted-2c9f", written))
    for place in ("output", "state", "rotation.unpacked"):
        assert place in found
    for password in (*generated, *second.values()):
        assert where(password, written) == []

    dev.run("destroy", "-auto-approve")
    nothing_is_left(dev)


def airflow_finds_its_connections_and_buckets(dev: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that Airflow can read and write with the environment variables that the deployment received."""
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
    from airflow.sdk import ObjectStoragePath

    (deployment,) = dev.astro.records["astro_deployment"].values()
    received = {each["key"]: each["value"] for each in deployment["environment_variables"]}
    assert not any(each["is_secret"] for each in deployment["environment_variables"])
    for name, value in {**dev.aws.environment, **received}.items():
        monkeypatch.setenv(name, value)

    # The settings module reads Airlock's own variables; the others are options of Airflow.
    own = {name for name in received if name.startswith("AIRLOCK_")}
    assert own
    for name in own:
        assert name in Path(settings.__file__).read_text()
    assert settings.settings().report_root == f"s3://aws_default@airlock-dev-reports-{ACCOUNT}/reports"
    from airflow.configuration import conf

    for name in received.keys() - own - {"AIRFLOW_CONN_AWS_DEFAULT"}:
        section, option = name.removeprefix("AIRFLOW__").lower().split("__")
        assert conf.has_option(section, option)

    backend = SecretsManagerBackend(**json.loads(received["AIRFLOW__SECRETS__BACKEND_KWARGS"]))
    for connection, login in logins(LIBRARY).items():
        found = backend.get_connection(connection)
        assert found
        assert (found.login, found.schema) == (login, "warehouse")
        assert found.extra_dejson["sslmode"] == "verify-full"
        certificates = Path(found.extra_dejson["sslrootcert"]).relative_to("/usr/local/airflow")
        assert (Path(settings.__file__).parent.parent / certificates).exists()
    assert backend.get_connection("slack_alerts_conn") is None
    dev.aws.client("secretsmanager").create_secret(Name="airlock-dev/variables/ADDED_BY_HAND", SecretString="a value")
    assert backend.get_variable("ADDED_BY_HAND") == "a value"
    dev.aws.client("secretsmanager").delete_secret(
        SecretId="airlock-dev/variables/ADDED_BY_HAND", ForceDeleteWithoutRecovery=True
    )

    page = ObjectStoragePath(received["AIRLOCK_REPORT_ROOT"]) / "page.html"
    page.write_text("a page")
    objects = dev.aws.client("s3").get_object(Bucket=f"airlock-dev-reports-{ACCOUNT}", Key="reports/page.html")
    assert objects["Body"].read() == b"a page"

    exports = ObjectStoragePath(received["AIRLOCK_EXPORT_ROOT"])
    (exports / "temporary" / "day.parquet").write_text("a day")
    for old, new in (("temporary", "exports"), ("exports", "archive")):
        (exports / old / "day.parquet").rename(exports / new / "day.parquet")
    (moved,) = dev.aws.client("s3").list_objects_v2(Bucket=f"airlock-dev-exports-{ACCOUNT}")["Contents"]
    assert moved["Key"] == "archive/day.parquet"
    assert received["AIRLOCK_ARCHIVE_AFTER_DAYS"] == "30"


def airflow_may_use_its_buckets_only(dev: Environment) -> None:
    """Check the policy of the Airflow role, which moto does not enforce."""
    policy = dev.aws.client("iam").get_role_policy(RoleName="airlock-dev-airflow", PolicyName="airflow")
    granted = {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}
    buckets = {f"arn:aws:s3:::airlock-dev-{name}-{ACCOUNT}" for name in ("exports", "reports", "xcom")}
    assert set(granted["Buckets"]["Resource"]) == buckets
    assert set(granted["Objects"]["Resource"]) == {f"{bucket}/*" for bucket in buckets}
    for bucket in buckets:
        encryption = dev.aws.client("s3").get_bucket_encryption(Bucket=bucket.rpartition(":")[2])
        (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
        key = rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"]
        assert granted["ReadAndWriteObjects"]["Resource"] == key


def old_exports_become_cheaper_and_unfinished_ones_expire(dev: Environment) -> None:
    """Check the lifecycle of the bucket of exports as S3 has it."""
    found = dev.aws.client("s3").get_bucket_lifecycle_configuration(Bucket=f"airlock-dev-exports-{ACCOUNT}")["Rules"]
    rules = {rule["Filter"].get("Prefix", ""): rule for rule in found if rule["Status"] == "Enabled"}
    assert rules.keys() == {"", "archive/", "temporary/"}
    assert {prefix for prefix, rule in rules.items() if "Expiration" in rule} == {"temporary/"}
    assert rules["temporary/"]["Expiration"]["Days"] == 1
    assert rules["archive/"]["Transitions"] == [{"Days": 0, "StorageClass": "GLACIER_IR"}]
    assert rules[""]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def the_database_is_open_to_the_deployment_only(dev: Environment) -> None:
    """Check the rules of the security group of the database."""
    (database,) = dev.aws.client("rds").describe_db_instances()["DBInstances"]
    (group,) = dev.aws.client("ec2").describe_security_groups(
        GroupIds=[database["VpcSecurityGroups"][0]["VpcSecurityGroupId"]]
    )["SecurityGroups"]
    (rule,) = group["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (5432, 5432)
    addresses = {each["CidrIp"] for each in rule["IpRanges"]}
    (deployment,) = dev.astro.records["astro_deployment"].values()
    assert addresses == {f"{ip}/32" for ip in deployment["external_ips"]}


def nothing_is_left(environment: Environment) -> None:
    """Check that AWS and Astro have nothing left of an environment."""
    aws = environment.aws
    name = f"airlock-{environment.name}"
    assert aws.client("rds").describe_db_instances()["DBInstances"] == []
    buckets = [each["Name"] for each in aws.client("s3").list_buckets()["Buckets"]]
    assert buckets == [f"airlock-state-{ACCOUNT}"]
    assert [each["Name"] for each in aws.client("secretsmanager").list_secrets()["SecretList"]] == []
    assert [each for each in aws.client("ec2").describe_vpcs()["Vpcs"] if not each["IsDefault"]] == []
    assert [each for each in aws.client("iam").list_roles()["Roles"] if each["RoleName"].startswith(name)] == []
    assert aws.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert not any(environment.astro.records.values())


@pytest.mark.infra
@pytest.mark.timeout(2400)
def test_prod_needs_two_applies_and_is_protected(account: Environment) -> None:
    prod = replace(account, name="prod")
    aws, astro = prod.aws, prod.astro
    cluster = "cl0000000000000000000001x"
    prod.configure(cluster_id=cluster)
    declare_datasets(prod.folder, LIBRARY)

    prod.apply()
    check_passwords(prod, LIBRARY)
    (database,) = aws.client("rds").describe_db_instances()["DBInstances"]
    assert (database["MultiAZ"], database["DeletionProtection"], database["PubliclyAccessible"]) == (True, True, False)
    ec2 = aws.client("ec2")
    group = database["VpcSecurityGroups"][0]["VpcSecurityGroupId"]
    assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == []
    (deployment,) = astro.records["astro_deployment"].values()
    placed = (deployment["type"], deployment["cluster_id"], deployment["is_high_availability"])
    assert placed == ("DEDICATED", cluster, True)

    # Astronomer opens the peering; the second apply accepts it.
    theirs = ec2.create_vpc(CidrBlock="172.20.0.0/19")["Vpc"]["VpcId"]
    ours = database["DBSubnetGroup"]["VpcId"]
    peering = ec2.create_vpc_peering_connection(VpcId=theirs, PeerVpcId=ours)["VpcPeeringConnection"]
    peering_id = peering["VpcPeeringConnectionId"]
    prod.configure(cluster_id=cluster, peering={"connection_id": peering_id, "astro_cidr": "172.20.0.0/19"})
    prod.apply()
    (rule,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert [each["CidrIp"] for each in rule["IpRanges"]] == ["172.20.0.0/19"]
    (accepted,) = ec2.describe_vpc_peering_connections()["VpcPeeringConnections"]
    assert accepted["Status"]["Code"] == "active"
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [ours]}])["RouteTables"]
    assert peering_id in {route.get("VpcPeeringConnectionId") for table in tables for route in table["Routes"]}
    prod.plan(status=NO_CHANGES)

    # A destroy is refused until the protection is removed.
    output = prod.run("destroy", "-auto-approve", status=1)
    assert "airlock-prod is protected" in output
    assert len(aws.client("rds").describe_db_instances()["DBInstances"]) == 1
    prod.configure(cluster_id=cluster, database_deletion_protection=False, unprotect_database="airlock-prod")
    prod.apply()
    prod.run("destroy", "-auto-approve")
    ec2.delete_vpc(VpcId=theirs)
    nothing_is_left(prod)
    snapshots = aws.client("rds").describe_db_snapshots()["DBSnapshots"]
    assert [each["DBSnapshotIdentifier"][:19] for each in snapshots] == ["airlock-prod-final-"]


# Per setting: a wrong value, and its error message. The modules' own tests have more.
REFUSED_IN_DEV = {
    "astro_organization_id": ("example", "c and 24 lower-case letters and digits"),
    "repository": ("https://github.com/example/airlock", "write owner/name"),
    "contact_emails": (["data-team"], "addresses such as data-team@example.com"),
    "cluster_id": ("cl0000000000000000000001x", "a STANDARD one must not have it"),
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
def test_plan_refuses_wrong_settings(
    environment: str, refused: dict[str, tuple[Any, str]], account: Environment
) -> None:
    chosen = replace(account, name=environment)
    chosen.configure(**{name: value for name, (value, _) in refused.items()})
    declare_datasets(chosen.folder, LIBRARY)

    output = one_line(chosen.plan("-refresh=false", status=1))

    for _, message in refused.values():
        assert message in output


def test_plan_refuses_wrong_connections_of_datasets(account: Environment) -> None:
    account.configure()
    declare_datasets(account.folder, "postgres_admin_conn", "Postgres-Conn")

    output = one_line(account.plan("-refresh=false", status=1))

    assert "must not contain postgres_admin_conn" in output
    assert "only lower-case letters, digits and underscores" in output


def one_line(output: str) -> str:
    """Return an error of Terraform without its frame and line breaks."""
    return " ".join(re.sub("[│╷╵]", "", output).split())


def test_missing_settings_are_reported(account: Environment) -> None:
    program = account.folder / "scripts" / "infrastructure.py"
    (account.folder / "terraform" / "environments" / "prod" / "backend.hcl").unlink(missing_ok=True)

    output = account.terraform.run(sys.executable, program, "plan", "prod", status=1)
    assert "backend.hcl is missing: copy backend.hcl.example" in output
    output = account.terraform.run(sys.executable, program, "plan", "qa", status=1)
    assert "write ENV=dev or ENV=prod" in output
    without_token = {key: value for key, value in account.terraform.environment.items() if key != "ASTRO_API_TOKEN"}
    output = Terraform(without_token).run(sys.executable, program, "apply", "dev", status=1)
    assert "ASTRO_API_TOKEN is not set" in output
