"""Deploy a commit to one environment, step by step, and stop at the first step that fails.

python -m scripts.deploy dev COMMIT               the infrastructure, then what changed since the last deploy
python -m scripts.deploy prod COMMIT --rollback   the code of an earlier commit as an image, nothing else

A step that fails is named, with how to go back. What is deployed is remembered where it runs: in the Airflow variable
`airlock_deployed_commit`, which is emptied before the first change and set after the last check. So after a deploy
that failed half way the next one deploys everything.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from rich.console import Console

from scripts import job_summary, smoke_run
from scripts.airflow_api import AirflowApi, AirflowApiError
from scripts.deploy_mode import ROOT, Decision, Mode, decide

OUTPUTS = ("workspace_id", "deployment_id", "deployment_url")
DEPLOYED = "airlock_deployed_commit"
MIGRATIONS, MARKET, VIEWS = "warehouse_migrations", "market_etl__taskflow_api", "daily_operations_view_update"
# What `astro deploy` says once it has deployed: in some cases it ends with status 0 and has not.
_DEPLOYED_WORDS = {Mode.IMAGE: "Successfully pushed image", Mode.DAGS: "Successfully uploaded DAGs"}
_READ_SECONDS = 15 * 60


class StepFailed(Exception):
    """A step did not succeed; the text says why."""


@dataclass
class Deploy:
    """One deploy; its steps are its methods."""

    environment: str
    commit: str
    rollback: bool
    views_fed: bool
    token: str
    console: Console
    decision: Decision | None = None
    before: str | None = None
    """The commit that ran before, when it is known."""
    outputs: dict[str, str] = field(default_factory=dict)
    reachable: bool = True
    """Whether Airflow answered before anything was deployed."""
    pause: float = 5
    patience: float = 300

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Give the steps in order; which ones come last depends on what is decided on the way."""
        yield "settings", self.check_settings
        if self.rollback:
            yield "terraform init", self.read_only
        else:
            yield "terraform apply", self.apply
        yield "terraform output", self.read_outputs
        yield "wake up", self.wake_up
        yield "decide", self.decide
        assert self.decision  # noqa: S101 - decided by the step before
        if self.decision.mode is Mode.NOTHING:
            return
        if self.reachable:
            yield "forget what is deployed", self.forget
        yield "astro deploy", self.astro_deploy
        yield "wait for the new DAGs", self.await_dags
        if not self.reachable:
            yield "forget what is deployed", self.forget
        if not self.rollback:  # an older commit does not know the newer migrations, which only expand the schema
            yield MIGRATIONS, lambda: self.smoke(MIGRATIONS)
        yield MARKET, lambda: self.smoke(MARKET)
        if self.views_fed:
            yield VIEWS, lambda: self.smoke(VIEWS)
        yield "remember what is deployed", self.remember

    def check_settings(self) -> None:
        """Refuse to begin what cannot succeed."""
        if not self.token:
            raise StepFailed(f"The GitHub environment {self.environment} has no secret ASTRO_API_TOKEN: add it.")
        try:
            self.commit = _run("git", "rev-parse", "--verify", "--end-of-options", f"{self.commit}^{{commit}}").strip()
        except StepFailed:
            raise StepFailed(f"git knows no commit {self.commit!r}: write one of main, as its SHA.") from None
        if subprocess.run(
            ["git", "merge-base", "--is-ancestor", self.commit, "HEAD"],  # noqa: S607
            cwd=ROOT,
            check=False,
        ).returncode:
            raise StepFailed(f"{self.commit} is not in the history of main: only what was reviewed is deployed.")

    def apply(self) -> None:
        """Bring the infrastructure to what the code says."""
        _run(
            sys.executable, "scripts/infrastructure.py", "apply", self.environment,
            "-auto-approve", "-input=false", "-no-color", show=True,
        )  # fmt: skip

    def read_only(self) -> None:
        """Let Terraform read its state: going back must not wait for a plan that succeeds."""
        _run("terraform", self._folder, "init", "-input=false", "-no-color", "-backend-config=backend.hcl", show=True)

    def read_outputs(self) -> None:
        """Ask Terraform which deployment this is and where its Airflow is."""
        for name in OUTPUTS:
            self.outputs[name] = _run("terraform", self._folder, "output", "-raw", name).strip()
            if not self.outputs[name]:
                raise StepFailed(f"Terraform's output {name} is empty.")

    def wake_up(self) -> None:
        """Wake a deployment that hibernates: the deploy would succeed, and nothing answer afterwards."""
        if self._inspect("metadata.status") == "HIBERNATING":
            _run("astro", "deployment", "wake-up", *self._deployment, "--for", "2h", "--force", show=True)

    def decide(self) -> None:
        """Compare with what the deployment says runs on it."""
        try:
            smoke_run.reach(self.airflow, self.patience, self.pause)
            self.before = self.airflow.variable(DEPLOYED) or None
        except smoke_run.Unreachable as error:
            # What is deployed may be so broken that Airflow does not start: that is no reason not to deploy better.
            self.console.print(str(error), markup=False, soft_wrap=True)
            self.reachable = False
        if self.rollback:
            self.decision = Decision(Mode.IMAGE, "going back deploys everything", infrastructure=False)
        else:
            self.decision = decide(ROOT, self.before, self.commit)
        self.console.print(f"Deploys {self.decision.mode}: {self.decision.why}", markup=False, soft_wrap=True)
        job_summary.add(f"Deploys **{self.decision.mode}**: {self.decision.why}")

    def forget(self) -> None:
        """Write down that nobody knows which commit is deployed."""
        self.airflow.set_variable(DEPLOYED, "")

    def remember(self) -> None:
        """Write down which commit is deployed."""
        self.airflow.set_variable(DEPLOYED, self.commit)

    def astro_deploy(self) -> None:
        """Deploy the commit's tree, from a clean work tree of its own, and wait until the deployment is healthy."""
        assert self.decision  # noqa: S101
        mode = self.decision.mode
        tag = self._inspect("metadata.current_tag")
        with _tree(self.commit) as tree:
            # --force: no question, and no look for changes, which makes it end with status 0 and deploy nothing.
            said = _run(
                "astro", "deploy", *self._deployment, *(["--dags"] if mode is Mode.DAGS else []),
                "--force", "--wait", "--wait-time", "20m", "--description", self.commit, cwd=tree, show=True,
            )  # fmt: skip
        if _DEPLOYED_WORDS[mode] not in said:
            raise StepFailed("astro deploy ended well, but did not say that it deployed (see above).")
        if mode is Mode.IMAGE and self._inspect("metadata.current_tag") == tag:
            raise StepFailed(f"The deployment still runs the image {tag}: see its page on Astro, Deploy History.")

    def await_dags(self) -> None:
        """Wait until Airflow has read the commit's DAG files: a run before that would be of the old ones."""
        smoke_run.reach(self.airflow, _READ_SECONDS, self.pause)
        paths = _run("git", "ls-tree", "--name-only", "-z", self.commit, "dags/").split("\0")
        wanted = {
            Path(path).name: _run("git", "show", f"{self.commit}:{path}") for path in paths if path.endswith(".py")
        }
        deadline = time.monotonic() + _READ_SECONDS
        while True:
            known = self.airflow.dags_by_file()
            old = [name for name, text in wanted.items() if name not in known or not self._reads(known[name], text)]
            if not old:
                return
            if time.monotonic() > deadline:
                errors = "\n".join(self.airflow.import_errors())
                raise StepFailed(f"Airflow has not read the new {', '.join(old)} after 15 min.\n{errors}".strip())
            time.sleep(self.pause)

    def smoke(self, dag_id: str) -> None:
        """Run a DAG to its end."""
        smoke_run.run(self.airflow, self.console, dag_id)

    @cached_property
    def airflow(self) -> AirflowApi:
        """The deployment's Airflow."""
        return smoke_run.client(self.outputs["deployment_url"], self.token, self.patience)

    @property
    def _deployment(self) -> list[str]:
        # A token of the organization names no workspace; without one `astro deploy` ends well and deploys nothing.
        return [self.outputs["deployment_id"], "--workspace-id", self.outputs["workspace_id"]]

    @property
    def _folder(self) -> str:
        return f"-chdir=terraform/environments/{self.environment}"

    def _reads(self, dag_id: str, text: str) -> bool:
        return self.airflow.source(dag_id).strip() == text.strip()

    def _inspect(self, key: str) -> str:
        return _run("astro", "deployment", "inspect", *self._deployment, "--key", key).strip()


