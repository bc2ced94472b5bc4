import gzip
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event

import pytest
from include.market import polygon
from include.market.errors import (
    MarketApiRefused,
    MarketApiUnavailable,
    MarketDataInvalid,
    MarketDataUnavailable,
)
from include.market.flatten import flatten
from include.market.polygon import PolygonClient
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

DAY = date(2023, 8, 1)
KEY = "s3cret-Key_0123456789"  # gitleaks:allow (made up)
SUMMARY = (
    b'{"status":"OK","from":"2023-08-01","symbol":"AAPL","open":196.235,"high":196.73,"low":195.28,'
    b'"close":195.605,"volume":35281426.0,"afterHours":195.3,"preMarket":196.35}'
)
LIMITED = b'{"status":"ERROR","error":"You\'ve exceeded the maximum requests per minute."}'


@dataclass
class Service:
    """A market API that plays scripted answers, the last one again and again."""

    answers: list[tuple[int, dict[str, str], bytes | Iterable[bytes]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    authorized: list[str | None] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    url: str = ""

    def play(self, *answers: tuple[int, dict[str, str], bytes | Iterable[bytes]]) -> None:
        self.answers = list(answers)

    def client(self, patience: float = 180.0, key: str = KEY) -> PolygonClient:
        return PolygonClient(self.url, key, rate_limit_patience=patience, sleep=self.waits.append)

    def summary(self, ticker: str = "AAPL", patience: float = 180.0) -> str:
        with self.client(patience) as client:
            return client.daily_summary(ticker, DAY)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def service(httpserver: HTTPServer) -> Service:
    script = Service(url=httpserver.url_for("").rstrip("/"))

    def answer(request: Request) -> Response:
        script.asked.append(request.environ["REQUEST_URI"])  # as it was sent: request.path is unquoted
        script.authorized.append(request.headers.get("Authorization"))
        status, headers, body = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
        response = Response(body, status, headers)
        response.automatically_set_content_length = "Content-Length" not in headers
        return response

    httpserver.expect_request(re.compile("/.*")).respond_with_handler(answer)
    return script


def test_the_answer_comes_back_as_it_was_sent(service: Service) -> None:
    service.play((200, {}, SUMMARY))
    body = service.summary()
    assert body == SUMMARY.decode()
    assert service.asked == ["/v1/open-close/AAPL/2023-08-01?adjusted=true"]
    assert flatten([{"ticker": "AAPL", "body": body}], DAY)["close_price"].tolist() == [195.605]


def test_a_base_url_may_end_in_a_slash_and_a_ticker_is_quoted(service: Service) -> None:
    service.play((200, {}, SUMMARY))
    with PolygonClient(f"{service.url}/", KEY) as client:
        client.daily_summary("A/B?c", DAY)
    assert service.asked == ["/v1/open-close/A%2FB%3Fc/2023-08-01?adjusted=true"]


def test_the_key_travels_in_the_header_and_is_seen_nowhere_else(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = b'{"error":"%s"}' % KEY.encode()
    service.play((429, {}, echo), (500, {}, echo), (401, {}, echo))
    with service.client() as client, pytest.raises(MarketApiRefused) as refusal:
        client.daily_summary("AAPL", DAY)
    assert service.authorized == [f"Bearer {KEY}"] * 3
    assert KEY not in repr(client) + repr(refusal.value) + caplog.text + "".join(service.asked)


def test_a_netrc_entry_does_not_replace_the_key(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    service.play((200, {}, SUMMARY))
    service.summary()
    assert service.authorized == [f"Bearer {KEY}"]


def test_a_line_break_after_the_key_does_no_harm(service: Service) -> None:
    service.play((200, {}, SUMMARY))
    with service.client(key=f"{KEY}\n") as client:
        client.daily_summary("AAPL", DAY)
    assert service.authorized == [f"Bearer {KEY}"]


@pytest.mark.parametrize("key", ["", " ", "two words-abc", "línea-abc", "abc\nX-Evil: 1"])
def test_what_cannot_be_a_key_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(MarketApiRefused, match="POLYGON_API_KEY") as refusal:
        PolygonClient("http://127.0.0.1:9", key)
    assert "abc" not in str(refusal.value)


def test_a_rate_limit_is_waited_out_for_as_long_as_the_service_says(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.play((429, {"Retry-After": "42"}, LIMITED), (429, {}, LIMITED), (200, {}, SUMMARY))
    assert service.summary() == SUMMARY.decode()
    assert service.waits == [42.0, 15.0]
    assert "AAPL on 2023-08-01" in caplog.text
    assert "waiting 42 s" in caplog.text


@pytest.mark.parametrize("senseless", ["0", "-5", "soon", "1.5", "9" * 5000, "Tue, 01 Aug 2023 20:00:00 GMT"])
def test_a_senseless_retry_after_is_not_followed(service: Service, senseless: str) -> None:
    service.play((429, {"Retry-After": senseless}, LIMITED), (200, {}, SUMMARY))
    service.summary()
    assert service.waits == [15.0]


def test_patience_with_the_rate_limit_ends(service: Service) -> None:
    service.play((429, {}, LIMITED))
    with pytest.raises(MarketApiUnavailable, match=r"AAPL on 2023-08-01.*429.*exceeded the maximum"):
        service.summary(patience=50)
    assert service.waits == [15.0, 15.0, 15.0]


def test_a_wait_beyond_patience_is_not_begun(service: Service) -> None:
    service.play((429, {"Retry-After": "3600"}, LIMITED))
    with pytest.raises(MarketApiUnavailable):
        service.summary()
    assert service.waits == []


def test_a_failing_service_is_asked_again(service: Service) -> None:
    service.play((500, {}, b"oops"), (503, {}, b""), (200, {}, SUMMARY))
    assert service.summary() == SUMMARY.decode()
    assert len(service.waits) == 2
    assert 0 < sum(service.waits) < 10


def test_a_service_that_keeps_failing_is_unavailable(service: Service) -> None:
    service.play((502, {}, b"<html>Bad gateway</html>"))
    with pytest.raises(MarketApiUnavailable, match=r"AAPL on 2023-08-01.*502: <html>Bad gateway"):
        service.summary()
    assert len(service.asked) == 3


def test_a_rate_limit_between_failures_is_waited_out_too(service: Service) -> None:
    service.play((500, {}, b""), (429, {}, LIMITED), (500, {}, b""), (500, {}, b""), (200, {}, SUMMARY))
    assert service.summary() == SUMMARY.decode()


def test_an_address_where_nothing_listens_is_unavailable() -> None:
    waits: list[float] = []
    with (
        PolygonClient("http://127.0.0.1:9", KEY, sleep=waits.append) as client,
        pytest.raises(MarketApiUnavailable, match=r"AAPL on 2023-08-01.*cannot be reached"),
    ):
        client.daily_summary("AAPL", DAY)
    assert len(waits) == 2


def test_an_answer_that_breaks_off_is_asked_for_again(service: Service) -> None:
    service.play((200, {"Content-Length": "5000"}, SUMMARY), (200, {}, SUMMARY))
    assert service.summary() == SUMMARY.decode()


@pytest.mark.parametrize("url", ["api.polygon.io", "ftp://api.polygon.io", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    waits: list[float] = []
    with (
        PolygonClient(url, KEY, sleep=waits.append) as client,
        pytest.raises(MarketApiRefused, match="check POLYGON_BASE_URL"),
    ):
        client.daily_summary("AAPL", DAY)
    assert waits == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"status":"ERROR","error":"API Key was not provided"}', "API Key was not provided: check"),
        (401, b'{"status":"ERROR","error":"Unknown API Key"}', "Unknown API Key: check POLYGON_API_KEY"),
        (403, b'{"status":"NOT_AUTHORIZED","message":"You are not entitled"}', "not entitled: the plan"),
        (403, b"<html>" + b"x" * 10_000, "<html>xxx"),
        (403, b"[" * 100_000, "[[["),
        (403, b'{"error":{"code":7}}', '{"error":{"code":7}}'),
        (410, b"", "an empty body"),
        (204, b"", "answered 204"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_service(service: Service, status: int, body: bytes, said: str) -> None:
    service.play((status, {}, body))
    with pytest.raises(MarketApiRefused) as refusal:
        service.summary()
    message = str(refusal.value)
    assert message.startswith(f"daily summary of AAPL on 2023-08-01: the market API answered {status}: ")
    assert said in message
    assert len(message) < 500
    assert len(service.asked) == 1


def test_an_unknown_ticker_is_unavailable_and_says_what_to_check(service: Service) -> None:
    service.play((404, {}, b'{"status":"NOT_FOUND","message":"Data not found."}'))
    with pytest.raises(
        MarketDataUnavailable, match=r"no daily summary of ZZZZ on 2023-08-01.*case-sensitive.*clear the task"
    ):
        service.summary("ZZZZ")
    assert len(service.asked) == 1


def test_a_redirect_is_not_followed_so_that_the_key_stays(service: Service) -> None:
    service.play((302, {"Location": f"{service.url}/elsewhere"}, b""), (200, {}, SUMMARY))
    with pytest.raises(MarketApiRefused, match="/elsewhere, not followed"):
        service.summary()
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("headers", "body", "flaw"),
    [
        ({}, b"\xff\xfe{}", "not UTF-8"),
        ({}, SUMMARY + b"\0", "NUL"),
        ({}, b" " * 1_000_001, "larger than"),
        # A claimed terabyte: whoever reads on to the end waits for it and fails otherwise.
        ({"Content-Length": str(10**12)}, b" " * 2_000_000, "larger than"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000), "larger than"),
    ],
    ids=["bytes", "nul", "large", "endless", "gzip bomb"],
)
def test_a_body_that_is_no_text_of_a_summary_is_refused(
    service: Service, headers: dict[str, str], body: bytes, flaw: str
) -> None:
    service.play((200, headers, body))
    with pytest.raises(MarketDataInvalid, match=f"AAPL on 2023-08-01: the body .*{flaw}"):
        service.summary()
    assert len(service.asked) == 1


def test_a_body_that_repeats_the_key_goes_no_further(service: Service) -> None:
    service.play((200, {}, b'{"status":"OK","note":"%s"}' % KEY.encode()))
    with pytest.raises(MarketDataInvalid, match="repeats POLYGON_API_KEY") as refusal:
        service.summary()
    assert KEY not in str(refusal.value)


def test_a_body_of_the_largest_size_is_read_whole(service: Service) -> None:
    service.play((200, {}, b" " * 1_000_000))
    assert len(service.summary()) == 1_000_000


def test_a_body_that_trickles_in_for_ever_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygon, "BODY_SECONDS", 0.2)
    pause = Event()

    def trickle() -> Iterator[bytes]:
        while not pause.wait(0.05):
            yield b" "

    service.play(*((200, {}, trickle()) for _ in range(polygon.ATTEMPTS)), (200, {}, SUMMARY))
    with pytest.raises(MarketApiUnavailable, match=r"AAPL on 2023-08-01.*not complete after"):
        service.summary()
    pause.set()
    assert len(service.asked) == polygon.ATTEMPTS
