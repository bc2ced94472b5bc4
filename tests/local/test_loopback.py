"""Which requests a server of one machine answers, sent as they are written: other clients correct them."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from local.processes import serving
from tests.local.running import new_state

REFUSED, ANSWERED = 403, 200
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}==")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with new_state() as state, serving(state, "answering", ["tests.local.answering"], health="/health") as (url, _):
        yield urlsplit(url).port or 0


def ask(port: int, *headers: str, method: str = "GET") -> int:
    """Return the status of the answer."""
    request = "\r\n".join([f"{method} /path HTTP/1.1", *headers, "Content-Length: 0", "", ""])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.encode())
        return int(connection.recv(1000).split()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", "[::1]", "127.8.9.1"])
@pytest.mark.parametrize("at", ["", ":8080", ":1"])
def test_this_machine_is_answered_at_any_port(port: int, host: str, at: str) -> None:
    """An editor or ssh forwards another port to this one."""
    assert ask(port, f"Host: {host}{at}") == ANSWERED
    assert ask(port, f"Host: {host}{at}", f"Origin: http://{host}{at}", method="POST") == ANSWERED


FOREIGN = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example#@127.0.0.1",
    "localhost.",
    "0.0.0.0",  # noqa: S104 - nothing binds it
    "192.168.0.1",
    "[fe80::1]",
    "[::1",
    "127.0.0.1@evil.example",
    "",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused(port: int, host: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert ask(port, f"Host: {host}", method=method) == REFUSED


@pytest.mark.parametrize("origin", ["null", "", "localhost", *(f"http://{host}" for host in FOREIGN)])
def test_a_foreign_origin_is_refused(port: int, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert ask(port, "Host: 127.0.0.1", f"Origin: {origin}", method=method) == REFUSED


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Host: evil.example", *UPGRADE],
        ["Host: 127.0.0.1", "Origin: http://evil.example", *UPGRADE],
        ["Host: 127.0.0.1", "Host: evil.example"],
        ["Host: 127.0.0.1", "Origin: http://127.0.0.1", "Origin: http://evil.example"],
        ["X-Forwarded-Host: 127.0.0.1", "Host: evil.example"],
    ],
)
def test_neither_a_websocket_nor_a_missing_or_second_header_gets_around_it(port: int, headers: list[str]) -> None:
    assert ask(port, *headers) in (400, REFUSED)
