"""The commands as a person meets them: killed, stopped by signals, run beside each other, ended by a closed gate."""

import re
import signal
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests
import tenacity
from local.prices import REPLAY_KEY

from local.database import WAREHOUSE
from local.demo import VIEWS_DAG
from local.platform import reader
from local.postgres import embedded, of_running_platform
from local.processes import free_port, wait_until
from local.state import State
from scripts.airflow_api import AirflowApi, TaskState
from tests.include.warehouse.concurrency import await_true
from tests.local.conftest import BAD_DAY, bad_prices, command, processes_of, start, words
from tests.local.daily_views import shown, wanted

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_killed_demo_is_healed_by_the_next(own_state: State) -> None:
    with command(own_state, "demo") as killed:
        _read_until(killed, "start: success")
        killed.send_signal(signal.SIGKILL)
    assert processes_of(own_state), "a kill -9 leaves its children: what the next run has to cope with"

    with command(own_state, "demo", http_proxy="http://127.0.0.1:9", AIRFLOW__CORE__EXECUTOR="nonsense") as healed:
        text, _ = healed.communicate(timeout=180)
    assert healed.returncode == 0, text
    assert "left behind" in text
    assert "3 runs that were cut off earlier are marked failed" in text
    assert processes_of(own_state) == []


def test_a_platform_killed_before_it_publishes_shows_the_old_views_and_the_next_run_the_new(own_state: State) -> None:
    old, new = "2023-07-30", "2023-08-01"  # the demo's own day
    with command(own_state, "up") as up:
        ui = re.search(r"http://127.0.0.1:\d+", _read_until(up, "Stop with Ctrl-C"))
        assert ui
        airflow = AirflowApi(ui[0])
        run = airflow.trigger(VIEWS_DAG, {"as_of": old})
        wait_until(lambda: airflow.run(VIEWS_DAG, run).state == "success", "The old day", {}, seconds=120)
        server = of_running_platform(own_state)
        assert server
        admin = replace(server, dbname=WAREHOUSE)
        with closing(admin.connect()) as publishing:
            publishing.execute("select pg_advisory_xact_lock(hashtextextended('daily_operations', 0))")
            run = airflow.trigger(VIEWS_DAG, {"as_of": new})
            checked = TaskState("validate_views", "success", 1)
            wait_until(lambda: checked in airflow.tasks(VIEWS_DAG, run), "The new day's gate", {}, seconds=120)
            await_true(admin, "select exists (select from pg_locks where locktype = 'advisory' and not granted)", [])
            # By their parents: Airflow's workers do not let an ordinary user see whose they are.
            everything = [psutil.Process(up.pid), *psutil.Process(up.pid).children(recursive=True)]
            for process in everything:
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    process.kill()
        assert psutil.wait_procs(everything, timeout=10)[1] == []

    with own_state.running(), embedded(own_state) as server:
        assert shown(reader(own_state, server)) == wanted(replace(server, dbname=WAREHOUSE), old)

    with command(own_state, "demo") as healed:
        text, _ = healed.communicate(timeout=180)
    assert healed.returncode == 0, text
    assert "1 runs that were cut off earlier are marked failed" in text
    with own_state.running(), embedded(own_state) as server:
        assert shown(reader(own_state, server)) == wanted(replace(server, dbname=WAREHOUSE), new)


def test_a_signal_stops_the_demo_without_a_trace(own_state: State) -> None:
    makefile = ["make", "demo", f"PYTHON={sys.executable}"]
    with start(own_state, makefile) as stopped:
        _read_until(stopped, "start: success")
        stopped.terminate()
        text, _ = stopped.communicate(timeout=60)
    assert "Traceback" not in text
    assert _soon_none(own_state)

    with command(own_state, "demo") as stopped:
        _read_until(stopped, "Market API replay")
        stopped.send_signal(signal.SIGINT)
        text, _ = stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + signal.SIGINT, text
    assert "Traceback" not in text
    assert processes_of(own_state) == []


def test_down_clears_up_after_a_kill(own_state: State) -> None:
    with command(own_state, "demo") as killed:
        _read_until(killed, "Market API replay")
        killed.send_signal(signal.SIGKILL)
    assert processes_of(own_state)
    with command(own_state, "down") as down:
        text, _ = down.communicate(timeout=60)
    assert (down.returncode, text) == (0, "Stopped.\n")
    assert processes_of(own_state) == []


def test_a_gate_that_closes_is_the_commands_failure(own_state: State, tmp_path: Path) -> None:
    port = free_port()
    replay = [sys.executable, "-m", "local.market_api", "--port", str(port), "--data", str(bad_prices(tmp_path))]
    with start(own_state, replay) as service:
        try:
            live = {"POLYGON_BASE_URL": f"http://127.0.0.1:{port}", "POLYGON_API_KEY": REPLAY_KEY}
            with command(own_state, "demo", "--api", "live", "--date", BAD_DAY, **live) as refused:
                text, _ = refused.communicate(timeout=180)
        finally:
            service.terminate()
    assert refused.returncode == 1, text
    assert text.count("17 of 18") == 2
    assert text.count("The gate closed") == 2


def test_a_scheduler_that_dies_ends_the_demo_with_its_log(own_state: State) -> None:
    with command(own_state, "demo") as demo_process:
        _read_until(demo_process, "Running the DAGs")
        (scheduler,) = [
            each for each in psutil.Process(demo_process.pid).children(recursive=True) if "scheduler" in words(each)
        ]
        scheduler.kill()
        text, _ = demo_process.communicate(timeout=60)
    assert demo_process.returncode == 1
    assert "The scheduler stopped with status -9" in text
    assert "scheduler.log" in text
    assert "Traceback" not in text.split("The end of")[0]
    assert processes_of(own_state) == []


def test_up_stays_until_down(own_state: State) -> None:
    with command(own_state, "up") as up:
        text = _read_until(up, "Stop with Ctrl-C")
        ui = re.search(r"http://127.0.0.1:\d+", text)
        assert ui
        assert requests.get(ui[0], timeout=10).ok
        with command(own_state, "demo") as second:
            refused, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"already running (process {up.pid})" in refused
        with command(own_state, "sql", "select 'asked', current_user") as asked:
            answer, _ = asked.communicate(timeout=60)
        assert "airlock_reader" in answer
        with command(own_state, "down") as down:
            down.communicate(timeout=60)
        up.communicate(timeout=30)
    assert processes_of(own_state) == []


def _soon_none(state: State) -> bool:
    """Tell whether a state's processes end within a minute: make itself does not wait for them."""
    tenacity.Retrying(
        retry=tenacity.retry_if_result(bool), stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.2)
    )(processes_of, state)
    return True


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    read = ""
    assert process.stdout
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"ended without {text!r}:\n{read}")
