"""How requests reaches a service that cannot be trusted to be quick, small or well-behaved.

One deadline and one limit hold for all that a request receives: answers before the final one, headers, the sizes of
chunks, trailers, and bytes that a decompressor swallows. They hold where the bytes arrive, below http.client.
"""

import http.client
import io
import socket
import ssl
import time
from functools import partial
from typing import Any

import requests
import truststore
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection


class TooSlow(Exception):
    """The answer was not complete in time."""


class TooLarge(Exception):
    """The answer has more bytes than the limit, or no limit can hold for it."""


class LimitedAdapter(HTTPAdapter):
    """Gives each request a number of seconds and of received bytes; reading more raises TooSlow or TooLarge.

    TLS trusts what pip trusts: the system's certificates, SSL_CERT_FILE and SSL_CERT_DIR, the bundle that requests
    carries, and REQUESTS_CA_BUNDLE.
    """

    def __init__(self, *, seconds: float, limit: int) -> None:
        self._seconds = seconds
        self._limit = limit
        self._trust = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Let direct connections trust the system's certificates."""
        super().init_poolmanager(*args, ssl_context=self._trust, **kwargs)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Let connections through a proxy trust the system's certificates."""
        return super().proxy_manager_for(proxy, ssl_context=self._trust, **kwargs)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pool whose connections read their answers within the limits."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not isinstance(pool.ConnectionCls, partial):
            pool.ConnectionCls = partial(self._connection, pool.ConnectionCls)
        return pool

    def _connection(self, kind: type[HTTPConnection], *args: Any, **kwargs: Any) -> HTTPConnection:
        connection = kind(*args, **kwargs)
        connection.response_class = partial(_Answer, limits=self)  # type: ignore[assignment]
        connection.set_debuglevel(0)  # whatever http.client's default was set to: it prints the headers, with the key
        return connection

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, whose seconds and bytes count from now."""
        self._end = time.monotonic() + self._seconds
        self._left = self._limit
        return super().send(request, *args, **kwargs)

    def seconds_left(self) -> float:
        """Return the time until the deadline; raises TooSlow when it is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TooSlow(f"the answer was not complete after {self._seconds:g} s")
        return left

    def received(self, count: int) -> None:
        """Count bytes that arrived; raises TooLarge when there were too many."""
        self._left -= count
        if self._left < 0:
            raise TooLarge(f"the answer has more than {self._limit} bytes")


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, limits: LimitedAdapter, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._received = _Received(sock, self.fp.detach(), limits)
        self.fp = io.BufferedReader(self._received)

    def begin(self) -> None:
        """Read the headers of the final answer; raises HTTPException when they are cut off."""
        super().begin()
        while 100 < self.status < 200:  # early hints, for example: http.client itself skips only 100
            self.headers = None  # type: ignore[assignment]  # so that begin reads again
            super().begin()
        if self._received.ended:
            raise http.client.HTTPException("the connection was closed inside the headers")
        if "," in ",".join(self.msg.get_all("Content-Encoding", [])):
            raise TooLarge("the body is compressed more than once, so it can expand without end in between")
        # Lines that are no headers: urllib3 would log them, and they may repeat the key.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Received(io.RawIOBase):
    """What a socket receives, within the limits."""

    ended = False

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, limits: LimitedAdapter) -> None:
        self._sock = sock
        self._raw = raw
        self._limits = limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._limits.seconds_left())
        try:
            count = self._raw.readinto(buffer) or 0
        except TimeoutError:
            self._limits.seconds_left()
            raise
        self._limits.received(count)
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
