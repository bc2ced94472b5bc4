"""Decide what a change has to deploy: its image, its DAGs only, or nothing.

python3 -m scripts.deploy_mode COMMIT    for the changes since the last commit whose deploy workflow succeeded

Prints the decision and the files that led to it, and writes `deploy=true` or `deploy=false` for the workflow.
Standard library only: it runs before anything is installed.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = "deploy.yml"
# The files of the image: those that .dockerignore allows, and those that define the build. A test compares the two.
IMAGE = (
    ".astro",
    ".dockerignore",
    "Dockerfile",
    "great_expectations",
    "include",
    "packages.txt",
    "plugins",
    "requirements.txt",
)
DAGS = ("dags",)
INFRASTRUCTURE = ("terraform", "scripts/infrastructure.py")
_LISTED = 10  # file names in the reason


class Mode(StrEnum):
    """How the code is deployed."""

    NOTHING = "nothing"
    DAGS = "dags"
    IMAGE = "image"


@dataclass(frozen=True)
class Decision:
    """What to deploy, and why."""

    mode: Mode
    why: str
    infrastructure: bool
    """Whether Terraform has something to apply."""

    @property
    def deploys(self) -> bool:
        """Return whether there is anything to deploy."""
        return self.infrastructure or self.mode is not Mode.NOTHING


def decide(repository: Path, before: str | None, after: str) -> Decision:
    """Compare a commit with the deployed one; `before` is None when the deployed commit is unknown."""
    if not before:
        return Decision(Mode.IMAGE, "it is not known which commit is deployed", infrastructure=True)
    if not is_ancestor(repository, before, after):
        why = f"the deployed commit {before} is not in the history of {after}"
        return Decision(Mode.IMAGE, why, infrastructure=True)
    # Without renames: a file that moves out of the image has to count as a change of the image.
    diff = _git(repository, "diff", "--name-only", "--no-renames", "-z", before, after, "--").stdout
    changed = [path for path in diff.split("\0") if path and not path.endswith(".md")]
    image, dags, infrastructure = (_within(changed, kind) for kind in (IMAGE, DAGS, INFRASTRUCTURE))
    mode = Mode.IMAGE if image else Mode.DAGS if dags else Mode.NOTHING
    parts = [("of the image", image), ("DAGs", dags), ("of the infrastructure", infrastructure)]
    listed = "; ".join(f"{part}: {_list(paths)}" for part, paths in parts if paths)
    return Decision(mode, f"since {before[:12]} changed {listed or 'nothing that is deployed'}", bool(infrastructure))


def last_deployed(repository: str) -> str | None:
    """Return the last commit of main whose deploy workflow succeeded, from GitHub, or None.

    The commit before this push is not enough: its deploy may have failed, or this one replaced it in the queue.
    """
    runs = f"repos/{repository}/actions/workflows/{WORKFLOW}/runs?branch=main&status=success&per_page=1"
    command = ["gh", "api", runs, "--jq", ".workflow_runs[0].head_sha // empty"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() or None


def is_ancestor(repository: Path, before: str, after: str) -> bool:
    """Return whether a commit is another one or in its history; False when git does not know one of them."""
    return _git(repository, "merge-base", "--is-ancestor", before, after, check=False).returncode == 0


def _within(paths: list[str], places: tuple[str, ...]) -> list[str]:
    return [path for path in paths if any(path == place or path.startswith(f"{place}/") for place in places)]


def _list(paths: list[str]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return ", ".join(path.encode("unicode_escape").decode() for path in paths[:_LISTED]) + more


def _git(repository: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=repository, check=check, capture_output=True, text=True)


def main() -> int:
    """Decide for a workflow; returns the exit status."""
    if os.environ.get("GITHUB_EVENT_NAME") == "workflow_dispatch":
        decision = Decision(Mode.IMAGE, "it was started by hand", infrastructure=True)
    else:
        try:
            before = last_deployed(os.environ["GITHUB_REPOSITORY"])
        except subprocess.CalledProcessError as error:
            print(f"GitHub did not return the last deploy: {error.stderr.strip()}", file=sys.stderr)
            return 1
        decision = decide(ROOT, before, sys.argv[1])
    print(f"Deploys {'something' if decision.deploys else 'nothing'}: {decision.why}")
    if output := os.environ.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as file:
            file.write(f"deploy={str(decision.deploys).lower()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
