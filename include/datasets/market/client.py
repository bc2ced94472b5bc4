"""The market API (Polygon.io, now Massive): the daily summary of a ticker, as the text of the answer."""

from datetime import date
from urllib.parse import quote

from include.http_client import HttpClient

ADVICE = {
    403: "the plan behind POLYGON_API_KEY does not cover this date (the free plan has two years)",
    404: "XNYS was open, so check the spelling (tickers are case-sensitive); if the service was out, clear the task",
    429: "ask for fewer tickers, or try again later",  # the free plan allows 5 requests a minute
}


class PolygonClient(HttpClient):
    """A session with the market API. Use it as a context manager."""

    def __init__(self, base_url: str, api_key: str) -> None:
        super().__init__(
            "the market API",
            base_url,
            base_url_name="POLYGON_BASE_URL",
            api_key=api_key,
            api_key_name="POLYGON_API_KEY",
            advice=ADVICE,
        )

    def daily_summary(self, ticker: str, day: date) -> str:
        """Return the API's answer for one ticker on one New York trading day: JSON, not yet parsed.

        Prices are in US dollars and volume is in shares; both are adjusted for splits.
        """
        return self.get_text(
            f"v1/open-close/{quote(ticker, safe='')}/{day}",
            what=f"daily summary of {ticker} on {day}",
            params={"adjusted": "true"},
        )
