"""A fake of the part of the Astro API that the double of the Terraform provider calls, over HTTP on 127.0.0.1.

It keeps what it is sent in dictionaries that a test may read, or change to play someone working in the
Astro UI. It is stricter than it must be: what refers to something unknown is refused, so that a
configuration which passes the wrong id on does not pass a test.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import RLock, Thread
from typing import Any

Record = dict[str, Any]

KINDS = ("workspaces", "deployments", "notification-channels", "alerts")
ROUTE = re.compile(r"/organizations/[^/?]+/([a-z-]+)(?:/([^/?]+))?(?:\?.*)?")
# Alerts are written in bulk, each verb under a name of its own.
BULK = {"create-alerts": 30, "update-alerts": 30, "delete-alerts": 20}
# What the API never tells again.
SECRETS = ("webhookUrl", "integrationKey", "apiKey", "deploymentApiToken")
# What an update that does not name it takes away.
RESET = ("workerQueues", "scalingSpec", "remoteExecution")
ACCOUNT = "000000000000"
SOMEONE = {"id": "cdoublesubject", "subjectType": "SERVICEKEY", "apiTokenName": "terraform"}


class Refused(Exception):
    """What the API answers instead of doing it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Call:
    """One request that came, and what was answered."""

    method: str
    kind: str
    id: str | None
    body: Any
    status: int


@dataclass
class Failure:
    """The answer that the next matching request gets."""

    method: str
    kind: str
    status: int
    message: str


