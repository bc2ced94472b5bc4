"""Run workflows with act in a copy of this checkout, on this machine, without GitHub, Docker or the code of actions.

Every `run:` step runs unchanged. A stand-in replaces every action: it records its inputs and does what later steps
need. This does not test permissions, OIDC, environments, concurrency or runners.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "AIRLOCK_INSIDE_ACT"  # set when act runs the tests, which then must not run act again
CONTRACT: dict[str, list[str]] = yaml.safe_load((ROOT / "tests/workflows/actions.yaml").read_text())
REPOSITORY, FORK = "acme/airlock", "somebody/airlock"
SECRET = "token-that-nobody-may-read"
# The folder of each program's stand-in. `bin` is on the PATH. `cloud` is added to it when a job has credentials, so a
# job without them gets the real program. The archive that a job downloads uses `tools`.
PLACES = {"gh": "bin", "curl": "bin", "terraform": "cloud", "astro": "tools"}


@dataclass(frozen=True)
class WorkflowRun:
    """The result of a workflow run."""

    status: int
    text: str
    steps: dict[str, dict[str, str]]
    """`success` or `failure` of each step that run, by job and name."""
    calls: list[list[str]]
    """The calls of programs and actions, and the requests to Airflow, in order."""
    stand_ins: Path

    def artifact(self, name: str) -> Path:
        """Return the folder with the artifact of a name."""
        return self.stand_ins / "artifacts" / name


def copy(folder: Path) -> Path:
    """Make a clone with the current files of the checkout, committed."""
    clone = folder / "clone"
    git(folder, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for path in filter(None, listed):
        source, target = ROOT / path, clone / path
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        else:
            target.unlink(missing_ok=True)
    git(clone, "checkout", "--quiet", "-B", "main")
    git(clone, "remote", "set-url", "origin", f"https://github.com/{REPOSITORY}.git")
    commit(clone, "the files of the checkout")
    return clone


def commit(clone: Path, message: str) -> str:
    """Commit everything and return the commit."""
    git(clone, "add", "--all")
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
    git(clone, *identity, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", message)
    return git(clone, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return its output."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


class Act:
    """act with stand-ins for actions and programs."""

    def __init__(self, folder: Path, clone: Path, *, share_environment: bool = True) -> None:
        self.folder, self.clone = folder / "stand-ins", clone
        for place in PLACES.values():
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, str] = {}
        program = f"#!{sys.executable}\n" + (ROOT / "tests/workflows/stand_in.py").read_text()
        for tool, place in PLACES.items():
            (self.folder / place / tool).write_text(program)
            (self.folder / place / tool).chmod(0o755)
        self.astro_sha256 = self._archive()
        self._actions(share_environment)

    def tool(self, name: str) -> None:
        """Put a stand-in of one more program on the PATH."""
        shutil.copy(self.folder / "bin" / "gh", self.folder / "bin" / name)

    def fail(self, pattern: str) -> None:
        """Make calls fail whose beginning matches the pattern."""
        (self.folder / "fail").write_text(pattern)

    def run(
        self,
        workflow: str,
        event: str,
        payload: dict[str, Any],
        *,
        job: str | None = None,
        variables: dict[str, str] | None = None,
        secrets: bool = True,
        env: dict[str, str] | None = None,
        matrix: str | None = None,
        timeout: float = 1800,
    ) -> WorkflowRun:
        """Run a workflow, or one job and the jobs that it needs, with an event."""
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        (self.folder / "calls.jsonl").touch()
        event_file = self.folder / "event.json"
        event_file.write_text(json.dumps({"repository": {"full_name": REPOSITORY}, **payload}))
        # Without GITHUB_* and so on: act must not use the variables of a workflow that runs these tests.
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "ACTIONS_", "RUNNER_", "PYTEST_"))}
        # The place of the Terraform providers depends on this machine, not on the workflow.
        mirror = {name: outer[name] for name in ("TF_CLI_CONFIG_FILE",) if name in outer}
        # act gives steps a terminal of 24 lines, in which progress bars overwrite the output. GitHub gives no terminal.
        variables_of_steps = {INSIDE: "1", "TERM": "dumb", **mirror, **(env or {})}
        words = [
            str(Path(sys.executable).parent / "act"), event, "--workflows", f".github/workflows/{workflow}",
            "--eventpath", str(event_file), "--platform", "ubuntu-24.04=-self-hosted", "--no-cache-server",
            "--action-offline-mode", "--concurrent-jobs", "1", "--json",
            *(["--job", job] if job else []),
            *(["--matrix", matrix] if matrix else []),
            *(word for name, value in (variables or {}).items() for word in ("--var", f"{name}={value}")),
            *(["--secret", f"ASTRO_API_TOKEN={SECRET}"] if secrets else []),
            "--secret", "GITHUB_TOKEN=github-token-of-the-run",
            *(word for name, value in variables_of_steps.items() for word in ("--env", f"{name}={value}")),
            *(word for ref, place in self._repositories.items() for word in ("--local-repository", f"{ref}={place}")),
        ]  # fmt: skip
        done = subprocess.run(
            words,
            cwd=self.clone,
            env={
                **outer,
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "XDG_CACHE_HOME": str(self.folder / "cache"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        return self._ran(done)

    def calls(self) -> list[list[str]]:
        """Return the calls so far."""
        return [json.loads(line)["call"] for line in (self.folder / "calls.jsonl").read_text().splitlines()]

    def _ran(self, done: subprocess.CompletedProcess[str]) -> WorkflowRun:
        steps: dict[str, dict[str, str]] = {}
        lines = []
        for line in done.stdout.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                lines.append(line)
                continue
            lines.append(entry.get("msg", "").rstrip("\n"))
            if entry.get("stepResult") and entry.get("stage") == "Main":
                steps.setdefault(entry["jobID"], {})[entry["step"]] = entry["stepResult"]
        return WorkflowRun(done.returncode, "\n".join([*lines, done.stderr]), steps, self.calls(), self.folder)

    def _archive(self) -> str:
        script = f'#!/bin/sh\nexec "{self.folder}/tools/astro" "$@"\n'.encode()
        entry = tarfile.TarInfo("astro")
        entry.size, entry.mode = len(script), 0o755
        archive = self.folder / "astro.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.addfile(entry, io.BytesIO(script))
        return hashlib.sha256(archive.read_bytes()).hexdigest()

    def _actions(self, share_environment: bool) -> None:
        self._repositories = {}
        for ref, inputs in CONTRACT.items():
            action = ref.partition("@")[0]
            place = self.folder / "actions" / action
            place.mkdir(parents=True)
            env = {f"INPUT_{name.upper().replace('-', '_')}": f"${{{{ inputs.{name} }}}}" for name in inputs}
            step = {
                "shell": "bash",
                "run": f'"{sys.executable}" "{place / "action.py"}"',
                "env": {**env, "SHARE": "1" if share_environment else ""},
            }
            (place / "action.py").write_text((ROOT / "tests/workflows/stand_in_action.py").read_text())
            (place / "action.yml").write_text(
                yaml.safe_dump(
                    {
                        "name": action,
                        "description": "a stand-in",
                        "inputs": {name: {"description": name} for name in inputs},
                        "runs": {"using": "composite", "steps": [step]},
                    }
                )
            )
            (place / "place.json").write_text(
                json.dumps(
                    {
                        "action": action,
                        "folder": str(self.folder),
                        "root": str(ROOT),
                        "clone": str(self.clone),
                        "inputs": inputs,
                    }
                )
            )
            self._repositories[ref] = place
