"""Start the double of the Astro provider for the Terraform runs of a test."""

import fcntl
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts import bootstrap
from tests.terraform.needs import missing

ORGANIZATION = "cdoubleorganization000000"
ENVIRONMENT = bootstrap.STATE / "astro-double"
FOLDER = Path(__file__).parent

Store = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class AstroDouble:
    """A running double: its records, and the environment variables with which Terraform finds it."""

    store: Path
    environment: dict[str, str]

    @property
    def records(self) -> Store:
        """Return all records, per type of resource and id."""
        store: Store = json.loads(self.store.read_text())
        return store

    def replace(self, kind: str, record: dict[str, Any]) -> None:
        """Change a record, like somebody in the Astro UI."""
        store = self.records
        store[kind][record["id"]] = record
        self.store.write_text(json.dumps(store))


@contextmanager
def astro_double() -> Iterator[AstroDouble]:
    """Run the double until the block ends."""
    python = provider_python()
    kinds = json.loads((FOLDER / "schema.json").read_text())
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with TemporaryDirectory() as folder:
        store = Path(folder) / "store.json"
        store.write_text(json.dumps({kind: {} for kind in kinds}))
        command = [python, FOLDER / "provider.py", store]
        # The double ends when its standard input does, even if this process is killed.
        with subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            reattach = process.stdout.readline().strip()
            if not reattach:
                raise RuntimeError("The double of the Astro provider did not start: see its error above")
            yield AstroDouble(store, {"TF_REATTACH_PROVIDERS": reattach, "ASTRO_API_TOKEN": "not-checked"})


def provider_python() -> Path:
    """Return the Python of the double's own environment; create the environment from uv.lock if necessary."""
    stamp = ENVIRONMENT / "airlock-installed"
    current = bootstrap.fingerprint()
    bootstrap.STATE.mkdir(exist_ok=True)
    with (bootstrap.STATE / "astro-double.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be creating it
        if not stamp.exists() or stamp.read_text() != current:
            make_environment()
            stamp.write_text(current)
    return ENVIRONMENT / "bin" / "python"


def make_environment() -> None:
    """Install tf into an environment of its own, because it needs an older protobuf than Airflow."""
    try:
        uv = bootstrap.uv_command()
    except SystemExit as stopped:
        missing(f"uv for the double of the Astro provider ({stopped}): make install installs it")
    env = {
        **{key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")},
        "UV_CACHE_DIR": str(bootstrap.STATE / "cache" / "uv"),
        "UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    if ssl.get_default_verify_paths().cafile:  # same as in scripts/bootstrap.py
        env.setdefault("UV_SYSTEM_CERTS", "true")
    only = ["sync", "--frozen", "--quiet", "--only-group", "astro-double", "--python", sys.executable]
    done = subprocess.run(
        [*uv, *only], cwd=bootstrap.ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        missing(f"the package tf for the double of the Astro provider, from a package index ({reason[0].strip()})")
