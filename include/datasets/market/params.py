"""What a person may ask of the market DAGs, and the columns they get for it."""

import re

from include.errors import PermanentError, short_repr

TICKER_PATTERN = r"^[A-Za-z][A-Za-z0-9.]{0,14}$"

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
    """The tickers that were asked for, in their order and case ("KIMpL" is not "KIMPL").

    Raises PermanentError, naming the offender, unless the value is a non-empty list of unique texts
    that match TICKER_PATTERN.
    """
    if not isinstance(value, list) or not value:
        raise PermanentError(f'tickers is {short_repr(value)}: give a list with at least one, such as ["AAPL"]')
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
