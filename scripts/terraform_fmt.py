"""Tell whether the Terraform files are formatted: `python -m scripts.terraform_fmt`.

Terraform comes with no Python package, so a machine may do without it: then nothing is checked, and said so. CI has it.
"""

import os
import shutil
import subprocess
import sys

from scripts.infrastructure import environ


def main() -> int:
    """Run terraform fmt and give its exit status."""
    terraform = shutil.which("terraform")
    if terraform:
        command = [terraform, "fmt", "-check", "-recursive", "-diff", "terraform"]
        return subprocess.run(command, env=environ(), check=False).returncode
    if os.environ.get("CI"):
        print("terraform is not installed: install it before make lint, since CI checks everything")
        return 1
    print("terraform is not installed: the format of terraform/ was not checked, CI will")
    return 0


if __name__ == "__main__":
    sys.exit(main())
