import gzip
import logging
import re
import socket
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

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


def test_a_redirect_that_repeats_the_key_does_not_reveal_it(service: Service) -> None:
    service.play((302, {"Location": f"https://rates.example/?key={KEY}"}, b""))
    with pytest.raises(SourceRefused, match=re.escape("points to https://rates.example/?key=***, not followed")):
        service.rates()


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


@pytest.mark.parametrize("senseless", ["0", "-5", "soon", "1.5", "9" * 5000, "Tue, 01 Aug 2023 20:00:00 GMT"])
def test_a_senseless_retry_after_is_not_followed(service: Service, senseless: str) -> None:
    service.play((429, {"Retry-After": senseless}, LIMITED), (200, {}, RATES))
    service.rates()
    assert service.waits == [15]


@pytest.mark.parametrize(("options", "waits"), [({}, 12), ({"rate_limit_patience": 50}, 3)])
def test_waiting_for_the_rate_limit_ends(service: Service, options: dict[str, Any], waits: int) -> None:
    service.play((429, {}, LIMITED))
    with pytest.raises(SourceUnavailable, match=r"^rates of EUR: .* 429: .*exceeded the maximum.*: try again later$"):
        service.rates(**options)
    assert service.waits == [15] * waits


def test_a_wait_longer_than_the_patience_is_not_started(service: Service) -> None:
    service.play((429, {"Retry-After": "181"}, LIMITED))
    with pytest.raises(SourceUnavailable):
        service.rates()
    assert service.waits == []


@pytest.mark.parametrize("status", [408, 500, 503])
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


@pytest.mark.timeout(20)
def test_a_service_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "TIMEOUTS", (5, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections wait in its backlog
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            rates_api(url, sleep=lambda _: None) as client,
            pytest.raises(SourceUnavailable, match=r"Read timed out.* cannot be reached"),
        ):
            client.get_text("rates", what=WHAT)


@pytest.mark.timeout(20)
def test_a_body_that_arrives_too_slowly_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "BODY_SECONDS", 0.2)
    end = Event()

    def trickle() -> Iterator[bytes]:
        while not end.wait(0.05):
            yield b" "

    service.play(*((200, {}, trickle()) for _ in range(3)), (200, {}, RATES))
    with pytest.raises(SourceUnavailable, match=r"rates of EUR.*not complete after 0.2 s"):
        service.rates()
    end.set()
    assert len(service.requests) == 3


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
    service.play((200, {}, b" " * limit))
    assert len(service.rates(**options)) == limit


def test_a_body_that_repeats_the_key_is_refused(service: Service) -> None:
    service.play((200, {}, b'{"note":"%s"}' % KEY.encode()))
    with pytest.raises(SourceInvalid, match=r"^rates of EUR: the body repeats RATES_API_KEY$"):
        service.rates()
