"""The whole platform, for real: scheduler, Postgres, replay, gate. Good days, bad rows, lost connections, rollbacks."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import requests
from include.market.calendar import last_completed_session
from local.prices import DATA
from psycopg.rows import dict_row
from rich.console import Console

from local import demo
from local.platform import Platform, platform
from local.processes import free_port, wait_until
from local.state import ROOT, State
from scripts.airflow_api import FINISHED, AirflowApiError
from scripts.dag_runs import Result, table
from tests.include.warehouse.concurrency import terminate
from tests.local.conftest import BAD_DAY, bad_prices, words
from tests.local.daily_views import WANTED, Views, await_all_at_work, refreshes_held, shown, wanted

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GOOD, CLOSED = "2023-08-01", "2023-07-04"
TRADITIONAL, TASKFLOW = demo.MARKET_DAGS
ROLLBACK_DAG = "publication_rollback"
REFRESHES = [f"refresh_{view}" for view in WANTED]
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


def run(running: Platform, conf: dict[str, Any], *dags: str) -> list[Result]:
    confs = dict.fromkeys(dags or demo.MARKET_DAGS, conf)
    return demo.collect(running, demo.run_dags(running, Console(width=120), confs))


def states(result: Result) -> dict[str, str | None]:
    return {task.task_id: task.state for task in result.tasks}


def why(running: Platform, result: Result, task_id: str) -> str:
    """Give the message with which a task failed, which has to be at its first try: a retry would not heal it."""
    task = next(task for task in result.tasks if task.task_id == task_id)
    assert (task.state, task.try_number) == ("failed", 1)
    return str(running.airflow.failure(result.run.dag_id, result.run.run_id, task))


@pytest.fixture(scope="module")
def good(running: Platform) -> list[Result]:
    """Run the three DAGs together, as `make demo` does."""
    market = {"market_date": GOOD}
    views: dict[str, Any] = {"as_of": GOOD, "allow_older": True}
    confs = {**dict.fromkeys(demo.MARKET_DAGS, market), demo.VIEWS_DAG: views}
    return demo.collect(running, demo.run_dags(running, Console(width=120), confs))


def test_a_good_day_is_published_to_the_cent(running: Platform, good: list[Result]) -> None:
    assert [result.ok for result in good] == [True, True, True]
    assert published(running, GOOD) == recorded(GOOD, "AAPL", "AMZN")
    assert all(wanted(running.admin, GOOD).values())
    assert shown(running.reader) == wanted(running.admin, GOOD)


def expectations(*views: str) -> list[Any]:
    """The expectations of the suites of views, as they are committed."""
    suites = [ROOT / "great_expectations" / "expectations" / f"{view.split('.')[-1]}.json" for view in views]
    return [each for suite in suites for each in json.loads(suite.read_text())["expectations"]]


def test_the_table_tells_what_airflow_and_the_warehouse_say(running: Platform, good: list[Result]) -> None:
    rows = {f"daily_operations.{view}": len(rows) for view, rows in wanted(running.admin, GOOD).items()}
    assert [result.rows for result in good] == [{"market.transformed_market_data": 2}] * 2 + [rows]
    for result in good:
        assert result.gate
        assert (result.gate["verdict"], result.gate["failed"]) == ("passed", 0)
        assert Path(result.gate["report"].removeprefix("file://")).is_file()
        assert list(states(result).values()) == ["success"] * 8
    with running.admin.connect() as connection:
        connection.execute("delete from market.transformed_market_data where ticker = 'AMZN'")
    try:
        again = demo.collect(running, [result.run for result in good])
        console = Console(record=True, width=120)
        console.print(table(again))
    finally:
        run(running, {"market_date": GOOD}, TASKFLOW)
    assert [sum(result.rows.values()) for result in again] == [1, 1, sum(rows.values())]
    told = [line.split("│") for line in console.export_text().splitlines() if GOOD in line]
    checked = len(expectations(*rows))
    assert [[cell.strip() for cell in line[1:8]] for line in told] == [
        [result.run.dag_id, GOOD, "success", "8 of 8", f"{result.run.seconds:.1f}", rows_told, passed]
        for result, rows_told, passed in zip(
            good,
            ["1", "1", f"{sum(rows.values())} in {len(rows)} views"],
            ["18 of 18", "18 of 18", f"{checked} of {checked}"],
            strict=True,
        )
    ]


@dataclass(frozen=True)
class TwoRuns:
    """Two runs of the views' DAG that were triggered together, and what was seen of them then."""

    day: str
    first: str
    second: str
    backends: dict[str, int]
    """The server processes in which the first run refreshed each view."""
    second_then: str
    """The state of the second run, while the first was refreshing."""
    lost: str
    """The refresh task of the first run whose connection was cut."""
    before: Views


