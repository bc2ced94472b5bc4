"""Deploy a commit to one environment, step by step, and stop at the first step that fails.

python -m scripts.deploy dev COMMIT               the infrastructure, then what changed since the last deploy
python -m scripts.deploy prod COMMIT --rollback   the code of an earlier commit as an image, nothing else

At the end each DAG with the tag `smoke` is run once. When a step fails, its name is reported, with how to roll back.

The deployed commit is stored in the deployment itself, in the Airflow variable `airlock_deployed_commit`. From the
first change to the last check its value begins with a question mark. So after a deploy that failed half way the next
one deploys everything, and an older commit never replaces a newer one by accident.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from rich.console import Console

from scripts import job_summary, smoke_run
from scripts.airflow_api import AirflowApi, AirflowApiError
from scripts.deploy_mode import ROOT, Decision, Mode, decide, is_ancestor

OUTPUTS = ("workspace_id", "deployment_id", "deployment_url")
DEPLOYED = "airlock_deployed_commit"
_UNFINISHED = "?"  # prefix of a commit whose deploy has not reached its end
MIGRATIONS = "warehouse_migrations"
# What `astro deploy` prints after it has deployed: sometimes it ends with status 0 without deploying anything.
_DEPLOYED_MESSAGES = {Mode.IMAGE: "Successfully pushed image", Mode.DAGS: "Successfully uploaded DAGs"}
_READ_SECONDS = 15 * 60


class StepFailed(Exception):
    """Raised when a step fails; the text says why."""


@dataclass
class Deploy:
    """One deploy; its steps are its methods."""

    environment: str
    commit: str
    rollback: bool
    token: str
    console: Console
    decision: Decision | None = None
    before: str | None = None
    """The commit that was deployed before this deploy, if it is known."""
    outputs: dict[str, str] = field(default_factory=dict)
    reachable: bool = False
    """Whether Airflow answered before anything was deployed."""
    parsed_before: dict[str, str | None] = field(default_factory=dict)
    """When each DAG was last parsed before the new image started to parse."""
    smoke_dags: list[str] = field(default_factory=list)
    pause: float = 5
    patience: float = 300

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield the steps in order; the later ones depend on what the earlier ones find."""
        yield "settings", self.check_settings
        yield "terraform init", self.initialise
        yield "terraform output", lambda: self.read_outputs(may_be_none=not self.rollback)
        if self.outputs:
            yield "wake up", self.wake_up
            yield "read deployed commit", self.read_deployed_commit
        if not self.rollback:
            yield "terraform apply", self.apply
            yield "terraform output", self.read_outputs
        yield "decide", self.decide
        assert self.decision  # noqa: S101 - set by the step before
        if self.decision.mode is Mode.NOTHING and not self.decision.infrastructure:
            return
        if self.decision.mode is not Mode.NOTHING:
            if self.reachable:
                yield "mark as unfinished", self.mark_unfinished
            yield "astro deploy", self.astro_deploy
            yield "wait for Airflow", self.await_airflow
            if not self.reachable:
                yield "mark as unfinished", self.mark_unfinished
            yield "wait for the new DAGs", self.await_dags
            if not self.rollback:  # an older commit does not have the newer migrations, which only expand the schema
                yield MIGRATIONS, lambda: self.smoke(MIGRATIONS)
        yield "list the smoke runs", self.list_smoke_runs
        for dag_id in self.smoke_dags:
            yield dag_id, partial(self.smoke, dag_id)
        yield "store deployed commit", self.store_deployed_commit

    def check_settings(self) -> None:
        """Refuse a deploy that cannot succeed."""
        if not self.token:
            raise StepFailed(f"The GitHub environment {self.environment} has no secret ASTRO_API_TOKEN: add it.")
        try:
            self.commit = _run("git", "rev-parse", "--verify", "--end-of-options", f"{self.commit}^{{commit}}").strip()
        except StepFailed:
            raise StepFailed(f"git knows no commit {self.commit!r}: use the SHA of a commit of main.") from None
        if not is_ancestor(ROOT, self.commit, "HEAD"):
            raise StepFailed(f"{self.commit} is not in the history of main: only reviewed commits are deployed.")

    def apply(self) -> None:
        """Apply the Terraform code to the infrastructure."""
        _run(
            sys.executable, "scripts/infrastructure.py", "apply", self.environment,
            "-auto-approve", "-input=false", "-no-color", show=True,
        )  # fmt: skip

    def initialise(self) -> None:
        """Initialise Terraform, so that it can read its state."""
        _run("terraform", self._folder, "init", "-input=false", "-no-color", "-backend-config=backend.hcl", show=True)

    def read_outputs(self, *, may_be_none: bool = False) -> None:
        """Read the deployment's id and Airflow's address from Terraform; before the first apply there are none."""
        outputs = json.loads(_run("terraform", self._folder, "output", "-json") or "{}")
        self.outputs = {name: outputs[name]["value"] for name in OUTPUTS if name in outputs}
        self.__dict__.pop("airflow", None)  # its address may have changed
        if missing := [name for name in OUTPUTS if not self.outputs.get(name)]:
            self.outputs = {}
            if not may_be_none:
                raise StepFailed(f"Terraform has no output {', '.join(missing)}: was {self.environment} ever applied?")

    def wake_up(self) -> None:
        """Wake up a deployment that hibernates: without this the deploy succeeds, but Airflow does not answer."""
        if self._inspect("metadata.status") == "HIBERNATING":
            _run("astro", "deployment", "wake-up", *self._deployment, "--for", "2h", "--force", show=True)
            self.patience = smoke_run.REACHED_SECONDS

    def read_deployed_commit(self) -> None:
        """Read which commit is deployed; refuse an older commit that is not a rollback, or cannot be rolled back to."""
        try:
            smoke_run.reach(self.airflow, self.patience, self.pause)
            stored = self.airflow.variable(DEPLOYED) or ""
        except smoke_run.Unreachable as error:
            # The deployed code may be so broken that Airflow does not start: a better commit must still be deployable.
            self.console.print(str(error), markup=False, soft_wrap=True)
            return
        self.reachable = True
        self.before = stored if stored and not stored.startswith(_UNFINISHED) else None
        deployed = stored.removeprefix(_UNFINISHED)
        if not self.rollback and deployed != self.commit and is_ancestor(ROOT, self.commit, deployed):
            raise StepFailed(
                f"{self.environment} already runs the newer {deployed}: to deploy main there, start the workflow "
                "`deploy` by hand; to go back on purpose, start `rollback`."
            )
        if self.rollback and _runtime(self.commit) != _runtime(deployed or "HEAD"):
            raise StepFailed(
                f"{self.commit} has another Astro Runtime in its Dockerfile ({_runtime(self.commit)}), and Astro does "
                "not deploy an older one: go back on the deployment's page on Astro, Deploy History."
            )

    def decide(self) -> None:
        """Decide what is deployed, from the changes since the deployed commit."""
        if self.rollback:
            self.decision = Decision(Mode.IMAGE, "a rollback deploys everything", infrastructure=False)
        else:
            self.decision = decide(ROOT, self.before, self.commit)
        self.console.print(f"Deploys {self.decision.mode}: {self.decision.why}", markup=False, soft_wrap=True)
        job_summary.add(f"Deploys **{self.decision.mode}**: {self.decision.why}")

    def mark_unfinished(self) -> None:
        """Store that from here on it is unknown what runs, and that it may be this commit."""
        self.airflow.set_variable(DEPLOYED, _UNFINISHED + self.commit)

    def store_deployed_commit(self) -> None:
        """Store which commit is deployed."""
        self.airflow.set_variable(DEPLOYED, self.commit)

    def astro_deploy(self) -> None:
        """Deploy the commit from a clean work tree of its own, and wait until the deployment is healthy."""
        assert self.decision  # noqa: S101
        mode = self.decision.mode
        tag = self._inspect("metadata.current_tag")
        with _tree(self.commit) as tree:
            # --force: without it, uncommitted changes make the command ask, or end with status 0 and deploy nothing.
            output = _run(
                "astro", "deploy", *self._deployment, *(["--dags"] if mode is Mode.DAGS else []),
                "--force", "--wait", "--wait-time", "20m", "--description", self.commit, cwd=tree, show=True,
            )  # fmt: skip
        if _DEPLOYED_MESSAGES[mode] not in output:
            raise StepFailed("astro deploy ended with status 0, but did not say that it deployed (see above).")
        if mode is Mode.IMAGE and self._inspect("metadata.current_tag") == tag:
            raise StepFailed(f"The deployment still runs the image {tag}: see its page on Astro, Deploy History.")

    def await_airflow(self) -> None:
        """Wait until Airflow answers: a new image restarts all its parts."""
        smoke_run.reach(self.airflow, smoke_run.REACHED_SECONDS, self.pause)
        if self.decision and self.decision.mode is Mode.IMAGE:
            self.parsed_before = {dag.dag_id: dag.parsed_at for dag in self.airflow.dags()}

    def await_dags(self) -> None:
        """Wait until Airflow has read the commit's DAG files: an earlier run would be a run of the old DAGs."""
        paths = _run("git", "ls-tree", "--name-only", "-z", self.commit, "dags/").split("\0")
        texts = {
            Path(path).name: _run("git", "show", f"{self.commit}:{path}") for path in paths if path.endswith(".py")
        }
        deadline = time.monotonic() + _READ_SECONDS
        while True:
            dags = self.airflow.dags()
            known = {dag.file: dag.dag_id for dag in dags}
            unread = {name for name, text in texts.items() if name not in known or not self._reads(known[name], text)}
            # A file can define its DAGs from include/: with a new image they change, and the text of the file does not.
            unread |= {dag.file for dag in dags if self.parsed_before.get(dag.dag_id, "") == dag.parsed_at}
            if not unread:
                return
            if time.monotonic() > deadline:
                files, errors = ", ".join(sorted(unread)), "\n".join(self.airflow.import_errors())
                raise StepFailed(f"Airflow has not read the new {files} after 15 min.\n{errors}".strip())
            time.sleep(self.pause)

    def list_smoke_runs(self) -> None:
        """List the DAGs with the tag `smoke`."""
        self.smoke_dags = smoke_run.tagged(self.airflow, self.console)

    def smoke(self, dag_id: str) -> None:
        """Run a DAG to its end, with its default params."""
        smoke_run.run(self.airflow, self.console, dag_id)

    @cached_property
    def airflow(self) -> AirflowApi:
        """Return a client of the deployment's Airflow."""
        return smoke_run.client(self.outputs["deployment_url"], self.token, self.patience)

    @property
    def _deployment(self) -> list[str]:
        # An organisation token names no workspace; without one `astro deploy` ends with status 0 and deploys nothing.
        return [self.outputs["deployment_id"], "--workspace-id", self.outputs["workspace_id"]]

    @property
    def _folder(self) -> str:
        return f"-chdir=terraform/environments/{self.environment}"

    def _reads(self, dag_id: str, text: str) -> bool:
        return self.airflow.source(dag_id).strip() == text.strip()

    def _inspect(self, key: str) -> str:
        return _run("astro", "deployment", "inspect", *self._deployment, "--key", key).strip()


