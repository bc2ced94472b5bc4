"""The market API (Polygon.io, now Massive): a ticker, or the whole market, on a day, as the text of the answer."""

from collections.abc import Callable
from datetime import date
from urllib.parse import quote

from include.http_client import HttpClient

ADVICE = {
    403: "the plan behind POLYGON_API_KEY does not cover this date (the free plan has two years)",
    404: "XNYS was open, so check the spelling (tickers are case-sensitive); if the service was out, clear the task",
    429: "ask for fewer tickers, or try again later",  # the free plan allows 5 requests a minute
}

BODY_LIMIT = 30_000_000  # bytes; a whole market of 11,000 tickers has 1.3 million


class PolygonClient(HttpClient):
    """A session with the market API. Use it as a context manager.

    `adjusted` says whether prices and volumes are adjusted for the splits since that day. `admit` is called before
    each request, and may wait.
    """

    def __init__(
        self, base_url: str, api_key: str, *, adjusted: bool = True, admit: Callable[[], None] | None = None
    ) -> None:
        self._params = {"adjusted": "true" if adjusted else "false"}
        super().__init__(
            "the market API",
            base_url,
            base_url_name="POLYGON_BASE_URL",
            api_key=api_key,
            api_key_name="POLYGON_API_KEY",
            advice=ADVICE,
            body_limit=BODY_LIMIT,
            admit=admit,
        )

    def daily_summary(self, ticker: str, day: date) -> str:
        """Return the API's answer for one ticker on one New York trading day: JSON, not yet parsed.

        Prices are in US dollars and volume is in shares.
        """
        return self.get_text(
            f"v1/open-close/{quote(ticker, safe='')}/{day}",
            what=f"daily summary of {ticker} on {day}",
            params=self._params,
        )

    def whole_market(self, day: date) -> str:
        """Return the API's answer for all tickers on one New York trading day: JSON, not yet parsed."""
        return self.get_text(
            f"v2/aggs/grouped/locale/us/market/stocks/{day}",
            what=f"whole market on {day}",
            params={**self._params, "include_otc": "false"},
        )
