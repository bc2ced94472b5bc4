"""That the double of the Astro provider behaves as its documentation says, under the real Terraform.

It vouches for the tests that apply the project's own configuration to it, and for nothing at Astronomer's.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.astro_double.api import FakeAstro
from tests.terraform.astro_double.running import ORGANIZATION, TOKEN, AstroDouble, astro_double
from tests.terraform.needs import missing

Resources = dict[str, dict[str, Any]]

CLUSTER = "cdoublecluster00000000001"
WEBHOOK = "https://hooks.example.com/secret-part"
SECRET = "value-of-a-secret-variable"
WORKSPACE: dict[str, Any] = {"name": "data", "description": "Tests", "cicd_enforced_default": True}
STANDARD: dict[str, Any] = {
    "name": "airlock-dev",
    "description": "Tests",
    "type": "STANDARD",
    "cloud_provider": "AWS",
    "region": "us-east-1",
    "workspace_id": "${astro_workspace.this.id}",
    "executor": "CELERY",
    "contact_emails": ["team@example.com"],
    "is_cicd_enforced": True,
    "is_dag_deploy_enabled": True,
    "is_development_mode": False,
    "is_high_availability": False,
    "scheduler_size": "SMALL",
    "resource_quota_cpu": "10",
    "resource_quota_memory": "20Gi",
    "default_task_pod_cpu": "0.25",
    "default_task_pod_memory": "0.5Gi",
    "original_astro_runtime_version": "3.3-8",
    "environment_variables": [
        {"key": "PLAIN", "value": "seen", "is_secret": False},
        {"key": "SECRET", "value": SECRET, "is_secret": True},
    ],
    "worker_queues": [
        {
            "name": "default",
            "is_default": True,
            "astro_machine": "A10",
            "max_worker_count": 2,
            "min_worker_count": 0,
            "worker_concurrency": 5,
        }
    ],
    "scaling_spec": {
        "hibernation_spec": {
            "schedules": [{"hibernate_at_cron": "0 20 * * *", "wake_at_cron": "0 6 * * *", "is_enabled": True}]
        }
    },
}
DEDICATED = {**STANDARD, "type": "DEDICATED", "cluster_id": CLUSTER, "cloud_provider": None, "region": None}
CHANNEL: dict[str, Any] = {
    "name": "Slack",
    "type": "SLACK",
    "entity_type": "WORKSPACE",
    "entity_id": "${astro_workspace.this.id}",
    "definition": {"webhook_url": WEBHOOK},
    "is_shared": True,
}


def alert(name: str) -> dict[str, Any]:
    """Give an alert about one DAG's failure."""
    return {
        "name": name,
        "type": "DAG_FAILURE",
        "severity": "CRITICAL",
        "entity_type": "DEPLOYMENT",
        "entity_id": "${astro_deployment.this.id}",
        "notification_channel_ids": ["${astro_notification_channel.this.id}"],
        "rules": {
            "properties": {"deployment_id": "${astro_deployment.this.id}"},
            "pattern_matches": [{"entity_type": "DAG_ID", "operator_type": "IS", "values": [name]}],
        },
    }


ALL: Resources = {
    "astro_workspace": WORKSPACE,
    "astro_deployment": STANDARD,
    "astro_notification_channel": CHANNEL,
    "astro_alerts": {"alerts": {name: alert(name) for name in ("market_daily", "market_quality")}},
}


