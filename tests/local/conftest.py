"""A platform of the tests' own, and what finds its processes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from local.prices import DATA

from local.processes import MARK
from local.state import ROOT, State


@pytest.fixture
def own_state() -> Iterator[State]:
    """Give a state that only this test uses, in a path with a space."""
    with TemporaryDirectory(prefix="airlock own ") as folder:
        Path(folder).chmod(0o755)  # root's Postgres runs as another user, who must be able to enter
        yield State(Path(folder) / "state")


def command(state: State, *arguments: str, cwd: Path | str = ROOT, **env: str) -> subprocess.Popen[str]:
    """Start `python -m local ...` on a state of its own, as the Makefile does."""
    return start(state, [sys.executable, "-m", "local", *arguments], cwd, **env)


def start(state: State, words: list[str], cwd: Path | str = ROOT, **env: str) -> subprocess.Popen[str]:
    """Start a command in the checkout, or in a copy of it, on a state of its own."""
    return subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, "AIRLOCK_STATE_DIR": str(state.folder), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def words(process: psutil.Process) -> list[str]:
    """Give a process's command line; none when it has just ended."""
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


def processes_of(state: State) -> list[str]:
    """Give the command lines of every process that belongs to a state's platform."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK)
            if mark == str(state.folder) or any(str(state.folder) in word for word in words(process)):
                found.append(" ".join(words(process)))
    return found


BAD_DAY = "2023-08-02"


def bad_prices(folder: Path) -> Path:
    """Give a file of prices with one bad row: AMZN's high of 2023-08-02 is below its low."""
    prices = folder / "prices.csv"
    prices.write_text(re.sub(rf"({BAD_DAY},AMZN,[\d.]+),[\d.]+", r"\1,1.5", DATA.read_text()))
    return prices
