"""Starting and stopping the platform's processes, so that none of them is left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil
import requests

from local.state import ROOT, LocalError, State, open_log

# In the environment of every process of a platform and of its children, so that those of a killed run are found.
MARK = "AIRLOCK_PLATFORM"

Processes = dict[Path, subprocess.Popen[bytes]]
"""Running processes, by their logs."""


@contextmanager
def running(
    command: Sequence[str | Path], env: Mapping[str, str], log: Path, *, pass_fds: Collection[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own, output to `log`; on leaving, stop it with SIGTERM.

    `env` carries the mark: the platform's state folder. The process inherits the files of `pass_fds`, and no others.
    A session of its own keeps the terminal's Ctrl-C from reaching it before we decide the order of stopping.
    """
    with open_log(log) as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(env),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    with _sessions(env[MARK]).open("a") as sessions:
        sessions.write(f"{process.pid}\n")
    try:
        yield process
    finally:
        stop([process])


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Stop processes together with SIGTERM; those that are still there after 10 s are killed."""
    processes = [process for process in processes if process.poll() is None]
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + 10
    for process in processes:
        try:
            process.wait(timeout=max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], bool], what: str, processes: Processes, *, seconds: float) -> None:
    """Wait until `ready()`; `processes` are those it depends on.

    Raises LocalError, with the ends of their logs, when one of them has ended or the time is over.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        check_running(processes)
        if time.monotonic() > deadline:
            ends = "\n".join(tail(log) for log in processes)
            raise LocalError(f"{what} was not ready after {seconds:.0f} s.\n{ends}")
        time.sleep(0.1)


@contextmanager
def serving(state: State, name: str, module: Sequence[str], *, health: str) -> Iterator[tuple[str, Processes]]:
    """Run a server until the end of the context: `python -m <module and its arguments> --port 0`.

    It listens on a port that the kernel chooses, which nothing else can take meanwhile. Yields its URL, and the process
    by its log, once it answers the path `health`. Raises LocalError, with the end of the log, when it does not.
    """
    log = state.logs / f"{name}.log"
    command = [sys.executable, "-m", *module, "--port", "0"]
    with running(command, {"PYTHONPATH": str(ROOT), MARK: str(state.folder)}, log) as process:

        def url() -> str:
            return f"http://127.0.0.1:{listening_port(process)}"

        def ready() -> bool:
            try:
                return bool(listening_port(process)) and requests.get(f"{url()}{health}", timeout=5).ok
            except requests.RequestException:
                return False

        wait_until(ready, f"The stand-in {name}", {log: process}, seconds=60)
        yield url(), {log: process}


def check_running(processes: Processes) -> None:
    """Raise LocalError, with the end of its log and what to do, when one of the processes has ended.

    When several have, it is about the first: the order is that in which they need each other.
    """
    for log, process in processes.items():
        status = process.poll()
        if status is None:
            continue
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"stopped with status {status}"
        memory = " If nobody killed it, look for a lack of memory (dmesg)." if status == -signal.SIGKILL else ""
        raise LocalError(
            f"The {log.stem} {how}.{memory} What is published stays: start the platform again.\n{tail(log)}"
        )


def listening_port(process: subprocess.Popen[bytes]) -> int | None:
    """Return the TCP port on which a process listens; None: it does not listen yet."""
    with suppress(psutil.Error):
        for each in psutil.Process(process.pid).net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN:
                return int(each.laddr.port)
    return None


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, under its name."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in text.splitlines()[-lines:])])


def stop_marked(mark: str) -> int:
    """Kill every process of the platform whose mark this is; returns how many there were, when all of them are dead.

    After an orderly stop there are none. After a `kill -9` of the platform these are its orphans: those that carry
    the mark in their environment, and Airflow's workers, which hide theirs, in the sessions of what we started.
    Raises LocalError when one does not die: it could still publish.
    """
    noted = _sessions(mark)
    sessions = {int(line) for line in noted.read_text().split()} if noted.exists() else set()
    killed: set[psutil.Process] = set()
    deadline = time.monotonic() + 30
    # Again until none is found: one that is about to die may have started another. What is dead, but not yet reaped by
    # its parent, is not found.
    while orphans := [each for each in psutil.process_iter() if _carries(each, mark) or _is_worker(each, sessions)]:
        if time.monotonic() > deadline:
            numbers = " ".join(str(each.pid) for each in orphans)
            raise LocalError(f"Processes of an earlier run do not end, although they were killed: {numbers}")
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        killed.update(orphans)
        time.sleep(0.05)
    noted.unlink(missing_ok=True)
    return len(killed)


def _sessions(mark: str) -> Path:
    return Path(mark) / "sessions"


def _is_worker(process: psutil.Process, sessions: set[int]) -> bool:
    with suppress(psutil.Error, OSError):
        # The name as well: much later, another session may have the same number.
        return os.getsid(process.pid) in sessions and "airflow" in " ".join(process.cmdline())
    return False


def _carries(process: psutil.Process, mark: str) -> bool:
    with suppress(psutil.Error, OSError):  # it has ended, or belongs to another user
        return process.pid != os.getpid() and process.environ().get(MARK) == mark
    return False


def free_port() -> int:
    """Return a TCP port on loopback that is free now; whoever binds it must try another when it is taken meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening_socket(preferred: int) -> socket.socket:
    """Return a socket that listens on loopback, on the preferred port if it is free: then nothing else can take it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may still be closing
    try:
        listener.bind(("127.0.0.1", preferred))
        listener.listen()
    except OSError:
        listener.close()
        if not preferred:
            raise
        return listening_socket(0)
    return listener


def owner_of(port: int) -> str:
    """Return who listens on a TCP port, as far as this user may know."""
    with suppress(psutil.Error):
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return f"process {each.pid}, {psutil.Process(each.pid).name()}"
    return "another process"


class Stopped(BaseException):
    """Raised when a signal asks the platform to stop; `status` is the exit status that says so."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise Stopped at the first Ctrl-C, SIGTERM or hang-up; later ones do not disturb the cleanup."""
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in watched:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