class Terraform:
    """A folder with one configuration and its state."""

    def __init__(self, folder: Path, double: AstroDouble) -> None:
        self.folder = folder
        self.api = double.api
        self.said = ""
        # A file of the developer's own, which may be missing, or a mirror: this needs neither.
        kept = {key: value for key, value in os.environ.items() if key != "TF_CLI_CONFIG_FILE"}
        self.env = {**kept, **double.environment, "CHECKPOINT_DISABLE": "1"}

    def write(self, resources: Resources, **provider: str) -> None:
        """Write a configuration of one resource of each type, all named `this`."""
        configuration = {
            "terraform": {"required_providers": {"astro": {"source": "astronomer/astro", "version": "1.5.2"}}},
            "provider": {"astro": {"organization_id": ORGANIZATION, **provider}},
            "resource": {type: {"this": attributes} for type, attributes in resources.items()},
        }
        (self.folder / "main.tf.json").write_text(json.dumps(configuration, indent=1))

    def run(self, *args: str, expect: int = 0) -> str:
        """Run one command, and give what it said."""
        command = ["terraform", *args]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        self.said += said
        assert done.returncode == expect, said
        return said

    def plan(self, resources: Resources, expect: int = 2) -> dict[str, Any]:
        """Plan a configuration (2: there are changes, 0: there are none), and give each resource's change by type."""
        self.write(resources)
        self.run("plan", "-no-color", "-detailed-exitcode", "-out=plan", expect=expect)
        shown = json.loads(self.run("show", "-json", "plan"))
        return {one["type"]: one["change"] for one in shown["resource_changes"]}

    def refused(self, resources: Resources) -> str:
        """Plan a configuration that is an error, and give what is said, without Terraform's line breaks."""
        self.write(resources)
        return flat(self.run("plan", "-no-color", expect=1))

    def apply(self, resources: Resources, expect: int = 0) -> str:
        """Apply a configuration."""
        self.write(resources)
        return flat(self.run("apply", "-no-color", "-auto-approve", expect=expect))

    def destroy(self, expect: int = 0) -> str:
        """Destroy everything."""
        return flat(self.run("destroy", "-no-color", "-auto-approve", expect=expect))

    def state(self) -> Resources:
        """Give the attributes of each resource by type."""
        shown = json.loads(self.run("show", "-json"))
        resources = shown.get("values", {}).get("root_module", {}).get("resources", [])
        return {one["type"]: one["values"] for one in resources}


def flat(said: str) -> str:
    """Undo the lines and the box in which Terraform sets an error."""
    return " ".join(said.replace("│", " ").split())


def changed(**attributes: Any) -> Resources:
    """Give the workspace and its deployment, with some attributes of the deployment changed."""
    return {"astro_workspace": WORKSPACE, "astro_deployment": {**STANDARD, **attributes}}


@pytest.fixture(scope="module")
def double() -> Iterator[AstroDouble]:
    if shutil.which("terraform") is None:
        missing("terraform, on the PATH")
    with astro_double() as running:
        yield running


@pytest.fixture
def terraform(double: AstroDouble, tmp_path: Path) -> Terraform:
    double.api.reset()
    return Terraform(tmp_path, double)


@pytest.fixture
def applied(terraform: Terraform) -> Terraform:
    """Give a state in which everything is created."""
    terraform.apply(ALL)
    terraform.api.calls.clear()
    return terraform


@pytest.fixture
def api(double: AstroDouble) -> FakeAstro:
    return double.api


