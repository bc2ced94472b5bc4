"""Terraform with the real AWS provider, for the tests of terraform/."""

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
    """Runs Terraform, or a program that runs Terraform, with its own environment variables."""

    environment: Mapping[str, str]

    def run(self, *command: str | Path, status: int = 0) -> str:
        """Run a command, check its exit status, and return its output."""
        done = subprocess.run(
            [str(part) for part in command], env=self.environment, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    def within(self, environment: Mapping[str, str]) -> "Terraform":
        """Return a copy with additional environment variables."""
        return replace(self, environment={**self.environment, **environment})


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Return Terraform with the AWS provider, or report what is missing on this machine."""
    if shutil.which("terraform") is None:
        version = (bootstrap.ROOT / "terraform" / ".terraform-version").read_text().strip()
        missing(f"terraform: install {version} from https://developer.hashicorp.com/terraform/install")
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
    if "TF_CLI_CONFIG_FILE" not in environment:  # a mirror of the user needs no cache
        cache = bootstrap.STATE / "cache" / "terraform"
        cache.mkdir(parents=True, exist_ok=True)
        environment["TF_PLUGIN_CACHE_DIR"] = str(cache)
    folder = tmp_path_factory.mktemp("provider")
    shutil.copy(bootstrap.ROOT / "terraform" / "bootstrap" / "versions.tf", folder)
    init = subprocess.run(
        ["terraform", f"-chdir={folder}", "init", "-backend=false"],  # noqa: S607 - the one on the user's PATH
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if init.returncode:
        missing("Terraform's provider hashicorp/aws: registry.terraform.io, or a mirror of it, must be reachable")
    return Terraform(environment)


@pytest.fixture(scope="session")
def astro() -> Iterator[AstroDouble]:
    """Run the double of the Astro provider."""
    with astro_double() as double:
        yield double


def copy_of_terraform(folder: Path) -> Path:
    """Copy the files that Terraform needs, so that nothing is written into the checkout, and declare a dataset."""
    root = bootstrap.ROOT
    ignored = shutil.ignore_patterns(".terraform", "*.tfstate*", "backend.hcl", "terraform.tfvars")
    shutil.copytree(root / "terraform", folder / "terraform", ignore=ignored)
    for name in ("Dockerfile", "scripts/infrastructure.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, folder / name)
    declare_datasets(folder, "postgres_library_conn")
    return folder


def declare_datasets(folder: Path, *connections: str) -> None:
    """Declare one made-up dataset per connection in a copy, in place of all others."""
    datasets = folder / "include" / "datasets"
    shutil.rmtree(datasets, ignore_errors=True)
    datasets.mkdir(parents=True)
    for number, connection in enumerate(connections):
        (datasets / f"dataset_{number}").mkdir()
        lines = [f'    connection="{connection}",', '    # connection="postgres_commented_out_conn",']
        (datasets / f"dataset_{number}" / "dataset.py").write_text("\n".join(["DATASET = Dataset(", *lines, ")"]))
