"""Wait, without sleeping, for what another session or process does; and kill it before it has finished."""

import signal
import time
from collections.abc import Callable
from multiprocessing import get_context

from local.login import Login

PATIENCE = 30  # seconds


def await_true(admin: Login, question: str, values: list[object]) -> None:
    """Return when a query answers true. Fails after some time."""
    deadline = time.monotonic() + PATIENCE
    with admin.connect(autocommit=True) as connection:
        while time.monotonic() < deadline:
            if connection.execute(question.encode(), values).fetchone() == (True,):
                return
    raise AssertionError(f"did not become true: {question} {values}")


def await_blocked(database: Login, sessions: int = 1) -> None:
    """Return when this number of sessions of a database wait for a lock."""
    await_true(
        database,
        "select count(*) = %s from pg_stat_activity where datname = %s and wait_event_type = 'Lock'",
        [sessions, database.dbname],
    )


def await_gone(admin: Login, pid: int) -> None:
    """Return when a server process has ended, and its transaction with it."""
    await_true(admin, "select not exists (select from pg_stat_activity where pid = %s)", [pid])


def terminate(admin: Login, pid: int) -> None:
    """End a session from the server's side; return when it has ended."""
    with admin.connect(autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(%s)", [pid])
    await_gone(admin, pid)


def kill_midway(admin: Login, work: Callable[[Callable[[int], None]], None]) -> None:
    """Run a function in a process of its own, and SIGKILL the process where the function calls its argument.

    The function passes the id of its server process. Returns when the server has noticed.
    """
    fork = get_context("fork")
    ours, theirs = fork.Pipe()

    def wait_for_kill(pid: int) -> None:
        theirs.send(pid)
        theirs.recv()  # nothing is ever sent

    process = fork.Process(target=work, args=(wait_for_kill,))
    process.start()
    theirs.close()
    assert ours.poll(PATIENCE)
    pid = ours.recv()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    await_gone(admin, pid)