def recovery(deploy: Deploy, step: str) -> str:
    """Return what a failed step left behind, and how to roll back."""
    if step in ("settings", "terraform init", "terraform output", "wake up", "read deployed commit", "decide"):
        return "No code was deployed: correct what the message says, and run this again."
    if step == "terraform apply":
        return (
            "No code was deployed, but a part of the plan may be applied: see its output. Correct terraform/ in a pull "
            "request; to go back, revert the commit that changed it."
        )
    earlier = deploy.before or "a commit that worked (see the workflow's earlier runs)"
    return (
        f"The new code may be running on {deploy.environment}, and later environments have the old one. To roll back: "
        f"run the workflow `rollback` with environment {deploy.environment} and commit {earlier}. If wrong data was "
        "published: trigger the DAG `publication_rollback` in Airflow."
    )


def carry_out(deploy: Deploy) -> int:
    """Run the steps in order until one fails; returns the exit status."""
    action = "Roll back" if deploy.rollback else "Deploy"
    job_summary.add(f"## {action} {deploy.environment} to `{deploy.commit}`")
    for step, function in deploy.steps():
        deploy.console.print(f"\n── {deploy.environment}: {step}", markup=False)
        try:
            function()
        except (StepFailed, smoke_run.SmokeFailed, AirflowApiError, requests.RequestException) as error:
            advice = recovery(deploy, step)
            deploy.console.print(f"\n{error}\n\n{advice}", markup=False, soft_wrap=True)
            print(f"::error title={deploy.environment}: {step} failed::{_one_line(f'{error} {advice}')}")
            job_summary.add(f"**The step _{step}_ failed.** {advice}\n\n{job_summary.block(str(error))}")
            return 1
        except KeyboardInterrupt:
            advice = recovery(deploy, step)
            deploy.console.print(f"\nInterrupted.\n\n{advice}", markup=False, soft_wrap=True)
            job_summary.add(f"**Interrupted at _{step}_.** {advice}")
            return 130
    return 0


