"""The market API replay: a stand-in for the Polygon (now Massive) market API, on loopback.

It answers the two calls of the market pipeline from a CSV file of real prices, with the status codes and bodies of the
real service, so that the pipeline runs without an account and without a network.

    python -m local.sources.market.api --port 8085

The only key that it accepts is "airlock-replay", sent as `Authorization: Bearer airlock-replay`. The key is public and
protects nothing: it is there so that a client that sends none or a wrong one fails as with the real service.
GET /healthz needs no key and does not count towards the limit. POST /faults/<name>?times=2 lets the next answers have a
fault; local/sources/market/faults.py lists them.
"""

import argparse
import csv
import math
from datetime import date, datetime
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import exchange_calendars
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException as FrameworkHTTPException
from starlette.middleware.base import RequestResponseEndpoint

from local.loopback import LoopbackOnly
from local.sources.market.faults import FAULTS, Fault
from local.sources.market.prices import DATA, REPLAY_KEY
from local.sources.market.whole_market import api_rows, whole_market

FIGURES = ["open", "high", "low", "close", "volume"]
HEADER = ["market_date", "ticker", *FIGURES]

Bars = dict[str, dict[str, dict[str, float]]]  # market date -> ticker -> figure -> value
Body = dict[str, object]


def session_closes() -> dict[str, int]:
    """Return when each session of the New York Stock Exchange ends, in ms; half days end early."""
    closes = exchange_calendars.get_calendar("XNYS").closes
    return {str(session.date()): int(close.timestamp() * 1000) for session, close in closes.items()}


def read_bars(data: Path, sessions: dict[str, int]) -> Bars:
    """Read the CSV file. Raises ValueError with the line and field of the first row that is malformed.

    Only the form is checked. A negative price or a high below the low is served unchanged: a market API can send those,
    and it is the pipeline's gate that has to stop them.
    """
    bars: Bars = {}
    with data.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if next(reader, None) != HEADER:
            raise ValueError(f"line 1: the header is not {','.join(HEADER)}")
        for row in reader:
            where = f"line {reader.line_num}"
            if len(row) != len(HEADER):
                raise ValueError(f"{where}: {len(row)} fields instead of {len(HEADER)}")
            day, ticker, *figures = row
            if day not in sessions:
                raise ValueError(f"{where}, market_date: {day!r} is not a session (YYYY-MM-DD) of XNYS")
            if not ticker or ticker in bars.setdefault(day, {}):
                raise ValueError(f"{where}, ticker: {ticker!r} is empty, or is there twice on {day}")
            bar = bars[day][ticker] = {}
            for name, text in zip(FIGURES, figures, strict=True):
                try:
                    bar[name] = float(text)
                except ValueError:
                    bar[name] = math.nan
                if not math.isfinite(bar[name]):  # JSON has no NaN and no infinity
                    raise ValueError(f"{where}, {name}: {text!r} is not a number")
    return bars


def refusal(code: int, status: str, **text: str) -> HTTPException:
    """Return the error to raise for a refusal in the form of the real service."""
    return HTTPException(code, {"status": status, "request_id": uuid4().hex, **text})


def check_day(day: str) -> None:
    """Refuse a date that the real service refuses, with the same 403 (not 400)."""
    try:
        well_formed = date.fromisoformat(day).isoformat() == day  # Python also reads 20230801 and 2023-W31-2
    except ValueError:
        well_formed = False
    if not well_formed:
        raise refusal(403, "NOT_AUTHORIZED", message="You are not entitled to this data.")
    if day > str(datetime.now(ZoneInfo("America/New_York")).date()):
        raise refusal(403, "NOT_AUTHORIZED", message="Your plan doesn't include this data timeframe")


