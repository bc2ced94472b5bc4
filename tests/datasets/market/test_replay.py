"""The market API replay, over HTTP, with the requests of the pipeline and of the official client."""

import csv
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import exchange_calendars
import pytest
import requests
from polygon import BadResponse, RESTClient  # type: ignore[import-untyped]
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from urllib3.exceptions import MaxRetryError

from local.sources.market.api import main
from local.sources.market.prices import DATA, REPLAY_KEY

COMMAND = [sys.executable, "-m", "local.sources.market.api"]
HEADER = "market_date,ticker,open,high,low,close,volume"
OPEN_CLOSE = "/v1/open-close/AAPL/2023-08-01"
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks"


def ask(base: str, path: str, authorization: str | None = f"Bearer {REPLAY_KEY}") -> requests.Response:
    headers = {"Authorization": authorization} if authorization else {}
    return requests.get(base + path, headers=headers, timeout=10)


@contextmanager
def serve(*options: str) -> Iterator[str]:
    """Run the replay on a free port, yield its address, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    with subprocess.Popen([*COMMAND, "--port", str(port), *options]) as server:
        try:
            refused = retry_if_exception_type(requests.ConnectionError)
            for attempt in Retrying(retry=refused, wait=wait_fixed(0.1), stop=stop_after_delay(60), reraise=True):
                with attempt:
                    assert server.poll() is None, f"the replay ended with status {server.returncode}"
                    assert ask(base, "/healthz", None).status_code == 200
            yield base
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serve() as address:
        yield address


@pytest.fixture
def client(base: str) -> RESTClient:
    return RESTClient(api_key=REPLAY_KEY, base=base)


def test_open_close_has_the_figures_of_the_file(base: str) -> None:
    answer = ask(base, OPEN_CLOSE + "?adjusted=true")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "OK",
        "from": "2023-08-01",
        "symbol": "AAPL",
        "open": 196.24,
        "high": 196.73,
        "low": 195.28,
        "close": 195.61,
        "volume": 35175100,
    }


def test_every_row_of_the_file_is_served_unchanged(base: str) -> None:
    with DATA.open(newline="") as file:
        rows = list(csv.DictReader(file))
    served = [
        (day, row["T"], row["o"], row["h"], row["l"], row["c"], row["v"])
        for day in sorted({row["market_date"] for row in rows})
        for row in ask(base, f"{GROUPED}/{day}").json()["results"]
    ]
    figures = ("open", "high", "low", "close", "volume")
    assert served == [(row["market_date"], row["ticker"], *(float(row[name]) for name in figures)) for row in rows]


def test_grouped_counts_its_rows_and_repeats_whether_they_are_adjusted(base: str) -> None:
    body = ask(base, f"{GROUPED}/2023-08-01?adjusted=true&include_otc=false").json()
    assert [row["T"] for row in body.pop("results")] == ["AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA"]
    assert re.fullmatch("[0-9a-f]{32}", body.pop("request_id"))
    assert body == {"status": "OK", "adjusted": True, "queryCount": 6, "resultsCount": 6}
    assert ask(base, f"{GROUPED}/2023-08-01?adjusted=false").json()["adjusted"] is False


@pytest.mark.parametrize(
    ("day", "end"),
    [
        pytest.param("2023-02-01", datetime(2023, 2, 1, 21, tzinfo=UTC), id="winter"),
        pytest.param("2023-08-01", datetime(2023, 8, 1, 20, tzinfo=UTC), id="summer"),
        pytest.param("2023-07-03", datetime(2023, 7, 3, 17, tzinfo=UTC), id="half-day"),
    ],
)
def test_a_grouped_row_is_stamped_with_the_end_of_its_session(base: str, day: str, end: datetime) -> None:
    stamps = {row["t"] for row in ask(base, f"{GROUPED}/{day}").json()["results"]}
    assert stamps == {end.timestamp() * 1000}


@pytest.mark.parametrize("day", ["2023-07-04", "2023-08-05", "2022-12-31"])
def test_on_a_closed_day_grouped_is_empty_and_open_close_not_found(base: str, day: str) -> None:
    grouped = ask(base, f"{GROUPED}/{day}")
    assert grouped.status_code == 200
    body = grouped.json()
    del body["request_id"]
    assert body == {"status": "OK", "adjusted": True, "queryCount": 0, "resultsCount": 0}
    assert ask(base, f"/v1/open-close/AAPL/{day}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/v1/open-close/NOPE/2023-08-01", id="unknown-ticker"),
        pytest.param("/v1/open-close/aapl/2023-08-01", id="ticker-in-the-wrong-case"),
        pytest.param("/v1/open-close/AAPL/2022-12-30", id="session-before-the-file"),
        pytest.param("/v1/open-close/AAPL/2023-09-22", id="session-after-the-file"),
        pytest.param(f"{GROUPED}/2023-09-22", id="grouped-session-after-the-file"),
        pytest.param(f"{GROUPED}/1999-01-04", id="grouped-before-the-calendar"),
    ],
)
def test_what_the_file_does_not_have_is_not_found(base: str, path: str) -> None:
    answer = ask(base, path)
    assert answer.status_code == 404
    body = answer.json()
    assert re.fullmatch("[0-9a-f]{32}", body.pop("request_id"))
    assert body == {"status": "NOT_FOUND", "message": "Data not found."}


@pytest.mark.parametrize("prefix", ["/v1/open-close/AAPL", GROUPED])
@pytest.mark.parametrize("day", ["today", "20230801", "2023-8-1", "2023-02-30", "2023-W31-2"])
def test_a_malformed_date_is_forbidden(base: str, prefix: str, day: str) -> None:
    answer = ask(base, f"{prefix}/{day}")
    assert (answer.status_code, answer.json()["status"]) == (403, "NOT_AUTHORIZED")
    assert answer.json()["message"] == "You are not entitled to this data."


@pytest.mark.parametrize("prefix", ["/v1/open-close/AAPL", GROUPED])
def test_a_future_date_is_forbidden(base: str, prefix: str) -> None:
    answer = ask(base, f"{prefix}/{date.today() + timedelta(days=3)}")
    assert (answer.status_code, answer.json()["status"]) == (403, "NOT_AUTHORIZED")
    assert answer.json()["message"] == "Your plan doesn't include this data timeframe"


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", REPLAY_KEY])
@pytest.mark.parametrize("path", [OPEN_CLOSE, f"{GROUPED}/not-a-date"])
def test_without_the_key_nothing_else_is_checked(base: str, path: str, authorization: str | None) -> None:
    answer = ask(base, path, authorization)
    assert answer.status_code == 401
    body = answer.json()
    assert re.fullmatch("[0-9a-f]{32}", body.pop("request_id"))
    assert body == {"status": "ERROR", "error": "Unknown API Key"}


def test_every_request_id_is_different(base: str) -> None:
    ids = [ask(base, path).json()["request_id"] for path in [f"{GROUPED}/2023-08-01", "/nowhere"] * 2]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("path", ["/", "/v1/open-close/AAPL", OPEN_CLOSE + "/", "/docs", "/openapi.json"])
def test_an_unknown_path_is_not_found_in_json(base: str, path: str) -> None:
    answer = ask(base, path)
    assert answer.status_code == 404
    assert answer.json()["status"] == "NOT_FOUND"


def test_the_official_client_reads_open_close(client: RESTClient) -> None:
    bar = client.get_daily_open_close_agg("AMZN", date(2023, 8, 1), adjusted=True)
    assert (bar.status, bar.from_, bar.symbol) == ("OK", "2023-08-01", "AMZN")
    assert (bar.open, bar.high, bar.low, bar.close) == (133.55, 133.69, 131.62, 131.69)
    assert bar.volume == 42098500


def test_the_official_client_reads_grouped(client: RESTClient) -> None:
    bars = {bar.ticker: bar for bar in client.get_grouped_daily_aggs("2023-08-01", adjusted=True)}
    assert len(bars) == 6
    goog = bars["GOOG"]
    assert (goog.open, goog.high, goog.low, goog.close) == (130.855, 132.92, 130.75, 131.89)
    assert (goog.volume, goog.timestamp) == (22154300, 1690920000000)
    assert client.get_grouped_daily_aggs("2023-07-04") == []


def test_the_official_client_raises_on_an_error(base: str, client: RESTClient) -> None:
    with pytest.raises(BadResponse, match="NOT_FOUND"):
        client.get_daily_open_close_agg("NOPE", "2023-08-01")
    with pytest.raises(BadResponse, match="Unknown API Key"):
        RESTClient(api_key="wrong", base=base).get_grouped_daily_aggs("2023-08-01")


def test_the_limit_counts_requests_with_the_key_and_nothing_else() -> None:
    with serve("--requests-per-minute", "2") as base:
        for _ in range(3):  # neither is counted
            assert ask(base, OPEN_CLOSE, "Bearer wrong").status_code == 401
            assert ask(base, "/healthz").status_code == 200
        assert ask(base, OPEN_CLOSE).status_code == 200
        assert ask(base, f"{GROUPED}/not-a-date").status_code == 403  # refused, but counted
        over = ask(base, f"{GROUPED}/not-a-date")
        assert over.status_code == 429  # the limit comes before the date
        assert over.json()["status"] == "ERROR"
        assert over.json()["error"].startswith("You've exceeded the maximum requests per minute")
        assert "Retry-After" not in over.headers
        assert ask(base, OPEN_CLOSE, "Bearer wrong").status_code == 401  # the key comes before the limit
        assert ask(base, "/healthz").status_code == 200
        with pytest.raises(MaxRetryError, match="429"):
            RESTClient(api_key=REPLAY_KEY, base=base, retries=0).get_grouped_daily_aggs("2023-08-01")


def test_another_file_is_served_unchanged_even_with_odd_figures(tmp_path: Path) -> None:
    data = tmp_path / "odd.csv"
    data.write_text(f"{HEADER}\n2023-08-01,AAPL,-1.5,10,20.125,0,-7\n2023-08-01,KIMpL,1,1,1,1,0.5\n")
    with serve("--data", str(data)) as base:
        body = ask(base, OPEN_CLOSE).json()
        figures = {"open": -1.5, "high": 10, "low": 20.125, "close": 0, "volume": -7}
        assert body == {"status": "OK", "from": "2023-08-01", "symbol": "AAPL", **figures}
        assert ask(base, "/v1/open-close/KIMpL/2023-08-01").json()["volume"] == 0.5
        assert ask(base, f"{GROUPED}/2023-08-01").json()["resultsCount"] == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "line 1: ", id="empty"),
        pytest.param("date,ticker\n", "line 1: ", id="header"),
        pytest.param(f"{HEADER}\n2023-08-01,A,1,1,1,1,1\n2023-08-01,B,1,1\n", "line 3: 4 fields", id="short"),
        pytest.param(f"{HEADER}\n2023-08-01,A,1,1,one,1,1\n", "line 2, low: 'one'", id="not-a-number"),
        pytest.param(f"{HEADER}\n2023-08-01,A,1,1,1,1,nan\n", "line 2, volume: 'nan'", id="nan"),
        pytest.param(f"{HEADER}\n2023-8-1,A,1,1,1,1,1\n", "line 2, market_date: '2023-8-1'", id="date"),
        pytest.param(f"{HEADER}\n2023-07-04,A,1,1,1,1,1\n", "line 2, market_date: '2023-07-04'", id="closed"),
        pytest.param(f"{HEADER}\n2023-08-01,,1,1,1,1,1\n", "line 2, ticker: ''", id="no-ticker"),
        pytest.param(f"{HEADER}\n" + "2023-08-01,A,1,1,1,1,1\n" * 2, "line 3, ticker: 'A'", id="twice"),
        pytest.param(None, "No such file", id="missing"),
    ],
)
def test_a_file_that_it_cannot_read_ends_it_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    complaint: str,
) -> None:
    data = tmp_path / "bad.csv"
    if text is not None:
        data.write_text(text)
    # If the file were accepted, this would return and the test fail at once, instead of serving forever.
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["market_api", "--port", "1", "--data", str(data)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert str(data) in printed
    assert complaint in printed


def test_help_names_the_key() -> None:
    printed = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert REPLAY_KEY in printed.stdout


def test_the_bundled_file_has_every_session_once_and_sane_prices() -> None:
    with DATA.open(newline="") as file:
        rows = list(csv.DictReader(file))
    sessions = exchange_calendars.get_calendar("XNYS").sessions_in_range("2023-01-03", "2023-09-21")
    assert [(row["market_date"], row["ticker"]) for row in rows] == [
        (str(session.date()), ticker)
        for session in sessions
        for ticker in ("AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA")
    ]
    for row in rows:
        low, high = float(row["low"]), float(row["high"])
        assert 0 < low <= min(float(row["open"]), float(row["close"])), row
        assert high >= max(float(row["open"]), float(row["close"])), row
        assert int(row["volume"]) > 0, row
