"""From flat rows to the rows to load: adds the day's change and refuses what a column cannot represent."""

import math
from collections.abc import Iterable, Sequence
from datetime import date
from numbers import Real

import numpy as np
import pandas as pd

from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.flatten import FLAT_COLUMNS
from include.datasets.market.params import MARKET_COLUMNS
from include.errors import short_repr

FIGURES = ("open_price", "high_price", "low_price", "close_price", "volume")


def transform(frame: pd.DataFrame, market_date: date, tickers: Sequence[str]) -> pd.DataFrame:
    """Return a new frame with the eight MARKET_COLUMNS, in that order. No figure is rounded.

    `frame` comes from flatten: market_date (datetime.date, the New York trading day), ticker, prices (US
    dollars), volume (shares). The new column is change, which is close_price minus open_price. `tickers` are those
    that were asked for; none means the whole market. Raises MarketDataInvalid for a missing column, a row of another
    day, a row of a ticker that was not asked for, and a figure that is not a finite number. The message names the
    ticker, the date and the field. A ticker that was asked for and has no row passes: the quality gate checks that.
    """
    for column in FLAT_COLUMNS:
        if column not in frame.columns:
            asked = short_repr(tickers) if tickers else "whole market"
            raise MarketDataInvalid(f"{asked} on {market_date}: column {column} is missing")
    _check_asked(frame, market_date, tickers)
    for column in FIGURES:
        _check_finite(column, frame["ticker"], frame[column], market_date)
    result = frame.astype(dict.fromkeys(FIGURES, "float64"))
    result["change"] = result["close_price"] - result["open_price"]
    _check_finite("change", result["ticker"], result["change"], market_date)
    return result[list(MARKET_COLUMNS)]


def _check_asked(frame: pd.DataFrame, market_date: date, tickers: Sequence[str]) -> None:
    asked = set(tickers)
    for ticker, day in zip(frame["ticker"].tolist(), frame["market_date"].tolist(), strict=True):
        if not isinstance(ticker, str) or (asked and ticker not in asked):
            known = f"and only {short_repr(tickers)} were asked for" if asked else "not a text"
            raise MarketDataInvalid(f"{market_date}: ticker is {short_repr(ticker)}, {known}")
        if day != market_date or not isinstance(day, date):
            raise MarketDataInvalid(f"{ticker} on {market_date}: market_date is {short_repr(day)}, not {market_date}")


def _check_finite(column: str, tickers: Iterable[str], values: "pd.Series[float]", market_date: date) -> None:
    if values.dtype == np.float64 and np.isfinite(values.to_numpy()).all():
        return
    for ticker, value in zip(tickers, values, strict=True):
        if not _is_finite(value):
            raise MarketDataInvalid(f"{ticker} on {market_date}: {column} is {short_repr(value)}, not a finite number")


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False
