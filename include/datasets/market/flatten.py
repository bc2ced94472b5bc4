"""From the market API's answers to one row per ticker. A value that a column cannot represent is refused.

A value that a column can represent but that is wrong passes (a negative price, a high below the low, a ticker
twice): the quality gate checks those.
"""

from contextlib import suppress
from datetime import date
from typing import Any, Literal, TypedDict

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.params import MARKET_COLUMNS
from include.errors import short_repr

FLAT_COLUMNS = tuple(column for column in MARKET_COLUMNS if column != "change")


class Answer(TypedDict):
    """The body of the market API's answer for a ticker, unchanged."""

    ticker: str
    body: str


class _DailySummary(BaseModel):
    # Strict: a price that arrives as a text or a bool means that the API has changed.
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")

    status: Literal["OK"]
    day: str = Field(alias="from")
    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: float


class _Envelope(BaseModel):
    """The fields of every answer. A refusal has its reason in `error` or in `message`."""

    status: str
    error: object = None
    message: object = None


def flatten(answers: list[Answer], market_date: date) -> pd.DataFrame:
    """Return one row per answer, in the order of the answers, with the figures exactly as the API sent them.

    Columns: market_date (datetime.date, the New York trading day), ticker, open_price, high_price,
    low_price, close_price (US dollars) and volume (shares; it can be fractional). The figures are float64.
    Raises MarketDataInvalid when there are no answers, and when a body is not the JSON of an OK summary of
    that ticker and day in which every figure is finite. The message names the ticker, the date and the field.
    """
    if not answers:
        raise MarketDataInvalid(f"no answers for {market_date}: ask for at least one ticker")
    rows = [_row(answer["ticker"], answer["body"], market_date) for answer in answers]
    return pd.DataFrame(rows, columns=list(FLAT_COLUMNS))


def _row(ticker: str, body: str, market_date: date) -> dict[str, object]:
    what = f"daily summary of {ticker} on {market_date}"
    with suppress(ValidationError):  # the errors of the whole summary, below, say more
        envelope = _Envelope.model_validate_json(body)
        if envelope.status != "OK":
            reason = envelope.error or envelope.message
            because = f" ({short_repr(reason)})" if reason else ""
            raise MarketDataInvalid(f"{what}: status is {short_repr(envelope.status)}, not 'OK'{because}")
    try:
        summary = _DailySummary.model_validate_json(body)
    except ValidationError as error:
        flaws = "; ".join(_flaw(detail) for detail in error.errors(include_url=False))
        # `from None`, because the cause would quote the whole body.
        raise MarketDataInvalid(f"{what}: {flaws}") from None
    for field, found, wanted in (
        ("from", summary.day, market_date.isoformat()),
        ("symbol", summary.symbol, ticker),
    ):
        if found != wanted:
            raise MarketDataInvalid(f"{what}: {field} is {short_repr(found)}, not {wanted!r}")
    return {
        "market_date": market_date,
        "ticker": ticker,
        "open_price": summary.open,
        "high_price": summary.high,
        "low_price": summary.low,
        "close_price": summary.close,
        "volume": summary.volume,
    }


def _flaw(detail: Any) -> str:
    if not detail["loc"]:
        return f"body is {short_repr(detail['input'])}: {detail['msg']}"
    field = detail["loc"][0]
    if detail["type"] == "missing":
        return f"{field} is missing"
    return f"{field} is {short_repr(detail['input'])}: {detail['msg']}"
