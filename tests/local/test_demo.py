"""The whole platform, for real: scheduler, Postgres, replay, gate. One good day, one day with one bad row."""

import csv
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import requests
from rich.console import Console

from include.market.calendar import last_completed_session
from local import demo
from local.platform import Platform, platform
from local.prices import DATA
from local.processes import free_port
from local.state import State
from scripts.airflow_api import AirflowApiError
from tests.local.conftest import BAD_DAY, bad_prices, words

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GOOD, CLOSED = "2023-08-01", "2023-07-04"
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
    prices = bad_prices(e2e_state.folder.parent)
    console = Console(width=120)
    with platform(
        e2e_state, console, api="replay", api_key="", schedule=False, port=free_port(), prices=prices
    ) as started:
        yield started


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
        connection.execute(
            "insert into market.transformed_market_data values (%s, 'AAPL', 1, 2, 1, 2, 1, 7)", [BAD_DAY]
        )
    results = run(running, {"market_date": BAD_DAY})
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
    assert published(running, BAD_DAY) == [("AAPL", 1, 2, 1, 2, 7)], "the table holds what it held"

    # Both DAGs staged the same rows, and neither has published them.
    with running.admin.connect() as connection:
        batches = connection.execute(
            "select batch_id, array_agg((market_date, ticker, open_price, high_price, low_price, close_price,"
            " change, volume)::text order by ticker) from market_staging.transformed_market_data"
            " where market_date = %s group by batch_id",
            [BAD_DAY],
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
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            sockets = process.net_connections("tcp")
            listening |= {socket.laddr.ip for socket in sockets if socket.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


def test_no_secret_is_written_anywhere(running: Platform, good: list[demo.Result], e2e_state: State) -> None:
    secrets = [value.encode() for value in e2e_state.secrets.values()]
    kept = {e2e_state.folder / "secrets.json", e2e_state.folder / "pgpass"}
    files = [path for path in e2e_state.folder.rglob("*") if path.is_file() and path not in kept]
    assert any(path.suffix == ".html" for path in files)
    assert any("task_id=extract_market_data" in str(path) for path in files)
    leaks = [path for path in files if "data" not in path.relative_to(e2e_state.folder).parts]
    leaks = [path for path in leaks if any(secret in path.read_bytes() for secret in secrets)]
    assert leaks == []
    lines = [" ".join(words(process)).encode() for process in psutil.Process().children(recursive=True)]
    assert not [line for line in lines if any(secret in line for secret in secrets)]
