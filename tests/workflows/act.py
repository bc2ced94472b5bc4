"""Workflows run by act in a copy of this checkout, on this machine: no GitHub, no Docker, no other action's code.

Every `run:` step is run as it is written. Every action is replaced by a stand-in that records its inputs and does the
part of it that later steps need. What it does not show: permissions, OIDC, environments, concurrency, runners.
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
INSIDE = "AIRLOCK_INSIDE_ACT"  # set where act runs the tests: they must not run act again
CONTRACT: dict[str, list[str]] = yaml.safe_load((ROOT / "tests/workflows/actions.yaml").read_text())
REPOSITORY, FORK = "acme/airlock", "somebody/airlock"
SECRET = "token-that-nobody-may-read"
# Where each program's stand-in is: on the PATH; on it once a job has credentials, so that a job without them gets the
# real one; in the archive that is downloaded and checked.
PLACES = {"gh": "bin", "curl": "bin", "terraform": "cloud", "astro": "tools"}


@dataclass(frozen=True)
class Ran:
    """What a workflow's run came to."""

    status: int
    text: str
    steps: dict[str, dict[str, str]]
    """`success` or `failure` of each step that ran, by job and name."""
    calls: list[list[str]]
    """Programs and actions that were called, and requests to Airflow, in order."""
    stand_ins: Path

    def artifact(self, name: str) -> Path:
        """Give the folder of what was uploaded under a name."""
        return self.stand_ins / "artifacts" / name


def copy(folder: Path) -> Path:
    """Make a clone with the checkout's files as they are now, committed."""
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
    commit(clone, "the checkout as it is")
    return clone


def commit(clone: Path, message: str) -> str:
    """Commit everything; gives the commit."""
    git(clone, "add", "--all")
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
    git(clone, *identity, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", message)
    return git(clone, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; gives its output."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


class Act:
    """act, with stand-ins of its own for actions and programs."""

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
        """Let calls fail whose beginning matches."""
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
    ) -> Ran:
        """Run a workflow, or one job and what it needs, with an event."""
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        (self.folder / "calls.jsonl").touch()
        event_file = self.folder / "event.json"
        event_file.write_text(json.dumps({"repository": {"full_name": REPOSITORY}, **payload}))
        # GITHUB_*: where this itself runs in a workflow, it must not take that one's for its own.
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "ACTIONS_", "RUNNER_", "PYTEST_"))}
        # Where Terraform finds its providers on this machine is the machine's business, not the workflow's.
        mirror = {name: outer[name] for name in ("TF_CLI_CONFIG_FILE",) if name in outer}
        # act gives steps a terminal of 24 lines, in which progress bars write over what was said; GitHub gives none.
        given = {INSIDE: "1", "TERM": "dumb", **mirror, **(env or {})}
        words = [
            str(Path(sys.executable).parent / "act"), event, "--workflows", f".github/workflows/{workflow}",
            "--eventpath", str(event_file), "--platform", "ubuntu-24.04=-self-hosted", "--no-cache-server",
            "--action-offline-mode", "--concurrent-jobs", "1", "--json",
            *(["--job", job] if job else []),
            *(["--matrix", matrix] if matrix else []),
            *(word for name, value in (variables or {}).items() for word in ("--var", f"{name}={value}")),
            *(["--secret", f"ASTRO_API_TOKEN={SECRET}"] if secrets else []),
            "--secret", "GITHUB_TOKEN=github-token-of-the-run",
            *(word for name, value in given.items() for word in ("--env", f"{name}={value}")),
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
        """Give the calls so far."""
        return [json.loads(line)["call"] for line in (self.folder / "calls.jsonl").read_text().splitlines()]

    def _ran(self, done: subprocess.CompletedProcess[str]) -> Ran:
        steps: dict[str, dict[str, str]] = {}
        said = []
        for line in done.stdout.splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                said.append(line)
                continue
            said.append(told.get("msg", "").rstrip("\n"))
            if told.get("stepResult") and told.get("stage") == "Main":
                steps.setdefault(told["jobID"], {})[told["step"]] = told["stepResult"]
        return Ran(done.returncode, "\n".join([*said, done.stderr]), steps, self.calls(), self.folder)

    def _archive(self) -> str:
        script = f'#!/bin/sh\nexec "{self.folder}/tools/astro" "$@"\n'.encode()
        about = tarfile.TarInfo("astro")
        about.size, about.mode = len(script), 0o755
        archive = self.folder / "astro.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.addfile(about, io.BytesIO(script))
        return hashlib.sha256(archive.read_bytes()).hexdigest()

    def _actions(self, share_environment: bool) -> None:
        self._repositories = {}
        for ref, inputs in CONTRACT.items():
            name = ref.partition("@")[0]
            place = self.folder / "actions" / name
            place.mkdir(parents=True)
            env = {f"INPUT_{given.upper().replace('-', '_')}": f"${{{{ inputs.{given} }}}}" for given in inputs}
            step = {
                "shell": "bash",
                "run": f'"{sys.executable}" "{place / "action.py"}"',
                "env": {**env, "SHARE": "1" if share_environment else ""},
            }
            (place / "action.py").write_text((ROOT / "tests/workflows/stand_in_action.py").read_text())
            (place / "action.yml").write_text(
                yaml.safe_dump(
                    {
                        "name": name,
                        "description": "a stand-in",
                        "inputs": {given: {"description": given} for given in inputs},
                        "runs": {"using": "composite", "steps": [step]},
                    }
                )
            )
            (place / "place.json").write_text(
                json.dumps(
                    {
                        "action": name,
                        "folder": str(self.folder),
                        "root": str(ROOT),
                        "clone": str(self.clone),
                        "inputs": inputs,
                    }
                )
            )
            self._repositories[ref] = place
