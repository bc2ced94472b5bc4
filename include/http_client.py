"""The HTTP client for datasets that read an API: with timeouts, retries and limits, and it never reveals the API key.

A dataset's client is a subclass with one method per kind of request, such as include/datasets/market/client.py.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Self

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

from include.errors import AirlockError, PermanentError

log = logging.getLogger(__name__)

TIMEOUTS = (5, 30)  # seconds to connect, and between two reads
BODY_SECONDS = 60  # for a whole body
ATTEMPTS = 3  # when the service fails
RATE_LIMIT_WAIT = 15.0  # seconds, when the service does not say how long to wait


class SourceUnavailable(AirlockError):
    """The service limits the rate, fails or cannot be reached. A later attempt may succeed."""


class SourceRefused(PermanentError):
    """The service refused the request. The key, the plan, the request or the address has to change."""


class SourceNotFound(PermanentError):
    """The service does not have the data (status 404)."""


class SourceInvalid(PermanentError):
    """The body of an answer is not text, is too large, or repeats the API key."""


class _Failing(SourceUnavailable):
    """A 5xx or a broken connection: a few quick attempts may help."""


class _RateLimited(SourceUnavailable):
    """A 429: wait and ask again, until the patience ends."""

    wait: float  # seconds


class HttpClient:
    """A session with one service. Use it as a context manager.

    Messages call the service by `service` ("the market API"), and the settings to check by `base_url_name`
    ("POLYGON_BASE_URL") and `api_key_name` ("POLYGON_API_KEY"). `advice` says per status code what to do about it.
    `api_key` is sent as `Authorization: Bearer ...`; without one, no such header is sent. `body_limit` is in bytes.
    `rate_limit_patience` is how many seconds one request may wait, in total, for the rate limit.

    Raises SourceRefused when `api_key` is empty or has characters that a header cannot carry.
    """

    def __init__(
        self,
        service: str,
        base_url: str,
        *,
        base_url_name: str,
        api_key: str | None = None,
        api_key_name: str = "the API key",
        advice: Mapping[int, str] | None = None,
        body_limit: int = 1_000_000,
        rate_limit_patience: float = 180.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = service
        self._base_url = base_url.rstrip("/")
        self._base_url_name = base_url_name
        self._key = None if api_key is None else api_key.strip()
        self._key_name = api_key_name
        self._advice = advice or {}
        self._body_limit = body_limit
        # Checked here, because the exception of the HTTP library would quote the key.
        if self._key is not None and not re.fullmatch(r"[!-~]+", self._key):
            raise SourceRefused(f"{api_key_name} is empty or has characters that no key has: set it again")
        self._session = requests.Session()
        # Set as `auth`, with or without a key: otherwise requests sends the login that ~/.netrc has for the host.
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

    def get_text(self, path: str, *, what: str, params: Mapping[str, str] | None = None) -> str:
        """Return the body of the answer to GET `path`, which is relative to the base URL and already quoted.

        Messages begin with `what`, the data that is asked for ("daily summary of AAPL on 2023-08-01"). Raises
        SourceNotFound (404), SourceInvalid (a body that is not text, or is too large), SourceRefused (key, plan,
        request or address) and SourceUnavailable (a rate limit or an outage that lasted longer than the waiting).
        """
        # The rate limit is the outer loop: after each of its waits, a failing service gets all its attempts again.
        body: str = self._rate_limited(self._failing, self._ask, path, what, params)
        return body

    def _ask(self, path: str, what: str, params: Mapping[str, str] | None) -> str:
        url = f"{self._base_url}/{path.lstrip('/')}"
        try:
            # No redirects: the key goes to the configured address and nowhere else.
            with self._session.get(
                url, params=params, timeout=TIMEOUTS, allow_redirects=False, stream=True
            ) as response:
                body = _read(response, self._body_limit)
        except (requests.RequestException, HTTPError) as error:
            message = f"{what}: {type(error).__name__}: {self._redacted(str(error))}"
            if isinstance(error, ValueError):  # requests raises ValueErrors for a URL that is not valid
                raise SourceRefused(f"{message}: check {self._base_url_name}") from None
            raise _Failing(f"{message}: {self._service} cannot be reached, try again later") from None
        if response.status_code != 200:
            raise self._error(what, response, body)
        text = self._text(what, body)
        if self._key and self._key in text:  # the body goes on into task values and logs
            raise SourceInvalid(f"{what}: the body repeats {self._key_name}")
        return text

    def _error(self, what: str, response: requests.Response, body: bytes) -> Exception:
        status = response.status_code
        message = f"{what}: {self._service} answered {status}: {self._redacted(_reason(body))}"
        if status == 404:
            return SourceNotFound(f"no {message}: {self._advice_on(status)}")
        if status == 429:
            limited = _RateLimited(f"{message}: {self._advice_on(status)}")
            limited.wait = _retry_after(response)
            return limited
        if status >= 500 or status == 408:
            return _Failing(f"{message}: {self._advice_on(status)}")
        if 300 <= status < 400:
            place = self._redacted(response.headers.get("Location", "nowhere"))
            return SourceRefused(f"{message}: it points to {place}, not followed: check {self._base_url_name}")
        return SourceRefused(f"{message}: {self._advice_on(status)}")

    def _advice_on(self, status: int) -> str:
        if status in self._advice:
            return self._advice[status]
        if status >= 500 or status in (408, 429):
            return "try again later"
        if status in (401, 403) and self._key:
            return f"check {self._key_name}"
        return f"check the request and {self._base_url_name}"

    def _text(self, what: str, body: bytes) -> str:
        if len(body) > self._body_limit:
            raise SourceInvalid(f"{what}: the body is larger than {self._body_limit} bytes")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise SourceInvalid(f"{what}: the body is not UTF-8: {error.reason} at {error.start}") from None
        if "\0" in text:  # Postgres cannot store it, and Airflow keeps task values there
            raise SourceInvalid(f"{what}: the body has a NUL character at {text.index(chr(0))}")
        return text

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _redacted(self, text: str) -> str:
        """Return the text without the key, cut to 300 characters."""
        if self._key:
            text = text.replace(self._key, "***")
        return text[:300]


def _read(response: requests.Response, limit: int) -> bytes:
    """Return the body. Stops reading, and returns what it has, as soon as that is more than `limit` bytes.

    Raises requests' Timeout when the body takes too long: a body that arrives in small pieces never reaches the
    timeout between two reads.
    """
    body, deadline = bytearray(), time.monotonic() + BODY_SECONDS
    while chunk := response.raw.read1(65_536, decode_content=True):
        body += chunk
        if len(body) > limit:
            break
        if time.monotonic() > deadline:
            raise requests.Timeout(f"the body was not complete after {BODY_SECONDS} s")
    return bytes(body)


def _reason(body: bytes) -> str:
    """Return the reason that the service gives: services name the field differently, and a proxy answers with HTML."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    reason = (answer.get("error") or answer.get("message")) if isinstance(answer, dict) else None
    text = reason if isinstance(reason, str) else body.decode(errors="replace")
    return text.strip().rstrip(".") or "an empty body"


def _retry_after(response: requests.Response) -> float:
    """Return the seconds in Retry-After, if that is a whole number from 1.

    Zero would repeat the request without end, and the form with a date needs the clocks to agree.
    """
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if re.fullmatch(r"0*[1-9][0-9]{0,5}", seconds) else RATE_LIMIT_WAIT


def _asked_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.wait if isinstance(error, _RateLimited) else RATE_LIMIT_WAIT


def _log_wait(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.info("%s: waiting %.0f s", error, state.upcoming_sleep)
