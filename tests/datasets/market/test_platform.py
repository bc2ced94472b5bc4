"""The market's DAGs through a real Airflow: good days, a bad row, closed days, rollbacks."""

import csv
import re
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
import requests
from psycopg.rows import dict_row
from rich.console import Console

from include.datasets.market.calendar import last_completed_session
from include.datasets.market.dataset import MARKET
from local import backfill, demo
from local.__main__ import FAILED
from local.platform import Platform, platform
from local.processes import free_port
from local.sources.market import MarketApi
from local.sources.market.prices import DATA
from local.state import State
from scripts import smoke_run
from scripts.airflow_api import AirflowApiError
from scripts.dag_runs import Result
from tests.datasets.market.batches import PUBLISHED, STAGING, TICKERS, expectations
from tests.local.running import main, new_state

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GOOD, BAD, CLOSED = "2023-08-01", "2023-08-02", "2023-07-04"
TASKFLOW, TRADITIONAL = "market_etl__taskflow_api", "market_etl__traditional"
ROLLBACK_DAG = "publication_rollback"
FIGURES = ("open", "high", "low", "close", "volume")
NUMBER = len(expectations())


@pytest.fixture(scope="module")
def state() -> Iterator[State]:
    """Yield the state of the platform."""
    with new_state() as state:
        yield state


@pytest.fixture(scope="module")
def source(state: State) -> MarketApi:
    """Return a replay with one bad row: AMZN's high of 2023-08-02 is below its low."""
    prices = state.folder.parent / "prices.csv"
    prices.write_text(re.sub(rf"({BAD},AMZN,[\d.]+),[\d.]+", r"\1,1.5", DATA.read_text()))
    return MarketApi(prices)


@pytest.fixture(scope="module")
def running(state: State, source: MarketApi) -> Iterator[Platform]:
    """Run a platform with the market's stand-in only."""
    sources = {MARKET.name: source}
    with platform(state, Console(width=120), sources, live=False, schedule=False, port=free_port()) as running:
        yield running


def recorded(day: str, *tickers: str) -> list[tuple[Any, ...]]:
    """Return what the source has for a day, in the order of the published table."""
    with DATA.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["market_date"] == day and row["ticker"] in tickers]
    return [(row["ticker"], *(float(row[figure]) for figure in FIGURES)) for row in rows]


def published(running: Platform, day: str) -> list[tuple[Any, ...]]:
    """Return what readers see of a day."""
    with running.reader.connect() as connection:
        return connection.execute(
            f"select ticker, open_price, high_price, low_price, close_price, volume from {PUBLISHED}"
            " where market_date = %s order by ticker".encode(),
            [day],
        ).fetchall()


def run(running: Platform, conf: dict[str, Any], *dags: str) -> list[Result]:
    """Run DAGs together, with the same params, and return their results."""
    return demo.collect(running, demo.run_dags(running, Console(width=120), dict.fromkeys(dags, conf)))


def states(result: Result) -> dict[str, str | None]:
    return {task.task_id: task.state for task in result.tasks}


def message(running: Platform, result: Result, task_id: str) -> str:
    """Return the message with which a task failed, which has to be at its first try: a retry would not help."""
    task = next(task for task in result.tasks if task.task_id == task_id)
    assert (task.state, task.try_number) == ("failed", 1)
    return str(running.airflow.failure(result.run.dag_id, result.run.run_id, task))


@pytest.fixture(scope="module")
def good(running: Platform, source: MarketApi) -> list[Result]:
    """Run the market's DAGs together, as `make demo` does."""
    console = Console(width=120)
    confs = demo.confs(running, console, {MARKET.name: source}, demo.DAY)
    assert confs.keys() >= {TASKFLOW, TRADITIONAL}
    assert f"{demo.DAY}" == GOOD
    return demo.collect(running, demo.run_dags(running, console, confs))


def test_a_good_day_is_published_to_the_cent(running: Platform, good: list[Result]) -> None:
    for result in good:
        assert result.ok
        assert result.gate
        assert (result.gate["verdict"], result.gate["passed"], result.gate["failed"]) == ("passed", NUMBER, 0)
        assert result.rows == {PUBLISHED: len(TICKERS)}
        assert set(states(result).values()) == {"success"}
    assert published(running, GOOD) == recorded(GOOD, *TICKERS)


def test_running_a_day_again_replaces_it(running: Platform, good: list[Result]) -> None:
    run(running, {"market_date": GOOD}, TRADITIONAL)
    assert published(running, GOOD) == recorded(GOOD, *TICKERS)


