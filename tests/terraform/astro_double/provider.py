"""A double of the Terraform provider astronomer/astro 1.5.2, for tests only: it is not Astronomer's provider.

schema.json has the attributes that terraform/ uses, with their types and flags from the provider's documentation. There
is no API: the records are in a JSON file. A test can read the file, or change it like somebody in the Astro UI.

    python provider.py STORE.json

The program serves Terraform until its standard input ends. It first prints the value for TF_REATTACH_PROVIDERS.

Beyond the schema, it does what the tests of terraform/ need:
- A plan does not know the values that the provider computes. An update keeps those with the flag `keeps`.
- A STANDARD deployment needs cloud_provider and region and must not have cluster_id; DEDICATED the other way round.
- A record that refers to a workspace, deployment or channel that does not exist is refused.

It does not check the token or any other value. It never replaces a resource, and it cannot import.
"""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import grpc  # type: ignore[import-untyped]
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc
from tf.types import Unknown
from tf.utils import Diagnostics, read_dynamic_value, to_dynamic_value

Values = dict[str, Any]
Store = dict[str, dict[str, Values]]

NAME = "registry.terraform.io/astronomer/astro"
SCHEMA: dict[str, Values] = json.loads((Path(__file__).parent / "schema.json").read_text())
REFERENCES = {
    "workspace_id": "astro_workspace",
    "entity_id": "astro_deployment",
    "notification_channel_ids": "astro_notification_channel",
}
ALERTS = "astro_alerts"  # the only resource that has several records: a map of alerts


def protocol_schema(specs: Values) -> Any:
    """Return a schema in the form of the protocol."""
    return pb.Schema(block=pb.Schema.Block(attributes=list(protocol_attributes(specs))))


def protocol_attributes(specs: Values) -> Iterator[Any]:
    """Yield the attributes of a schema in the form of the protocol."""
    for name, spec in specs.items():
        options: Values = dict.fromkeys(set(spec["flags"].split()) - {"keeps"}, True)
        if "nesting" in spec:
            nesting = pb.Schema.Object.NestingMode.Value(spec["nesting"])
            inner = protocol_attributes(spec["attributes"])
            options["nested_type"] = pb.Schema.Object(attributes=list(inner), nesting=nesting)
        else:
            options["type"] = json.dumps(spec["type"]).encode()
        yield pb.Schema.Attribute(name=name, **options)


def conflicts(config: Values) -> Iterator[str]:
    """Yield what is wrong with the place of a deployment."""
    places = {"STANDARD": ("cloud_provider", "region"), "DEDICATED": ("cluster_id",)}
    for type, names in places.items() if config["type"] in places else ():
        for name in names:
            if type == config["type"] and config[name] is None:
                yield f"{name} is required for a {type} deployment"
            if type != config["type"] and config[name] is not None:
                yield f"{name} is not allowed for a {config['type']} deployment"


def with_unknowns(specs: Values, config: Values, proposed: Values) -> Values:
    """Return a proposed state in which the values that an apply will compute are unknown."""
    planned = dict(proposed)
    for name, spec in specs.items():
        flags, value = spec["flags"].split(), proposed[name]
        if "computed" in flags and config[name] is None and (value is None or "keeps" not in flags):
            planned[name] = Unknown
        elif spec.get("nesting") == "MAP":
            inner = spec["attributes"]
            planned[name] = {key: with_unknowns(inner, config[name][key], value[key]) for key in value}
    return planned


def records_of(kind: str, state: Values | None) -> dict[str, Values]:
    """Return the records in the state of a resource."""
    if state is None:
        return {}
    return dict(state["alerts"]) if kind == ALERTS else {"": state}


def state_of(kind: str, records: dict[str, Values]) -> Values | None:
    """Return the state of a resource with these records; None without any."""
    if not records:
        return None
    return {"alerts": records} if kind == ALERTS else records[""]


