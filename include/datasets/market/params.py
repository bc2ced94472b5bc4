"""The tickers that a person enters in the params of the market DAGs, and the columns that the DAGs publish."""

import re

from include.errors import PermanentError, short_repr

TICKER_PATTERN = r"^[A-Za-z][A-Za-z0-9.]{0,14}$"
ALL = "all"

MARKET_COLUMNS = (
    "market_date",
    "ticker",
    "open_price",
    "high_price",
    "low_price",
    "close_price",
    "change",
    "volume",
)


def parse_tickers(value: object) -> list[str]:
    """Return the tickers of the param in the same order and case ("KIMpL" and "KIMPL" are different tickers).

    For "all", the whole market, the list is empty. Raises PermanentError, with the wrong value in its message, unless
    `value` is "all" or a list of one or more different texts that match TICKER_PATTERN.
    """
    if value in (ALL, [ALL]):  # a form has a list
        return []
    if not isinstance(value, list) or not value:
        raise PermanentError(
            f'tickers is {short_repr(value)}: give a list with at least one, such as ["AAPL"], or "{ALL}"'
        )
    tickers: list[str] = []
    for ticker in value:
        if not isinstance(ticker, str) or not re.fullmatch(TICKER_PATTERN, ticker):
            raise PermanentError(
                f"tickers has {short_repr(ticker)}: a ticker is a letter and up to 14 letters, digits or dots"
            )
        if ticker in tickers:
            raise PermanentError(f"tickers has {short_repr(ticker)} twice: give each ticker once")
        tickers.append(ticker)
    return tickers
