"""The whole platform, for real: scheduler, Postgres, replay, gate. One good day, one day with one bad row."""

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import requests
import tenacity
from rich.console import Console

from include.market.calendar import last_completed_session
from local import demo
from local.platform import Platform, platform
from local.prices import DATA, REPLAY_KEY
from local.processes import free_port
from local.state import State
from scripts.airflow_api import AirflowApiError
from tests.local.conftest import command, processes_of, start, words

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GOOD, BAD, CLOSED = "2023-08-01", "2023-08-02", "2023-07-04"
TRADITIONAL, TASKFLOW = demo.MARKET_DAGS
FIGURES = ("open", "high", "low", "close", "volume")


def recorded(day: str, *tickers: str) -> list[tuple[Any, ...]]:
    """What the source says of a day, in the order of the published table."""
    with DATA.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["market_date"] == day and row["ticker"] in tickers]
    return [(row["ticker"], *(float(row[figure]) for figure in FIGURES)) for row in rows]


def published(running: Platform, day: str) -> list[tuple[Any, ...]]:
    """What readers see of a day."""
    with running.reader.connect() as connection:
        return connection.execute(
            "select ticker, open_price, high_price, low_price, close_price, volume"
            " from market.transformed_market_data where market_date = %s order by ticker",
            [day],
        ).fetchall()


@pytest.fixture(scope="module")
def e2e_state() -> Iterator[State]:
    with TemporaryDirectory(prefix="airlock e2e ") as folder:
        Path(folder).chmod(0o755)
        yield State(Path(folder) / "state")


@pytest.fixture(scope="module")
def running(e2e_state: State) -> Iterator[Platform]:
    """Run one platform, whose market API serves one bad row: AMZN's high of 2023-08-02 is below its low."""
    prices = _bad_prices(e2e_state.folder.parent)
    console = Console(width=120)
    with platform(e2e_state, console, api="replay", api_key="", schedule=False, prices=prices) as started:
        yield started


def _bad_prices(folder: Path) -> Path:
    prices = folder / "prices.csv"
    prices.write_text(re.sub(r"(2023-08-02,AMZN,[\d.]+),[\d.]+", r"\1,1.5", DATA.read_text()))
    return prices


def run(running: Platform, conf: dict[str, Any], *dags: str) -> list[demo.Result]:
    return demo.collect(running, demo.run_dags(running, Console(width=120), dags or demo.MARKET_DAGS, conf))


def states(result: demo.Result) -> dict[str, str | None]:
    return {task.task_id: task.state for task in result.tasks}


@pytest.fixture(scope="module")
def good(running: Platform) -> list[demo.Result]:
    return run(running, {"market_date": GOOD})


def test_a_good_day_is_published_to_the_cent(running: Platform, good: list[demo.Result]) -> None:
    assert [result.ok for result in good] == [True, True]
    assert published(running, GOOD) == recorded(GOOD, "AAPL", "AMZN")


def test_the_table_tells_what_airflow_and_the_warehouse_say(running: Platform, good: list[demo.Result]) -> None:
    for result in good:
        assert result.rows == 2
        assert result.gate
        assert (result.gate["verdict"], result.gate["failed"]) == ("passed", 0)
        assert Path(result.gate["report"].removeprefix("file://")).is_file()
        assert list(states(result).values()) == ["success"] * 8
    with running.admin.connect() as connection:
        connection.execute("delete from market.transformed_market_data where ticker = 'AMZN'")
    try:
        again = demo.collect(running, [result.run for result in good])
        console = Console(record=True, width=120)
        console.print(demo.table(again, "after a row was deleted"))
    finally:
        run(running, {"market_date": GOOD}, TASKFLOW)
    assert [result.rows for result in again] == [1, 1]
    told = [line.split("│") for line in console.export_text().splitlines() if "market_etl" in line]
    assert [[cell.strip() for cell in line[2:7]] for line in told] == [
        ["success", "8 of 8", f"{result.run.seconds:.1f}", "1", "18 of 18"] for result in good
    ]


def test_running_a_day_again_replaces_it(running: Platform, good: list[demo.Result]) -> None:
    run(running, {"market_date": GOOD}, TRADITIONAL)
    assert published(running, GOOD) == recorded(GOOD, "AAPL", "AMZN")


def test_one_bad_row_keeps_the_whole_batch_out(running: Platform) -> None:
    with running.admin.connect() as connection:
        connection.execute("insert into market.transformed_market_data values (%s, 'AAPL', 1, 2, 1, 2, 1, 7)", [BAD])
    results = run(running, {"market_date": BAD})
    for result in results:
        assert not result.ok
        assert result.run.state == "failed"
        assert result.gate
        assert (result.gate["verdict"], result.gate["passed"], result.gate["failed"]) == ("failed", 17, 1)
        assert states(result)["validate_market_data"] == "failed"
        assert states(result)["publish_market_data"] == "upstream_failed"
        task = next(task for task in result.tasks if task.task_id == "validate_market_data")
        assert task.try_number == 1, "what a retry cannot heal fails at once"
        why = running.airflow.failure(result.run.dag_id, result.run.run_id, task)
        assert why
        assert "high is the highest and low the lowest" in why
        assert "ticker=AMZN" in why
        assert "high_price=1.5" in why
    assert published(running, BAD) == [("AAPL", 1, 2, 1, 2, 7)], "the table holds what it held"

    # Both DAGs staged the same rows, and neither has published them.
    with running.admin.connect() as connection:
        batches = connection.execute(
            "select batch_id, array_agg((market_date, ticker, open_price, high_price, low_price, close_price,"
            " change, volume)::text order by ticker) from market_staging.transformed_market_data"
            " where market_date = %s group by batch_id",
            [BAD],
        ).fetchall()
    assert len(batches) == 2
    assert batches[0][1] == batches[1][1]


