"""A double of the Terraform provider astronomer/astro 1.5.2, for tests only: it is not Astronomer's provider.

Names, types and flags of the attributes are in schema.json, taken from the provider's documentation; which
values a plan knows, what forces a replacement and what is refused follow its published behaviour. Run as a
script, it serves Terraform until its standard input ends, and first prints a line for TF_REATTACH_PROVIDERS:

    ASTRO_DOUBLE_HOST=http://127.0.0.1:5061 ASTRO_API_TOKEN=... python provider.py

What it does not do:
- It speaks to ASTRO_DOUBLE_HOST only, never to astronomer.io; `host` in a configuration is checked and unused.
- It knows four resources and no data source; of deployments, HYBRID ones are refused.
- Import reads by id as the provider does, for all but astro_alerts, which the provider cannot import either.
- Terraform did not start it, so a token in Terraform's own environment does not reach it: this process needs it.
- All runs and provider blocks share one process: the organization configured last is used.
- Where the provider retries or waits for a deployment to be healthy, it does not.
- Where a later of several bulk requests for alerts fails, what the earlier ones made is not kept in the state.
- Messages are its own; only what they are about is the provider's.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc
from tf.iface import Provider, Resource
from tf.provider import ProviderServicer
from tf.schema import Attribute, Schema
from tf.types import TfType, Unknown
from tf.utils import Diagnostics, read_dynamic_value, to_dynamic_value

Values = dict[str, Any]
Specs = dict[str, dict[str, Any]]
Where = tuple[str, ...]

SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())
NAME = "registry.terraform.io/astronomer/astro"
CUID = r"c[0-9a-z]{6,}"
SIZES = ["resource_quota_cpu", "resource_quota_memory", "default_task_pod_cpu", "default_task_pod_memory"]
HOSTED = ["scheduler_size", "is_high_availability", "is_development_mode", *SIZES]
# Which attributes of `definition` a notification channel of a type has: all of these and no others.
DEFINITIONS = {
    "EMAIL": {"recipients"},
    "SLACK": {"webhook_url"},
    "PAGERDUTY": {"integration_key"},
    "OPSGENIE": {"api_key"},
    "DAG_TRIGGER": {"dag_id", "deployment_id", "deployment_api_token"},
}
BULK_WRITE, BULK_DELETE = 30, 20  # the most alerts that one request may write or delete


# ---- what schema.json says -------------------------------------------------------------------------------


def flags(spec: Values) -> list[str]:
    """Give an attribute's flags.

    required, optional, computed and sensitive are Terraform's. keeps: a plan keeps the state's value.
    replaces: a configured change replaces the resource. replaces-when-true: turning it on does. immutable:
    a configured change is an error. once: only a creation sends it.
    """
    return str(spec["flags"]).split()


def within(spec: Values) -> Specs:
    """Give the attributes inside a nested one; a name stands for a set that several share."""
    inner = spec["attributes"]
    specs: Specs = SCHEMA["shared"][inner] if isinstance(inner, str) else inner
    return specs


def wire(name: str, spec: Values) -> str:
    """Say what the API calls an attribute."""
    return str(spec.get("wire") or re.sub(r"_([a-z])", lambda match: match[1].upper(), name))


class Plain(TfType):  # type: ignore[misc]  # tf publishes no types
    """Values as they travel: nothing here needs another form in Python."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, value: Any) -> Any:
        """Leave it."""
        return value

    def decode(self, value: Any) -> Any:
        """Leave it."""
        return value

    def semantically_equal(self, a_decoded: Any, b_decoded: Any) -> bool:
        """Tell whether two values mean the same: every list here is a set."""
        return same(a_decoded, b_decoded)

    def tf_type(self) -> bytes:
        """Name the type in Terraform's notation."""
        return b'["set","string"]' if self.name == "set of string" else f'"{self.name}"'.encode()


class Described(Attribute):  # type: ignore[misc]
    """An attribute of schema.json; a nested one is protocol 6's, which tf cannot express by itself."""

    def __init__(self, name: str, spec: Values) -> None:
        said = flags(spec)
        on = {flag: flag in said for flag in ("required", "optional", "computed", "sensitive")}
        super().__init__(name, Plain(spec.get("type", "")), **on)
        self.spec = spec

    def to_pb(self) -> Any:
        """Give the protocol's form."""
        if "nesting" not in self.spec:
            return super().to_pb()
        inner = [attribute.to_pb() for attribute in described(within(self.spec))]
        mode = pb.Schema.Object.NestingMode.Value(self.spec["nesting"])
        return pb.Schema.Attribute(
            name=self.name,
            nested_type=pb.Schema.Object(attributes=inner, nesting=mode),
            required=self.required,
            optional=self.optional,
            computed=self.computed,
            sensitive=self.sensitive,
        )