@dataclass
class FakeAstro:
    """The store, and the rules by which it answers.

    `external_ips` and `runtime_version` are what the next deployment gets. A call's kind is one of KINDS;
    writing alerts is a POST of kind "alerts", whichever of the three it is.
    """

    token: str
    external_ips: list[str] = field(default_factory=lambda: ["192.0.2.10", "192.0.2.11"])
    runtime_version: str = "3.3-8"
    workspaces: dict[str, Record] = field(default_factory=dict)
    deployments: dict[str, Record] = field(default_factory=dict)
    notification_channels: dict[str, Record] = field(default_factory=dict)
    alerts: dict[str, Record] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    url: str = ""
    _failures: list[Failure] = field(default_factory=list)
    _lock: RLock = field(default_factory=RLock)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def serving(self) -> Iterator["FakeAstro"]:
        """Answer on a free port of 127.0.0.1 until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def fail_next(
        self, method: str, kind: str, status: int = 500, message: str = "the fake API was told to fail"
    ) -> None:
        """Refuse the next request of a method and kind with a status, and do nothing of what it asks."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {KINDS}")
        self._failures.append(Failure(method, kind, status, message))

    def writes(self) -> list[Call]:
        """Give the calls that were not reads."""
        return [call for call in self.calls if call.method != "GET"]

    def reset(self) -> None:
        """Forget everything that came: records, calls and failures that were asked for."""
        with self._lock:
            for kept in (self.workspaces, self.deployments, self.notification_channels, self.alerts):
                kept.clear()
            self.calls.clear()
            self._failures.clear()

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        """Do what one request asks, and give status and body of the answer."""
        with self._lock:
            match = ROUTE.fullmatch(path)
            name, id = (match[1], match[2]) if match else (path, None)
            kind = "alerts" if name in BULK else name
            try:
                if authorization != f"Bearer {self.token}":
                    raise Refused(401, "Invalid authorization token")
                self._fail(method, kind)
                status, result = 200, self._route(method, name, id, body)
            except Refused as refused:
                number = next(self._numbers)
                status = refused.status
                result = {"message": refused.message, "requestId": f"request-{number}", "statusCode": status}
            self.calls.append(Call(method, kind, id, body, status))
            return (204, None) if status == 200 and result is None else (status, deepcopy(result))

    def _fail(self, method: str, kind: str) -> None:
        for failure in self._failures:
            if (failure.method, failure.kind) == (method, kind):
                self._failures.remove(failure)
                raise Refused(failure.status, failure.message)

    def _route(self, method: str, name: str, id: str | None, body: Any) -> Any:
        if (method, name) == ("GET", "deployment-options"):
            return {"runtimeReleases": [{"version": self.runtime_version}]}
        if name in BULK and method == "POST":
            return self._write_alerts(name, body)
        if (method, name) == ("GET", "alerts"):
            return {"alerts": [told(alert) for alert in self.alerts.values()]}
        kinds: dict[str, tuple[dict[str, Record], Callable[[str, Record, Record], Record]]] = {
            "workspaces": (self.workspaces, self._workspace),
            "deployments": (self.deployments, self._deployment),
            "notification-channels": (self.notification_channels, self._notification_channel),
        }
        if name not in kinds:
            raise Refused(404, f"The fake API has no {method} {name}")
        records, make = kinds[name]
        if method == "POST" and id is None:
            id = self._cuid()
            records[id] = stamped(make(id, {}, body), {})
            return told(records[id])
        if id is None or id not in records:
            raise Refused(404, f"{name} {id} not found")
        if method == "POST":
            records[id] = stamped(make(id, records[id], body), records[id])
        elif method == "DELETE":
            self._may_go(name, id)
            del records[id]
            return None
        return told(records[id])

    def _cuid(self) -> str:
        return f"cdouble{next(self._numbers):018d}"

    def _workspace(self, id: str, before: Record, body: Record) -> Record:
        return {**before, **body, "id": id}

    def _deployment(self, id: str, before: Record, body: Record) -> Record:
        known(self.workspaces, body["workspaceId"], "workspace")
        if body["executor"] == "CELERY" and not body.get("workerQueues"):
            raise Refused(400, "A deployment with the CELERY executor needs worker queues")
        if before and before["isDevelopmentMode"] is False and body.get("isDevelopmentMode"):
            raise Refused(400, "A deployment cannot become one in development mode")
        kept = {key: value for key, value in before.items() if key not in RESET}
        record = {**(kept or self._new_deployment(id, body)), **body, "id": id}
        old = {one["key"]: one for one in before.get("environmentVariables", [])}
        record["environmentVariables"] = [
            {**one, "updatedAt": unchanged["updatedAt"] if (unchanged := same(old, one)) else now()}
            for one in body["environmentVariables"]
        ]
        if queues := body.get("workerQueues"):
            record["workerQueues"] = [{**queue, **machine(queue)} for queue in queues]
        spec = deepcopy(body.get("scalingSpec") or {})
        hibernation = spec.get("hibernationSpec") or {}
        if override := hibernation.get("override"):
            override["isActive"] = True
        record["scalingSpec"] = spec or None
        hibernating = bool(hibernation.get("override", {}).get("isHibernating"))
        record["scalingStatus"] = {"hibernationStatus": {"isHibernating": hibernating}} if hibernation else None
        if remote := body.get("remoteExecution"):
            record["remoteExecution"] = {"remoteApiUrl": f"https://{record['namespace']}.external.invalid", **remote}
        return record

    def _new_deployment(self, id: str, body: Record) -> Record:
        number = next(self._numbers)
        namespace = f"double-orbit-{number:04d}"
        runtime = body["astroRuntimeVersion"]
        region = body.get("region", "us-east-1")  # a dedicated cluster's own
        host = "double.astronomer.run"
        return {
            "status": "HEALTHY",
            "namespace": namespace,
            "astroRuntimeVersion": runtime,
            "airflowVersion": f"{runtime.split('-')[0]}.0",
            "cloudProvider": "AWS",
            "region": region,
            "externalIPs": list(self.external_ips),
            "workloadIdentity": f"arn:aws:iam::{ACCOUNT}:role/AirflowS3Logs-{namespace}",
            "oidcIssuerUrl": f"https://oidc.eks.{region}.amazonaws.com/id/DOUBLE{number:04d}",
            "webServerIngressHostname": host,
            "webServerUrl": f"{host}/d{number:04d}",
            "webServerAirflowApiUrl": f"{host}/d{number:04d}/api/v2",
            "imageRepository": f"images.astronomer.cloud/double/{id}",
            "imageTag": runtime,
            "schedulerCpu": "1",
            "schedulerMemory": "2Gi",
            "schedulerReplicas": 1,
        }

    def _notification_channel(self, id: str, before: Record, body: Record) -> Record:
        record = {**before, **body, "id": id}
        entity, type = record["entityId"], record["entityType"]
        if type == "WORKSPACE":
            record["workspaceId"] = entity
            record["entityName"] = known(self.workspaces, entity, "workspace")["name"]
        elif type == "DEPLOYMENT":
            deployment = known(self.deployments, entity, "deployment")
            record.update(deploymentId=entity, workspaceId=deployment["workspaceId"], entityName=deployment["name"])
        return record

    def _write_alerts(self, name: str, body: Record) -> Any:
        asked = body["alertIds" if name == "delete-alerts" else "alerts"]
        if len(asked) > BULK[name]:
            raise Refused(400, f"{name} takes at most {BULK[name]} alerts")
        if name == "delete-alerts":
            for id in asked:
                self.alerts.pop(id, None)
            return None
        made = [self._alert(one) for one in asked]
        self.alerts.update({alert["id"]: alert for alert in made})
        return {"alerts": [told(alert) for alert in made]}

    def _alert(self, body: Record) -> Record:
        before = known(self.alerts, body["id"], "alert") if "id" in body else {"id": self._cuid()}
        record: Record = {**before, **body}
        known(self.deployments, record["entityId"], "deployment")
        for channel in record["notificationChannelIds"]:
            known(self.notification_channels, channel, "notification channel")
        return stamped(record, before)

    def _may_go(self, name: str, id: str) -> None:
        if name == "workspaces" and any(one["workspaceId"] == id for one in self.deployments.values()):
            raise Refused(400, f"workspace {id} still has deployments")
        if name == "notification-channels" and any(id in one["notificationChannelIds"] for one in self.alerts.values()):
            raise Refused(400, f"notification channel {id} is still used by an alert")