def test_a_closed_day_is_skipped_with_its_reason(running: Platform) -> None:
    for result in run(running, {"market_date": CLOSED}):
        assert result.run.state == "success"
        assert set(states(result).values()) == {"skipped"}
        assert result.rows is None
        log = running.airflow.log(result.run.dag_id, result.run.run_id, "start", 1)
        assert any("XNYS is closed on 2023-07-04" in str(entry) for entry in log)
    assert published(running, CLOSED) == []


def test_an_unknown_ticker_fails_at_once_and_says_so(running: Platform) -> None:
    (result,) = run(running, {"market_date": GOOD, "tickers": ["AAPL", "ZZZZ"]}, TASKFLOW)
    task = next(task for task in result.tasks if task.task_id == "extract_market_data")
    assert (task.state, task.try_number) == ("failed", 1)
    assert "ZZZZ" in str(running.airflow.failure(result.run.dag_id, result.run.run_id, task))
    assert published(running, GOOD) == recorded(GOOD, "AAPL", "AMZN")


def test_a_run_without_any_date_loads_the_last_completed_session(running: Platform) -> None:
    (result,) = run(running, {}, TRADITIONAL)
    batch = running.airflow.xcom(TRADITIONAL, result.run.run_id, "start")
    assert states(result)["start"] == "success"
    assert batch["market_date"] == last_completed_session(datetime.now(UTC)).isoformat()  # not in the replay
    assert states(result)["extract_market_data"] == "failed"


@pytest.mark.parametrize("conf", [{"market_date": "01/08/2023"}, {"tickers": []}, {"tickers": ["no spaces"]}])
def test_malformed_params_are_refused_at_the_trigger(running: Platform, conf: dict[str, Any]) -> None:
    with pytest.raises(AirflowApiError, match=next(iter(conf))):
        running.airflow.trigger(TRADITIONAL, conf)


def test_the_migrations_dag_runs_on_the_same_warehouse(running: Platform) -> None:
    (state,) = demo.run_dags(running, Console(), ["warehouse_migrations"], {})
    assert state.state == "success"
    assert running.airflow.xcom("warehouse_migrations", state.run_id, "migrate") == []


def test_nothing_runs_by_itself_and_nothing_listens_beyond_loopback(running: Platform) -> None:
    for dag_id in demo.MARKET_DAGS:
        runs = requests.get(f"{running.ui}/api/v2/dags/{dag_id}/dagRuns", timeout=10).json()["dag_runs"]
        assert {each["run_type"] for each in runs} <= {"manual"}
    listening = set()
    for process in _family(os.getpid()):
        with suppress(psutil.NoSuchProcess):
            sockets = process.net_connections("tcp")
            listening |= {socket.laddr.ip for socket in sockets if socket.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


def _family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_no_secret_is_written_anywhere(running: Platform, good: list[demo.Result], e2e_state: State) -> None:
    secrets = [value.encode() for value in e2e_state.secrets.values()]
    kept = {e2e_state.folder / "secrets.json", e2e_state.folder / "pgpass"}
    files = [path for path in e2e_state.folder.rglob("*") if path.is_file() and path not in kept]
    assert any(path.suffix == ".html" for path in files)
    assert any("task_id=extract_market_data" in str(path) for path in files)
    leaks = [path for path in files if "data" not in path.relative_to(e2e_state.folder).parts]
    leaks = [path for path in leaks if any(secret in path.read_bytes() for secret in secrets)]
    assert leaks == []
    lines = [" ".join(words(process)).encode() for process in _family(os.getpid())]
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def test_a_killed_demo_is_healed_by_the_next(own_state: State) -> None:
    with command(own_state, "demo") as killed:
        _read_until(killed, "start: success")
        killed.send_signal(signal.SIGKILL)
    assert processes_of(own_state), "a kill -9 leaves its children: what the next run has to cope with"

    with command(own_state, "demo", http_proxy="http://127.0.0.1:9", AIRFLOW__CORE__EXECUTOR="nonsense") as healed:
        text, _ = healed.communicate(timeout=180)
    assert healed.returncode == 0, text
    assert "left behind" in text
    assert "2 runs that were cut off earlier are marked failed" in text
    assert processes_of(own_state) == []


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
    replay = [sys.executable, "-m", "local.market_api", "--port", str(port), "--data", str(_bad_prices(tmp_path))]
    with start(own_state, replay) as service:
        try:
            live = {"POLYGON_BASE_URL": f"http://127.0.0.1:{port}", "POLYGON_API_KEY": REPLAY_KEY}
            with command(own_state, "demo", "--api", "live", "--date", BAD, **live) as refused:
                text, _ = refused.communicate(timeout=180)
        finally:
            service.terminate()
    assert refused.returncode == 1, text
    assert text.count("17 of 18") == 2
    assert text.count("The gate closed") == 2


def test_a_scheduler_that_dies_ends_the_demo_with_its_log(own_state: State) -> None:
    with command(own_state, "demo") as demo_process:
        _read_until(demo_process, "Running the DAGs")
        (scheduler,) = [each for each in _family(demo_process.pid) if "scheduler" in words(each)]
        scheduler.kill()
        text, _ = demo_process.communicate(timeout=60)
    assert demo_process.returncode == 1
    assert "Airflow stopped with status -9" in text
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