@pytest.fixture(scope="module")
def two_runs(running: Platform, good: list[Result]) -> TwoRuns:
    """Trigger two runs, and cut one connection of the first: its retry comes a minute later, and tests in between."""
    day = "2023-08-02"
    conf = {"as_of": day, "allow_older": True}
    before = shown(running.reader)
    with refreshes_held(running.admin):
        first, second = (running.airflow.trigger(demo.VIEWS_DAG, conf) for _ in range(2))

        def refreshing() -> bool:
            tasks = running.airflow.tasks(demo.VIEWS_DAG, first)
            return {task.task_id for task in tasks if task.state == "running"} == set(REFRESHES)

        wait_until(refreshing, "The refresh of all views at once", running.processes, seconds=60)
        backends = await_all_at_work(running.admin)
        second_then = running.airflow.run(demo.VIEWS_DAG, second).state
        terminate(running.admin, backends["items_to_order"])
    return TwoRuns(day, first, second, backends, second_then, "refresh_items_to_order", before)


def test_the_views_are_refreshed_at_once_and_a_lost_connection_leaves_what_they_show(
    running: Platform, two_runs: TwoRuns
) -> None:
    assert len(set(two_runs.backends.values())) == len(WANTED) == 4
    wanted_states = {
        "start": "success",
        **dict.fromkeys(REFRESHES, "success"),
        two_runs.lost: "up_for_retry",
        **dict.fromkeys(["validate_views", "publish_views", "end"]),
    }

    def lost() -> bool:
        tasks = running.airflow.tasks(demo.VIEWS_DAG, two_runs.first)
        return {task.task_id: task.state for task in tasks} == wanted_states

    wait_until(lost, "The refresh whose connection was cut", running.processes, seconds=60)
    assert shown(running.reader) == two_runs.before


def test_running_a_day_again_replaces_it(running: Platform, good: list[Result]) -> None:
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
        assert states(result)["publish_market_data"] == "upstream_failed"
        told = why(running, result, "validate_market_data")
        assert "high is the highest and low the lowest" in told
        assert "ticker=AMZN" in told
        assert "high_price=1.5" in told
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
        assert result.rows == {}
        log = running.airflow.log(result.run.dag_id, result.run.run_id, "start", 1)
        assert any("XNYS is closed on 2023-07-04" in str(entry) for entry in log)
    assert published(running, CLOSED) == []


def test_an_unknown_ticker_fails_at_once_and_says_so(running: Platform) -> None:
    (result,) = run(running, {"market_date": GOOD, "tickers": ["AAPL", "ZZZZ"]}, TASKFLOW)
    assert "ZZZZ" in why(running, result, "extract_market_data")
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
    (state,) = demo.run_dags(running, Console(), {"warehouse_migrations": {}})
    assert state.state == "success"
    assert running.airflow.xcom("warehouse_migrations", state.run_id, "migrate") == []


def publications(running: Platform, name: str, day: str | None = None) -> list[dict[str, Any]]:
    """Give what the register tells readers of an object, or of one day of it, oldest first."""
    with running.reader.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select * from warehouse.publication where object = %(name)s and (%(day)s::date is null or day = %(day)s)"
            " order by id",
            {"name": name, "day": day},
        ).fetchall()