def known(records: dict[str, Record], id: str, what: str) -> Record:
    """Give the record that another refers to."""
    if id not in records:
        raise Refused(400, f"{what} {id} does not exist")
    return records[id]


def same(old: dict[str, Record], new: Record) -> Record | None:
    """Give the stored environment variable, if the new one says nothing else."""
    stored = old.get(new["key"])
    return stored if stored and all(stored.get(key) == new.get(key) for key in ("value", "isSecret")) else None


def machine(queue: Record) -> Record:
    """Size a worker as its machine: an A5 has one CPU and 2 GiB, and the others a multiple of that."""
    fives = int(queue["astroMachine"].removeprefix("A")) // 5
    return {"podCpu": str(fives), "podMemory": f"{2 * fives}Gi"}


def now() -> str:
    """Give the time as the API writes it, finely enough for two calls to differ."""
    return datetime.now(UTC).isoformat()


def stamped(record: Record, before: Record) -> Record:
    """Say who wrote a record, and when."""
    created = {key: before.get(key, new) for key, new in (("createdAt", now()), ("createdBy", SOMEONE))}
    return {**record, **created, "updatedAt": now(), "updatedBy": SOMEONE}


def told(record: Record) -> Record:
    """Give a record as the API answers it: without the secrets in it."""
    answer = deepcopy(record)
    for variable in answer.get("environmentVariables", []):
        if variable["isSecret"]:
            variable.pop("value", None)
    for key in SECRETS:
        answer.get("definition", {}).pop(key, None)
    if "notificationChannelIds" in answer:
        answer["notificationChannels"] = [{"id": id} for id in answer.pop("notificationChannelIds")]
    return answer


def handler(astro: FakeAstro) -> type[BaseHTTPRequestHandler]:
    """Make the class that puts requests to a store."""

    class Handler(BaseHTTPRequestHandler):
        """Reads and writes JSON."""

        def handle_any(self) -> None:
            """Answer one request."""
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, result = astro.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            payload = b"" if result is None else json.dumps(result).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the calls are kept."""

    return Handler
