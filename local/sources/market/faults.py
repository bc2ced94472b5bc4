"""Faults that the market API replay shows on request: POST /faults/<name>?times=2 with the key, then the next two
answers of the API have that fault.

Faults below HTTP (slow headers, endless chunks) are not here: tests/include/test_http_limits.py has them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

from fastapi.responses import Response, StreamingResponse

from local.sources.market.prices import REPLAY_KEY

Fault = Callable[[bytes], Response]
"""Makes the answer with the fault from the body of the right one."""


def _status(code: int, text: str, headers: Mapping[str, str] | None = None) -> Fault:
    content = json.dumps({"status": "ERROR", "error": text})  # in ASCII
    return lambda _: Response(content, code, headers, media_type="application/json")


def _body(change: Callable[[bytes], bytes]) -> Fault:
    return lambda body: Response(change(body), media_type="application/json")


def _with(name: str, value: object) -> Callable[[bytes], bytes]:
    """Change a field of a daily summary, or of the first row of a whole market; None removes it."""

    def change(body: bytes) -> bytes:
        answer = json.loads(body)
        row, key = (answer["results"][0], name[0]) if "results" in answer else (answer, name)
        row[key] = value
        if value is None:
            del row[key]
        return json.dumps(answer).encode()

    return change


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


def _cut(body: bytes) -> Response:
    """Promise the whole body, send half of it and close the connection."""

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        raise ConnectionResetError("a fault that was asked for")

    return StreamingResponse(half(), headers={"Content-Length": str(len(body))}, media_type="application/json")


def _slow(body: bytes) -> Response:
    async def drops() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(1)

    return StreamingResponse(drops(), media_type="application/json")


FAULTS: dict[str, Fault] = {
    "outage": _status(503, "Service unavailable."),
    "outage with Retry-After": _status(503, "Back soon.", {"Retry-After": "1"}),
    "too early": _status(425, "Too early."),
    "rate limit": _status(429, "You've exceeded the maximum requests per minute.", {"Retry-After": "1"}),
    "unknown key": _status(401, "Unknown API Key"),
    "half a surrogate pair": _status(401, "bad \ud800 thing"),
    "not entitled": _status(403, "You are not entitled to this data."),
    "redirect": lambda _: Response(status_code=302, headers={"Location": "http://user:login@elsewhere.example/"}),
    "cut": _cut,
    "cut JSON": _body(lambda body: body[: len(body) // 2]),
    "empty": _body(lambda _: b""),
    "slow": _slow,
    "HTML": _body(lambda _: b"<html>Maintenance</html>"),
    "not UTF-8": _body(lambda body: body.replace(b"OK", b"\xff\xfe")),
    "NUL": _body(lambda body: body.replace(b'"OK"', b'"OK\0"')),
    "too large": _body(lambda body: body + b" " * 40_000_000),
    "the key in the body": _body(
        lambda body: body.replace(b'"OK"', f'"OK","you":"{_escaped(REPLAY_KEY)}"'.encode(), 1)
    ),
    "a name twice": _body(lambda body: body.replace(b'"status"', b'"status":"OK","status"', 1)),
    "status of a delay": _body(lambda body: body.replace(b'"OK"', b'"DELAYED"', 1)),
    "no figure": _body(_with("close", None)),
    "a text for a figure": _body(_with("close", "195.605")),
    "NaN": _body(_with("close", float("nan"))),
    "an endless figure": _body(lambda body: _with("volume", "HERE")(body).replace(b'"HERE"', b"1e999")),
    "a negative price": _body(_with("low", -1.0)),
    "an implausible price": _body(_with("low", 5e-324)),
    "high below low": _body(_with("high", 0.5)),
}