def described(specs: Specs) -> list[Described]:
    """Make the attributes of a schema."""
    return [Described(name, spec) for name, spec in specs.items()]


# ---- checking a configuration ----------------------------------------------------------------------------


def mistakes(specs: Specs, config: Values, path: Where = ()) -> Iterator[tuple[Where, str]]:
    """Find what one attribute's own rules refuse; what is not known yet passes."""
    for name, spec in specs.items():
        value, here, said = config.get(name), (*path, name), flags(spec)
        if value is None and "required" in said:
            yield here, "it is required, and null"
        if value is not None and "required" not in said and "optional" not in said:
            yield here, "it is read-only"
        if value is None or value is Unknown:
            continue
        for problem in broken_rules(spec, value):
            yield here, problem
        if "nesting" in spec:
            for element in elements(spec, value):
                yield from mistakes(within(spec), element, here)


def elements(spec: Values, value: Any) -> list[Values]:
    """Give the objects in a nested attribute's value, those that are known."""
    found = {"SINGLE": [value], "SET": value, "MAP": [*value.values()] if isinstance(value, dict) else []}
    return [one for one in found[spec["nesting"]] if one is not None and one is not Unknown]


def broken_rules(spec: Values, value: Any) -> Iterator[str]:
    """Say which of an attribute's rules a value breaks."""
    shown = "the value" if "sensitive" in flags(spec) else repr(value)
    if "one_of" in spec and value not in spec["one_of"]:
        yield f"{shown} is none of {', '.join(map(str, spec['one_of']))}"
    if spec.get("cuid") and not re.fullmatch(CUID, value):
        yield f"{shown} is not a cuid"
    if "matches" in spec and not re.fullmatch(spec["matches"], value):
        yield f"{shown} does not have the form {spec['matches']}"
    for one in value if "each" in spec else []:
        if one is not Unknown and not re.fullmatch(spec["each"], one):
            yield f"{one!r} does not have the form {spec['each']}"
    for rule in ("between", "length", "items"):
        if rule not in spec:
            continue
        (least, most), size = spec[rule], value if rule == "between" else len(value)
        if size < least or (most is not None and size > most):
            yield f"{shown} is out of range: {rule} {least} to {most if most is not None else 'any'}"


# ---- planning --------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Compare two values, with lists as the sets that they are."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return sorted(map(canonical, one)) == sorted(map(canonical, other))
    return bool(one == other)


def canonical(value: Any) -> str:
    """Write a value so that equal ones read the same."""
    return json.dumps(value, sort_keys=True, default=repr)


def with_defaults(specs: Specs, config: Values | None, planned: Values) -> Values:
    """Fill in what a configuration leaves to the provider's defaults."""
    result = dict(planned)
    for name, spec in specs.items():
        configured = (config or {}).get(name)
        if "default" in spec and configured is None:
            result[name] = spec["default"]
        elif spec.get("nesting") == "SINGLE" and isinstance(result[name], dict) and isinstance(configured, dict):
            result[name] = with_defaults(within(spec), configured, result[name])
    return result


def with_unknowns(specs: Specs, config: Values | None, planned: Values) -> Values:
    """Make unknown what the provider computes and the configuration does not say."""
    result = dict(planned)
    for name, spec in specs.items():
        configured, value = (config or {}).get(name), planned.get(name)
        if configured is None and "computed" in flags(spec) and "default" not in spec:
            result[name] = Unknown
        elif "nesting" in spec and value is not None and value is not Unknown:
            result[name] = nested(spec, configured, value, with_unknowns)
    return result


def nested(spec: Values, other: Any, value: Any, change: Callable[[Specs, Values | None, Values], Values]) -> Any:
    """Apply a change inside a nested value, beside what another value holds in the same place."""
    inner = within(spec)
    if spec["nesting"] == "SINGLE":
        return change(inner, other if isinstance(other, dict) else None, value)
    if spec["nesting"] == "MAP":
        others = other if isinstance(other, dict) else {}
        return {key: one if one is Unknown else change(inner, others.get(key), one) for key, one in value.items()}
    # An element of a set has no place of its own, so nothing stands beside it.
    return [one if one is Unknown else change(inner, None, one) for one in value]


