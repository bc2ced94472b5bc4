"""What each task of the market DAGs does beside calling the functions that other tests look at."""

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pandas
import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from include.airflow_edge import batch_id
from include.market import polygon, tasks
from include.market.params import MARKET_COLUMNS
from include.market.tasks import Batch

from include.warehouse.connections import MARKET
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.quality.batches import ASKED, DAY, GOOD, TaskInstance, row, stage
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.publications import registered, staged

BATCH = Batch(market_date="2023-08-01", tickers=list(ASKED), batch_id=str(uuid4()))


def run(interval_start: datetime | None = None, after: datetime | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        dag_id="market_etl__traditional",
        run_id="a run",
        data_interval_start=interval_start,
        run_after=after or datetime(2023, 8, 2, 9, tzinfo=UTC),
    )


def params(market_date: object = None, tickers: object = ASKED) -> dict[str, object]:
    return {"market_date": market_date, "tickers": list(tickers) if isinstance(tickers, tuple) else tickers}


INTERVAL = datetime(2023, 7, 28, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "interval_start", "after", "day"),
    [
        ("2023-07-03", INTERVAL, datetime(2023, 8, 2, 9, tzinfo=UTC), "2023-07-03"),
        (None, INTERVAL, datetime(2023, 8, 2, 9, tzinfo=UTC), "2023-07-28"),
        ("", INTERVAL, datetime(2023, 8, 2, 9, tzinfo=UTC), "2023-07-28"),
        (None, None, datetime(2023, 8, 2, 9, tzinfo=UTC), "2023-08-01"),
        (None, None, datetime(2023, 8, 1, 19, tzinfo=UTC), "2023-07-31"),  # the session is not over
        (None, None, datetime(2023, 7, 4, 21, tzinfo=UTC), "2023-07-03"),  # a holiday
    ],
    ids=["the param", "the interval", "an empty param", "the last session", "while one is open", "on a holiday"],
)
def test_the_day_is_the_params_else_the_intervals_else_the_last_sessions(
    asked: object, interval_start: datetime | None, after: datetime, day: str
) -> None:
    assert tasks.asked_for(run(interval_start, after), params(asked)) == (date.fromisoformat(day), list(ASKED))


@pytest.mark.usefixtures("connected")
def test_a_run_has_a_batch_of_its_own_until_that_is_published_and_then_the_next(app: psycopg.Connection[Any]) -> None:
    rows = pandas.DataFrame(GOOD, columns=list(MARKET_COLUMNS))
    first = {"market_date": "2023-08-01", "tickers": list(ASKED), "batch_id": str(batch_id(run()))}
    assert tasks.open_batch(run(), params("2023-08-01")) == first
    assert tasks.open_batch(run(), params("2023-08-01")) == first

    opened = []
    for _ in range(3):  # each time cleared from its start task on
        opened.append(tasks.open_batch(run(), params("2023-08-01")))
        tasks.load_market_data(opened[-1], rows)
        tasks.publish_market_data(opened[-1], run())

    assert opened[0] == first
    assert [line.batch_id for line in registered(app)] == [UUID(each["batch_id"]) for each in opened]
    assert len(staged(app)) == 3


