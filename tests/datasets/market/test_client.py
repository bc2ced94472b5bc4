import re
from collections.abc import Iterator
from datetime import date

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from include.datasets.market.client import PolygonClient
from include.datasets.market.flatten import flatten
from include.datasets.market.settings import polygon_api_key, polygon_base_url
from include.http_client import SourceInvalid, SourceNotFound, SourceRefused, SourceUnavailable

DAY = date(2023, 8, 1)
KEY = "s3cret-Key_0123456789"  # gitleaks:allow (made up)
SUMMARY = (
    b'{"status":"OK","from":"2023-08-01","symbol":"AAPL","open":196.235,"high":196.73,"low":195.28,'
    b'"close":195.605,"volume":35281426.0,"afterHours":195.3,"preMarket":196.35}'
)


@pytest.fixture
def client(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PolygonClient]:
    monkeypatch.setenv("NO_PROXY", "localhost")
    with PolygonClient(httpserver.url_for(""), KEY) as client:
        yield client


def play(httpserver: HTTPServer, status: int, body: bytes, headers: dict[str, str] | None = None) -> list[str]:
    """Answer every request, and return the list in which the requests are noted."""
    requests: list[str] = []

    def answer(request: Request) -> Response:
        uri = request.environ["REQUEST_URI"]  # as it was sent: request.path is unquoted
        requests.append(f"{uri} {request.headers.get('Authorization')}")
        return Response(body, status, headers)

    httpserver.expect_request(re.compile("/.*")).respond_with_handler(answer)
    return requests


def test_the_daily_summary_is_asked_for_with_prices_adjusted_for_splits(
    httpserver: HTTPServer, client: PolygonClient
) -> None:
    requests = play(httpserver, 200, SUMMARY)
    body = client.daily_summary("AAPL", DAY)
    assert requests == [f"/v1/open-close/AAPL/2023-08-01?adjusted=true Bearer {KEY}"]
    assert body == SUMMARY.decode()
    assert flatten([{"ticker": "AAPL", "body": body}], DAY)["close_price"].tolist() == [195.605]


def test_a_ticker_is_quoted(httpserver: HTTPServer, client: PolygonClient) -> None:
    requests = play(httpserver, 200, SUMMARY)
    client.daily_summary("A/B?c", DAY)
    assert requests == [f"/v1/open-close/A%2FB%3Fc/2023-08-01?adjusted=true Bearer {KEY}"]


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (
            401,
            b'{"status":"ERROR","error":"Unknown API Key"}',
            SourceRefused,
            "daily summary of AAPL on 2023-08-01: the market API answered 401: Unknown API Key: check POLYGON_API_KEY",
        ),
        (
            403,
            b'{"status":"NOT_AUTHORIZED","message":"You are not entitled"}',
            SourceRefused,
            "daily summary of AAPL on 2023-08-01: the market API answered 403: You are not entitled: the plan behind "
            "POLYGON_API_KEY does not cover this date (the free plan has two years)",
        ),
        (
            404,
            b'{"status":"NOT_FOUND","message":"Data not found."}',
            SourceNotFound,
            "no daily summary of AAPL on 2023-08-01: the market API answered 404: Data not found: XNYS was open, so "
            "check the spelling (tickers are case-sensitive); if the service was out, clear the task",
        ),
        (
            429,
            b'{"status":"ERROR","error":"You\'ve exceeded the maximum requests per minute."}',
            SourceUnavailable,
            "daily summary of AAPL on 2023-08-01: the market API answered 429: You've exceeded the maximum requests "
            "per minute: ask for fewer tickers, or try again later",
        ),
        (
            301,
            b"",
            SourceRefused,
            "daily summary of AAPL on 2023-08-01: the market API answered 301: an empty body: it points to nowhere, "
            "not followed: check POLYGON_BASE_URL",
        ),
        (
            200,
            KEY.encode(),
            SourceInvalid,
            "daily summary of AAPL on 2023-08-01: the body repeats POLYGON_API_KEY",
        ),
    ],
)
def test_an_error_says_what_to_do(
    httpserver: HTTPServer, client: PolygonClient, status: int, body: bytes, error: type[Exception], message: str
) -> None:
    play(httpserver, status, body, {"Retry-After": "3600"})  # longer than the client waits
    with pytest.raises(error) as raised:
        client.daily_summary("AAPL", DAY)
    assert str(raised.value) == message


@pytest.mark.parametrize("empty", [True, False])
def test_the_default_address_is_the_real_service(empty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLYGON_BASE_URL", "POLYGON_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        if empty:
            monkeypatch.setenv(name, "")
    assert polygon_base_url() == "https://api.massive.com"
    assert polygon_api_key() is None


def test_the_address_and_the_key_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    assert (polygon_base_url(), polygon_api_key()) == ("http://127.0.0.1:1", KEY)
