import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest

from local.login import Login
from local.postgres import embedded
from local.processes import free_port
from local.state import LocalError, State
from tests.local.running import is_alive, processes_of, words


def postmaster(state: State) -> psutil.Process:
    """Find the server's first process: the one whose command line names the data folder."""
    data = str(state.folder / "postgres" / "data")
    (found,) = [each for each in psutil.process_iter() if data in words(each)]
    return found


def kept(login: Login) -> list[tuple[object, ...]]:
    with login.connect() as connection:
        return connection.execute("select * from kept").fetchall()


def fill(login: Login) -> None:
    with login.connect() as connection:
        connection.execute("create table kept as select 'a row' as row")


def test_data_outlives_the_server(own_state: State) -> None:
    with embedded(own_state) as login:
        fill(login)
    assert processes_of(own_state) == []
    with embedded(own_state) as login:
        assert kept(login) == [("a row",)]


def test_a_server_that_was_killed_recovers(own_state: State) -> None:
    with embedded(own_state) as login:
        fill(login)
        postmaster(own_state).kill()
    with embedded(own_state) as login:
        assert kept(login) == [("a row",)]


def test_a_server_left_behind_by_a_killed_run_is_replaced(own_state: State) -> None:
    pid = os.fork()
    if not pid:  # a run that is killed before it can stop its server
        with embedded(own_state) as login:
            fill(login)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    left = postmaster(own_state)
    with embedded(own_state) as login:
        assert not left.is_running()
        assert kept(login) == [("a row",)]


def test_a_server_left_behind_that_is_recovering_is_replaced(own_state: State) -> None:
    """While it recovers from the death of one of its processes, it does not obey a request to shut down."""
    with embedded(own_state) as login:
        fill(login)
        left = postmaster(own_state)
        with login.connect() as connection:
            psutil.Process(connection.info.backend_pid).kill()
        with embedded(own_state) as second:
            assert not is_alive(left)
            assert kept(second) == [("a row",)]


def test_a_port_that_another_server_took_is_left_to_it(own_state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory() as folder, embedded(own_state) as first:
        Path(folder).chmod(0o755)
        ports = iter([first.port, free_port()])
        monkeypatch.setattr("local.postgres.free_port", lambda: next(ports))
        with embedded(State(Path(folder))) as second:
            assert second.port != first.port
            fill(second)


def test_a_killed_first_start_does_no_harm(own_state: State) -> None:
    draft = own_state.folder / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    with embedded(own_state) as login:
        fill(login)


def test_a_lost_password_is_reported(own_state: State) -> None:
    with embedded(own_state):
        pass
    (own_state.folder / "secrets.json").unlink()
    with pytest.raises(LocalError, match="make clean"), embedded(State(own_state.folder)):
        pass


def test_only_loopback_with_the_password_gets_in(own_state: State) -> None:
    with embedded(own_state) as login:
        listening = {connection.laddr.ip for connection in postmaster(own_state).net_connections("all")}
        assert listening == {"127.0.0.1"}
        for password in ("", "wrong"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                replace(login, password=password).connect()
        with login.connect() as connection:
            methods = connection.execute("select distinct auth_method from pg_hba_file_rules").fetchall()
        assert methods == [("scram-sha-256",)]


def test_a_server_that_cannot_start_reports_why(own_state: State) -> None:
    with embedded(own_state):
        pass
    (own_state.folder / "postgres" / "data" / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(LocalError, match="nonsense"), embedded(own_state):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's Postgres runs as another user")
def test_roots_home_is_not_used_and_the_place_that_is_used_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with TemporaryDirectory() as closed:  # only its owner may enter it
        state = State(Path(closed))
        with embedded(state) as login:
            fill(login)
        place = (state.folder / "postgres" / "elsewhere").read_text()
        assert place in capsys.readouterr().out
        try:
            with embedded(state) as login:
                assert kept(login) == [("a row",)]
        finally:
            shutil.rmtree(place)