@pytest.mark.parametrize(
    ("dag_run", "asked", "reason"),
    [
        (run(), "2023-08-05", "Nothing to load: XNYS is closed on Saturday 2023-08-05."),
        (run(datetime(2023, 7, 4, 9, tzinfo=UTC)), None, "Nothing to load: XNYS is closed on 2023-07-04 (July 4th)."),
    ],
)
def test_a_closed_day_is_skipped_and_says_why(dag_run: SimpleNamespace, asked: object, reason: str) -> None:
    with pytest.raises(AirflowSkipException) as raised:
        tasks.open_batch(dag_run, params(asked))

    assert str(raised.value) == reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (params(f"{date.today().year + 1}-01-04"), "XNYS has not closed on .* yet"),
        (params("1999-12-31"), "is outside the XNYS calendar"),
        (params("20230801"), "give a date as YYYY-MM-DD"),
        (params("yesterday"), "give a date as YYYY-MM-DD"),
        (params(tickers=[]), "give a list with at least one"),
        (params(tickers="AAPL"), "give a list with at least one"),
        (params(tickers=["AAPL", "A B"]), "tickers has 'A B'"),
        (params(tickers=["AAPL", "AAPL"]), "twice"),
    ],
)
def test_what_cannot_be_loaded_fails_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        tasks.open_batch(run(), given)


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_api_key_says_what_to_do(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_VAR_POLYGON_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("AIRFLOW_VAR_POLYGON_API_KEY", key)

    with pytest.raises(AirflowFailException, match="POLYGON_API_KEY is not set: add it under Admin > Variables"):
        tasks.extract_market_data(BATCH)


def test_extract_gives_the_answers_as_they_came_in_the_order_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    class Client(polygon.PolygonClient):
        def __init__(self, base_url: str, api_key: str) -> None:
            super().__init__(base_url, api_key)
            asked.extend([base_url, api_key])

        def daily_summary(self, ticker: str, day: date) -> str:
            asked.append(day)
            return f'{{ "as": "it came for {ticker}" }}'

    monkeypatch.setattr(polygon, "PolygonClient", Client)
    monkeypatch.setenv("AIRFLOW_VAR_POLYGON_API_KEY", "the-key")
    monkeypatch.setenv("POLYGON_BASE_URL", "http://127.0.0.1:1")

    assert tasks.extract_market_data(Batch(**{**BATCH, "tickers": ["B", "A"]})) == [
        {"ticker": "B", "body": '{ "as": "it came for B" }'},
        {"ticker": "A", "body": '{ "as": "it came for A" }'},
    ]
    assert asked == ["http://127.0.0.1:1", "the-key", DAY, DAY]


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the tasks their connection, and the folder where their reports go."""
    give(monkeypatch, MARKET, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))
    return tmp_path / "reports"


def staged_batch(app: psycopg.Connection[Any], rows: list[Any]) -> Batch:
    return Batch(market_date=DAY.isoformat(), tickers=list(ASKED), batch_id=str(stage(app, rows)))


def validation(app: psycopg.Connection[Any], batch: Batch) -> int:
    """Give the id of the one validation that is stored of a batch."""
    found = app.execute("select id from quality.validation where batch_id = %s", [batch["batch_id"]]).fetchall()
    [(id_,)] = found
    return int(id_)


def test_a_batch_that_passes_pushes_its_outcome(app: psycopg.Connection[Any], connected: Path) -> None:
    batch, ti = staged_batch(app, GOOD), TaskInstance()

    tasks.validate_market_data(batch, ti)

    report = ti.pushed["return_value"].pop("report")
    assert ti.pushed == {"return_value": {"checkpoint": "market", "verdict": "passed", "passed": 18, "failed": 0}}
    page = Path(report.removeprefix("file://"))
    assert page == connected / "market" / "2023-08-01" / f"{validation(app, batch)}.html"
    assert "every ticker that was asked for is there" in page.read_text()


def test_a_batch_that_fails_pushes_its_outcome_and_closes_the_door(
    app: psycopg.Connection[Any], connected: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch, ti = staged_batch(app, [row("AAPL", volume=-7.0), row("AMZN")]), TaskInstance()

    with pytest.raises(AirflowFailException) as raised:
        tasks.validate_market_data(batch, ti)

    report = ti.pushed["return_value"].pop("report")
    assert ti.pushed == {"return_value": {"checkpoint": "market", "verdict": "failed", "passed": 17, "failed": 1}}
    page = Path(report.removeprefix("file://"))
    assert page == connected / "market" / "2023-08-01" / f"{validation(app, batch)}.html"
    assert "volume is finite and not negative" in page.read_text()
    told = "critical: market: volume is finite and not negative: observed 1\n    batch_id="
    assert f"nothing of batch {batch['batch_id']} is published" in str(raised.value)
    assert told in str(raised.value)
    assert "volume=-7.0" in str(raised.value)
    assert [each.levelname for each in caplog.records if told in each.getMessage()] == ["ERROR"]


def test_a_warning_lets_the_batch_through_though_its_report_has_nowhere_to_go(
    app: psycopg.Connection[Any], connected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "/dev/null/reports")
    moved = opened_at_100(130.0)
    batch, ti = staged_batch(app, [moved, row("AMZN")]), TaskInstance()

    tasks.validate_market_data(batch, ti)

    assert ti.pushed["return_value"] == {
        "checkpoint": "market",
        "verdict": "warned",
        "passed": 17,
        "failed": 1,
        "report": None,
    }


def opened_at_100(close: float) -> Any:
    return row("AAPL", open_price=100.0, low_price=100.0, close_price=close, high_price=close, change=close - 100.0)


@pytest.mark.usefixtures("connected")
def test_what_is_loaded_is_published_once_however_often_it_is_tried(app: psycopg.Connection[Any]) -> None:
    rows = pandas.DataFrame(GOOD, columns=list(MARKET_COLUMNS))
    for _ in range(2):
        assert tasks.load_market_data(BATCH, rows) == 2
    for _ in range(2):
        assert tasks.publish_market_data(BATCH, run()) == {
            "object": "market.transformed_market_data",
            "day": "2023-08-01",
            "batch_id": BATCH["batch_id"],
            "rows": 2,
        }

    found = app.execute("select * from market.transformed_market_data order by ticker").fetchall()
    assert found == [tuple(each.values()) for each in GOOD]
    lines = app.execute("select day, batch_id, dag_id, run_id from warehouse.publication").fetchall()
    assert lines == [(DAY, UUID(BATCH["batch_id"]), "market_etl__traditional", "a run")]


@pytest.mark.usefixtures("connected")
def test_a_batch_that_was_published_is_not_loaded_again(app: psycopg.Connection[Any]) -> None:
    rows = pandas.DataFrame(GOOD, columns=list(MARKET_COLUMNS))
    tasks.load_market_data(BATCH, rows)
    tasks.publish_market_data(BATCH, run())

    with pytest.raises(AirflowFailException, match="was published and stays as it is; clear the run from its start"):
        tasks.load_market_data(BATCH, rows.head(1))


@pytest.mark.usefixtures("connected")
def test_as_many_batches_of_a_day_are_kept_as_the_setting_says(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", "2")
    batches = []
    for _ in range(3):
        batches.append(staged_batch(app, GOOD))
        tasks.publish_market_data(batches[-1], run())

    assert staged(app) == {UUID(each["batch_id"]) for each in batches[1:]}


@pytest.mark.usefixtures("connected")
def test_a_batch_that_was_never_loaded_is_not_published() -> None:
    with pytest.raises(AirflowFailException, match="is not in staging"):
        tasks.publish_market_data(BATCH, run())