def _runtime(commit: str) -> str:
    """Return the Astro Runtime that the image of a commit is built on."""
    lines = _run("git", "show", f"{commit}:Dockerfile").splitlines()
    return next((line.removeprefix("FROM ") for line in lines if line.startswith("FROM ")), "")


def _one_line(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


@contextmanager
def _tree(commit: str) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "airlock"
        _run("git", "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _run("git", "worktree", "remove", "--force", str(tree))


def _run(*command: str, cwd: Path | None = None, show: bool = False) -> str:
    """Run a command and return its output; with `show` the output is also printed at once. Raises StepFailed."""
    output = ""
    try:
        with subprocess.Popen(
            command, cwd=cwd or ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if show else None, text=True
        ) as process:
            try:
                for line in process.stdout or ():
                    output += line
                    if show:
                        print(line, end="", flush=True)
            except KeyboardInterrupt:
                # On SIGINT Terraform finishes the current resource, writes its state and unlocks it.
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
    except OSError as error:
        raise StepFailed(f"{command[0]} cannot be run: {error}") from None
    if process.returncode:
        raise StepFailed(f"{' '.join(command[:3])} ended with status {process.returncode} (see above).")
    return output


def main() -> int:
    """Deploy; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled job still cleans up
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("environment", choices=["dev", "prod"])
    parser.add_argument("commit")
    parser.add_argument("--rollback", action="store_true")
    arguments = parser.parse_args()
    return carry_out(
        Deploy(
            arguments.environment,
            arguments.commit,
            arguments.rollback,
            token=os.environ.get("ASTRO_API_TOKEN", ""),
            console=Console(highlight=False, width=120),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
