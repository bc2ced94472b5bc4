"""From the market API's answers to one row per ticker. A value that a column cannot represent is refused.

A value that a column can represent but that is wrong passes (a negative price, a high below the low, a ticker
twice): the quality gate checks those.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from operator import attrgetter
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd

from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.params import MARKET_COLUMNS
from include.errors import short_repr

FLAT_COLUMNS = tuple(column for column in MARKET_COLUMNS if column != "change")
_FIGURES = FLAT_COLUMNS[2:]
# The fields of the API, in the order of _FIGURES.
_SUMMARY_FIGURES = ("open", "high", "low", "close", "volume")
_BAR_FIGURES = ("o", "h", "l", "c", "v")
_EXCHANGE = ZoneInfo("America/New_York")
_MOST_FLAWS = 5  # of a message
_RESULTS = re.compile(r'"results":\s*\[')
_COMMA = re.compile(r"\}\s*(,)\s*\{")  # between two objects
_PART = 1_000_000  # characters


class Answer(TypedDict):
    """The body of one answer of the market API, unchanged."""

    ticker: str | None
    """The ticker of a daily summary; None for the answer with the whole market."""
    body: str


class _Bar(msgspec.Struct, gc=False):
    """One ticker of the whole market, in the names of the API: `t` is the end of the session in ms since 1970."""

    T: str
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float
    t: int


class _Market(msgspec.Struct):
    status: str
    resultsCount: int
    results: list[_Bar]


class _Unusual(ValueError):
    """An answer may be right, but not plainly."""


class _Repeated(ValueError):
    """A JSON object has a key twice."""


def flatten(answers: Sequence[Answer], market_date: date, tickers: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per ticker, in the order of the answers, with the figures exactly as the API sent them.

    Columns: market_date (datetime.date, the New York trading day), ticker, open_price, high_price,
    low_price, close_price (US dollars) and volume (shares; it can be fractional). The figures are float64.
    Of an answer with the whole market, `tickers` are the ones to keep; without any, all of them are kept. Raises
    MarketDataInvalid when there are no answers, and when a body is not the complete JSON of an OK answer for that
    ticker and day in which every key is there once and every figure is finite. The message names the ticker, the date
    and the field.
    """
    if not answers:
        raise MarketDataInvalid(f"no answers for {market_date}: ask for at least one ticker")
    frames = [
        _market(answer["body"], market_date) if answer["ticker"] is None else _summary(answer, market_date)
        for answer in answers
    ]
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    if tickers:
        frame = frame[frame["ticker"].isin(list(tickers))].reset_index(drop=True)
    return frame


def _summary(answer: Answer, market_date: date) -> pd.DataFrame:
    ticker = answer["ticker"]
    what = f"daily summary of {ticker} on {market_date}"
    summary = _parsed(what, answer["body"])
    flaws = [
        _text_flaw(summary, field, wanted) for field, wanted in (("from", str(market_date)), ("symbol", str(ticker)))
    ]
    _refuse(what, [*flaws, *(_figure_flaw(summary, field) for field in _SUMMARY_FIGURES)])
    return _frame(market_date, [str(ticker)], [[float(summary[field])] for field in _SUMMARY_FIGURES])


def _market(body: str, market_date: date) -> pd.DataFrame:
    frame = _market_fast(body, market_date)
    # If something is wrong with it, or looks like it, look at each value.
    return _market_checked(body, market_date) if frame is None else frame


def _market_fast(body: str, market_date: date) -> pd.DataFrame | None:
    """Return the rows of an answer that is plainly right, else None.

    It is many times faster than _market_checked, which has to return the same and says what is wrong.
    """
    results, end = _RESULTS.search(body), body.rfind("]")
    start = results.end() if results else 0
    envelope = body[:start] + body[end:]
    if "\\" in body or any(envelope.count(f'"{name}":') != 1 for name in _Market.__struct_fields__):
        return None
    try:
        market = msgspec.json.decode(envelope, type=_Market)
        frames = [_bars(part, market_date) for part in _parts(body, start, end)]
    except (msgspec.MsgspecError, UnicodeEncodeError, _Unusual):
        return None
    frame = pd.concat(frames, ignore_index=True) if frames else None
    return frame if frame is not None and (market.status, market.resultsCount) == ("OK", len(frame)) else None


def _parts(body: str, start: int, end: int) -> Iterator[str]:
    """Yield the objects of an array in parts, since all of them at once take several times the memory of the text.

    A cut that is not between two of its objects leaves parts that are not JSON.
    """
    while start < end:
        comma = _COMMA.search(body, start + _PART, end)
        yield f"[{body[start : comma.start(1) if comma else end]}]"
        start = comma.end(1) if comma else end


def _bars(part: str, market_date: date) -> pd.DataFrame:
    """Return the rows of a JSON array of bars. Raises _Unusual when it has to be looked at more closely."""
    bars, (first, last) = msgspec.json.decode(part, type=list[_Bar]), _session(market_date)
    ends = np.fromiter(map(attrgetter("t"), bars), np.int64, len(bars))
    if ends.min() <= first or ends.max() > last or not all(bar.T for bar in bars) or not _keys_once(part, len(bars)):
        raise _Unusual
    figures = [np.fromiter(map(attrgetter(field), bars), np.float64, len(bars)) for field in _BAR_FIGURES]
    return _frame(market_date, [bar.T for bar in bars], figures)


