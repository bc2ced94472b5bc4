"""Run Terraform for one environment, after checks of its settings.

`plan|apply|destroy ENVIRONMENT [Terraform's arguments]`; `bootstrap REGION` creates what is needed once per account.
Standard library only, so that a workflow can run it without an installation.
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
USAGE = "usage: infrastructure.py plan|apply|destroy ENVIRONMENT [Terraform's arguments] | bootstrap REGION"


def main(arguments: Sequence[str]) -> NoReturn:
    """Check the settings, initialise Terraform, and replace this process with Terraform."""
    if len(arguments) < 2:
        sys.exit(USAGE)
    action, target, *options = arguments
    if action not in (*ACTIONS, "bootstrap"):
        sys.exit(USAGE)
    if shutil.which("terraform") is None:
        wanted = (TERRAFORM / ".terraform-version").read_text().strip()
        stop(f"terraform is not installed: get {wanted} from https://developer.hashicorp.com/terraform/install")
    if action == "bootstrap":
        if not target:
            stop("no AWS region: write REGION=eu-west-1, or another one")
        folder = TERRAFORM / "bootstrap"
        initialise(folder)
        become_terraform(folder, ["apply", f"-var=region={target}", *options])
    folder = environment_folder(target)
    if not os.environ.get("ASTRO_API_TOKEN"):
        if "-refresh=false" not in options:
            stop("ASTRO_API_TOKEN is not set: create an API token in Astro's organisation settings and export it")
        # No request goes to Astro, but its provider does not start without a token.
        os.environ["ASTRO_API_TOKEN"] = "not-used-without-refresh"  # noqa: S105
    initialise(folder, "-backend-config=backend.hcl")
    if action == "destroy" and (name := protected_database(folder)):
        stop(
            f"{name} is protected, and nothing was destroyed. To remove the protection, write into {target}'s "
            f'terraform.tfvars: database_deletion_protection = false, unprotect_database = "{name}"; then '
            f"make apply ENV={target}, then make destroy ENV={target}"
        )
    become_terraform(folder, [action, *options])


def environment_folder(environment: str) -> Path:
    """Return the folder of an environment; exit with what to do when its settings are missing."""
    environments = sorted(path.parent.name for path in (TERRAFORM / "environments").glob("*/main.tf"))
    if environment not in environments:
        stop(f"no environment {environment!r}: write ENV=" + " or ENV=".join(environments))
    folder = TERRAFORM / "environments" / environment
    for name in ("backend.hcl", "terraform.tfvars"):
        if not (folder / name).exists():
            stop(f"terraform/environments/{environment}/{name} is missing: copy {name}.example and fill it in")
    return folder


def initialise(folder: Path, *arguments: str) -> None:
    """Run terraform init; its long output is printed only when it fails."""
    print(f"Initialising terraform/{folder.relative_to(TERRAFORM)} ...", flush=True)
    command = ["terraform", f"-chdir={folder}", "init", "-input=false", *arguments]
    result = subprocess.run(command, env=environ(), stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        print(result.stdout, flush=True)
        stop("terraform init failed (see above)")


def protected_database(folder: Path) -> str | None:
    """Return the name of the database with deletion protection, or None.

    AWS refuses to delete it, but Terraform finds that out only after it has deleted other resources.
    """
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
    """Return the environment for Terraform, without a TF_CLI_CONFIG_FILE that does not exist: it causes a warning."""
    configuration = os.environ.get("TF_CLI_CONFIG_FILE")
    if configuration and not Path(configuration).exists():
        return {key: value for key, value in os.environ.items() if key != "TF_CLI_CONFIG_FILE"}
    return os.environ


def become_terraform(folder: Path, arguments: Sequence[str]) -> NoReturn:
    """Replace this process, so that Terraform itself gets the signals and sets the exit status."""
    sys.stdout.flush()
    os.execvpe("terraform", ["terraform", f"-chdir={folder}", *arguments], environ())  # noqa: S606, S607


def stop(message: str) -> NoReturn:
    """Exit with a message of one line."""
    sys.exit("airlock: " + message)


if __name__ == "__main__":
    main(sys.argv[1:])
