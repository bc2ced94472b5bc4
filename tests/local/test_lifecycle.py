"""The commands stopped at any time: by `down`, by signals, and by a kill; nothing is left running."""

import re
import signal
import sys

import pytest

from include.datasets import DATASETS
from local.__main__ import FAILED
from local.sources import sources
from local.state import State
from tests.local.running import await_no_processes, command, processes_of, read_until, start
from tests.local.test_postgres import postmaster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STARTING = "Warehouse migrations"
"""What is printed when Postgres runs, and Airflow does not run yet."""


@pytest.fixture
def state(shared_state: State) -> State:
    """Return a state; skips the test when the demo would have nothing to run."""
    if not sources(DATASETS):
        pytest.skip("there is nothing to run: no dataset has a stand-in in local/sources")
    return shared_state


def test_down_stops_a_demo_in_the_middle_of_its_runs(state: State) -> None:
    with command(state, "demo") as demo:
        read_until(demo, ": success")
        with command(state, "down") as down:
            text, _ = down.communicate(timeout=100)
        assert (down.returncode, text) == (0, f"Stopping process {demo.pid} ...\nStopped.\n")
        assert processes_of(state) == []
        text, _ = demo.communicate(timeout=60)
    assert demo.returncode == 128 + signal.SIGTERM
    assert text.endswith("Stopping ...\nStopped.\n")
    assert "Traceback" not in text


def test_a_signal_to_make_stops_the_demo(state: State) -> None:
    with start(state, ["make", "demo", f"PYTHON={sys.executable}"]) as make:
        read_until(make, STARTING)
        make.terminate()
        text, _ = make.communicate(timeout=60)
    assert "Traceback" not in text
    await_no_processes(state)  # make itself does not wait for them


def test_ctrl_c_stops_the_demo(state: State) -> None:
    with command(state, "demo") as demo:
        read_until(demo, STARTING)
        demo.send_signal(signal.SIGINT)
        text, _ = demo.communicate(timeout=60)
    assert demo.returncode == 128 + signal.SIGINT, text
    assert "Traceback" not in text
    assert processes_of(state) == []


def test_the_death_of_postgres_in_the_middle_of_runs_is_what_the_demo_reports(state: State) -> None:
    with command(state, "demo") as demo:
        read_until(demo, ": success")
        postmaster(state).kill()
        text, _ = demo.communicate(timeout=100)
    assert demo.returncode == FAILED
    assert re.search(r"Stopping \.\.\.\nThe postgres was ended by SIGKILL\..* start the platform again\.\n", text)
    assert "Traceback" not in text
    assert processes_of(state) == []


def test_down_cleans_up_after_a_kill(state: State) -> None:
    with command(state, "demo") as killed:
        read_until(killed, STARTING)
        killed.kill()
    assert processes_of(state)
    with command(state, "down") as down:
        text, _ = down.communicate(timeout=60)
    assert (down.returncode, text) == (0, "Stopped.\n")
    assert processes_of(state) == []