def create_app(data: Path, requests_per_minute: int | None = None, market_size: int = 0) -> FastAPI:
    """Return the replay of one CSV file; without requests_per_minute, or with 0, it has no limit.

    The answer with the whole market has `market_size` tickers: those of the file, and as many invented ones as needed.
    """
    sessions = session_closes()
    bars = read_bars(data, sessions)
    limit = RateLimitItemPerMinute(requests_per_minute) if requests_per_minute else None
    limiter = MovingWindowRateLimiter(MemoryStorage())

    def market(day: str) -> dict[str, dict[str, float]]:
        recorded = bars.get(day, {})
        invented = whole_market(date.fromisoformat(day), market_size) if recorded else {}
        whole = recorded | invented | recorded  # the recorded ones come first, and are never replaced
        return dict(islice(whole.items(), max(market_size, len(recorded))))

    # Without openapi_url there are no documentation pages: the documentation of the real service is the reference.
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.exception_handler(FrameworkHTTPException)
    async def send_refusal(request: Request, error: FrameworkHTTPException) -> JSONResponse:
        if not isinstance(error, HTTPException):  # raised by the framework: an unknown path or a wrong method
            error = refusal(error.status_code, HTTPStatus(error.status_code).name, message=error.detail)
        return JSONResponse(error.detail, error.status_code)

    async def admit(request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {REPLAY_KEY}":
            raise refusal(401, "ERROR", error="Unknown API Key")
        if limit and not limiter.hit(limit, REPLAY_KEY):
            text = f"You've exceeded the maximum requests per minute ({limit.amount}): wait, then ask again."
            raise refusal(429, "ERROR", error=text)  # without Retry-After, as the real service may do

    pending: list[Fault] = []

    @app.middleware("http")
    async def misbehave(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        if not pending or response.status_code != 200 or not request.url.path.startswith(("/v1/", "/v2/")):
            return response
        body = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
        return pending.pop()(body)

    @app.post("/faults/{name}", dependencies=[Depends(admit)])
    async def ask_for_fault(name: str, times: int = 1) -> Body:
        pending[:] = [FAULTS[name]] * times
        return {"status": "OK"}

    @app.get("/healthz")
    async def healthz() -> Body:
        return {"status": "OK"}

    @app.get("/v1/open-close/{ticker}/{day}", dependencies=[Depends(admit)])
    async def open_close(ticker: str, day: str) -> Body:
        check_day(day)
        if ticker not in bars.get(day, {}):
            raise refusal(404, "NOT_FOUND", message="Data not found.")
        return {"status": "OK", "from": day, "symbol": ticker, **bars[day][ticker]}

    # `adjusted` is text: with a bool, FastAPI would answer 422 to a bad value before it checks the key.
    @app.get("/v2/aggs/grouped/locale/us/market/stocks/{day}", dependencies=[Depends(admit)])
    async def grouped(day: str, adjusted: str = "true") -> Body:
        check_day(day)
        if day not in bars and (day in sessions or day < min(sessions)):  # a session that is not in this file
            raise refusal(404, "NOT_FOUND", message="Data not found.")
        rows = api_rows(market(day), sessions.get(day, 0))
        counts = {"queryCount": len(rows), "resultsCount": len(rows), "adjusted": adjusted != "false"}
        results = {"results": rows} if rows else {}  # a closed day has no such key, not an empty list
        return {"status": "OK", "request_id": uuid4().hex, **counts, **results}

    return app


def main() -> None:
    """Serve the replay on 127.0.0.1 until a signal ends it; exit with status 2 for a file that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m local.sources.market.api",
        description="Replay the market API from a CSV file, on 127.0.0.1.",
        epilog=f'The only API key that it accepts is "{REPLAY_KEY}", which is public and protects nothing.',
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, default=DATA, help="another CSV file than the bundled one")
    parser.add_argument("--requests-per-minute", type=int, help="answer 429 above it (none or 0: no limit)")
    parser.add_argument("--market-size", type=int, default=0, help="how many tickers the whole market has at least")
    args = parser.parse_args()
    try:
        app = create_app(args.data, args.requests_per_minute, args.market_size)
    except (OSError, ValueError, csv.Error) as error:
        parser.exit(2, f"{args.data}: {error}\n")
    uvicorn.run(LoopbackOnly(app), host="127.0.0.1", port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
