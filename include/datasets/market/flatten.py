"""From the market API's answers to one row a ticker, refusing what a column cannot represent.

What is represented but wrong (a negative price, a high below the low, a ticker twice) passes: that is
the quality gate's to say.
"""

from contextlib import suppress
from datetime import date
from typing import Any, Literal, TypedDict

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.errors import short_repr
from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.params import MARKET_COLUMNS

FLAT_COLUMNS = tuple(column for column in MARKET_COLUMNS if column != "change")


class Answer(TypedDict):
    """The body that the market API gave for a ticker, as asked."""

    ticker: str
    body: str


class _DailySummary(BaseModel):
    # Strict: a price that comes as a text or a bool is a changed API and no price.
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
    """What every answer of the service has; a refusal has little more, and its reason goes by either name."""

    status: str
    error: object = None
    message: object = None


def flatten(answers: list[Answer], market_date: date) -> pd.DataFrame:
    """One row an answer, in their order, with the figures exactly as the API gave them.

    Columns: market_date (datetime.date, the New York trading day), ticker, open_price, high_price,
    low_price, close_price (US dollars) and volume (shares; it can be fractional), figures as float64.
    Raises MarketDataInvalid, naming ticker, date and field, for a body that is not the JSON of an OK
    summary of that ticker and day with every figure finite, and when there are no answers at all.
    """
    if not answers:
        raise MarketDataInvalid(f"no answers for {market_date}: ask for at least one ticker")
    rows = [_row(answer["ticker"], answer["body"], market_date) for answer in answers]
    return pd.DataFrame(rows, columns=list(FLAT_COLUMNS))


def _row(ticker: str, body: str, market_date: date) -> dict[str, object]:
    what = f"daily summary of {ticker} on {market_date}"
    with suppress(ValidationError):  # the whole summary's flaws, below, say more
        envelope = _Envelope.model_validate_json(body)
        if envelope.status != "OK":
            said = envelope.error or envelope.message
            reason = f" ({short_repr(said)})" if said else ""
            raise MarketDataInvalid(f"{what}: status is {short_repr(envelope.status)}, not 'OK'{reason}")
    try:
        summary = _DailySummary.model_validate_json(body)
    except ValidationError as error:
        flaws = "; ".join(_flaw(detail) for detail in error.errors(include_url=False))
        # Without its cause, which would quote the whole body.
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
