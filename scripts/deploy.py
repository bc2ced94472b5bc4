"""Deploy a commit to one environment, step by step, and stop at the first step that fails.

python -m scripts.deploy dev COMMIT               the infrastructure, then what changed since the last deploy
python -m scripts.deploy prod COMMIT --rollback   the code of an earlier commit as an image, nothing else

A step that fails is named, with how to go back. What is deployed is remembered where it runs: in the Airflow variable
`airlock_deployed_commit`, which has a question mark before the commit from the first change to the last check. So
after a deploy that failed half way the next one deploys everything, and no older commit goes over a newer one unasked.
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
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from rich.console import Console

from scripts import job_summary, smoke_run
from scripts.airflow_api import AirflowApi, AirflowApiError
from scripts.deploy_mode import ROOT, Decision, Mode, decide, is_ancestor

OUTPUTS = ("workspace_id", "deployment_id", "deployment_url")
DEPLOYED = "airlock_deployed_commit"
_BEGUN = "?"  # before a commit whose deploy has not reached its end
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
    """The commit that runs before anything is changed, when it is known."""
    outputs: dict[str, str] = field(default_factory=dict)
    reachable: bool = False
    """Whether Airflow answered before anything was deployed."""
    pause: float = 5
    patience: float = 300

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Give the steps in order; which ones come last depends on what is decided on the way."""
        yield "settings", self.check_settings
        yield "terraform init", self.initialise
        yield "terraform output", lambda: self.read_outputs(may_be_none=not self.rollback)
        if self.outputs:
            yield "wake up", self.wake_up
            yield "ask what is deployed", self.ask
        if not self.rollback:
            yield "terraform apply", self.apply
            yield "terraform output", self.read_outputs
        yield "decide", self.decide
        assert self.decision  # noqa: S101 - decided by the step before
        if self.decision.mode is Mode.NOTHING:
            if self.decision.infrastructure:
                yield MARKET, lambda: self.smoke(MARKET)
                yield "remember what is deployed", self.remember
            return
        if self.reachable:
            yield "note what is begun", self.begin
        yield "astro deploy", self.astro_deploy
        yield "wait for Airflow", self.await_airflow
        if not self.reachable:
            yield "note what is begun", self.begin
        yield "wait for the new DAGs", self.await_dags
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
        if not is_ancestor(ROOT, self.commit, "HEAD"):
            raise StepFailed(f"{self.commit} is not in the history of main: only what was reviewed is deployed.")

    def apply(self) -> None:
        """Bring the infrastructure to what the code says."""
        _run(
            sys.executable, "scripts/infrastructure.py", "apply", self.environment,
            "-auto-approve", "-input=false", "-no-color", show=True,
        )  # fmt: skip

    def initialise(self) -> None:
        """Let Terraform read its state."""
        _run("terraform", self._folder, "init", "-input=false", "-no-color", "-backend-config=backend.hcl", show=True)

    def read_outputs(self, *, may_be_none: bool = False) -> None:
        """Ask Terraform which deployment this is and where its Airflow is; before the first apply there is none."""
        told = json.loads(_run("terraform", self._folder, "output", "-json") or "{}")
        self.outputs = {name: told[name]["value"] for name in OUTPUTS if name in told}
        self.__dict__.pop("airflow", None)  # it may be another one now
        if missing := [name for name in OUTPUTS if not self.outputs.get(name)]:
            self.outputs = {}
            if not may_be_none:
                raise StepFailed(f"Terraform gives no {', '.join(missing)}: was {self.environment} ever applied?")

    def wake_up(self) -> None:
        """Wake a deployment that hibernates: the deploy would succeed, and nothing answer afterwards."""
        if self._inspect("metadata.status") == "HIBERNATING":
            _run("astro", "deployment", "wake-up", *self._deployment, "--for", "2h", "--force", show=True)
            self.patience = smoke_run.REACHED_SECONDS

    def ask(self) -> None:
        """Ask the deployment what runs on it; refuse what would go back without being a rollback, or cannot."""
        try:
            smoke_run.reach(self.airflow, self.patience, self.pause)
            noted = self.airflow.variable(DEPLOYED) or ""
        except smoke_run.Unreachable as error:
            # What is deployed may be so broken that Airflow does not start: that is no reason not to deploy better.
            self.console.print(str(error), markup=False, soft_wrap=True)
            return
        self.reachable = True
        self.before = noted if noted and not noted.startswith(_BEGUN) else None
        runs = noted.removeprefix(_BEGUN)
        if not self.rollback and runs != self.commit and is_ancestor(ROOT, self.commit, runs):
            raise StepFailed(
                f"{self.environment} already runs the newer {runs}: to bring main there, run the workflow `deploy` by "
                "hand; to go back on purpose, `rollback`."
            )
        if self.rollback and _runtime(self.commit) != _runtime(runs or "HEAD"):
            raise StepFailed(
                f"{self.commit} has another Astro Runtime in its Dockerfile ({_runtime(self.commit)}), and Astro "
                "deploys no older one: go back on the deployment's page on Astro, Deploy History."
            )

    def decide(self) -> None:
        """Decide what is deployed, by what changed since what runs there."""
        if self.rollback:
            self.decision = Decision(Mode.IMAGE, "going back deploys everything", infrastructure=False)
        else:
            self.decision = decide(ROOT, self.before, self.commit)
        self.console.print(f"Deploys {self.decision.mode}: {self.decision.why}", markup=False, soft_wrap=True)
        job_summary.add(f"Deploys **{self.decision.mode}**: {self.decision.why}")

    def begin(self) -> None:
        """Write down that from here on nobody knows what runs, but that it may be this commit."""
        self.airflow.set_variable(DEPLOYED, _BEGUN + self.commit)

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

    def await_airflow(self) -> None:
        """Wait until Airflow answers: a new image restarts all of it."""
        smoke_run.reach(self.airflow, smoke_run.REACHED_SECONDS, self.pause)

    def await_dags(self) -> None:
        """Wait until Airflow has read the commit's DAG files: a run before that would be of the old ones."""
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
        conf = {}
        if dag_id == MARKET:
            from include.market.calendar import last_completed_session

            # The schedule comes the morning after, too: figures of a session that has just closed are still corrected.
            conf = {"market_date": last_completed_session(datetime.now(UTC) - timedelta(hours=12)).isoformat()}
        smoke_run.run(self.airflow, self.console, dag_id, conf)

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
    if step in ("settings", "terraform init", "terraform output", "wake up", "ask what is deployed", "decide"):
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
        except KeyboardInterrupt:
            back = go_back(deploy, step)
            deploy.console.print(f"\nInterrupted.\n\n{back}", markup=False, soft_wrap=True)
            job_summary.add(f"**Interrupted at _{step}_.** {back}")
            return 130
    return 0


def _runtime(commit: str) -> str:
    """Give the Astro Runtime that a commit's image starts from."""
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


def _run(*command: str, cwd: Path = ROOT, show: bool = False) -> str:
    """Run a command; gives its output, which is also shown as it comes if asked for. Raises StepFailed."""
    said = ""
    try:
        with subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if show else None, text=True
        ) as process:
            try:
                for line in process.stdout or ():
                    said += line
                    if show:
                        print(line, end="", flush=True)
            except KeyboardInterrupt:
                # Terraform then ends what it is at, writes its state and unlocks it.
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
    except OSError as error:
        raise StepFailed(f"{command[0]} cannot be run: {error}") from None
    if process.returncode:
        raise StepFailed(f"{' '.join(command[:3])} ended with status {process.returncode} (see above).")
    return said


def main() -> int:
    """Deploy; gives the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is cancelled puts right what it can
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
