"""The market API (Polygon.io, now Massive): one call, paced to its rate limit, raw text back."""

import json
import logging
import re
import time
from collections.abc import Callable
from datetime import date
from typing import Self
from urllib.parse import quote

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

from include.datasets.market.errors import (
    MarketApiRefused,
    MarketApiUnavailable,
    MarketDataInvalid,
    MarketDataUnavailable,
)

log = logging.getLogger(__name__)

TIMEOUTS = (5, 30)  # seconds to connect, and between two reads
BODY_SECONDS = 60  # for a whole body
BODY_LIMIT = 1_000_000  # bytes; a daily summary has about 200
ATTEMPTS = 3  # when the service fails
RATE_LIMIT_WAIT = 15.0  # seconds, when the service names none; the free plan allows 5 requests a minute
ADVICE = {
    401: "check POLYGON_API_KEY",
    403: "the plan behind POLYGON_API_KEY does not cover this date (the free plan has two years)",
}


class _Failing(MarketApiUnavailable):
    """A 5xx or a broken connection: worth a few quick attempts."""


class _RateLimited(MarketApiUnavailable):
    """A 429: worth waiting out, as long as patience lasts."""

    wait = RATE_LIMIT_WAIT


class PolygonClient:
    """A session with the market API; use it as a context manager.

    `rate_limit_patience` is how many seconds one call may wait, in all, for the rate limit to let it
    through. Raises MarketApiRefused when `api_key` is empty or cannot travel in a header.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        rate_limit_patience: float = 180.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = api_key.strip()
        # Refused here, because the exception of the HTTP library would quote the key.
        if not re.fullmatch(r"[!-~]+", self._key):
            raise MarketApiRefused("POLYGON_API_KEY is empty or has characters that no key has: set it again")
        self._session = requests.Session()
        # As `auth` and not among the session's headers: over those, an entry in ~/.netrc would win.
        self._session.auth = self._authorize
        self._failing = Retrying(
            retry=retry_if_exception_type(_Failing),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(),  # 1 s, 2 s
            before_sleep=_log_wait,
            sleep=sleep,
            reraise=True,
        )
        self._rate_limited = Retrying(
            retry=retry_if_exception_type(_RateLimited),
            stop=lambda state: state.idle_for + state.upcoming_sleep > rate_limit_patience,
            wait=_asked_wait,
            before_sleep=_log_wait,
            sleep=sleep,
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def daily_summary(self, ticker: str, day: date) -> str:
        """The body of the API's answer for one ticker on one New York trading day: JSON, not yet parsed.

        Prices are in US dollars, volume in shares, both adjusted for splits. Raises
        MarketDataUnavailable (404), MarketDataInvalid (a body that is no text, or is too large),
        MarketApiRefused (key, plan, address) and MarketApiUnavailable (a rate limit or an outage that
        outlasted the waiting).
        """
        what = f"daily summary of {ticker} on {day}"
        # Each attempt that the rate limit lets through has its own few attempts at a failing service.
        body: str = self._rate_limited(self._failing, self._ask, what, ticker, day)
        return body

    def _ask(self, what: str, ticker: str, day: date) -> str:
        url = f"{self._base_url}/v1/open-close/{quote(ticker, safe='')}/{day}?adjusted=true"
        try:
            # No redirects: the key goes to the configured address and nowhere else.
            with self._session.get(url, timeout=TIMEOUTS, allow_redirects=False, stream=True) as response:
                body = _read(response)
        except (requests.RequestException, HTTPError) as error:
            said = f"{what}: {type(error).__name__}: {self._redacted(str(error))}"
            if isinstance(error, ValueError):  # how requests says that the URL is none
                raise MarketApiRefused(f"{said}: check POLYGON_BASE_URL") from None
            raise _Failing(f"{said}: the market API cannot be reached, try again later") from None
        if response.status_code != 200:
            raise self._error(what, response, body)
        text = _text(what, body)
        if self._key in text:  # it would go on into task values and logs
            raise MarketDataInvalid(f"{what}: the body repeats POLYGON_API_KEY")
        return text

    def _error(self, what: str, response: requests.Response, body: bytes) -> Exception:
        status = response.status_code
        said = f"{what}: the market API answered {status}: {self._redacted(_message(body))}"
        if status == 404:
            return MarketDataUnavailable(
                f"no {said}; XNYS was open, so check the spelling (tickers are case-sensitive); "
                "if the service was out, clear the task"
            )
        if status == 429:
            limited = _RateLimited(f"{said}: ask for fewer tickers, or try again later")
            limited.wait = _retry_after(response)
            return limited
        if status >= 500 or status == 408:
            return _Failing(f"{said}: try again later")
        if 300 <= status < 400:
            place = self._redacted(response.headers.get("Location", "nowhere"))
            return MarketApiRefused(f"{said}: it points to {place}, not followed: check POLYGON_BASE_URL")
        return MarketApiRefused(f"{said}: {ADVICE.get(status, 'check the request and POLYGON_BASE_URL')}")

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "***")[:300]


def _read(response: requests.Response) -> bytes:
    """The body, or the beginning of it that already shows that it is too large.

    Raises requests' Timeout when it trickles in for too long, which the timeout between two reads does not see.
    """
    body, deadline = b"", time.monotonic() + BODY_SECONDS
    while chunk := response.raw.read1(65_536, decode_content=True):
        body += chunk
        if len(body) > BODY_LIMIT:
            break
        if time.monotonic() > deadline:
            raise requests.Timeout(f"the body was not complete after {BODY_SECONDS} s")
    return body


def _text(what: str, body: bytes) -> str:
    if len(body) > BODY_LIMIT:
        raise MarketDataInvalid(f"{what}: the body is larger than {BODY_LIMIT} bytes")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MarketDataInvalid(f"{what}: the body is not UTF-8: {error.reason} at {error.start}") from None
    if "\0" in text:  # no JSON has it, and Postgres, where task values travel, cannot store it
        raise MarketDataInvalid(f"{what}: the body has a NUL character at {text.index(chr(0))}")
    return text


def _message(body: bytes) -> str:
    """What the service says went wrong; the field varies, and a proxy in between answers HTML."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    said = (answer.get("error") or answer.get("message")) if isinstance(answer, dict) else None
    text = said if isinstance(said, str) else body.decode(errors="replace")
    return text.strip().rstrip(".") or "an empty body"


def _retry_after(response: requests.Response) -> float:
    """Whole seconds from one up: zero would ask forever, and the form with a date needs a right clock."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if re.fullmatch(r"0*[1-9][0-9]{0,5}", asked) else RATE_LIMIT_WAIT


def _asked_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.wait if isinstance(error, _RateLimited) else RATE_LIMIT_WAIT


def _log_wait(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.info("%s: waiting %.0f s", error, state.upcoming_sleep)
