"""What each task of the market DAGs does beside calling the functions that other tests look at."""

import json
import re
from datetime import UTC, date, datetime
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pandas
import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from include.datasets.market import tasks
from include.datasets.market.dataset import MARKET
from include.datasets.market.params import MARKET_COLUMNS
from include.pipeline.batch import batch_id
from include.warehouse.roles import APP
from local.login import Login
from local.sources.market.whole_market import api_rows, whole_market
from local.state import State
from tests.datasets.market.batches import DAY, GOOD, PUBLISHED, STAGING, TICKERS, as_batch, expectations, row, stage
from tests.include.warehouse.airflow_connections import give
from tests.toy.batches import TaskInstance, registered

BATCH = as_batch(uuid4())


def run(interval_start: datetime | None = None, after: datetime | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        dag_id="market_etl__traditional",
        run_id="a run",
        data_interval_start=interval_start,
        run_after=after or datetime(2023, 8, 2, 9, tzinfo=UTC),
    )


def params(market_date: object = None, tickers: object = TICKERS) -> dict[str, object]:
    return {"market_date": market_date, "tickers": list(tickers) if isinstance(tickers, tuple) else tickers}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Return the folder where the tasks write their reports."""
    return tmp_path / "reports"


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, reports: Path) -> None:
    """Set up the connection of the tasks, and the folder of their reports."""
    give(monkeypatch, MARKET.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(reports))


INTERVAL = datetime(2023, 7, 28, 9, tzinfo=UTC)


@pytest.mark.usefixtures("connected")
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
    dag_run = run(interval_start, after)
    assert tasks.open_batch(dag_run, params(asked, ["B", "A"])) == {
        "dataset": "market",
        "day": day,
        "batch_id": str(batch_id(dag_run, "market", date.fromisoformat(day))),
        "publishes": [PUBLISHED],
        "params": {"tickers": ["B", "A"]},
    }


@pytest.mark.usefixtures("connected")
def test_a_run_that_is_cleared_after_its_publication_gets_a_new_batch(app: psycopg.Connection[Any]) -> None:
    rows = pandas.DataFrame(GOOD, columns=list(MARKET_COLUMNS))
    first = tasks.open_batch(run(), params("2023-08-01"))
    assert tasks.open_batch(run(), params("2023-08-01")) == first

    opened = []
    for _ in range(3):  # each time cleared from its start task on
        opened.append(tasks.open_batch(run(), params("2023-08-01")))
        tasks.load_market_data(opened[-1], rows)
        tasks.publish_market_data(opened[-1], run(), OutletEventAccessors())

    assert opened[0] == first
    batches = [UUID(each["batch_id"]) for each in opened]
    assert [line.batch_id for line in registered(app)] == batches
    assert staged(app) == set(batches)


def staged(app: psycopg.Connection[Any]) -> set[UUID]:
    """Return the batches that are in the staging table."""
    return {found for (found,) in app.execute(f"select distinct batch_id from {STAGING}".encode())}


@pytest.mark.parametrize(
    ("dag_run", "asked", "reason"),
    [
        (run(), "2023-08-05", "Nothing to load: XNYS is closed on Saturday 2023-08-05."),
        (run(datetime(2023, 7, 4, 9, tzinfo=UTC)), None, "Nothing to load: XNYS is closed on 2023-07-04 (July 4th)."),
    ],
)
def test_a_closed_day_is_skipped_with_the_reason(dag_run: SimpleNamespace, asked: object, reason: str) -> None:
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
        (params(tickers="AAPL"), r'give a list with at least one, such as \["AAPL"\], or "all"'),
        (params(tickers=["AAPL", "A B"]), "tickers has 'A B'"),
        (params(tickers=["AAPL", "AAPL"]), "twice"),
    ],
)
def test_what_cannot_be_loaded_fails_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        tasks.open_batch(run(), given)


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_api_key_fails_with_what_to_do(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_VAR_POLYGON_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("AIRFLOW_VAR_POLYGON_API_KEY", key)

    with pytest.raises(AirflowFailException, match="POLYGON_API_KEY is not set: add it under Admin > Variables"):
        tasks.extract_market_data(BATCH)


@pytest.fixture
def asked(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serve a market API that answers everything with the path that was asked for; returns the requests."""
    paths: list[str] = []

    def answer(request: Request) -> Response:
        assert request.headers["Authorization"] == "Bearer the-key"
        paths.append(request.full_path)
        return Response(f"answer to {request.path}")

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    monkeypatch.setenv("AIRFLOW_VAR_POLYGON_API_KEY", "the-key")
    monkeypatch.setenv("POLYGON_BASE_URL", httpserver.url_for(""))
    monkeypatch.setenv("POLYGON_REQUESTS_PER_MINUTE", "0")
    return paths