def test_a_market_day_goes_back_to_what_it_was(running: Platform, good: list[Result]) -> None:
    before = publications(running, "market.transformed_market_data", GOOD)[-1]
    run(running, {"market_date": GOOD, "tickers": ["NFLX"]}, TRADITIONAL)
    assert published(running, GOOD) == recorded(GOOD, "NFLX")

    (rollback,) = run(running, {"object": "market.transformed_market_data", "day": GOOD}, ROLLBACK_DAG)

    assert rollback.run.state == "success"
    assert published(running, GOOD) == recorded(GOOD, "AAPL", "AMZN")
    *_, left, now = publications(running, "market.transformed_market_data", GOOD)
    assert (now["is_current"], left["is_current"]) == (True, False)
    assert (now["batch_id"], now["restores"]) == (before["batch_id"], before["id"])
    assert (now["dag_id"], now["run_id"]) == (ROLLBACK_DAG, rollback.run.run_id)


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        (
            {"object": "market.transformed_market_data", "day": "2023-08-09"},
            "market.transformed_market_data has no earlier publication of 2023-08-09 to go back to.",
        ),
        (
            {"object": "daily_operations", "day": "2023-08-09"},
            "The views of daily_operations have no earlier publication of 2023-08-09 to go back to.",
        ),
    ],
    ids=["market", "views"],
)
def test_a_rollback_to_nothing_says_so(running: Platform, conf: dict[str, Any], told: str) -> None:
    (result,) = run(running, conf, ROLLBACK_DAG)
    assert told in why(running, result, "roll_back")


def finished(running: Platform, run_id: str) -> Result:
    """Wait for a run of the views' DAG; gives what it came to."""

    def ended() -> bool:
        return running.airflow.run(demo.VIEWS_DAG, run_id).state in FINISHED

    wait_until(ended, run_id, running.processes, seconds=180)
    return demo.collect(running, [running.airflow.run(demo.VIEWS_DAG, run_id)])[0]


def test_a_lost_connection_is_healed_by_the_retry_and_the_next_run_waits_for_it(
    running: Platform, two_runs: TwoRuns
) -> None:
    first, second = (finished(running, run_id) for run_id in (two_runs.first, two_runs.second))
    assert [first.run.state, second.run.state] == ["success", "success"]
    tries = {task.task_id: task.try_number for task in first.tasks if task.task_id in REFRESHES}
    assert tries == {**dict.fromkeys(REFRESHES, 1), two_runs.lost: 2}
    assert two_runs.second_then == "queued"
    assert shown(running.reader) == wanted(running.admin, two_runs.day) != two_runs.before
    for view in WANTED:
        lines = publications(running, f"daily_operations.{view}")[-2:]
        assert [(line["run_id"], line["is_current"]) for line in lines] == [
            (two_runs.first, False),
            (two_runs.second, True),
        ]


@pytest.fixture
def before(running: Platform, good: list[Result]) -> Views:
    """Give what the views show when no run is under way that could change it."""
    url = f"{running.ui}/api/v2/dags/{demo.VIEWS_DAG}/dagRuns"
    for each in requests.get(url, {"state": ["running", "queued"]}, timeout=10).json()["dag_runs"]:
        finished(running, each["dag_run_id"])
    return shown(running.reader)


def refresh(running: Platform, day: str, **conf: bool) -> Result:
    (result,) = run(running, {"as_of": day, **conf}, demo.VIEWS_DAG)
    return result


@contextmanager
def source_changed(running: Platform, change: str, back: str) -> Iterator[None]:
    """Let the source tables be otherwise within the context."""
    with running.admin.connect(autocommit=True) as connection:
        connection.execute(change.encode())
        try:
            yield
        finally:
            connection.execute(back.encode())


