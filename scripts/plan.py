"""Plan an environment's infrastructure without changing it, and tell the plan on the job's page.

python3 -m scripts.plan dev --output plan.txt    for a pull request: what the code would change; that is no failure
python3 -m scripts.plan prod --drift             for the nightly look: a difference is a failure

Standard library only.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from scripts import job_summary

ROOT = Path(__file__).resolve().parent.parent
SAME, DIFFERS = 0, 2  # terraform plan -detailed-exitcode
_SUMMARY_CHARACTERS = 200_000  # GitHub takes a MiB of summary


def plan(environment: str, *, drift: bool) -> tuple[int, str]:
    """Run the plan, shown as it comes; gives terraform's exit status and what it wrote.

    Only a look at drift compares with what is there. Else code is compared with the state, so that what a pull request
    runs needs no token and may read no resource and no secret.
    """
    command = [sys.executable, "scripts/infrastructure.py", "plan", environment]
    # No lock: this reads only, and must neither wait for a deploy nor need the right to write the lock.
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
    """Plan and tell; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("environment", choices=["dev", "prod"])
    parser.add_argument("--output", type=Path, help="a file for what terraform wrote")
    parser.add_argument("--drift", action="store_true", help="fail when the infrastructure is not what the code says")
    arguments = parser.parse_args()
    status, text = plan(arguments.environment, drift=arguments.drift)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    told = {SAME: "no difference", DIFFERS: "differs from the code"}.get(status, "could not be planned")
    job_summary.add(f"## {arguments.environment}: {told}\n\n{job_summary.block(text[-_SUMMARY_CHARACTERS:])}")
    if status not in (SAME, DIFFERS):
        print(f"::error title=Plan of {arguments.environment} failed::Terraform ended with status {status}, see above.")
        return 1
    if arguments.drift and status == DIFFERS:
        print(
            f"::error title={arguments.environment} drifted::Its infrastructure is not what main says (plan above). "
            "If somebody changed it by hand, write that into terraform/ or let the workflow deploy undo it; "
            "if a deploy was rejected or failed, run it again."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
