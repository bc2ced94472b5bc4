"""Check the format of the Terraform files: `python -m scripts.terraform_fmt`.

Terraform has no Python package, so it may be missing on a machine: then the files are not checked, and a message says
so. CI has Terraform.
"""

import os
import shutil
import subprocess
import sys

from scripts.infrastructure import environ


def main() -> int:
    """Run terraform fmt; returns the exit status."""
    terraform = shutil.which("terraform")
    if terraform:
        command = [terraform, "fmt", "-check", "-recursive", "-diff", "terraform"]
        return subprocess.run(command, env=environ(), check=False).returncode
    if os.environ.get("CI"):
        print("terraform is not installed: install it before make lint, since CI checks everything")
        return 1
    print("terraform is not installed: the format of terraform/ was not checked; CI checks it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
