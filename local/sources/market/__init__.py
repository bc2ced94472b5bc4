"""The market API: a replay of recorded prices, or the real service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

from include.datasets.market.calendar import check_completed, last_completed_session
from include.datasets.market.params import ALL, parse_tickers
from include.datasets.market.settings import polygon_api_key, polygon_base_url, requests_per_minute
from include.errors import PermanentError
from local.login import Login
from local.processes import serving
from local.sources import Source, Started
from local.sources.market.prices import DATA, REPLAY_KEY, recorded_days
from local.state import Refused, State


class MarketApi(Source):
    """The replay, which serves a file of prices, or with `live` the real service."""

    preload = ("exchange_calendars",)

    def __init__(self, prices: Path = DATA) -> None:
        self._prices = prices

    def check(self, day: date | None, live: bool) -> None:
        """Raise Refused for a day without prices, and when `live` has no API key."""
        if live and not polygon_api_key():
            raise Refused("API=live needs a key of the market API: export POLYGON_API_KEY=... and run it again.")
        if not day:
            return
        try:
            check_completed(day, datetime.now(UTC))
        except PermanentError as error:
            raise Refused(str(error)) from None
        first, last = recorded_days()
        if not live and not first <= day <= last:
            raise Refused(
                f"The replay has prices from {first} to {last}, not of {day}: choose a DATE in between, or "
                "use the real service with API=live."
            )

    def live_day(self) -> date:
        """Return the last completed session."""
        return last_completed_session(datetime.now(UTC))

    def params(self, day: date) -> dict[str, object]:
        """Return the params of a session."""
        return {"market_date": day.isoformat()}

    def backfill_conf(self) -> dict[str, object]:
        """Return the tickers of TICKERS: "all", or some that are separated by commas; without it, those of the DAG."""
        if not (text := os.environ.get("TICKERS")):
            return {}
        tickers = text if text == ALL else text.split(",")
        try:
            parse_tickers(tickers)
        except PermanentError as error:
            raise Refused(f"TICKERS={text}: {error}") from None
        return {"tickers": tickers}

    def note(self, live: bool) -> str:
        """Return which days the replay has."""
        first, last = recorded_days()
        return "" if live else f"market: the replay has prices from {first} to {last}; choose a market_date in between."

    @contextmanager
    def running(self, state: State, warehouse: Login, live: bool) -> Iterator[Started]:
        """Run the replay, unless the real service is used."""
        if live:
            yield Started(_environment(polygon_base_url(), polygon_api_key() or "", requests_per_minute()))
            return
        # Nothing is paced unless somebody asks for it: then the replay keeps the limit, as the service does.
        limit = requests_per_minute(default=0)
        module = ["local.sources.market.api", "--data", str(self._prices), "--requests-per-minute", str(limit)]
        module += ["--market-size", os.environ.get("REPLAY_MARKET_SIZE") or "0"]
        with serving(state, "market-api", module, health="/healthz") as (url, processes):
            yield Started(_environment(url, REPLAY_KEY, limit), processes)


def _environment(base_url: str, api_key: str, limit: int) -> dict[str, str]:
    return {
        "POLYGON_BASE_URL": base_url,
        "AIRFLOW_VAR_POLYGON_API_KEY": api_key,
        "POLYGON_REQUESTS_PER_MINUTE": str(limit),
    }


SOURCE = MarketApi()
