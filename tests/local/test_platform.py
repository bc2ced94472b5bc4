"""What is reported when a process of the platform dies: the first cause, whatever failed because of it."""

import sys
from collections.abc import Iterator
from threading import Timer

import psutil
import pytest
import tenacity

from local.login import Login
from local.platform import raise_root_cause
from local.postgres import embedded, killed_process
from local.processes import MARK, Processes, free_port, running
from local.state import LocalError, State
from tests.local.test_postgres import postmaster


@pytest.fixture
def processes() -> Processes:
    return {}


@pytest.fixture
def database(own_state: State, processes: Processes) -> Iterator[Login]:
    with embedded(own_state, processes) as login:
        yield login


def add_ended(state: State, processes: Processes) -> None:
    log = state.logs / "dag-processor.log"
    with running([sys.executable, "-c", "raise SystemExit(1)"], {MARK: str(state.folder)}, log) as process:
        process.wait()
    processes[log] = process


def test_a_process_that_died_alone_is_named(own_state: State, database: Login, processes: Processes) -> None:
    raise_root_cause(own_state, database, processes)  # nothing has
    add_ended(own_state, processes)
    with pytest.raises(LocalError, match=r"The dag-processor stopped with status 1\..*start the platform again"):
        raise_root_cause(own_state, database, processes)


def test_the_death_of_postgres_is_named_and_not_what_it_took_with_it(
    own_state: State, database: Login, processes: Processes
) -> None:
    postmaster(own_state).kill()
    add_ended(own_state, processes)
    with pytest.raises(LocalError, match=r"(?s)The postgres was ended by SIGKILL.*postgres\.log:.*ready to accept"):
        raise_root_cause(own_state, database, processes)


def test_a_shutdown_of_postgres_is_named_as_soon_as_connections_end(
    own_state: State, database: Login, processes: Processes
) -> None:
    with database.connect() as connection:
        postmaster(own_state).terminate()  # it waits for this connection, but accepts no other
        add_ended(own_state, processes)
        Timer(0.5, connection.close).start()
        with pytest.raises(
            LocalError, match=r"(?s)The postgres stopped with status 0.*received smart shutdown request"
        ):
            raise_root_cause(own_state, database, processes)


def test_the_death_of_one_process_of_postgres_is_named(own_state: State, database: Login, processes: Processes) -> None:
    with database.connect() as connection:
        psutil.Process(connection.info.backend_pid).kill()
    tenacity.Retrying(retry=tenacity.retry_if_not_result(bool), stop=tenacity.stop_after_delay(20))(
        killed_process, own_state
    )
    add_ended(own_state, processes)
    with pytest.raises(LocalError, match=r"(?s)A process of Postgres was killed.*was terminated by signal 9"):
        raise_root_cause(own_state, database, processes)


def test_a_server_of_ones_own_that_is_gone_is_named(own_state: State, processes: Processes) -> None:
    add_ended(own_state, processes)
    gone = Login("127.0.0.1", free_port(), "somebody", "secret", "postgres")
    with pytest.raises(LocalError, match=r"Postgres does not answer: .*Connection refused") as raised:
        raise_root_cause(own_state, gone, processes)
    assert "secret" not in str(raised.value)
