"""Terraform for one environment, and what has to be right before it starts.

`plan|apply|destroy ENVIRONMENT [arguments of terraform]`; `bootstrap REGION` makes what an account needs once. Standard
library only: a workflow needs nothing installed for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

TERRAFORM = Path(__file__).resolve().parent.parent / "terraform"
ACTIONS = ("plan", "apply", "destroy")
USAGE = "usage: infrastructure.py plan|apply|destroy ENVIRONMENT [terraform's arguments] | bootstrap REGION"


def main(arguments: Sequence[str]) -> NoReturn:
    """Check what can be checked before Terraform starts, initialise, and become Terraform."""
    if len(arguments) < 2:
        sys.exit(USAGE)
    action, of, *further = arguments
    if action not in (*ACTIONS, "bootstrap"):
        sys.exit(USAGE)
    if shutil.which("terraform") is None:
        wanted = (TERRAFORM / ".terraform-version").read_text().strip()
        stop(f"terraform is not installed: get {wanted} from https://developer.hashicorp.com/terraform/install")
    if action == "bootstrap":
        if not of:
            stop("in which AWS region? write REGION=eu-west-1, or another")
        folder = TERRAFORM / "bootstrap"
        initialise(folder)
        become_terraform(folder, ["apply", f"-var=region={of}", *further])
    folder = environment_folder(of)
    if not os.environ.get("ASTRO_API_TOKEN"):
        if "-refresh=false" not in further:
            stop("ASTRO_API_TOKEN is not set: make an API token in Astro's organisation settings and export it")
        # Nothing is asked of Astro, but its provider wants to see a token.
        os.environ["ASTRO_API_TOKEN"] = "not-used-without-refresh"  # noqa: S105
    initialise(folder, "-backend-config=backend.hcl")
    if action == "destroy" and (name := protected_database(folder)):
        stop(
            f"{name} is protected, and nothing was destroyed. To lift the protection on purpose, write into {of}'s "
            f'terraform.tfvars: database_deletion_protection = false, unprotect_database = "{name}"; then '
            f"make apply ENV={of}, then make destroy ENV={of}"
        )
    become_terraform(folder, [action, *further])


def environment_folder(environment: str) -> Path:
    """Give the folder of an environment that is filled in; end with what to do when there is none."""
    environments = sorted(path.parent.name for path in (TERRAFORM / "environments").glob("*/main.tf"))
    if environment not in environments:
        stop(f"no environment {environment!r}: write ENV=" + " or ENV=".join(environments))
    folder = TERRAFORM / "environments" / environment
    for name in ("backend.hcl", "terraform.tfvars"):
        if not (folder / name).exists():
            stop(f"terraform/environments/{environment}/{name} is missing: copy {name}.example and fill it in")
    return folder


def initialise(folder: Path, *arguments: str) -> None:
    """Run terraform init; its pages of output are shown only when it fails."""
    print(f"Initialising terraform/{folder.relative_to(TERRAFORM)} ...", flush=True)
    command = ["terraform", f"-chdir={folder}", "init", "-input=false", *arguments]
    result = subprocess.run(command, env=environ(), stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        print(result.stdout, flush=True)
        stop("terraform init failed (see above)")


def protected_database(folder: Path) -> str | None:
    """Give the name of the database that AWS would refuse to delete, after Terraform had deleted much else."""
    command = ["terraform", f"-chdir={folder}", "state", "pull"]
    result = subprocess.run(command, env=environ(), stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        stop("the state could not be read (see above): nothing was destroyed")
    resources = json.loads(result.stdout or "{}").get("resources", [])
    for resource in resources:
        if resource["type"] == "aws_db_instance":
            for instance in resource["instances"]:
                if instance["attributes"]["deletion_protection"]:
                    return str(instance["attributes"]["identifier"])
    return None


def environ() -> Mapping[str, str]:
    """Give the environment for Terraform: one that names a configuration that is not there would only warn about it."""
    configuration = os.environ.get("TF_CLI_CONFIG_FILE")
    if configuration and not Path(configuration).exists():
        return {key: value for key, value in os.environ.items() if key != "TF_CLI_CONFIG_FILE"}
    return os.environ


def become_terraform(folder: Path, arguments: Sequence[str]) -> NoReturn:
    """Replace this process, so that questions, signals and the exit status are Terraform's own."""
    sys.stdout.flush()
    os.execvpe("terraform", ["terraform", f"-chdir={folder}", *arguments], environ())  # noqa: S606, S607


def stop(message: str) -> NoReturn:
    """End with one line for a person."""
    sys.exit("airlock: " + message)


if __name__ == "__main__":
    main(sys.argv[1:])