def go_back(deploy: Deploy, step: str) -> str:
    """Say what a failed step left behind, and how to go back."""
    if step in ("settings", "terraform init", "terraform output", "wake up", "decide"):
        return "No code was deployed: put right what it says, and run this again."
    if step == "terraform apply":
        return (
            "No code was deployed, but a part of the plan may be applied: see its output. Correct terraform/ in a pull "
            "request; to go back, revert the commit that changed it."
        )
    earlier = deploy.before or "a commit that worked (see the workflow's earlier runs)"
    return (
        f"The new code may be running on {deploy.environment}, and later environments have the old one. To go back: "
        f"run the workflow `rollback` with environment {deploy.environment} and commit {earlier}. If wrong data was "
        "published: trigger the DAG `publication_rollback` in Airflow."
    )


def carry_out(deploy: Deploy) -> int:
    """Do the steps in order until one fails; gives the exit status."""
    what = "Roll back" if deploy.rollback else "Deploy"
    job_summary.add(f"## {what} {deploy.environment} to `{deploy.commit}`")
    for step, do in deploy.steps():
        deploy.console.print(f"\n── {deploy.environment}: {step}", markup=False)
        try:
            do()
        except (StepFailed, smoke_run.SmokeFailed, AirflowApiError, requests.RequestException) as error:
            back = go_back(deploy, step)
            deploy.console.print(f"\n{error}\n\n{back}", markup=False, soft_wrap=True)
            print(f"::error title={deploy.environment}: {step} failed::{_one_line(f'{error} {back}')}")
            job_summary.add(f"**The step _{step}_ failed.** {back}\n\n{job_summary.block(str(error))}")
            return 1
    return 0


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


def _run(*command: str, cwd: Path = ROOT, show: bool = False) -> str:
    """Run a command; gives its output, which is also shown as it comes if asked for. Raises StepFailed."""
    said = ""
    try:
        with subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if show else None, text=True
        ) as process:
            for line in process.stdout or ():
                said += line
                if show:
                    print(line, end="", flush=True)
    except OSError as error:
        raise StepFailed(f"{command[0]} cannot be run: {error}") from None
    if process.returncode:
        raise StepFailed(f"{' '.join(command[:3])} ended with status {process.returncode} (see above).")
    return said


def main() -> int:
    """Deploy; gives the exit status."""
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
            views_fed=os.environ.get("VIEWS_SOURCE_TABLES_FED") == "true",
            token=os.environ.get("ASTRO_API_TOKEN", ""),
            console=Console(highlight=False, width=120),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
