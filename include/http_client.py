"""The HTTP client for datasets that read an API: with timeouts, retries and limits, and it never reveals the API key.

A dataset's client is a subclass with one method per kind of request, such as include/datasets/market/client.py.
"""

import html
import json
import logging
import re
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self

import requests
from pydantic_core import from_json
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from urllib3.exceptions import LocationValueError

from include.errors import AirlockError, PermanentError, printable
from include.http_limits import LimitedAdapter, TooLarge, TooSlow

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5  # for each address of the service, and for TLS
REQUEST_SECONDS = 30  # for all of a request, from the first connection to the last byte
ATTEMPTS = 3  # when the service fails
RATE_LIMIT_WAIT = 15.0  # seconds, when the service does not say how long to wait
_LOGIN = re.compile(r"[/\\]{2}[^/\\?#\s]*@")  # in a URL; JSON may write a slash with a backslash


class SourceUnavailable(AirlockError):
    """The service limits the rate, fails or cannot be reached. A later attempt may succeed."""


class SourceRefused(PermanentError):
    """The service refused the request. The key, the plan, the request or the address has to change."""


class SourceNotFound(PermanentError):
    """The service does not have the data (status 404)."""


class SourceInvalid(PermanentError):
    """The body of an answer is not text, is too large, or repeats the API key."""


class _Failing(SourceUnavailable):
    """A 5xx, a broken connection or half an answer: a few quick attempts may help."""


class _RateLimited(SourceUnavailable):
    """A 429, or a failure that says when to come back: wait and ask again, until the patience ends."""

    wait: float  # seconds


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return that there is none: requests reads the whole body of a redirect, even one that it does not follow."""


class HttpClient:
    """A session with one service. Use it as a context manager.

    Messages call the service by `service` ("the market API"), and the settings to check by `base_url_name`
    ("POLYGON_BASE_URL") and `api_key_name` ("POLYGON_API_KEY"). `advice` says per status code what to do about it.
    `api_key` is sent as `Authorization: Bearer ...`; without one, no such header is sent. `body_limit` is in bytes.
    `rate_limit_patience` is how many seconds one request may take, in total, to wait for as long as the service asks.
    `admit` is called before each attempt of a request, and may wait: include/warehouse/request_limit.py keeps a limit
    with it. Airflow's logs mask the key.

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
        admit: Callable[[], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = service
        self._base_url = base_url.rstrip("/")
        self._base_url_name = base_url_name
        self._key = None if api_key is None else api_key.strip()
        self._key_name = api_key_name
        self._advice = advice or {}
        self._body_limit = body_limit
        self._admit = admit
        # Checked here, because the exception of the HTTP library would quote the key.
        if self._key is not None and not re.fullmatch(r"[!-~]+", self._key):
            raise SourceRefused(f"{api_key_name} is empty or has characters that no key has: set it again")
        self._spellings = _spellings(self._key) if self._key else None
        if self._key:
            from airflow.sdk.log import mask_secret

            mask_secret(self._key)
        self._session = _Session()
        # Twice the body's limit: headers count as well, and so do the sizes of chunks, which may be small.
        adapter = LimitedAdapter(seconds=REQUEST_SECONDS, limit=2 * body_limit + 65_536)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
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
            stop=lambda state: _taken(state) + state.upcoming_sleep > rate_limit_patience,
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
        request, address or certificate) and SourceUnavailable (a rate limit or an outage that lasted longer than the
        waiting). An outage is also an empty body, and JSON that ends before it is complete.
        """
        # The rate limit is the outer loop: after each of its waits, a failing service gets all its attempts again.
        body: str = self._rate_limited(self._failing, self._ask, path, what, params)
        return body

    def _ask(self, path: str, what: str, params: Mapping[str, str] | None) -> str:
        url = f"{self._base_url}/{path.lstrip('/')}"
        if self._admit:
            self._admit()
        try:
            # No redirects: the key goes to the configured address and nowhere else.
            with self._session.get(
                url, params=params, timeout=(CONNECT_SECONDS, REQUEST_SECONDS), allow_redirects=False, stream=True
            ) as response:
                body = _read(response, self._body_limit)
        except Exception as error:  # the libraries raise many kinds for an answer that is not valid
            raise self._failure(what, error) from None
        if response.status_code != 200:
            raise self._error(what, response, body)
        text = self._text(what, body)
        if self._spellings and self._spellings.search(text):  # the body goes on into task values and logs
            raise SourceInvalid(f"{what}: the body repeats {self._key_name}")
        return text

    def _failure(self, what: str, error: Exception) -> Exception:
        """Return the error for a request that got no answer, or not a whole one."""
        if isinstance(error, TooLarge):
            return SourceInvalid(f"{what}: {error}")
        if isinstance(error, TooSlow):
            return _Failing(f"{what}: {error}: try again later")
        if isinstance(error, InvalidURL | MissingSchema | InvalidSchema | LocationValueError):
            # Not in the library's words, which quote the address: it may have a login in it.
            kind = type(error).__name__
            return SourceRefused(f"{what}: the address is not valid ({kind}): check {self._base_url_name}")
        message = f"{what}: {type(error).__name__}: {self._said(str(error))}"
        if flaw := _certificate_flaw(error):
            return SourceRefused(
                f"{what}: the certificate of {self._service} is not trusted: {self._said(flaw)}: check "
                f"{self._base_url_name}; if a company's own CA signs it, add the CA to the system's certificates, or "
                "name its file in SSL_CERT_FILE"
            )
        if type(error) is OSError:  # requests' own, before it connects
            return SourceRefused(f"{message}: check REQUESTS_CA_BUNDLE")
        return _Failing(f"{message}: {self._service} cannot be reached, try again later")

    def _error(self, what: str, response: requests.Response, body: bytes) -> Exception:
        status = response.status_code
        message = f"{what}: {self._service} answered {status}: {self._said(_reason(body))}"
        if status == 404:
            return SourceNotFound(f"no {message}: {self._advice_on(status)}")
        if _is_passing(status):
            message = f"{message}: {self._advice_on(status)}"
            wait = _retry_after(response) or (RATE_LIMIT_WAIT if status == 429 else 0)
            if not wait:
                return _Failing(message)
            limited = _RateLimited(message)
            limited.wait = wait
            return limited
        if 300 <= status < 400:
            place = self._said(response.headers.get("Location", "nowhere"))
            return SourceRefused(f"{message}: it points to {place}, not followed: check {self._base_url_name}")
        return SourceRefused(f"{message}: {self._advice_on(status)}")

    def _advice_on(self, status: int) -> str:
        if status in self._advice:
            return self._advice[status]
        if _is_passing(status):
            return "try again later"
        if status in (401, 403) and self._key:
            return f"check {self._key_name}"
        return f"check the request and {self._base_url_name}"

    def _text(self, what: str, body: bytes) -> str:
        if len(body) > self._body_limit:
            raise SourceInvalid(f"{what}: the body is larger than {self._body_limit} bytes")
        cut = f"{what}: the body ends too early, after {len(body)} bytes: try again later"
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                raise _Failing(cut) from None
            raise SourceInvalid(f"{what}: the body is not UTF-8: {error.reason} at {error.start}") from None
        if "\0" in text:  # Postgres cannot store it, and Airflow keeps task values there
            raise SourceInvalid(f"{what}: the body has a NUL character at {text.index(chr(0))}")
        if _is_cut(text):
            raise _Failing(cut)
        return text

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _said(self, text: str) -> str:
        """Return text from outside for a message: one printable line of 300 characters, without the key and logins."""
        if self._spellings:
            text = self._spellings.sub("***", text)
        return printable(" ".join(_LOGIN.sub("//***@", text).split())[:300])


def _read(response: requests.Response, limit: int) -> bytes:
    """Return the body. Stops reading, and returns what it has, as soon as that is more than `limit` bytes."""
    body = bytearray()
    while chunk := response.raw.read1(65_536, decode_content=True):
        body += chunk
        if len(body) > limit:
            break
    return bytes(body)


def _is_cut(text: str) -> bool:
    """Return whether a body is empty, or JSON that ends before it is complete.

    A service that gives no length, or closes the connection too early, leaves no other sign.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return not text.strip()
    try:
        from_json(text)
    except ValueError as error:
        return str(error).startswith("EOF while parsing")
    return False