def write(store: Store, kind: str, planned: Values) -> Values:
    """Store a record and return it, with its computed values."""
    for name, referred in REFERENCES.items():
        value = planned.get(name, [])
        for id in [value] if isinstance(value, str) else value:
            if id not in store[referred]:
                raise ValueError(f"{name}: {referred} {id} does not exist")
    id = f"c{uuid4().hex[:24]}" if planned["id"] is Unknown else planned["id"]
    computed = {
        "id": id,
        "external_ips": ["192.0.2.10", "192.0.2.11"],
        "workload_identity": f"arn:aws:iam::000000000000:role/AirflowS3Logs-{id}",
        "webserver_url": f"double.astronomer.run/{id}",
    }
    store[kind][id] = {name: computed.get(name) if value is Unknown else value for name, value in planned.items()}
    return store[kind][id]


class Servicer(rpc.ProviderServicer):  # type: ignore[misc]
    """The requests that Terraform makes."""

    def __init__(self, store: Path) -> None:
        self.store, self.lock = store, Lock()

    @contextmanager
    def stored(self) -> Iterator[Store]:
        """Open the store for one request; save it unless the request fails."""
        with self.lock:
            store = json.loads(self.store.read_text())
            yield store
            self.store.write_text(json.dumps(store))

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        """Return all schemas."""
        return pb.GetProviderSchema.Response(
            provider=protocol_schema({"organization_id": {"type": "string", "flags": "required"}}),
            resource_schemas={kind: protocol_schema(specs) for kind, specs in SCHEMA.items()},
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        """Accept any provider block."""
        return pb.ValidateProviderConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        """Need no configuration."""
        return pb.ConfigureProvider.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        """Refuse a deployment whose place does not fit its type."""
        problems = Diagnostics()
        if request.type_name == "astro_deployment":
            for problem in conflicts(read_dynamic_value(request.config)):
                problems.add_error(problem)
        return pb.ValidateResourceConfig.Response(diagnostics=problems.to_pb())

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:
        """Return the state as it is: each schema has one version."""
        state = to_dynamic_value(json.loads(request.raw_state.json))
        return pb.UpgradeResourceState.Response(upgraded_state=state)

    def ReadResource(self, request: Any, context: Any) -> Any:
        """Return what is stored now."""
        kind, state = request.type_name, read_dynamic_value(request.current_state)
        with self.stored() as store:
            before = {key: record["id"] for key, record in records_of(kind, state).items()}
            found = {key: store[kind][id] for key, id in before.items() if id in store[kind]}
        return pb.ReadResource.Response(new_state=to_dynamic_value(state_of(kind, found)))

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        """Plan one resource."""
        planned = read_dynamic_value(request.proposed_new_state)
        if planned is not None and planned != read_dynamic_value(request.prior_state):
            planned = with_unknowns(SCHEMA[request.type_name], read_dynamic_value(request.config), planned)
        return pb.PlanResourceChange.Response(planned_state=to_dynamic_value(planned))

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:
        """Create, update or delete one resource."""
        kind, planned = request.type_name, read_dynamic_value(request.planned_state)
        before, after = records_of(kind, read_dynamic_value(request.prior_state)), records_of(kind, planned)
        try:
            with self.stored() as store:
                for key in before.keys() - after.keys():
                    store[kind].pop(before[key]["id"], None)
                state = state_of(kind, {key: write(store, kind, record) for key, record in after.items()})
        except ValueError as error:
            problems = Diagnostics().add_error(str(error)).to_pb()
            return pb.ApplyResourceChange.Response(new_state=request.prior_state, diagnostics=problems)
        return pb.ApplyResourceChange.Response(new_state=to_dynamic_value(state))

    def StopProvider(self, request: Any, context: Any) -> Any:
        """Agree to stop: no request takes long."""
        return pb.StopProvider.Response()


def serve(store: Path) -> None:
    """Serve until standard input ends, which is when the process that started this one ends."""
    server = grpc.server(ThreadPoolExecutor(max_workers=10))
    rpc.add_ProviderServicer_to_server(Servicer(store), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
    attach = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    print(json.dumps({NAME: attach}), flush=True)
    sys.stdin.read()
    server.stop(grace=None).wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
