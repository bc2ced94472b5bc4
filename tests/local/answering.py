"""A server for the tests of stand-ins: `python -m tests.local.answering --port PORT` answers every path."""

import argparse

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from local.loopback import LoopbackOnly


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await PlainTextResponse(Request(scope).url.path)(scope, receive, send)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(LoopbackOnly(answer), host="127.0.0.1", port=parser.parse_args().port, lifespan="off")
