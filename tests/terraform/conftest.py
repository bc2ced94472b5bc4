"""Terraform itself, with the real AWS provider, for the tests of terraform/."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from scripts import bootstrap
from tests.terraform.astro_double.running import AstroDouble, astro_double
from tests.terraform.needs import missing


@dataclass(frozen=True)
class Terraform:
    """Runs terraform, or a program that does, with an environment of its own."""

    environment: Mapping[str, str]

    def run(self, *command: str | Path, status: int = 0) -> str:
        """Run a command, expect its exit status, and give what it printed."""
        done = subprocess.run(
            [str(part) for part in command], env=self.environment, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    def within(self, environment: Mapping[str, str]) -> "Terraform":
        """Give the same with more in its environment."""
        return replace(self, environment={**self.environment, **environment})


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Give Terraform with a provider for AWS, or say what is missing on this machine."""
    if shutil.which("terraform") is None:
        wanted = (bootstrap.ROOT / "terraform" / ".terraform-version").read_text().strip()
        missing(f"terraform: install {wanted} from https://developer.hashicorp.com/terraform/install")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASTRO_"))},
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "NO_COLOR": "1",
        "TF_CLI_ARGS": "-no-color",
    }
    configuration = environment.get("TF_CLI_CONFIG_FILE")
    if configuration and not Path(configuration).exists():
        del environment["TF_CLI_CONFIG_FILE"]
    if "TF_CLI_CONFIG_FILE" not in environment:  # a mirror of the user's own needs no cache, and is none
        cache = bootstrap.STATE / "cache" / "terraform"
        cache.mkdir(parents=True, exist_ok=True)
        environment["TF_PLUGIN_CACHE_DIR"] = str(cache)
    folder = tmp_path_factory.mktemp("provider")
    shutil.copy(bootstrap.ROOT / "terraform" / "bootstrap" / "versions.tf", folder)
    tried = subprocess.run(
        ["terraform", f"-chdir={folder}", "init", "-backend=false"],  # noqa: S607 - the user's own
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        missing("Terraform's provider hashicorp/aws: registry.terraform.io, or a mirror of it, must be reachable")
    return Terraform(environment)


@pytest.fixture(scope="session")
def astro() -> Iterator[AstroDouble]:
    """Run the double of the Astro provider and its fake API."""
    with astro_double() as double:
        yield double


def copy_of_terraform(folder: Path) -> Path:
    """Copy what Terraform is run from, so that nothing is written into the checkout."""
    root = bootstrap.ROOT
    ignored = shutil.ignore_patterns(".terraform", "*.tfstate*", "backend.hcl", "terraform.tfvars")
    shutil.copytree(root / "terraform", folder / "terraform", ignore=ignored)
    for name in ("Dockerfile", "scripts/infrastructure.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, folder / name)
    return folder