def _is_passing(status: int) -> bool:
    return status >= 500 or status in (408, 425, 429)


def _certificate_flaw(error: object) -> str | None:
    """Return what is wrong with the service's certificate, if that is behind an error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if not isinstance(error, BaseException):
        return None
    behind = (error.__cause__, error.__context__, *error.args)  # urllib3 passes on errors as arguments
    return next(filter(None, map(_certificate_flaw, behind)), None)


def _spellings(key: str) -> re.Pattern[str]:
    """Return the pattern of a key in the ways that services repeat it.

    As it is or in lower case, each character perhaps escaped for JSON, a URL or HTML, once or twice; and inside Base64,
    where it looks different at each of three offsets.
    """
    inside = [
        b64encode(b"\0" * offset + key.encode()).decode()[start : (offset + len(key)) * 8 // 6]
        for offset, start in ((0, 0), (1, 2), (2, 3))
    ]
    # The other alphabet of Base64 has - and _ instead of + and /. A short part could be anything.
    parts = ["".join({"+": "[+-]", "/": "[/_]"}.get(c, c) for c in each) for each in inside if len(each) >= 8]
    # Looking at the first character makes the search through a large body five times as fast.
    starts = "".join({key[0].lower(), key[0].upper(), *(each[:1] for each in inside), *"\\%&-_"})
    ways = "|".join([f"(?i:{''.join(map(_spelling, key))})", *parts])
    return re.compile(f"(?=[{re.escape(starts)}])(?:{ways})")


def _spelling(character: str) -> str:
    # The repetitions are bounded, so that a body of backslashes takes no longer than another.
    number = f"{ord(character):02x}"
    backslash = r"(?:\\|%(?:25){0,2}5c)"
    entity = f"#0{{0,6}}{ord(character)}|#x0{{0,6}}{number}|{re.escape(html.escape(character).strip('&;'))}"
    return (
        rf"(?:{backslash}{{0,4}}{re.escape(character)}|{backslash}{{1,4}}(?:u00|x){number}|%(?:25){{0,2}}{number}"
        rf"|&(?:amp;){{0,2}}(?:{entity});?)"
    )


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
    """Return the seconds that Retry-After asks to wait; 0 when there is none, it makes no sense, or is over."""
    asked = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", asked):
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except (ValueError, TypeError, IndexError, OverflowError):  # it is not careful with what is no date
        return 0
    return max(0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _taken(state: RetryCallState) -> float:
    """Return the seconds that a request has taken so far, with its waits."""
    return max(state.idle_for, state.seconds_since_start or 0)


def _asked_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.wait if isinstance(error, _RateLimited) else RATE_LIMIT_WAIT


def _log_wait(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.info("%s: waiting %.0f s", error, state.upcoming_sleep)