def _keys_once(part: str, bars: int) -> bool:
    """Return whether each key of a bar is there once per bar: of a key that is there twice, a decoder takes the last.

    All of them are one letter long, so one pass counts them.
    """
    text = np.frombuffer(part.encode(), np.uint8)
    keys = (text[:-3] == ord('"')) & (text[2:-1] == ord('"')) & (text[3:] == ord(":"))
    counts = np.bincount(text[1:-2][keys], minlength=256)
    return all(counts[ord(name)] == bars for name in _Bar.__struct_fields__)


def _market_checked(body: str, market_date: date) -> pd.DataFrame:
    what = f"whole market on {market_date}"
    market = _parsed(what, body)
    bars, count = market.get("results"), market.get("resultsCount")
    if not bars:
        raise MarketDataInvalid(f"{what}: results is missing or empty, and XNYS was open: clear the extract task later")
    if not isinstance(bars, list) or not all(isinstance(bar, dict) for bar in bars):
        raise MarketDataInvalid(f"{what}: results is {short_repr(bars)}, not a list of objects")
    if isinstance(count, bool) or count != len(bars):
        raise MarketDataInvalid(f"{what}: resultsCount is {short_repr(count)}, and the answer has {len(bars)} results")
    flaws, session = [], _session(market_date)
    for number, bar in enumerate(bars):
        found = [
            _ticker_flaw(bar),
            *(_figure_flaw(bar, field) for field in _BAR_FIGURES),
            _end_flaw(bar, market_date, session),
        ]
        flaws += [f"{short_repr(bar.get('T', f'result {number}'))}: {flaw}" for flaw in found if flaw]
    _refuse(what, flaws)
    figures = [[float(bar[field]) for bar in bars] for field in _BAR_FIGURES]
    return _frame(market_date, [bar["T"] for bar in bars], figures)


def _frame(market_date: date, tickers: list[str], figures: Sequence[Any]) -> pd.DataFrame:
    days = np.full(len(tickers), market_date, dtype=object)
    return pd.DataFrame(
        {
            "market_date": days,
            "ticker": pd.array(tickers, dtype="str"),
            **{column: np.asarray(values, np.float64) for column, values in zip(_FIGURES, figures, strict=True)},
        }
    )


def _parsed(what: str, body: str) -> dict[str, Any]:
    """Return the object of an answer whose status is OK."""
    try:
        found = json.loads(body, object_pairs_hook=_object)
    except _Repeated as error:
        raise MarketDataInvalid(f"{what}: {error}") from None
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        # `from None`, because the cause would quote the whole body.
        raise MarketDataInvalid(f"{what}: body is {short_repr(body)}: not JSON ({why})") from None
    if not isinstance(found, dict):
        raise MarketDataInvalid(f"{what}: body is {short_repr(found)}, not an object")
    if flaw := _text_flaw(found, "status", "OK"):
        reason = found.get("error") or found.get("message")
        raise MarketDataInvalid(f"{what}: {flaw}{f' ({short_repr(reason)})' if reason else ''}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        values = ", ".join(short_repr(value) for key, value in pairs if key == twice)
        raise _Repeated(f"{short_repr(twice)} is there more than once ({values}), so no value can be trusted")
    return found


def _refuse(what: str, found: Sequence[str | None]) -> None:
    flaws = [flaw for flaw in found if flaw]
    if flaws:
        more = f"; and {len(flaws) - _MOST_FLAWS} more" if len(flaws) > _MOST_FLAWS else ""
        raise MarketDataInvalid(f"{what}: {'; '.join(flaws[:_MOST_FLAWS])}{more}")


def _text_flaw(found: Mapping[str, Any], field: str, wanted: str) -> str | None:
    if field not in found:
        return f"{field} is missing"
    return None if found[field] == wanted else f"{field} is {short_repr(found[field])}, not {wanted!r}"


def _figure_flaw(found: Mapping[str, Any], field: str) -> str | None:
    if field not in found:
        return f"{field} is missing"
    value = found[field]
    try:
        # A price that arrives as a text or a bool means that the API has changed.
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        right = False
    return None if right else f"{field} is {short_repr(value)}, not a finite number"


def _ticker_flaw(bar: Mapping[str, Any]) -> str | None:
    ticker = bar.get("T")
    try:
        right = isinstance(ticker, str) and bool(ticker.encode()) and "\0" not in ticker
    except UnicodeEncodeError:  # half of a surrogate pair, which Postgres cannot store
        right = False
    return None if right else f"T is {short_repr(ticker)}, not a ticker"


def _end_flaw(bar: Mapping[str, Any], market_date: date, session: tuple[int, int]) -> str | None:
    end, (first, last) = bar.get("t"), session
    right = isinstance(end, int) and not isinstance(end, bool) and first < end <= last
    return None if right else f"t is {short_repr(end)}, which is not a time of {market_date} in ms"


def _session(market_date: date) -> tuple[int, int]:
    """Return when a New York day begins and ends, in ms since 1970."""
    midnights = (datetime.combine(market_date + timedelta(days=n), time(), _EXCHANGE) for n in (0, 1))
    first, last = (int(midnight.timestamp()) * 1000 for midnight in midnights)
    return first, last