def test_extract_returns_the_answers_unchanged_in_the_order_of_the_tickers(asked: list[str]) -> None:
    assert tasks.extract_market_data(as_batch(uuid4(), ["B", "A"])) == [
        {"ticker": "B", "body": "answer to /v1/open-close/B/2023-08-01"},
        {"ticker": "A", "body": "answer to /v1/open-close/A/2023-08-01"},
    ]
    assert [path.split("?")[1] for path in asked] == ["adjusted=true", "adjusted=true"]


MANY = [f"T{number}" for number in range(tasks.MOST_BY_NAME + 1)]


@pytest.mark.parametrize("tickers", [[], MANY], ids=["all", "many"])
def test_the_whole_market_and_many_tickers_are_one_request(asked: list[str], tickers: list[str]) -> None:
    [answer] = tasks.extract_market_data(as_batch(uuid4(), tickers))

    assert answer["ticker"] is None
    assert asked == ["/v2/aggs/grouped/locale/us/market/stocks/2023-08-01?adjusted=true&include_otc=false"]


def test_as_many_as_are_asked_for_by_name_are_one_request_each(asked: list[str]) -> None:
    assert len(tasks.extract_market_data(as_batch(uuid4(), MANY[1:]))) == tasks.MOST_BY_NAME == len(asked)