def test_a_bad_source_closes_the_gate_for_all_views_until_it_is_repaired(running: Platform, before: Views) -> None:
    day = "2023-09-03"
    negate = (
        "update daily_operations.guest_attendance set quantity_sold = -quantity_sold"
        f" where (admission_date, entrance_name) = ('{day}', 'Main Gate')"
    )
    with source_changed(running, negate, negate):
        result = refresh(running, day)
    assert states(result) == {
        "start": "success",
        **dict.fromkeys(REFRESHES, "success"),
        "validate_views": "failed",
        "publish_views": "upstream_failed",
        "end": "upstream_failed",
    }
    assert result.gate
    assert (result.gate["verdict"], result.gate["passed"], result.gate["failed"]) == ("failed", 41, 1)
    told = why(running, result, "validate_views")
    assert "admission_by_entrance: quantities and revenues are" in told
    assert "entrance_name=Main Gate" in told
    assert shown(running.reader) == before

    assert refresh(running, day).ok
    assert shown(running.reader) == wanted(running.admin, day) != before


def test_a_source_that_changed_its_columns_stops_the_run_before_anything_is_refreshed(
    running: Platform, before: Views
) -> None:
    renamed = "alter table daily_operations.inventory rename column {} to {}"
    with source_changed(running, renamed.format("order_more", "reorder"), renamed.format("reorder", "order_more")):
        result = refresh(running, "2023-09-04", allow_older=True)
    told = why(running, result, "start")
    assert 'include/daily_operations/items_to_order.sql: column "order_more" does not exist' in told
    assert {state for task_id, state in states(result).items() if task_id != "start"} == {"upstream_failed"}
    assert shown(running.reader) == before


def test_an_older_day_is_published_only_when_asked_for_and_can_be_taken_back(running: Platform, before: Views) -> None:
    day = "2023-07-15"
    shown_then = publications(running, "daily_operations.items_to_order")[-1]

    refused = refresh(running, day)
    told = f"The views of daily_operations show {shown_then['day']}: to publish the older {day}, set the param"
    assert f"{told} allow_older." in why(running, refused, "start")
    assert shown(running.reader) == before

    assert refresh(running, day, allow_older=True).ok
    assert shown(running.reader) == wanted(running.admin, day) != before

    (rollback,) = run(running, {"object": "daily_operations"}, ROLLBACK_DAG)
    assert rollback.run.state == "success"
    assert shown(running.reader) == before
    for view in WANTED:
        now = publications(running, f"daily_operations.{view}")[-1]
        assert (now["dag_id"], now["run_id"], now["is_current"]) == (ROLLBACK_DAG, rollback.run.run_id, True)
        assert (now["day"], now["batch_id"]) == (shown_then["day"], shown_then["batch_id"])


def test_a_published_run_that_is_cleared_publishes_a_batch_of_its_own(
    running: Platform, good: list[Result], before: Views
) -> None:
    views = good[-1]
    assert views.published
    url = f"{running.ui}/api/v2/dags/{demo.VIEWS_DAG}/dagRuns/{quote(views.run.run_id, safe='')}/clear"
    requests.post(url, json={"dry_run": False, "only_failed": False}, timeout=10).raise_for_status()

    again = finished(running, views.run.run_id)

    assert again.ok
    assert again.published
    assert {task.try_number for task in again.tasks} == {2}
    assert again.published["batch_id"] != views.published["batch_id"]
    assert again.rows == views.rows
    assert shown(running.reader) == wanted(running.admin, GOOD)
    for view in WANTED:
        lines = publications(running, f"daily_operations.{view}")
        of_the_run = [line for line in lines if line["run_id"] == again.run.run_id]
        assert [(str(line["batch_id"]), line["is_current"]) for line in of_the_run] == [
            (views.published["batch_id"], False),
            (again.published["batch_id"], True),
        ]


def test_nothing_runs_by_itself_and_nothing_listens_beyond_loopback(running: Platform) -> None:
    for dag_id in (*demo.MARKET_DAGS, demo.VIEWS_DAG):
        runs = requests.get(f"{running.ui}/api/v2/dags/{dag_id}/dagRuns", timeout=10).json()["dag_runs"]
        assert {each["run_type"] for each in runs} <= {"manual"}
    listening = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            sockets = process.net_connections("tcp")
            listening |= {socket.laddr.ip for socket in sockets if socket.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


def test_no_secret_is_written_anywhere(running: Platform, good: list[Result], e2e_state: State) -> None:
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