def only(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Give the one record there is."""
    (record,) = records.values()
    return record


def test_a_first_plan_knows_nothing_that_the_provider_computes(terraform: Terraform, api: FakeAstro) -> None:
    changes = terraform.plan(ALL)
    assert api.calls == []
    unknown = changes["astro_deployment"]["after_unknown"]
    for name in ("id", "external_ips", "workload_identity", "oidc_issuer_url", "namespace", "webserver_url"):
        assert unknown[name] is True, name
    assert unknown["webserver_airflow_api_url"] is True
    assert unknown["workspace_id"] is True
    assert changes["astro_deployment"]["after"]["original_astro_runtime_version"] == "3.3-8"
    assert changes["astro_workspace"]["after_unknown"]["id"] is True
    assert changes["astro_notification_channel"]["after_unknown"]["id"] is True
    assert changes["astro_alerts"]["after_unknown"]["alerts"]["market_daily"]["id"] is True


def test_an_apply_creates_what_the_configuration_says(applied: Terraform, api: FakeAstro) -> None:
    workspace, deployment, channel = only(api.workspaces), only(api.deployments), only(api.notification_channels)
    assert workspace["cicdEnforcedDefault"] is True
    assert deployment["workspaceId"] == workspace["id"]
    assert deployment["schedulerSize"] == "SMALL"
    assert {one["key"]: one["value"] for one in deployment["environmentVariables"]} == {
        "PLAIN": "seen",
        "SECRET": SECRET,
    }
    assert deployment["workerQueues"][0]["astroMachine"] == "A10"
    assert deployment["scalingSpec"]["hibernationSpec"]["schedules"][0]["wakeAtCron"] == "0 6 * * *"
    assert channel["definition"] == {"webhookUrl": WEBHOOK}
    assert {one["name"] for one in api.alerts.values()} == {"market_daily", "market_quality"}
    assert all(one["notificationChannelIds"] == [channel["id"]] for one in api.alerts.values())

    state = applied.state()
    assert state["astro_deployment"]["external_ips"] == ["192.0.2.10", "192.0.2.11"]
    namespace = state["astro_deployment"]["namespace"]
    assert state["astro_deployment"]["workload_identity"].endswith(f"role/AirflowS3Logs-{namespace}")
    assert state["astro_alerts"]["alerts"]["market_daily"]["id"] in api.alerts


def test_a_second_plan_says_no_changes(applied: Terraform, api: FakeAstro) -> None:
    assert {change["actions"][0] for change in applied.plan(ALL, expect=0).values()} == {"no-op"}
    assert {call.method for call in api.calls} == {"GET"}


def test_the_order_of_a_set_is_no_change(applied: Terraform) -> None:
    resources = deepcopy(ALL)
    resources["astro_deployment"]["environment_variables"].reverse()
    applied.plan(resources, expect=0)


@pytest.mark.parametrize(
    ("meddle", "type", "action"),
    [
        (lambda api: only(api.deployments).update(schedulerSize="LARGE"), "astro_deployment", "update"),
        (lambda api: only(api.deployments)["environmentVariables"].pop(), "astro_deployment", "update"),
        (lambda api: only(api.deployments).update(scalingSpec=None), "astro_deployment", "update"),
        (lambda api: api.notification_channels.clear(), "astro_notification_channel", "create"),
        (lambda api: api.alerts.popitem(), "astro_alerts", "update"),
        (lambda api: api.alerts.clear(), "astro_alerts", "create"),
    ],
    ids=["attribute", "variable", "hibernation", "channel gone", "an alert gone", "all alerts gone"],
)
def test_what_someone_changed_behind_terraform_is_seen(
    applied: Terraform, api: FakeAstro, meddle: Callable[[FakeAstro], Any], type: str, action: str
) -> None:
    meddle(api)
    assert applied.plan(ALL)[type]["actions"] == [action]
    applied.apply(ALL)
    applied.plan(ALL, expect=0)


def test_an_update_happens_in_place(applied: Terraform, api: FakeAstro) -> None:
    id = only(api.deployments)["id"]
    variables = [{"key": "OTHER", "value": "new", "is_secret": False}]
    resources = ALL | {"astro_deployment": {**STANDARD, "environment_variables": variables, "scaling_spec": None}}
    change = applied.plan(resources)["astro_deployment"]
    assert change["actions"] == ["update"]
    # These the provider keeps ...
    assert change["after"]["id"] == id
    assert change["after"]["external_ips"] == ["192.0.2.10", "192.0.2.11"]
    assert change["after"]["oidc_issuer_url"].startswith("https://oidc.eks.us-east-1.")
    # ... and these any update may change.
    assert change["after_unknown"]["workload_identity"] is True
    assert change["after_unknown"]["webserver_url"] is True

    applied.apply(resources)
    assert [call.id for call in api.writes()] == [id]
    assert [one["key"] for one in only(api.deployments)["environmentVariables"]] == ["OTHER"]
    assert only(api.deployments)["scalingSpec"] is None
    applied.plan(resources, expect=0)


def test_alerts_are_changed_by_their_key(applied: Terraform, api: FakeAstro) -> None:
    ids = {one["name"]: id for id, one in api.alerts.items()}
    alerts = {"market_daily": {**alert("market_daily"), "severity": "WARNING"}, "new": alert("new")}
    applied.apply(ALL | {"astro_alerts": {"alerts": alerts}})
    assert {one["name"]: one["severity"] for one in api.alerts.values()} == {
        "market_daily": "WARNING",
        "new": "CRITICAL",
    }
    assert ids["market_daily"] in api.alerts
    assert ids["market_quality"] not in api.alerts


def test_more_alerts_than_a_request_takes_are_sent_in_several(terraform: Terraform, api: FakeAstro) -> None:
    terraform.apply(
        ALL | {"astro_alerts": {"alerts": {f"dag_{number}": alert(f"dag_{number}") for number in range(31)}}}
    )
    assert len(api.alerts) == 31
    assert [len(call.body["alerts"]) for call in api.writes() if call.kind == "alerts"] == [30, 1]
    terraform.destroy()
    assert api.alerts == {}


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": "DEDICATED", "cluster_id": CLUSTER, "cloud_provider": None, "region": None},
        {"region": "eu-central-1"},
        {"is_development_mode": True},
    ],
    ids=["type", "region", "development mode"],
)
def test_what_cannot_be_changed_replaces_the_deployment(applied: Terraform, attributes: dict[str, Any]) -> None:
    change = applied.plan(ALL | {"astro_deployment": {**STANDARD, **attributes}})["astro_deployment"]
    assert change["actions"] == ["delete", "create"]
    assert change["after_unknown"]["external_ips"] is True


def test_leaving_development_mode_happens_in_place(terraform: Terraform) -> None:
    terraform.apply(changed(is_development_mode=True))
    assert terraform.plan(changed(is_development_mode=False))["astro_deployment"]["actions"] == ["update"]


def test_a_runtime_version_is_changed_by_a_deploy_and_not_here(applied: Terraform, api: FakeAstro) -> None:
    said = applied.refused(ALL | {"astro_deployment": {**STANDARD, "original_astro_runtime_version": "3.4-1"}})
    assert "original_astro_runtime_version cannot be changed" in said
    # A deploy shows in another attribute, and is no difference.
    only(api.deployments)["astroRuntimeVersion"] = "3.4-1"
    applied.plan(ALL, expect=0)
    assert api.writes() == []


def test_without_a_runtime_version_the_newest_is_taken(terraform: Terraform, api: FakeAstro) -> None:
    terraform.apply(changed(original_astro_runtime_version=None))
    assert only(api.deployments)["astroRuntimeVersion"] == api.runtime_version
    terraform.plan(changed(original_astro_runtime_version=None), expect=0)


def test_a_dedicated_deployment_and_a_desired_identity(terraform: Terraform, api: FakeAstro) -> None:
    identity = "arn:aws:iam::123456789012:role/mine"
    resources = {
        "astro_workspace": WORKSPACE,
        "astro_deployment": {**DEDICATED, "desired_workload_identity": identity},
    }
    api.external_ips = []
    try:
        terraform.apply(resources)
    finally:
        api.external_ips = ["192.0.2.10", "192.0.2.11"]
    state = terraform.state()["astro_deployment"]
    assert (state["cluster_id"], state["external_ips"], state["workload_identity"]) == (CLUSTER, [], identity)
    terraform.plan(resources, expect=0)


def test_a_remote_deployment_needs_no_workers_of_its_own(terraform: Terraform) -> None:
    none = ["worker_queues", "scaling_spec", "resource_quota_cpu", "resource_quota_memory"]
    none += ["default_task_pod_cpu", "default_task_pod_memory"]
    remote = {"enabled": True, "task_log_bucket": "s3://logs"}
    resources = {
        "astro_workspace": WORKSPACE,
        "astro_deployment": DEDICATED | dict.fromkeys(none) | {"executor": "ASTRO", "remote_execution": remote},
    }
    terraform.apply(resources)
    assert terraform.state()["astro_deployment"]["remote_execution"]["allowed_ip_address_ranges"] == []
    terraform.plan(resources, expect=0)


def test_a_destroy_leaves_nothing(applied: Terraform, api: FakeAstro) -> None:
    applied.destroy()
    assert (api.workspaces, api.deployments, api.notification_channels, api.alerts) == ({}, {}, {}, {})
    assert applied.state() == {}


def test_what_is_gone_already_is_destroyed(applied: Terraform, api: FakeAstro) -> None:
    api.alerts.clear()
    api.deployments.clear()
    applied.run("destroy", "-no-color", "-auto-approve", "-refresh=false")
    assert applied.state() == {}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"executer": "CELERY"}, 'is named "executer"'),
        ({"executor": "NONSENSE"}, "Attribute executor: 'NONSENSE' is none of CELERY, KUBERNETES, ASTRO"),
        ({"name": None}, "Attribute name: it is required, and null"),
        ({"cluster_id": CLUSTER}, "cluster_id is not allowed for a STANDARD deployment"),
        ({"region": None}, "region is required for a STANDARD deployment"),
        ({"type": "DEDICATED", "cloud_provider": None, "region": None}, "cluster_id is required for a DEDICATED"),
        ({"type": "DEDICATED", "cluster_id": CLUSTER}, "region is not allowed for a DEDICATED deployment"),
        ({"scheduler_size": None}, "scheduler_size is required for a STANDARD deployment"),
        ({"scheduler_size": "TINY"}, "Attribute scheduler_size: 'TINY' is none of"),
        ({"contact_emails": ["nobody"]}, "Attribute contact_emails: 'nobody' does not have the form"),
        ({"resource_quota_memory": "20 GB"}, "Attribute resource_quota_memory: '20 GB' does not have the form"),
        ({"workspace_id": "not-a-cuid"}, "Attribute workspace_id: 'not-a-cuid' is not a cuid"),
        ({"external_ips": ["192.0.2.1"]}, "Attribute external_ips: it is read-only"),
        ({"executor": "ASTRO", "worker_queues": None}, "ASTRO executor requires a worker queue named default"),
        ({"worker_queues": []}, "Attribute worker_queues: [] is out of range: items 1 to any"),
        ({"scaling_spec": {"hibernation_spec": {"schedules": []}}}, "scaling_spec.hibernation_spec.schedules: []"),
        ({"type": "HYBRID"}, "This double does not know HYBRID deployments"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(f"{key}" for key in value),
)
def test_a_deployment_that_the_provider_refuses_fails_the_plan(
    terraform: Terraform, api: FakeAstro, attributes: dict[str, Any], said: str
) -> None:
    refusal = terraform.refused(changed(**attributes))
    assert said in refusal
    assert "astro_deployment" in refusal
    assert api.calls == []


@pytest.mark.parametrize(
    ("type", "attributes", "said"),
    [
        ("astro_workspace", {**WORKSPACE, "name": "x" * 51}, "length 1 to 50"),
        ("astro_notification_channel", {**CHANNEL, "type": "PIGEON"}, "'PIGEON' is none of"),
        ("astro_notification_channel", {**CHANNEL, "type": "EMAIL"}, "definition.recipients is required for EMAIL"),
        (
            "astro_notification_channel",
            {**CHANNEL, "definition": {"webhook_url": WEBHOOK, "api_key": "k"}},
            "definition.api_key is not allowed for SLACK",
        ),
        ("astro_alerts", {"alerts": {"x": {**alert("x"), "type": "DAG_BORED"}}}, "'DAG_BORED' is none of"),
        ("astro_alerts", {"alerts": {"x": {**alert("x"), "severity": "HIGH"}}}, "'HIGH' is none of"),
        ("astro_alerts", {"alerts": {"x": {**alert("x"), "name": None}}}, "Attribute alerts.name: it is required"),
        ("astro_alerts", {"alerts": {"x": {**alert("x"), "id": CLUSTER}}}, "Attribute alerts.id: it is read-only"),
    ],
    ids=["name", "channel type", "definition", "other definition", "alert type", "severity", "null", "read-only"],
)
def test_other_resources_that_the_provider_refuses_fail_the_plan(
    terraform: Terraform, api: FakeAstro, type: str, attributes: dict[str, Any], said: str
) -> None:
    refusal = terraform.refused(ALL | {type: attributes})
    assert said in refusal
    assert type in refusal
    assert api.calls == []


def test_an_empty_hibernation_is_refused_when_it_is_applied(terraform: Terraform, api: FakeAstro) -> None:
    said = terraform.apply(changed(scaling_spec={"hibernation_spec": {}}), expect=1)
    assert "must have either override or schedules" in said
    assert api.deployments == {}


@pytest.mark.parametrize("status", [400, 503])
def test_a_create_that_fails_names_the_resource_and_leaves_no_state(
    terraform: Terraform, api: FakeAstro, status: int
) -> None:
    api.fail_next("POST", "deployments", status, "no capacity")
    said = terraform.apply(ALL, expect=1)
    assert f"no capacity, status: {status}" in said
    assert "with astro_deployment.this" in said
    assert set(terraform.state()) == {"astro_workspace", "astro_notification_channel"}
    terraform.apply(ALL)
    assert len(api.deployments) == 1
    assert len(api.alerts) == 2


def test_an_update_that_fails_leaves_the_state_as_it_was(applied: Terraform, api: FakeAstro) -> None:
    before = applied.state()
    larger = ALL | {"astro_deployment": {**STANDARD, "scheduler_size": "LARGE"}}
    api.fail_next("POST", "deployments", 500)
    assert "with astro_deployment.this" in applied.apply(larger, expect=1)
    assert applied.state() == before
    assert applied.plan(larger)["astro_deployment"]["actions"] == ["update"]


def test_a_delete_that_fails_keeps_the_resource(applied: Terraform, api: FakeAstro) -> None:
    api.fail_next("DELETE", "deployments", 500)
    assert "the fake API was told to fail" in applied.destroy(expect=1)
    assert len(api.deployments) == 1
    assert {"astro_workspace", "astro_deployment"} <= set(applied.state())
    applied.destroy()
    assert api.deployments == {}


def test_a_read_that_fails_does_not_forget_the_resource(applied: Terraform, api: FakeAstro) -> None:
    api.fail_next("GET", "deployments", 502)
    assert "with astro_deployment.this" in applied.refused(ALL)
    applied.plan(ALL, expect=0)


def test_an_existing_deployment_is_imported(applied: Terraform, api: FakeAstro) -> None:
    id = only(api.deployments)["id"]
    applied.run("state", "rm", "astro_deployment.this")
    applied.run("import", "-no-color", "astro_deployment.this", id)
    imported = applied.state()["astro_deployment"]
    assert (imported["name"], imported["original_astro_runtime_version"]) == ("airlock-dev", "3.3-8")
    # The API does not tell what a secret is, so the first apply writes it again.
    assert applied.plan(ALL)["astro_deployment"]["actions"] == ["update"]


def test_what_refers_to_nothing_is_refused_by_the_api(terraform: Terraform) -> None:
    said = terraform.apply(changed(workspace_id="cnobodysworkspace00000001"), expect=1)
    assert "workspace cnobodysworkspace00000001 does not exist, status: 400" in said


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ({"organization_id": "mine"}, "Attribute organization_id: 'mine' is not a cuid"),
        ({"host": "https://astro.example.com"}, "Attribute host: 'https://astro.example.com' does not have the form"),
    ],
    ids=["organization", "host"],
)
def test_a_provider_block_that_is_refused(terraform: Terraform, provider: dict[str, str], said: str) -> None:
    terraform.write(changed(), **provider)
    assert said in flat(terraform.run("plan", "-no-color", expect=1))


def test_a_missing_token_is_an_error_and_a_wrong_one_too(tmp_path: Path, double: AstroDouble) -> None:
    with astro_double(token=None) as tokenless:
        terraform = Terraform(tmp_path, tokenless)
        assert "Missing Astro API Token" in terraform.refused(changed())
        terraform.write(changed(), token="a-wrong-one")
        said = flat(terraform.run("apply", "-no-color", "-auto-approve", expect=1))
        assert "Invalid authorization token, status: 401" in said
        assert "a-wrong-one" not in said
        assert tokenless.api.workspaces == {}


def test_secrets_are_told_nowhere(applied: Terraform, api: FakeAstro) -> None:
    applied.apply(ALL | {"astro_deployment": {**STANDARD, "scheduler_size": "LARGE"}})
    applied.run("plan", "-out=plan")
    applied.run("show", "plan")
    applied.destroy()
    for secret in (SECRET, WEBHOOK, TOKEN):
        assert secret not in applied.said
    # Attributes are in the state, as Terraform has it; the token is none.
    files = [path for path in applied.folder.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    shown = json.loads(applied.run("show", "-json", "plan"))
    assert TOKEN not in json.dumps(shown)


def test_the_api_does_not_tell_a_secret_again(applied: Terraform, api: FakeAstro) -> None:
    for kind, records in (("deployments", api.deployments), ("notification-channels", api.notification_channels)):
        path = f"/organizations/{ORGANIZATION}/{kind}/{only(records)['id']}"
        status, told = api.answer("GET", path, f"Bearer {TOKEN}", None)
        assert (status, told["id"]) == (200, only(records)["id"])
        assert SECRET not in json.dumps(told)
        assert WEBHOOK not in json.dumps(told)
