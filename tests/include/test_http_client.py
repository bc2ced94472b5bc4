import gzip
import logging
import re
import time
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from include import http_client
from include.http_client import HttpClient, SourceInvalid, SourceNotFound, SourceRefused, SourceUnavailable

KEY = "s3cret-Key_0123456789"  # gitleaks:allow (made up)
RATES = b'{"base": "EUR", "rates": {"USD": 1.0987}}'
WHAT = "rates of EUR"
LIMITED = b'{"error":"You\'ve exceeded the maximum requests per minute."}'

Answer = tuple[int, dict[str, str], bytes | Iterable[bytes]]


def rates_api(url: str, **options: Any) -> HttpClient:
    defaults = {"base_url_name": "RATES_BASE_URL", "api_key": KEY, "api_key_name": "RATES_API_KEY"}
    return HttpClient("the rates API", url, **(defaults | options))


@dataclass
class Service:
    """A rates API that sends scripted answers, and repeats the last one."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def play(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def client(self, **options: Any) -> HttpClient:
        return rates_api(self.url, sleep=self.waits.append, **options)

    def rates(self, **options: Any) -> str:
        with self.client(**options) as client:
            return client.get_text("rates", what=WHAT)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def service(httpserver: HTTPServer) -> Service:
    script = Service(httpserver.url_for("").rstrip("/"))

    def answer(request: Request) -> Response:
        script.requests.append(request.environ["REQUEST_URI"])  # as it was sent: request.path is unquoted
        script.authorizations.append(request.headers.get("Authorization"))
        status, headers, body = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
        # In a list, because bytes would set a Content-Length of their own.
        response = Response([body] if isinstance(body, bytes) else body, status, headers)
        response.automatically_set_content_length = "Content-Length" not in headers
        return response

    httpserver.expect_request(re.compile("/.*")).respond_with_handler(answer)
    return script


@pytest.fixture
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(file))


def test_the_body_is_returned_unchanged(service: Service) -> None:
    service.play((200, {}, RATES))
    assert service.rates() == RATES.decode()


def test_the_connections_are_closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[requests.Session] = []
    monkeypatch.setattr(requests.Session, "close", lambda session: closed.append(session))
    with rates_api("http://127.0.0.1:9"):
        assert not closed
    assert closed


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", ["rates/a%2Fb", "/rates/a%2Fb"])
def test_the_url_is_the_base_url_the_path_and_the_quoted_params(service: Service, slash: str, path: str) -> None:
    service.play((200, {}, RATES))
    with rates_api(f"{service.url}/api{slash}") as client:
        client.get_text(path, what=WHAT, params={"to": "A&B c"})
    assert service.requests == ["/api/rates/a%2Fb?to=A%26B+c"]


def test_the_key_is_in_the_header_and_nowhere_else(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = b'{"error":"%s"}' % KEY.encode()
    service.play((429, {}, echo), (500, {}, echo), (401, {}, echo))
    with service.client() as client, pytest.raises(SourceRefused) as refusal:
        client.get_text("rates", what=WHAT)
    assert service.authorizations == [f"Bearer {KEY}"] * 3
    assert "answered 401: ***: check RATES_API_KEY" in str(refusal.value)
    assert KEY not in repr(client) + repr(refusal.value) + caplog.text + "".join(service.requests)


def spellings() -> dict[str, str]:
    """Return the key in the ways that a service may repeat it."""
    plain = f"Bearer {KEY}"
    json_text = "".join(rf"\u{ord(each):04X}" for each in KEY)
    return {
        "as it is": KEY,
        "in lower case": KEY.lower(),
        "JSON": json_text,
        "JSON in part": KEY[:5] + rf"\u{ord(KEY[5]):04x}" + KEY[6:],
        "JSON in JSON": json_text.replace("\\", "\\\\"),
        "repr": "".join(rf"\x{ord(each):02x}" for each in KEY),
        "URL": "".join(f"%{ord(each):02X}" for each in KEY),
        "URL in part": quote(KEY, safe="").replace("-", "%2d"),
        "URL in URL": "".join(f"%25{ord(each):02x}" for each in KEY),
        "HTML": "".join(f"&#{ord(each)};" for each in KEY),
        "HTML in hexadecimal": "".join(f"&#x{ord(each):X};" for each in KEY),
        **{f"Base64 at {at}": b64encode((" " * at + plain).encode()).decode() for at in range(3)},
        "Base64 for URLs": urlsafe_b64encode(f"user:{KEY}".encode()).decode(),
    }


@pytest.mark.parametrize("way", spellings())
@pytest.mark.parametrize("status", [302, 401, 429, 500])
def test_no_message_repeats_the_key_however_it_is_written(service: Service, status: int, way: str) -> None:
    key = spellings()[way]
    service.play((status, {"Location": f"https://rates.example/?key={key}", "Retry-After": "999"}, f"<{key}>".encode()))
    with pytest.raises((SourceRefused, SourceUnavailable)) as error:
        service.rates()
    assert "***" in str(error.value)
    for part in (key[i : i + 8] for i in range(len(key) - 8)):
        assert part not in str(error.value) or "Base64" in way


@pytest.mark.parametrize("way", spellings())
def test_a_body_that_repeats_the_key_is_refused_however_it_is_written(service: Service, way: str) -> None:
    service.play((200, {}, f'{{"note": "{spellings()[way]}"}}'.encode()))
    with pytest.raises(SourceInvalid, match=r"^rates of EUR: the body repeats RATES_API_KEY$"):
        service.rates()


@pytest.mark.parametrize("key", ["k+/", "?~?~?~?~?~?~>>>>>>>>"])
def test_a_key_of_any_length_and_form_is_found(service: Service, key: str) -> None:
    service.play((200, {}, RATES))
    assert service.rates(api_key=key) == RATES.decode()
    for text in (key, key[:1] + f"%{ord(key[1]):X}" + key[2:], urlsafe_b64encode(f"::{key}".encode()).decode()):
        if len(key) > 3 or key[0] in text:
            service.play((200, {}, text.encode()))
            with pytest.raises(SourceInvalid, match=r"repeats RATES_API_KEY$"):
                service.rates(api_key=key)


def test_airflow_masks_the_key() -> None:
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # Airflow re-exports it by import

    with rates_api("http://127.0.0.1:9", api_key="a-key-of-its-own"):
        assert redact("the key is a-key-of-its-own") == "the key is ***"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["\\", "%25", "&amp;", "&#0", "s3cret-Key_012345678", "\\u005"])
def test_looking_for_the_key_takes_no_longer_for_any_text(service: Service, text: str) -> None:
    service.play((200, {}, (text * 999_999)[:999_999].encode()))
    assert service.rates()


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://me:pass@rates.example/a", "https://***@rates.example/a"),
        ("//me:pa:s@s@rates.example", "//***@rates.example"),
        ("https://pass@rates.example?to=a@b.c", "https://***@rates.example?to=a@b.c"),
        ("https://rates.example/@here", "https://rates.example/@here"),
    ],
)
def test_a_login_in_a_redirect_is_not_shown(service: Service, location: str, shown: str) -> None:
    service.play((302, {"Location": location}, location.replace("/", r"\/").encode()))
    with pytest.raises(SourceRefused, match=re.escape(f"points to {shown}, not followed")) as refusal:
        service.rates()
    assert "pass" not in str(refusal.value)


@pytest.mark.parametrize("url", ["me:pass@rates.example", "ftp://me:pass@rates.example", "http://me:pass@[::1"])
def test_a_login_in_an_address_that_is_not_valid_is_not_shown(url: str) -> None:
    with rates_api(url) as client, pytest.raises(SourceRefused, match=r"check RATES_BASE_URL$") as refusal:
        client.get_text("rates", what=WHAT)
    assert "pass" not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500])
@pytest.mark.parametrize(
    "said",
    [
        '{"error":"bad \\ud800 thing"}',
        '{"message":"bad \\u001b[31m thing\\r\\nINFO all is well"}',
        "bad \x1b]0;x\x07 \x85\u202e",
    ],
)
def test_what_a_service_says_is_made_printable(service: Service, status: int, said: str) -> None:
    service.play((status, {"Retry-After": "999"}, said.encode()))
    with pytest.raises((SourceRefused, SourceNotFound, SourceUnavailable), match="bad \ufffd") as error:
        service.rates()
    assert str(error.value).isprintable()


def test_a_key_in_the_place_of_the_address_is_not_revealed() -> None:
    with rates_api(KEY) as client, pytest.raises(SourceRefused, match=r"check RATES_BASE_URL") as refusal:
        client.get_text("rates", what=WHAT)
    assert KEY not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.usefixtures("netrc")
def test_a_login_in_netrc_does_not_replace_the_key(service: Service) -> None:
    service.play((200, {}, RATES))
    service.rates()
    assert service.authorizations == [f"Bearer {KEY}"]


@pytest.mark.usefixtures("netrc")
def test_without_a_key_no_authorization_is_sent(service: Service) -> None:
    service.play((200, {}, RATES))
    assert service.rates(api_key=None) == RATES.decode()
    assert service.authorizations == [None]


def test_spaces_and_line_breaks_around_the_key_are_removed(service: Service) -> None:
    service.play((200, {}, RATES))
    service.rates(api_key=f" {KEY}\n")
    assert service.authorizations == [f"Bearer {KEY}"]


@pytest.mark.parametrize("key", ["", " ", "two words-abc", "línea-abc", "abc\nX-Evil: 1"])
def test_a_key_with_odd_characters_is_refused_and_not_revealed(key: str) -> None:
    with pytest.raises(SourceRefused, match=r"^RATES_API_KEY is empty or has characters that no key has") as refusal:
        rates_api("http://127.0.0.1:9", api_key=key)
    assert "abc" not in str(refusal.value)


def test_a_rate_limit_is_waited_out_for_as_long_as_the_service_says(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.play((429, {"Retry-After": "42"}, LIMITED), (429, {}, LIMITED), (200, {}, RATES))
    assert service.rates() == RATES.decode()
    assert service.waits == [42, 15]
    assert "rates of EUR: the rates API answered 429: You've exceeded the maximum requests per minute" in caplog.text
    assert "waiting 42 s" in caplog.text


@pytest.mark.parametrize("status", [425, 429, 500, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_service_that_says_when_to_come_back_is_asked_then(service: Service, status: int, form: str) -> None:
    asked = "100" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    service.play((status, {"Retry-After": asked}, b"busy"), (200, {}, RATES))
    assert service.rates() == RATES.decode()
    assert service.waits == [pytest.approx(100, abs=10)]


SENSELESS = [
    "0",
    "-5",
    "soon",
    "1.5",
    "9" * 5000,
    "Tue, 01 Aug 2023 20:00:00 GMT",
    "Mon, 99 Aug 2023",
    "a b c d e",
    ",",
]


@pytest.mark.parametrize("senseless", SENSELESS)
@pytest.mark.parametrize(("status", "wait"), [(429, 15), (503, 1)])
def test_without_a_time_in_the_future_retry_after_changes_nothing(
    service: Service, status: int, wait: float, senseless: str
) -> None:
    service.play((status, {"Retry-After": senseless}, LIMITED), (200, {}, RATES))
    service.rates()
    assert service.waits == [wait]


class Slow:
    """A body that takes its time."""

    def __iter__(self) -> Iterator[bytes]:
        time.sleep(0.12)
        yield LIMITED


def test_the_time_of_the_requests_counts_for_the_patience(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "RATE_LIMIT_WAIT", 0.1)
    service.play((429, {}, Slow()))
    with pytest.raises(SourceUnavailable):
        service.rates(rate_limit_patience=0.3)
    assert len(service.requests) <= 2  # with the waits alone they would be four


@pytest.mark.parametrize(("options", "waits"), [({}, 12), ({"rate_limit_patience": 50}, 3)])
def test_waiting_for_the_rate_limit_ends(service: Service, options: dict[str, Any], waits: int) -> None:
    service.play((429, {}, LIMITED))
    with pytest.raises(SourceUnavailable, match=r"^rates of EUR: .* 429: .*exceeded the maximum.*: try again later$"):
        service.rates(**options)
    assert service.waits == [15] * waits


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_longer_than_the_patience_is_not_started(service: Service, status: int) -> None:
    service.play((status, {"Retry-After": "181"}, LIMITED))
    with pytest.raises(SourceUnavailable):
        service.rates()
    assert service.waits == []


@pytest.mark.parametrize("status", [408, 425, 500, 503])
def test_a_failing_service_is_asked_three_times(service: Service, status: int) -> None:
    service.play((status, {}, b"oops"), (status, {}, b""), (200, {}, RATES))
    assert service.rates() == RATES.decode()
    assert service.waits == [1, 2]


def test_a_service_that_keeps_failing_is_unavailable(service: Service) -> None:
    service.play((502, {}, b"<html>Bad gateway</html>"))
    with pytest.raises(SourceUnavailable, match=r"^rates of EUR: .* 502: <html>Bad gateway</html>: try again later$"):
        service.rates()
    assert len(service.requests) == 3


def test_after_a_rate_limit_a_failing_service_gets_all_its_attempts_again(service: Service) -> None:
    service.play((500, {}, b""), (429, {}, LIMITED), (500, {}, b""), (500, {}, b""), (200, {}, RATES))
    assert service.rates() == RATES.decode()
    assert service.waits == [1, 15, 1, 2]


def test_an_address_where_nothing_listens_is_unavailable() -> None:
    waits: list[float] = []
    with (
        rates_api("http://127.0.0.1:9", sleep=waits.append) as client,
        pytest.raises(SourceUnavailable, match=r"^rates of EUR: .*: the rates API cannot be reached, try again later$"),
    ):
        client.get_text("rates", what=WHAT)
    assert waits == [1, 2]


def test_a_body_that_breaks_off_is_asked_for_again(service: Service) -> None:
    service.play((200, {"Content-Length": "5000"}, RATES), (200, {}, RATES))
    assert service.rates() == RATES.decode()


@pytest.mark.parametrize("url", ["rates.example", "ftp://rates.example", "http://", "http://[::1", "http://h:99999"])
def test_an_address_that_is_not_valid_is_refused_at_once(url: str) -> None:
    waits: list[float] = []
    with (
        rates_api(url, sleep=waits.append) as client,
        pytest.raises(SourceRefused, match=r"^rates of EUR: .*: check RATES_BASE_URL$"),
    ):
        client.get_text("rates", what=WHAT)
    assert waits == []


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error":" No such base.\\n"}', "No such base: check the request and RATES_BASE_URL"),
        (401, b'{"error":"Unknown API Key"}', "Unknown API Key: check RATES_API_KEY"),
        (403, b'{"message":"You are not entitled"}', "You are not entitled: check RATES_API_KEY"),
        (403, b"<html>" + b"x" * 10_000, "<html>xxx"),
        (403, b"[" * 100_000, "[[["),
        (403, b'{"error":{"code":7}}', '{"error":{"code":7}}'),
        (410, b"", "an empty body"),
        (204, b"", "an empty body"),
    ],
)
def test_a_refusal_has_the_reason_that_the_service_gives(
    service: Service, status: int, body: bytes, message: str
) -> None:
    service.play((status, {}, body))
    with pytest.raises(SourceRefused) as refusal:
        service.rates()
    assert str(refusal.value).startswith(f"rates of EUR: the rates API answered {status}: {message}")
    assert len(str(refusal.value)) < 500
    assert len(service.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_without_a_key_a_refusal_does_not_advise_to_check_it(service: Service, status: int) -> None:
    service.play((status, {}, b"No"))
    with pytest.raises(SourceRefused, match=r"No: check the request and RATES_BASE_URL$"):
        service.rates(api_key=None)


def test_data_that_is_not_there_has_an_error_of_its_own(service: Service) -> None:
    service.play((404, {}, b'{"message":"Data not found."}'))
    message = "no rates of EUR: the rates API answered 404: Data not found: check the request and RATES_BASE_URL"
    with pytest.raises(SourceNotFound, match=f"^{message}$"):
        service.rates()
    assert len(service.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_the_advice_of_the_dataset_replaces_the_general_one(service: Service, status: int) -> None:
    service.play((status, {}, b"No"))
    with pytest.raises(
        (SourceRefused, SourceNotFound, SourceUnavailable), match=f"answered {status}: No: call the bank$"
    ):
        service.rates(advice={status: "call the bank"})


def test_a_redirect_is_not_followed_so_that_the_key_stays(service: Service) -> None:
    service.play((302, {"Location": f"{service.url}/elsewhere"}, b""), (200, {}, RATES))
    with pytest.raises(SourceRefused, match=r"302: .* points to http.*/elsewhere, not followed: check RATES_BASE_URL"):
        service.rates()
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("headers", "body", "flaw"),
    [
        ({}, b"\xff\xfe{}", "not UTF-8"),
        ({}, RATES + b"\0", "NUL"),
        ({}, b" " * 1_000_001, "larger than 1000000 bytes"),
        # A terabyte, says the header: a client that reads to the end waits for it, and then fails in another way.
        ({"Content-Length": str(10**12)}, b" " * 2_000_000, "larger than"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000), "larger than"),
    ],
    ids=["bytes", "nul", "large", "endless", "gzip bomb"],
)
def test_a_body_that_is_not_text_or_too_large_is_refused(
    service: Service, headers: dict[str, str], body: bytes, flaw: str
) -> None:
    service.play((200, headers, body))
    with pytest.raises(SourceInvalid, match=f"^rates of EUR: the body .*{flaw}"):
        service.rates()
    assert len(service.requests) == 1


@pytest.mark.parametrize(("options", "limit"), [({}, 1_000_000), ({"body_limit": 2_000_000}, 2_000_000)])
def test_a_body_of_the_largest_size_is_read_completely(service: Service, options: dict[str, int], limit: int) -> None:
    service.play((200, {}, b"x" * limit))
    assert len(service.rates(**options)) == limit