def test_a_backfill_reports_a_day_that_failed_with_its_reason(
    running: Platform, source: MarketApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKERS", "AAPL,NONESUCH")
    wanted = backfill.choose({MARKET.name: source}, False, "2023-06-30", "2023-07-01", "")
    with redirect_stdout(StringIO()) as output:
        console = Console(width=200)
        found = backfill.run(running.airflow, {}, console, wanted)
        backfill.show(console, wanted, found)

    assert [each.what for each in found] == ["failed", "skipped"]
    assert "NONESUCH" in found[0].detail
    assert "Run the same command again to load only the days that failed." in output.getvalue()
    assert published(running, "2023-06-30") == []


@dataclass(frozen=True)
class BadDemo:
    """A demo for the day with the bad row."""

    status: int
    printed: str
    results: list[Result]


@pytest.fixture(scope="module")
def bad(running: Platform, source: MarketApi, state: State) -> BadDemo:
    """Run `make demo` for the bad day, on the platform that is running, after a row of that day was published."""
    with running.admin.connect() as connection:
        connection.execute(f"insert into {PUBLISHED} values (%s, 'AAPL', 1, 2, 1, 2, 1, 7)".encode(), [BAD])
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as output:
        patch.setattr("local.platform.platform", lambda *_, **__: nullcontext(running))
        patch.setattr("local.sources.sources", lambda _: {MARKET.name: source})
        status = main(patch, state, "demo", "--date", BAD)
    runs = []
    for dag_id in (TASKFLOW, TRADITIONAL):
        url, newest = f"{running.ui}/api/v2/dags/{dag_id}/dagRuns", {"order_by": "-run_after", "limit": "1"}
        [found] = requests.get(url, newest, timeout=10).json()["dag_runs"]
        runs.append(running.airflow.run(dag_id, found["dag_run_id"]))
    return BadDemo(status, output.getvalue(), demo.collect(running, runs))


def test_one_bad_row_keeps_the_whole_batch_out(running: Platform, bad: BadDemo) -> None:
    for result in bad.results:
        assert not result.ok
        assert result.run.state == "failed"
        assert result.gate
        assert (result.gate["verdict"], result.gate["passed"], result.gate["failed"]) == ("failed", NUMBER - 1, 1)
        assert states(result)["publish_market_data"] == "upstream_failed"
        why = message(running, result, "validate_market_data")
        assert "high is the highest and low the lowest" in why
        assert "ticker=AMZN" in why
        assert "high_price=1.5" in why
    assert published(running, BAD) == [("AAPL", 1, 2, 1, 2, 7)], "readers see what they saw before"

    # Both DAGs staged the same rows, and neither has published them.
    with running.admin.connect() as connection:
        batches = connection.execute(
            "select batch_id, array_agg((market_date, ticker, open_price, high_price, low_price, close_price,"
            f" change, volume)::text order by ticker) from {STAGING} where market_date = %s group by batch_id".encode(),
            [BAD],
        ).fetchall()
    assert len(batches) == len(bad.results)
    assert len({tuple(rows) for _, rows in batches}) == 1


def test_a_gate_that_closes_fails_the_demo(bad: BadDemo) -> None:
    assert bad.status == FAILED
    assert bad.printed.count(f"{NUMBER - 1} of {NUMBER}") == len(bad.results)
    assert bad.printed.count("The gate closed") == len(bad.results)
    assert "Query what was published" not in bad.printed


def test_a_closed_day_is_skipped_with_its_reason(running: Platform) -> None:
    for result in run(running, {"market_date": CLOSED}, TASKFLOW, TRADITIONAL):
        assert result.run.state == "success"
        assert set(states(result).values()) == {"skipped"}
        assert result.rows == {}
        log = running.airflow.log(result.run.dag_id, result.run.run_id, "start", 1)
        assert any(f"XNYS is closed on {CLOSED}" in str(entry) for entry in log)
    assert published(running, CLOSED) == []


def test_an_unknown_ticker_fails_the_run_at_once_with_its_name(running: Platform, good: list[Result]) -> None:
    """As a smoke run, which prints the task that failed and the end of its log."""
    console = Console(record=True, width=120)
    conf = {"market_date": GOOD, "tickers": ["AAPL", "ZZZZ"]}
    with pytest.raises(smoke_run.SmokeFailed, match=rf"{TASKFLOW}\.extract_market_data\. http://127"):
        smoke_run.run(running.airflow, console, TASKFLOW, conf)
    text = console.export_text()
    assert f"{TASKFLOW}.extract_market_data failed:" in text
    assert "ZZZZ" in text
    assert "up_for_retry" not in text
    assert "  | " in text
    assert published(running, GOOD) == recorded(GOOD, *TICKERS)


def test_a_run_without_any_date_loads_the_last_completed_session(running: Platform) -> None:
    [result] = run(running, {}, TRADITIONAL)
    batch = running.airflow.xcom(TRADITIONAL, result.run.run_id, "start")
    assert states(result)["start"] == "success"
    assert batch["day"] == last_completed_session(datetime.now(UTC)).isoformat()  # not in the replay
    assert states(result)["extract_market_data"] == "failed"


@pytest.mark.parametrize("conf", [{"market_date": "01/08/2023"}, {"tickers": []}, {"tickers": ["no spaces"]}])
def test_malformed_params_are_refused_at_the_trigger(running: Platform, conf: dict[str, Any]) -> None:
    with pytest.raises(AirflowApiError, match=next(iter(conf))):
        running.airflow.trigger(TRADITIONAL, conf)


def publications(running: Platform, day: str) -> list[dict[str, Any]]:
    """Return what the register shows readers of a day, oldest first."""
    with running.reader.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select * from warehouse.publication where object = %s and day = %s order by id", [PUBLISHED, day]
        ).fetchall()


def test_a_day_is_rolled_back_to_what_it_was(running: Platform, good: list[Result]) -> None:
    before = publications(running, GOOD)[-1]
    run(running, {"market_date": GOOD, "tickers": ["NFLX"]}, TRADITIONAL)
    assert published(running, GOOD) == recorded(GOOD, "NFLX")

    [rollback] = run(running, {"object": MARKET.label, "day": GOOD}, ROLLBACK_DAG)

    assert rollback.run.state == "success"
    assert published(running, GOOD) == recorded(GOOD, *TICKERS)
    *_, replaced, now = publications(running, GOOD)
    assert (now["is_current"], replaced["is_current"]) == (True, False)
    assert (now["batch_id"], now["restores"]) == (before["batch_id"], before["id"])
    assert (now["dag_id"], now["run_id"]) == (ROLLBACK_DAG, rollback.run.run_id)


def test_a_rollback_without_an_earlier_publication_says_so(running: Platform) -> None:
    day = "2023-08-09"
    [result] = run(running, {"object": MARKET.label, "day": day}, ROLLBACK_DAG)
    assert f"{MARKET.label} has no earlier publication of {day} to go back to." in message(running, result, "roll_back")