def with_kept(specs: Specs, prior: Values | None, planned: Values) -> Values:
    """Give an unknown value that does not change after creation the state's."""
    result = dict(planned)
    for name, spec in specs.items():
        before, value = (prior or {}).get(name), planned.get(name)
        if value is Unknown and before is not None and "keeps" in flags(spec):
            result[name] = before
        elif "nesting" in spec and spec["nesting"] != "SET" and value is not None and value is not Unknown:
            result[name] = nested(spec, before, value, with_kept)
    return result


def plan(specs: Specs, config: Values, prior: Values | None, proposed: Values) -> Values:
    """Say what a change will give, as far as it is known before it is made."""
    planned = with_defaults(specs, config, proposed)
    if prior is not None and same(prior, planned):
        return planned
    return with_kept(specs, prior, with_unknowns(specs, config, planned))


def changed(specs: Specs, flag: str, config: Values, prior: Values, planned: Values) -> list[str]:
    """Name the attributes with a flag that are configured, and not as they are."""
    named = [name for name, spec in specs.items() if flag in flags(spec)]
    return [name for name in named if config[name] is not None and not same(prior[name], planned[name])]


# ---- the API ---------------------------------------------------------------------------------------------


class ApiError(Exception):
    """The API refused, or could not be reached."""


class Missing(ApiError):
    """What was asked for is not there."""


