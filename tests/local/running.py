"""The commands of one machine on a state of the tests' own, and the processes that they start."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import tenacity

from include.dataset import Dataset, suite_name
from include.datasets import DATASETS
from include.quality.gate import PROJECT
from include.warehouse.roles import READER
from local import __main__ as commands
from local.database import WAREHOUSE
from local.demo import DAY
from local.platform import Platform
from local.postgres import of_running_platform
from local.processes import MARK
from local.sources import sources
from local.state import ROOT, State
from scripts.airflow_api import AirflowApi

STARTED = "Stop with Ctrl-C"
"""What `up` prints when the platform is ready."""


@contextmanager
def new_state() -> Iterator[State]:
    """Yield a state that nobody else uses, in a path with a space."""
    with TemporaryDirectory(prefix="airlock own ") as folder:
        Path(folder).chmod(0o755)  # root's Postgres runs as another user, who must be able to enter
        yield State(Path(folder) / "state")


def main(monkeypatch: pytest.MonkeyPatch, state: State, *arguments: str) -> int:
    """Run `python -m local ...` in this process, on a state; returns its exit status."""
    for name, value in {"AIRLOCK_STATE_DIR": str(state.folder), "NO_PROXY": "", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["local", *arguments])
    return commands.main()


def command(state: State, *arguments: str, cwd: Path | str = ROOT, **env: str) -> subprocess.Popen[str]:
    """Start `python -m local ...` on a state, as the Makefile does."""
    return start(state, [sys.executable, "-m", "local", *arguments], cwd, **env)


def start(state: State, words: list[str], cwd: Path | str = ROOT, **env: str) -> subprocess.Popen[str]:
    """Start a command in the checkout, or in a copy of it, on a state."""
    return subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, "AIRLOCK_STATE_DIR": str(state.folder), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return what a process prints, up to the line with the text."""
    read = ""
    assert process.stdout
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"ended without {text!r}:\n{read}")


@dataclass(frozen=True)
class Up:
    """A platform that `up` started."""

    process: subprocess.Popen[str]
    platform: Platform
    state: State
    printed: str

    def processes(self) -> list[psutil.Process]:
        """Return the process of the command and all below it: Airflow's workers hide whose they are."""
        command = psutil.Process(self.process.pid)
        return [command, *command.children(recursive=True)]


@contextmanager
def up(state: State, cwd: Path = ROOT) -> Iterator[Up]:
    """Run `up`, in the checkout or a copy of it, until the end of the context, as another process."""
    with command(state, "up", cwd=cwd) as process:
        try:
            printed = read_until(process, STARTED)
            url = re.search(r"http://127.0.0.1:\d+", printed)
            server = of_running_platform(state)
            assert url
            assert server
            warehouse = replace(server, dbname=WAREHOUSE)
            reader = warehouse.as_role(READER, state.secrets[READER], WAREHOUSE)
            platform = Platform(AirflowApi(url[0]), url[0], warehouse, reader, {}, state.reports)
            yield Up(process, platform, state, printed)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def a_run(platform: Platform) -> tuple[str, str, dict[str, Any]]:
    """Return a dataset, one of its DAGs, and the params with which the demo runs it.

    They are the first that there are. Skips the test when there are none.
    """
    dags = sorted(platform.airflow.dags(), key=lambda dag: dag.dag_id)
    for name, source in sources(DATASETS).items():
        for dag in dags:
            if name in dag.tags:
                return name, dag.dag_id, source.params(DAY)
    pytest.skip("there is nothing to run: no dataset has both a stand-in in local/sources and a DAG")


def number_of_expectations(dataset: Dataset) -> int:
    """Return how many expectations the suites of a dataset have, as they are committed."""
    suites = [PROJECT / "expectations" / f"{suite_name(each)}.json" for each in dataset.publishes]
    return sum(len(json.loads(suite.read_text())["expectations"]) for suite in suites)


def words(process: psutil.Process) -> list[str]:
    """Return the command line of a process; none when it has just ended."""
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


def processes_of(state: State) -> list[str]:
    """Return the command lines of all processes that belong to a state's platform."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK)
            if mark == str(state.folder) or any(str(state.folder) in word for word in words(process)):
                found.append(" ".join(words(process)))
    return found


def await_no_processes(state: State) -> None:
    """Return when no process of a state is left; raises tenacity.RetryError after a minute."""
    tenacity.Retrying(
        retry=tenacity.retry_if_result(bool), stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.2)
    )(processes_of, state)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process can still do something: one that its parent has not reaped yet cannot."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def kill_all(processes: list[psutil.Process]) -> None:
    """Kill processes with SIGKILL, and return when they have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has just ended
            process.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
