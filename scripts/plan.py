"""Plan an environment's infrastructure without changing it, and show the plan on the job's summary page.

python3 -m scripts.plan dev --output plan.txt    for a pull request: shows what it changes; a difference is no failure
python3 -m scripts.plan prod --drift             for the nightly check: a difference is a failure

Standard library only.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from scripts import job_summary

ROOT = Path(__file__).resolve().parent.parent
SAME, DIFFERS = 0, 2  # terraform plan -detailed-exitcode
_SUMMARY_CHARACTERS = 200_000  # GitHub accepts 1 MiB per summary


def plan(environment: str, *, drift: bool) -> tuple[int, str]:
    """Run the plan and print its output at once; returns Terraform's exit status and output.

    Only the drift check compares the code with the real resources. A pull request compares it with the state, so its
    job needs no token and no right to read resources or secrets.
    """
    command = [sys.executable, "scripts/infrastructure.py", "plan", environment]
    # No lock: a plan only reads. It must not wait for a deploy, nor need the right to write the lock.
    options = ["-lock=false", "-no-color", "-input=false", "-detailed-exitcode"]
    if not drift:
        options.append("-refresh=false")
    text = ""
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            text += line
    return process.returncode, text


def main() -> int:
    """Plan and report; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("environment", choices=["dev", "prod"])
    parser.add_argument("--output", type=Path, help="a file for Terraform's output")
    parser.add_argument("--drift", action="store_true", help="fail when the infrastructure differs from the code")
    arguments = parser.parse_args()
    status, text = plan(arguments.environment, drift=arguments.drift)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    outcome = {SAME: "no difference", DIFFERS: "differs from the code"}.get(status, "could not be planned")
    job_summary.add(f"## {arguments.environment}: {outcome}\n\n{job_summary.block(text[-_SUMMARY_CHARACTERS:])}")
    if status not in (SAME, DIFFERS):
        print(f"::error title=Plan of {arguments.environment} failed::Terraform ended with status {status}, see above.")
        return 1
    if arguments.drift and status == DIFFERS:
        print(
            f"::error title={arguments.environment} drifted::Its infrastructure differs from main (see above). "
            "If somebody changed it by hand, add the change to terraform/ or let the workflow `deploy` revert it; "
            "if a deploy was rejected or failed, run it again."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
