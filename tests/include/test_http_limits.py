"""The HTTP client against a server that keeps to no rule: it writes bytes, not answers."""

import gzip
import http.client
import itertools
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from include import http_client
from include.http_client import HttpClient, SourceInvalid, SourceRefused, SourceUnavailable

KEY = "s3cret-Key_0123456789"  # gitleaks:allow (made up)
RATES = b'{"base": "EUR", "rates": {"USD": 1.0987}}'
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"
WHOLE = OK + b"Content-Length: %d\r\n\r\n" % len(RATES) + RATES

Serve = Callable[..., str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server, which writes the pieces of an answer, and returns its URL.

    Each connection gets the next answer, and the last one is repeated. A server that cannot write stops.
    """
    listeners: list[socket.socket] = []

    def start(
        *answers: Iterable[bytes] | bytes, tls: ssl.SSLContext | None = None, before_tls: bytes | None = None
    ) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, list(answers), tls, before_tls), daemon=True).start()
        return f"http{'s' if tls else ''}://localhost:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def accept(
    listener: socket.socket,
    answers: list[Iterable[bytes] | bytes],
    tls: ssl.SSLContext | None,
    before_tls: bytes | None,
) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        try:
            if before_tls:
                connection.recv(65_536)
                connection.sendall(before_tls)
            with tls.wrap_socket(connection, server_side=True) if tls else connection as stream:
                while not stream.recv(65_536).endswith(b"\r\n\r\n"):
                    pass
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    stream.sendall(piece)
                if answer == [b""]:
                    stream.recv(1)  # silent, until the client closes the connection
        except OSError:
            pass


def rates(url: str, waits: list[float] | None = None) -> str:
    options: dict[str, Any] = {"base_url_name": "RATES_BASE_URL", "api_key": KEY, "api_key_name": "RATES_API_KEY"}
    sleep = (lambda _: None) if waits is None else waits.append
    with HttpClient("the rates API", url, sleep=sleep, **options) as client:
        return client.get_text("rates", what="rates of EUR")


def slowly(*parts: bytes) -> Iterator[bytes]:
    """Yield the bytes of the parts one by one, and those of the last one for ever."""
    for byte in itertools.chain(*parts[:-1], itertools.cycle(parts[-1])):
        time.sleep(0.02)
        yield bytes([byte])


SLOW: dict[str, Callable[[], Iterable[bytes]]] = {
    "nothing": lambda: [b""],
    "status line": lambda: slowly(b"HTTP/1.1 200 ", b"O"),
    "headers": lambda: slowly(OK, b"X-Rates: 1\r\n"),
    "answers before the final one": lambda: slowly(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hints before the final one": lambda: slowly(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "body": lambda: itertools.chain([OK + b"\r\n"], slowly(b" ")),
    "chunks": lambda: itertools.chain([CHUNKED], slowly(b"1\r\n \r\n")),
    "size of a chunk": lambda: itertools.chain([CHUNKED], slowly(b"0")),
    "trailers": lambda: itertools.chain([CHUNKED + b"0\r\n"], slowly(b"X: 1\r\n")),
    "name in gzip": lambda: itertools.chain([GZIP, b"\x1f\x8b\x08\x08" + bytes(6)], slowly(b"n")),
    "refusal": lambda: itertools.chain([b"HTTP/1.1 401 No\r\n\r\n"], slowly(b" ")),
    "redirect": lambda: itertools.chain([b"HTTP/1.1 302 There\r\nLocation: /there\r\n\r\n"], slowly(b" ")),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", SLOW)
def test_an_answer_that_comes_too_slowly_is_given_up(part: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "REQUEST_SECONDS", 0.3)
    waits: list[float] = []
    url = serve(*(SLOW[part]() for _ in range(3)))
    with pytest.raises(SourceUnavailable, match=r"^rates of EUR: .*not complete after 0.3 s: try again later$"):
        rates(url, waits)
    assert waits == [1, 2]


def many(piece: bytes, *before: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain(before, itertools.repeat(piece * (65_536 // len(piece))))


EMPTY_BLOCKS = b"\x00\x00\x00\xff\xff" * 10_000  # deflate, stored, no bytes
LARGE = {
    "headers": many(b"X-Rates: " + b"1" * 60_000 + b"\r\n", OK),
    "answers before the final one": many(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "size of a chunk": many(b"0", CHUNKED),
    "notes of chunks": many(b"1;" + b"n" * 60_000 + b"\r\n \r\n", CHUNKED),
    "trailers": many(b"X-Rates: 1\r\n", CHUNKED + b"0\r\n"),
    "name in gzip": many(b"n", GZIP + b"\x1f\x8b\x08\x08" + bytes(6)),
    "empty blocks in gzip": many(EMPTY_BLOCKS, GZIP + gzip.compress(b"")[:10]),
    "empty blocks in deflate": many(EMPTY_BLOCKS, OK + b"Content-Encoding: deflate\r\n\r\n"),
    "empty files in gzip": many(gzip.compress(b""), GZIP),
    "body": many(b" ", OK + b"\r\n"),
    "refusal": many(b" ", b"HTTP/1.1 401 No\r\n\r\n"),
    "redirect": many(b" ", b"HTTP/1.1 302 There\r\nLocation: /there\r\n\r\n"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("part", LARGE)
def test_an_answer_without_end_is_given_up(part: str, serve: Serve) -> None:
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for piece in LARGE[part]():
            sent += len(piece)
            yield piece

    with pytest.raises((SourceInvalid, SourceRefused, SourceUnavailable), match=r"^rates of EUR: "):
        rates(serve(counted(), counted(), counted()))
    assert sent < 3 * 7_000_000  # two megabytes, and what the buffers of the sockets take


@pytest.mark.timeout(30)
def test_a_body_compressed_in_layers_is_refused(serve: Serve) -> None:
    layers = gzip.compress(gzip.compress(b"")[:10] + EMPTY_BLOCKS * 200)  # of which nothing comes out
    head = OK + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n"
    with pytest.raises(SourceInvalid, match=r"^rates of EUR: the body is compressed more than once"):
        rates(serve(head + b"\r\n" + layers))


def test_hints_before_the_answer_are_skipped(serve: Serve) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </rates>\r\n\r\n"
    assert rates(serve(hints + WHOLE)) == RATES.decode()


CUT = {
    "before the answer": b"",
    "in the status line": b"HTTP/1.1 2",
    "after the status line": OK,
    "in a header's name": OK + b"Content-Le",
    "in a header's value": OK + b"Content-Type: application/js",
    "after a header": OK + b"Content-Length: 41\r\n",
    "in the headers of a refusal": b"HTTP/1.1 404 Not Found\r\nContent-Ty",
    "after the headers": OK + b"\r\n",
    "in the size of a chunk": CHUNKED + b"2",
    "in a chunk": CHUNKED + b"29\r\n" + RATES[:20],
    "before the last chunk": CHUNKED + b"29\r\n" + RATES + b"\r\n",
    "in the body": WHOLE[:-7],
    "in gzip": GZIP + gzip.compress(RATES)[:-20],
    "in a character": OK + b"\r\n" + '{"name": "é'.encode()[:-1],
    **{f"at byte {end} of a body without a length": OK + b"\r\n" + RATES[:end] for end in range(len(RATES))},
}


@pytest.mark.parametrize("place", CUT)
def test_a_connection_that_is_cut_counts_as_an_outage(place: str, serve: Serve) -> None:
    waits: list[float] = []
    assert rates(serve(CUT[place], CUT[place], WHOLE), waits) == RATES.decode()
    assert waits == [1, 2]


@pytest.mark.parametrize("body", ["<html>Sorry</html>", "{,}", '{"a": 1} x', "[" * 100_000, '{"a": "\\ud800"}', "USD"])
def test_a_body_that_is_wrong_but_whole_is_returned(body: str, serve: Serve) -> None:
    waits: list[float] = []
    assert rates(serve(OK + b"\r\n" + body.encode()), waits) == body
    assert waits == []


NOT_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "no status": b"HTTP/1.1 two OK\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5, 6\r\n\r\n12345",
    "a boundary with a huge number": OK + b"Content-Type: multipart/x; boundary*" + b"9" * 5000 + b"*=a\r\n\r\n",
    "too many headers": OK + b"A: 1\r\n" * 200 + b"\r\n",
    "no gzip": OK + b"Content-Encoding: gzip\r\n\r\n" + RATES,
}


@pytest.mark.parametrize("flaw", NOT_HTTP)
def test_an_answer_that_is_not_http_counts_as_an_outage(flaw: str, serve: Serve) -> None:
    assert rates(serve(NOT_HTTP[flaw], WHOLE)) == RATES.decode()


@pytest.mark.parametrize("location", [b"\xff\xfe://x", b"http://[::1", b"//", b"http://\x1b[31m\x9b\xe2\x80\xae"])
def test_a_redirect_to_nowhere_is_refused(location: bytes, serve: Serve) -> None:
    with pytest.raises(SourceRefused, match=r"answered 302: .* not followed: check RATES_BASE_URL$") as refusal:
        rates(serve(b"HTTP/1.1 302 There\r\nLocation: " + location + b"\r\n\r\n"))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("line", [b"Authorization Bearer %s", b" Bearer %s", b"%s", b"Bad header: \x00\r\n%s"])
def test_headers_that_repeat_the_key_are_not_logged(
    line: bytes,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)  # prints the headers
    head, body = WHOLE.split(b"\r\n\r\n")
    assert rates(serve(head + b"\r\n" + line % KEY.encode() + b"\r\n\r\n" + body)) == RATES.decode()
    assert KEY not in caplog.text + "".join(capfd.readouterr())


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def certified(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    """Return the TLS context of a server with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_a_certificate_of_an_unknown_ca_is_refused_at_once(serve: Serve, authority: trustme.CA) -> None:
    waits: list[float] = []
    with pytest.raises(
        SourceRefused,
        match=r"^rates of EUR: the certificate of the rates API is not trusted: unable to get local issuer certificate"
        r": check RATES_BASE_URL; if a company's own CA signs it, .*SSL_CERT_FILE$",
    ):
        rates(serve(WHOLE, tls=certified(authority)), waits)
    assert waits == []


@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_a_ca_that_the_environment_names_is_trusted(
    setting: str, serve: Serve, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    if setting == "SSL_CERT_DIR":
        if not (openssl := shutil.which("openssl")):
            pytest.skip("openssl is not installed: it makes the links by which a certificate is found")
        subprocess.run([openssl, "rehash", tmp_path], check=True)
        file = tmp_path
    monkeypatch.setenv(setting, str(file))
    assert rates(serve(WHOLE, tls=certified(authority))) == RATES.decode()


def test_a_certificate_of_another_host_is_refused(
    serve: Serve, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(SourceRefused, match=r"not trusted: Hostname mismatch.* not valid for 'localhost'"):
        rates(serve(WHOLE, tls=certified(authority, "rates.example")))


def test_a_bundle_that_is_not_there_is_named(
    serve: Serve, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(SourceRefused, match=r"/nowhere/ca.pem: check REQUESTS_CA_BUNDLE$"):
        rates(serve(WHOLE, tls=certified(authority)))


@pytest.mark.timeout(20)
def test_the_limits_hold_over_tls(
    serve: Serve, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = certified(authority)
    with pytest.raises(SourceInvalid, match=r"more than 2065536 bytes"):
        rates(serve(LARGE["headers"](), tls=tls))
    monkeypatch.setattr(http_client, "REQUEST_SECONDS", 0.3)
    with pytest.raises(SourceUnavailable, match=r"not complete after 0.3 s"):
        rates(serve(*(SLOW["headers"]() for _ in range(3)), tls=tls))


def test_the_proxy_of_the_environment_is_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", serve(WHOLE).replace("//", "//me:pass@"))
    assert rates("http://rates.example") == RATES.decode()


@pytest.mark.timeout(20)
def test_a_proxy_is_not_waited_for_and_its_login_not_shown(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "REQUEST_SECONDS", 0.3)
    for answers in ([SLOW["headers"]() for _ in range(3)], [b"HTTP/1.1 407 me:pass@\r\n\r\n"]):
        monkeypatch.setenv("HTTPS_PROXY", serve(*answers).replace("//", "//me:pass@"))
        with pytest.raises(SourceUnavailable, match=r"try again later$") as error:
            rates("https://rates.example")
        assert "//me:pass" not in str(error.value)


def test_a_tls_server_is_reached_through_a_proxy(
    serve: Serve, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    # It opens the tunnel, and then is the server at its end.
    tunnel = serve(WHOLE, tls=certified(authority, "rates.example"), before_tls=b"HTTP/1.1 200 Go on\r\n\r\n")
    monkeypatch.setenv("HTTPS_PROXY", tunnel.replace("https", "http"))
    assert rates("https://rates.example") == RATES.decode()
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceRefused, match=r"not trusted: unable to get local issuer certificate"):
        rates("https://rates.example")
