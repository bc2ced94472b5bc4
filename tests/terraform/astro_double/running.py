"""Starts the double and the fake API behind it, for Terraform runs of a test.

As in:

    with astro_double() as double:
        subprocess.run(["terraform", "apply", ...], env=os.environ | double.environment)
        assert double.api.deployments
"""

import fcntl
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts import bootstrap
from tests.terraform.astro_double.api import FakeAstro
from tests.terraform.needs import missing

TOKEN = "token-of-the-astro-double"
ORGANIZATION = "cdoubleorganization000000"
ENVIRONMENT = bootstrap.STATE / "astro-double"
PROVIDER = Path(__file__).parent / "provider.py"


@dataclass(frozen=True)
class AstroDouble:
    """The fake API, and the environment variables with which Terraform finds the double."""

    api: FakeAstro
    environment: dict[str, str]


@contextmanager
def astro_double(token: str | None = TOKEN) -> Iterator[AstroDouble]:
    """Run both until the block ends; without a token, the double's process has none in its environment."""
    python = provider_python()
    # The double runs beside Terraform, not under it, so the token has to be in its own environment.
    own = {key: value for key, value in os.environ.items() if key not in ("ASTRO_API_TOKEN", "PYTHONPATH")}
    tokens = {"ASTRO_API_TOKEN": token} if token else {}
    with FakeAstro(TOKEN).serving() as api:
        command = [python, PROVIDER]
        env = {**own, **tokens, "ASTRO_DOUBLE_HOST": api.url}
        # Its standard input is its life: it ends with it, even if this process is killed.
        with subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            reattach = process.stdout.readline().strip()
            if not reattach:
                raise RuntimeError("The double of the Astro provider did not start: see its error above")
            yield AstroDouble(api, {"TF_REATTACH_PROVIDERS": reattach, **tokens})


def provider_python() -> Path:
    """Give the Python of the double's own environment, making that once as uv.lock says."""
    stamp = ENVIRONMENT / "airlock-installed"
    wanted = bootstrap.fingerprint()
    bootstrap.STATE.mkdir(exist_ok=True)
    with (bootstrap.STATE / "astro-double.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be making it
        if not stamp.exists() or stamp.read_text() != wanted:
            make_environment()
            stamp.write_text(wanted)
    return ENVIRONMENT / "bin" / "python"


def make_environment() -> None:
    """Install tf, which needs an older protobuf than Airflow has, into an environment of its own."""
    try:
        uv = bootstrap.uv_command()
    except SystemExit as stopped:
        missing(f"uv for the double of the Astro provider ({stopped}): make install gets it")
    env = {
        **{key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")},
        "UV_CACHE_DIR": str(bootstrap.STATE / "cache" / "uv"),
        "UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    if ssl.get_default_verify_paths().cafile:  # as bootstrap does
        env.setdefault("UV_SYSTEM_CERTS", "true")
    only = ["sync", "--frozen", "--quiet", "--only-group", "astro-double", "--python", sys.executable]
    made = subprocess.run(
        [*uv, *only], cwd=bootstrap.ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if made.returncode:
        reason = made.stderr.strip().splitlines() or ["no reason given"]
        missing(f"the package tf for the double of the Astro provider, from a package index ({reason[0].strip()})")