class Api:
    """Calls to the fake API, in the name of one organization."""

    def __init__(self, host: str, token: str, organization: str) -> None:
        self.base = f"{host}/organizations/{organization}"
        self.token = token

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make one request and give the answer's JSON."""
        request = urllib.request.Request(  # noqa: S310  # the host is the test's own
            f"{self.base}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                answer = response.read()
        except urllib.error.HTTPError as error:
            told = json.loads(error.read())
            kind = Missing if error.code == 404 else ApiError
            raise kind(f"{told['message']}, status: {error.code}, requestId: {told['requestId']}") from None
        except OSError as error:
            raise ApiError(f"{method} {path}: {error}") from None
        return json.loads(answer) if answer else None


def to_wire(specs: Specs, values: Values, creating: bool) -> Values:
    """Write the configurable values as a request's body."""
    body = {}
    for name, spec in specs.items():
        value, said = values.get(name), flags(spec)
        readable_only = "required" not in said and "optional" not in said
        if value is None or value is Unknown or readable_only or ("once" in said and not creating):
            continue
        if "nesting" in spec:
            value = nested(spec, None, value, lambda inner, _, one: to_wire(inner, one, creating))
        body[wire(name, spec)] = value
    return body


def from_wire(specs: Specs, answer: Values) -> Values:
    """Read an answer as values of a schema."""
    values = {}
    for name, spec in specs.items():
        value = answer.get(wire(name, spec))
        if "nesting" in spec and value is not None:
            value = nested(spec, None, value, lambda inner, _, one: from_wire(inner, one))
        values[name] = value
    return values


# ---- the resources ---------------------------------------------------------------------------------------


class Astro(Resource):  # type: ignore[misc]
    """What all resources share: one record of the API each."""

    type = ""
    collection = ""

    def __init__(self, provider: "AstroProvider") -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Name the resource without the provider's prefix."""
        return cls.type.removeprefix("astro_")

    @classmethod
    def specs(cls) -> Specs:
        """Give the attributes as schema.json has them."""
        specs: Specs = SCHEMA["resources"][cls.type]["attributes"]
        return specs

    @classmethod
    def get_schema(cls) -> Any:
        """Give the schema that Terraform checks a configuration against."""
        return Schema(attributes=described(cls.specs()))

    @property
    def api(self) -> Api:
        """Give the API as the provider block configures it."""
        if self.provider.api is None:
            raise ApiError("The provider is not configured")
        return self.provider.api

    def validate(self, diags: Any, type_name: str, config: Values) -> None:
        """Refuse what the provider refuses before any call."""
        for path, problem in mistakes(self.specs(), config):
            diags.add_error("Invalid Attribute Value", f"Attribute {'.'.join(path)}: {problem}", path=[path[0]])
        for problem in self.conflicts(config):
            diags.add_error(problem, "The provider refuses this combination of attributes.")

    def conflicts(self, config: Values) -> Iterator[str]:
        """Find attributes that do not go together."""
        yield from ()

    def upgrade(self, ctx: Any, version: int, old: Values) -> Values:
        """Leave a state as it is: there is one version of each schema."""
        return old

    def to_state(self, answer: Values, known: Values) -> Values:
        """Read an answer; `known` is what was planned or is in the state, for what the API does not tell."""
        return from_wire(self.specs(), answer)

    def new(self, planned: Values) -> Values:
        """Create it, and give its state."""
        return self.to_state(self.api.call("POST", self.collection, to_wire(self.specs(), planned, True)), planned)

    def get(self, id: str, known: Values) -> Values:
        """Read it, and give its state."""
        return self.to_state(self.api.call("GET", f"{self.collection}/{id}"), known)

    def change(self, current: Values, planned: Values) -> Values:
        """Update it, and give its state."""
        body = to_wire(self.specs(), planned, False)
        return self.to_state(self.api.call("POST", f"{self.collection}/{current['id']}", body), planned)

    def remove(self, current: Values) -> None:
        """Delete it."""
        self.api.call("DELETE", f"{self.collection}/{current['id']}")

    def create(self, ctx: Any, planned: Values) -> Values | None:
        """Create, or leave no state."""
        try:
            return self.new(planned)
        except ApiError as error:
            ctx.diagnostics.add_error("Client error", str(error))
            return None

    def read(self, ctx: Any, current: Values) -> Values | None:
        """Read, and forget what is gone."""
        try:
            return self.get(current.get("id") or "", current)
        except Missing:
            return None
        except ApiError as error:
            ctx.diagnostics.add_error("Client error", str(error))
            return current

    def update(self, ctx: Any, current: Values, planned: Values) -> Values:
        """Update, or leave the state as it was."""
        try:
            return self.change(current, planned)
        except ApiError as error:
            ctx.diagnostics.add_error("Client error", str(error))
            return current

    def delete(self, ctx: Any, current: Values) -> Values | None:
        """Delete; what is gone already is deleted."""
        try:
            self.remove(current)
        except Missing:
            return None
        except ApiError as error:
            ctx.diagnostics.add_error("Client error", str(error))
            return current
        return None

    def import_(self, ctx: Any, id: str) -> Values | None:
        """Take the id over: Terraform reads the rest."""
        return {**dict.fromkeys(self.specs()), "id": id}


class Workspace(Astro):
    """astro_workspace."""

    type = "astro_workspace"
    collection = "workspaces"


class Deployment(Astro):
    """astro_deployment, STANDARD and DEDICATED."""

    type = "astro_deployment"
    collection = "deployments"

    def conflicts(self, config: Values) -> Iterator[str]:
        """Check what a type of deployment needs and may not have."""
        type, executor, remote = config["type"], config["executor"], config["remote_execution"]
        if type == "HYBRID":
            yield "This double does not know HYBRID deployments"
        if type not in ("STANDARD", "DEDICATED"):
            return
        standard = type == "STANDARD"
        place, elsewhere = (["region", "cloud_provider"], ["cluster_id"])
        if not standard:
            place, elsewhere = elsewhere, place
        optional = SIZES if remote is not None else []  # remote workers are sized elsewhere
        for name in [*place, *(name for name in HOSTED if name not in optional)]:
            if config[name] is None:
                yield f"{name} is required for a {type} deployment"
        hybrid = ["scheduler_au", "scheduler_replicas", "task_pod_node_pool_id"]
        for name in [*elsewhere, *hybrid, *(["remote_execution"] if standard else [])]:
            if config[name] is not None:
                yield f"{name} is not allowed for a {type} deployment"
        if remote is not None and executor not in ("ASTRO", Unknown):
            yield "remote_execution is only allowed for the ASTRO executor"
        if config["worker_queues"] is not Unknown:
            yield from self.queue_conflicts(config["worker_queues"] or [], executor == "ASTRO" and remote is None)

    def queue_conflicts(self, queues: list[Any], astro: bool) -> Iterator[str]:
        """Check the worker queues."""
        known = [queue for queue in queues if queue is not Unknown]
        for queue in known:
            if queue["astro_machine"] is None:
                yield "astro_machine is required in worker_queues of a STANDARD or DEDICATED deployment"
            if queue["node_pool_id"] is not None:
                yield "node_pool_id is not allowed in worker_queues of a STANDARD or DEDICATED deployment"
        names = [queue["name"] for queue in known if queue["name"] is not Unknown]
        if len(set(names)) < len(names):
            yield "worker_queue names must be unique"
        if astro and len(names) == len(queues) and "default" not in names:
            yield "The ASTRO executor requires a worker queue named default"

    def new(self, planned: Values) -> Values:
        """Create it; without a runtime version, with the newest there is."""
        if planned["original_astro_runtime_version"] in (None, Unknown, ""):
            newest = self.api.call("GET", "deployment-options")["runtimeReleases"][0]["version"]
            planned = {**planned, "original_astro_runtime_version": newest}
        self.check_hibernation(planned)
        return super().new(planned)

    def change(self, current: Values, planned: Values) -> Values:
        """Update it."""
        self.check_hibernation(planned)
        return super().change(current, planned)

    def check_hibernation(self, planned: Values) -> None:
        """Refuse an empty hibernation, which the provider does at apply only."""
        spec = planned["scaling_spec"]
        if spec and not any(spec["hibernation_spec"].values()):
            raise ApiError("scaling_spec.hibernation_spec must have either override or schedules")

    def to_state(self, answer: Values, known: Values) -> Values:
        """Read it; the API tells neither what was asked for at first nor the values of secrets."""
        state = super().to_state(answer, known)
        state["description"] = state["description"] or ""
        state["desired_workload_identity"] = known["desired_workload_identity"]
        original = known["original_astro_runtime_version"]
        state["original_astro_runtime_version"] = (original is not Unknown and original) or state[
            "astro_runtime_version"
        ]
        values = {one["key"]: one["value"] for one in known["environment_variables"] or []}
        for variable in state["environment_variables"]:
            if variable["is_secret"]:
                variable["value"] = values.get(variable["key"])
        return state


class NotificationChannel(Astro):
    """astro_notification_channel."""

    type = "astro_notification_channel"
    collection = "notification-channels"

    def conflicts(self, config: Values) -> Iterator[str]:
        """Check that a definition is one of its channel's type."""
        definition, wanted = config["definition"], DEFINITIONS.get(config["type"]) if config["type"] else None
        if wanted is None or definition is None or definition is Unknown:
            return
        for name, value in definition.items():
            if name in wanted and value is None:
                yield f"definition.{name} is required for {config['type']} notification channels"
            if name not in wanted and value is not None and value is not Unknown:
                yield f"definition.{name} is not allowed for {config['type']} notification channels"

    def to_state(self, answer: Values, known: Values) -> Values:
        """Read it; the API does not tell the secrets of a definition."""
        state = super().to_state(answer, known)
        for name in ("workspace_id", "deployment_id", "entity_name"):
            state[name] = state[name] or ""
        for name, value in (known["definition"] or {}).items():
            if "sensitive" in flags(within(self.specs()["definition"])[name]):
                state["definition"][name] = value
        return state


class Alerts(Astro):
    """astro_alerts: a map of alerts, written in bulk."""

    type = "astro_alerts"
    import_ = Resource.import_  # the provider cannot import it

    @property
    def alert(self) -> Specs:
        """Give the attributes of one alert."""
        return within(self.specs()["alerts"])

    def new(self, planned: Values) -> Values:
        """Create all alerts."""
        return self.collect(self.write("create-alerts", planned["alerts"], {}))

    def get(self, id: str, known: Values) -> Values:
        """Read all alerts; with none left, there is nothing."""
        state = self.collect({key: one["id"] for key, one in known["alerts"].items()})
        if not state["alerts"]:
            raise Missing("no alert is left")
        return state

    def change(self, current: Values, planned: Values) -> Values:
        """Delete, create and update by key."""
        old, new = current["alerts"], planned["alerts"]
        ids = {key: one["id"] for key, one in old.items()}
        self.drop([id for key, id in ids.items() if key not in new])
        kept = {key: id for key, id in ids.items() if key in new}
        made = self.write("create-alerts", {key: one for key, one in new.items() if key not in old}, {})
        self.write("update-alerts", {key: one for key, one in new.items() if key in old}, kept)
        return self.collect({**kept, **made})

    def remove(self, current: Values) -> None:
        """Delete all alerts."""
        self.drop([one["id"] for one in current["alerts"].values()])

    def write(self, verb: str, alerts: Values, ids: dict[str, str]) -> dict[str, str]:
        """Write alerts, as many at once as the API takes, and give their ids by key."""
        written: dict[str, str] = {}
        for keys in chunks(sorted(alerts), BULK_WRITE):
            bodies = [to_wire(self.alert, alerts[key], verb == "create-alerts") for key in keys]
            bodies = [{**body, "id": ids[key]} if ids else body for key, body in zip(keys, bodies, strict=True)]
            answer = self.api.call("POST", verb, {"alerts": bodies})["alerts"]
            written.update(zip(keys, (one["id"] for one in answer), strict=True))
        return written

    def drop(self, ids: list[str]) -> None:
        """Delete alerts, as many at once as the API takes."""
        for some in chunks(ids, BULK_DELETE):
            self.api.call("POST", "delete-alerts", {"alertIds": some})

    def collect(self, ids: dict[str, str]) -> Values:
        """Read the state of alerts from the API; those that are gone are left out."""
        found = {one["id"]: one for one in self.api.call("GET", "alerts")["alerts"]}
        return {"alerts": {key: self.one(found[id]) for key, id in ids.items() if id in found}}

    def one(self, answer: Values) -> Values:
        """Read one alert."""
        channels = [channel["id"] for channel in answer["notificationChannels"]]
        return from_wire(self.alert, {**answer, "notificationChannelIds": channels})


def chunks(items: list[str], size: int) -> list[list[str]]:
    """Cut a list into pieces of at most a size."""
    return [items[start : start + size] for start in range(0, len(items), size)]


# ---- the provider ----------------------------------------------------------------------------------------


class AstroProvider(Provider):  # type: ignore[misc]
    """The provider block, and which resources there are."""

    def __init__(self) -> None:
        self.api: Api | None = None

    def get_model_prefix(self) -> str:
        """Give what the name of each resource starts with."""
        return "astro_"

    def full_name(self) -> str:
        """Give the address whose place it takes."""
        return NAME

    def get_provider_schema(self, diags: Any) -> Any:
        """Give the schema of the provider block."""
        return Schema(attributes=described(SCHEMA["provider"]["attributes"]))

    def validate_config(self, diags: Any, config: Values) -> None:
        """Check the provider block."""
        for path, problem in mistakes(SCHEMA["provider"]["attributes"], config):
            diags.add_error("Invalid Attribute Value", f"Attribute {path[0]}: {problem}", path=[path[0]])

    def configure_provider(self, diags: Any, config: Values) -> None:
        """Take the token, from the configuration or this process' environment."""
        token = config["token"] or os.environ.get("ASTRO_API_TOKEN")
        if not token:
            detail = "Set the provider's token or the environment variable ASTRO_API_TOKEN."
            diags.add_error("Missing Astro API Token", detail, path=["token"])
            return
        self.api = Api(os.environ["ASTRO_DOUBLE_HOST"], token, config["organization_id"])

    def get_data_sources(self) -> list[Any]:
        """Give none."""
        return []

    def get_resources(self) -> list[Any]:
        """Give the resources that this double knows."""
        return [Workspace, Deployment, NotificationChannel, Alerts]


class Servicer(ProviderServicer):  # type: ignore[misc]
    """tf's own planning guesses at what the provider computes, so this one plans by schema.json."""

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        """Plan one resource."""
        proposed = read_dynamic_value(request.proposed_new_state)
        if proposed is None:  # it is to be destroyed
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        specs = self._get_res_cls(request.type_name).specs()
        config = read_dynamic_value(request.config)
        prior = read_dynamic_value(request.prior_state)
        planned, diags, replaced = plan(specs, config, prior, proposed), Diagnostics(), []
        if prior is not None:
            for name in changed(specs, "immutable", config, prior, planned):
                diags.add_error(f"{name} cannot be changed", "Deploy an image with the new version.", path=[name])
            replaced = changed(specs, "replaces", config, prior, planned)
            turned_on = changed(specs, "replaces-when-true", config, prior, planned)
            replaced += [name for name in turned_on if config[name] is True]
        step = pb.AttributePath.Step
        return pb.PlanResourceChange.Response(
            planned_state=to_dynamic_value(planned),
            requires_replace=[pb.AttributePath(steps=[step(attribute_name=name)]) for name in replaced],
            diagnostics=diags.to_pb(),
        )


def serve() -> None:
    """Serve until standard input ends: with whoever started this, however that ended."""
    server = grpc.server(ThreadPoolExecutor(max_workers=10))
    rpc.add_ProviderServicer_to_server(Servicer(AstroProvider()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
    attach = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    print(json.dumps({NAME: attach}), flush=True)
    sys.stdin.read()
    server.stop(grace=None).wait()


if __name__ == "__main__":
    serve()
