import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from local.processes import (
    MARK,
    check_running,
    listening_port,
    listening_socket,
    owner_of,
    running,
    serving,
    stop_marked,
    wait_until,
)
from local.state import LocalError, State
from tests.local.running import is_alive, processes_of

SLEEPING = "import time; print('up', flush=True); time.sleep(600)"
FORKING = (
    "import subprocess, sys, time;"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True);"
    "print('up', flush=True); time.sleep(600)"
)

HIDING = """
import os, sys, time
if not os.fork():
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", "airflow"], {})
time.sleep(600)
"""


def marked(folder: Path) -> dict[str, str]:
    return {**os.environ, MARK: str(folder)}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_is_stopped_at_the_end_and_has_written_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(python(SLEEPING), marked(tmp_path), log) as process:
        wait_until(lambda: "up" in log.read_text(), "it", {log: process}, seconds=20)
    assert process.returncode is not None


def test_only_the_owner_can_read_a_log(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch(0o644)
    for log in (new, old):
        with running(python("pass"), marked(tmp_path), log) as process:
            process.wait()
    assert {stat.S_IMODE(log.stat().st_mode) for log in (new, old)} == {0o600}


def test_a_process_that_ends_too_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running(python("import sys; print('because'); sys.exit(3)"), marked(tmp_path), log) as process,
        pytest.raises(LocalError, match=r"(?s)The log stopped with status 3.*because"),
    ):
        wait_until(lambda: False, "The thing", {log: process}, seconds=20)


def test_waiting_ends_after_the_time_limit(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running(python(SLEEPING), marked(tmp_path), log) as process,
        pytest.raises(LocalError, match="was not ready after"),
    ):
        wait_until(lambda: False, "The thing", {log: process}, seconds=0.3)


def test_orphans_are_found_by_their_mark(tmp_path: Path) -> None:
    mark = str(tmp_path)
    with subprocess.Popen(python(FORKING), env={**os.environ, MARK: mark}, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        parent.stdout.readline()
        (orphan,) = psutil.Process(parent.pid).children()
        parent.kill()
    other = subprocess.Popen(python(SLEEPING), env={**os.environ, MARK: mark + "x"}, stdout=subprocess.PIPE)
    try:
        assert stop_marked(mark) == 1
        assert not is_alive(orphan)
        assert other.poll() is None, "another clone's processes are not ours"
    finally:
        other.kill()
        other.communicate()


SPAWNING = """
import os, sys, time
if os.fork():
    os._exit(0)
time.sleep(0.01)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[1]])
"""


def test_orphans_that_start_others_while_they_are_killed_are_all_dead(tmp_path: Path) -> None:
    subprocess.run([*python(SPAWNING), SPAWNING], env=marked(tmp_path), check=True)
    try:
        assert stop_marked(str(tmp_path)) > 0
    finally:
        assert processes_of(State(tmp_path)) == []


@pytest.mark.parametrize("address", ["127.0.0.1", ""], ids=["loopback", "every address"])
def test_a_port_that_is_taken_is_not_chosen_and_its_owner_is_known(address: str) -> None:
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with listening_socket(port) as other:
            assert other.getsockname()[1] not in (0, port)
        assert owner_of(port) == f"process {os.getpid()}, {psutil.Process().name()}"
    with listening_socket(port) as ours, listening_socket(port) as second:
        assert ours.getsockname() == ("127.0.0.1", port)
        assert second.getsockname() != ours.getsockname(), "a chosen port is taken at once"


def test_of_processes_that_have_ended_the_one_that_others_need_is_reported(tmp_path: Path) -> None:
    processes = {}
    for name, code in (("first", "import os; os.kill(os.getpid(), 9)"), ("second", "raise SystemExit(3)")):
        log = tmp_path / f"{name}.log"
        with running(python(code), marked(tmp_path), log) as process:
            process.wait()
        processes[log] = process
    with pytest.raises(LocalError, match=r"The first was ended by SIGKILL\. .*dmesg.* start the platform again"):
        check_running(processes)


def test_workers_that_hide_their_environment_are_found_by_their_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(python(HIDING), marked(tmp_path), log) as leader:
        wait_until(lambda: _workers(leader) != [], "the worker", {log: leader}, seconds=20)
        (hidden,) = _workers(leader)
        leader.kill()
        leader.wait()
        assert stop_marked(str(tmp_path)) == 1
        assert not is_alive(hidden)


def _workers(leader: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [each for each in psutil.Process(leader.pid).children() if "airflow" in each.cmdline()]


def test_a_process_that_does_not_listen_has_no_port() -> None:
    with subprocess.Popen(python(SLEEPING), stdout=subprocess.PIPE) as ours:
        assert listening_port(ours) is None
        ours.kill()
        ours.communicate()


def test_a_stand_in_is_ready_when_it_answers_and_stopped_at_the_end(own_state: State) -> None:
    with serving(own_state, "answering", ["tests.local.answering"], health="/health") as (url, processes):
        assert requests.get(f"{url}/anything", timeout=5).text == "/anything"
        [(log, process)] = processes.items()
        assert log == own_state.logs / "answering.log"
        assert processes_of(own_state) != []
    assert process.returncode is not None
    assert processes_of(own_state) == []


def test_a_stand_in_that_does_not_start_is_reported_with_the_end_of_its_log(own_state: State) -> None:
    with (
        pytest.raises(LocalError, match=r"(?s)The nothing stopped with status 1.*No module named local\.nothing"),
        serving(own_state, "nothing", ["local.nothing"], health="/health"),
    ):
        pass