@pytest.mark.parametrize("tickers", [[], ["A"]])
def test_prices_can_be_asked_for_as_they_were_traded(
    asked: list[str], tickers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYGON_ADJUSTED", "false")
    tasks.extract_market_data(as_batch(uuid4(), tickers))

    assert "adjusted=false" in asked[0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("POLYGON_ADJUSTED", "no", "POLYGON_ADJUSTED is 'no': give true or false"),
        ("POLYGON_REQUESTS_PER_MINUTE", "-1", "POLYGON_REQUESTS_PER_MINUTE is '-1': give a whole number"),
        ("POLYGON_REQUESTS_PER_MINUTE", "five", "POLYGON_REQUESTS_PER_MINUTE is 'five': give a whole number"),
    ],
)
def test_a_wrong_setting_fails_before_anything_is_asked(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(AirflowFailException, match=message):
        tasks.extract_market_data(BATCH)
    assert asked == []


@pytest.mark.usefixtures("connected")
def test_each_request_takes_a_turn_of_the_limit_in_the_warehouse(
    asked: list[str], app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYGON_REQUESTS_PER_MINUTE", "5")
    tasks.extract_market_data(BATCH)

    taken = app.execute("select service, cardinality(turns) from warehouse.request_limit").fetchall()
    assert taken == [("the market API", len(TICKERS))]
    assert len(asked) == len(TICKERS)


@pytest.mark.usefixtures("connected")
def test_a_whole_market_goes_from_the_answer_to_published_rows(app: psycopg.Connection[Any], reports: Path) -> None:
    bars = whole_market(DAY, 500)
    results = api_rows(bars, 1690920000000)
    body = json.dumps({"status": "OK", "resultsCount": len(results), "results": results})
    batch, ti = as_batch(uuid4(), []), TaskInstance()

    rows = tasks.transform_market_data(batch, tasks.flatten_market_data(batch, [{"ticker": None, "body": body}]))
    assert tasks.load_market_data(batch, rows) == len(bars)
    tasks.validate_market_data(batch, ti)
    assert tasks.publish_market_data(batch, run(), OutletEventAccessors())["rows"] == len(bars)

    assert ti.pushed["return_value"]["verdict"] == "passed"
    found = app.execute(f"select ticker, open_price, volume from {PUBLISHED}".encode()).fetchall()
    assert sorted(found) == sorted((ticker, bar["open"], bar["volume"]) for ticker, bar in bars.items())
    assert max(len(text) for (text,) in app.execute("select observed from quality.expectation_result")) <= 1000


def test_answers_become_rows_of_the_published_table() -> None:
    answers: Any = [
        {
            "ticker": each["ticker"],
            "body": json.dumps(
                {"status": "OK", "from": str(DAY), "symbol": each["ticker"]}
                | {figure: each[f"{figure}_price"] for figure in ("open", "high", "low", "close")}
                | {"volume": each["volume"]}
            ),
        }
        for each in GOOD
    ]

    rows = tasks.transform_market_data(BATCH, tasks.flatten_market_data(BATCH, answers))

    assert rows.to_dict("records") == GOOD


@pytest.mark.usefixtures("connected")
def test_a_batch_that_passes_pushes_its_outcome_and_the_page_of_its_report(
    app: psycopg.Connection[Any], reports: Path
) -> None:
    batch, ti = as_batch(stage(app, GOOD)), TaskInstance()

    tasks.validate_market_data(batch, ti)

    page = Path(ti.pushed["return_value"].pop("report").removeprefix("file://"))
    assert ti.pushed == {
        "return_value": {"checkpoint": "market", "verdict": "passed", "passed": len(expectations()), "failed": 0}
    }
    assert page.is_relative_to(reports / "market" / "2023-08-01")
    text = unescape(page.read_text())
    assert [name for name in expectations() if name not in text] == []


@pytest.mark.usefixtures("connected")
def test_a_batch_that_fails_pushes_its_outcome_and_fails_the_task(
    app: psycopg.Connection[Any], reports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch, ti = as_batch(stage(app, [row("AAPL", volume=-7.0), row("AMZN")])), TaskInstance()

    with pytest.raises(AirflowFailException) as raised:
        tasks.validate_market_data(batch, ti)

    page = Path(ti.pushed["return_value"].pop("report").removeprefix("file://"))
    assert ti.pushed == {
        "return_value": {"checkpoint": "market", "verdict": "failed", "passed": len(expectations()) - 1, "failed": 1}
    }
    assert page.is_relative_to(reports / "market" / "2023-08-01")
    assert "volume is between 0 and 1,000,000,000,000 shares" in page.read_text()
    failure = "critical: market: volume is between 0 and 1,000,000,000,000 shares: observed 1\n    batch_id="
    assert f"nothing of batch {batch['batch_id']} is published" in str(raised.value)
    assert failure in str(raised.value)
    assert "volume=-7.0" in str(raised.value)
    assert [each.levelname for each in caplog.records if failure in each.getMessage()] == ["ERROR"]


@pytest.mark.usefixtures("connected")
def test_a_warning_lets_the_batch_through_even_when_its_report_cannot_be_written(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "/dev/null/reports")
    moved = row("AAPL", open_price=100.0, low_price=100.0, close_price=130.0, high_price=130.0, change=30.0)
    ti = TaskInstance()

    tasks.validate_market_data(as_batch(stage(app, [moved, row("AMZN")])), ti)

    assert ti.pushed["return_value"] == {
        "checkpoint": "market",
        "verdict": "warned",
        "passed": len(expectations()) - 1,
        "failed": 1,
        "report": None,
    }


@pytest.mark.usefixtures("connected")
def test_what_is_loaded_is_published_once_however_often_it_is_tried(app: psycopg.Connection[Any]) -> None:
    rows = pandas.DataFrame(GOOD, columns=list(MARKET_COLUMNS))
    for _ in range(2):
        assert tasks.load_market_data(BATCH, rows) == len(GOOD)
    for _ in range(2):
        assert tasks.publish_market_data(BATCH, run(), OutletEventAccessors()) == {
            "object": PUBLISHED,
            "day": "2023-08-01",
            "batch_id": BATCH["batch_id"],
            "rows": len(GOOD),
        }

    found = app.execute(f"select * from {PUBLISHED} order by ticker".encode()).fetchall()
    assert found == [tuple(each.values()) for each in GOOD]
    lines = app.execute("select object, day, batch_id, dag_id, run_id from warehouse.publication").fetchall()
    assert lines == [(PUBLISHED, DAY, UUID(BATCH["batch_id"]), "market_etl__traditional", "a run")]


@pytest.mark.usefixtures("connected")
def test_a_batch_that_was_published_is_not_loaded_again() -> None:
    rows = pandas.DataFrame(GOOD, columns=list(MARKET_COLUMNS))
    tasks.load_market_data(BATCH, rows)
    tasks.publish_market_data(BATCH, run(), OutletEventAccessors())

    with pytest.raises(AirflowFailException, match="was published and stays as it is; clear the run from its start"):
        tasks.load_market_data(BATCH, rows.head(1))


@pytest.mark.usefixtures("connected")
def test_a_batch_that_was_never_loaded_is_not_published() -> None:
    with pytest.raises(AirflowFailException, match="is not in staging"):
        tasks.publish_market_data(BATCH, run(), OutletEventAccessors())
