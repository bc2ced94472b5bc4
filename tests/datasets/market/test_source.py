"""The stand-in of the market API: which days the demo may ask for, and what the platform gets from it."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import requests

from include.datasets.market.calendar import last_completed_session
from include.datasets.market.dataset import MARKET
from include.datasets.market.flatten import flatten
from include.datasets.market.settings import FREE_PLAN
from local import demo
from local.login import Login
from local.sources import sources
from local.sources.market import SOURCE, MarketApi
from local.sources.market.prices import DATA, REPLAY_KEY, recorded_days
from local.state import LocalError, Refused, State

FIRST, LAST = recorded_days()
STAND_IN = {MARKET.name: SOURCE}


def test_it_is_the_stand_in_of_the_market() -> None:
    assert sources([MARKET]) == STAND_IN


@pytest.mark.parametrize(
    ("day", "message"),
    [
        ("2023-07-04", "XNYS is closed on 2023-07-04"),
        ("2023-08-05", "XNYS is closed on Saturday 2023-08-05"),
        ("2022-08-02", f"The replay has prices from {FIRST} to {LAST}, not of 2022-08-02"),
        ("2100-08-02", "has not closed on 2100-08-02"),
        ("1900-08-02", "1900-08-02 is outside the XNYS calendar"),
    ],
)
def test_a_day_without_prices_is_refused(day: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        demo.choose_day(STAND_IN, False, day)


def test_the_real_service_has_other_days_than_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "a key")
    assert demo.choose_day(STAND_IN, True, "2022-08-02") == date(2022, 8, 2)
    assert demo.choose_day(STAND_IN, True, "") == last_completed_session(datetime.now(UTC))


def test_the_real_service_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    for day in (None, LAST):
        with pytest.raises(Refused, match="export POLYGON_API_KEY"):
            SOURCE.check(day, live=True)


def test_with_the_real_service_nothing_is_said_about_the_replay() -> None:
    assert f"{FIRST} to {LAST}" in SOURCE.note(live=False)
    assert SOURCE.note(live=True) == ""


def test_airflow_gets_the_address_and_the_key(state: State, postgres: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    with SOURCE.running(state, postgres, live=False) as started:
        assert len(started.processes) == 1
        url = f"{started.env['POLYGON_BASE_URL']}/v1/open-close/AAPL/{LAST}"
        key = started.env["AIRFLOW_VAR_POLYGON_API_KEY"]
        assert requests.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=10).json()["status"] == "OK"

    monkeypatch.setenv("POLYGON_BASE_URL", "https://prices.example")
    monkeypatch.setenv("POLYGON_API_KEY", "a key")
    with SOURCE.running(state, postgres, live=True) as started:
        assert started.processes == {}
        assert started.env == {
            "POLYGON_BASE_URL": "https://prices.example",
            "AIRFLOW_VAR_POLYGON_API_KEY": "a key",
            "POLYGON_REQUESTS_PER_MINUTE": str(FREE_PLAN),
        }
    assert key == REPLAY_KEY


def test_the_replay_keeps_the_limit_and_has_the_size_that_were_asked_for(
    state: State, postgres: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYGON_REQUESTS_PER_MINUTE", "1")
    monkeypatch.setenv("REPLAY_MARKET_SIZE", "11000")
    with SOURCE.running(state, postgres, live=False) as started:
        url = f"{started.env['POLYGON_BASE_URL']}/v2/aggs/grouped/locale/us/market/stocks/{LAST}"
        headers = {"Authorization": f"Bearer {REPLAY_KEY}"}
        answer = requests.get(url, headers=headers, timeout=30)
        assert requests.get(url, headers=headers, timeout=30).status_code == 429
    assert started.env["POLYGON_REQUESTS_PER_MINUTE"] == "1"
    tickers = flatten([{"ticker": None, "body": answer.text}], LAST)["ticker"]
    assert (len(tickers), tickers.nunique()) == (11_000, 11_000)
    assert "AAPL" in set(tickers)
    assert any(ticker != ticker.upper() for ticker in tickers)


@pytest.mark.parametrize(("text", "conf"), [("", {}), ("all", {"tickers": "all"}), ("A,B", {"tickers": ["A", "B"]})])
def test_a_backfill_takes_its_tickers_from_the_command(
    monkeypatch: pytest.MonkeyPatch, text: str, conf: dict[str, object]
) -> None:
    monkeypatch.setenv("TICKERS", text)
    assert SOURCE.backfill_conf() == conf


def test_a_wrong_ticker_of_a_backfill_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKERS", "AAPL, AMZN")
    with pytest.raises(Refused, match="TICKERS=AAPL, AMZN: tickers has ' AMZN'"):
        SOURCE.backfill_conf()


def test_a_file_of_prices_that_cannot_be_served_is_reported(state: State, postgres: Login, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text(DATA.read_text().replace("2023-01-03,AAPL,", "2023-01-03,AAPL,x", 1))
    why = r"(?s)The market-api stopped with status 2.*line 2, open: 'x.* is not a number"
    with (
        pytest.raises(LocalError, match=why),
        MarketApi(prices).running(state, postgres, live=False),
    ):
        pass
