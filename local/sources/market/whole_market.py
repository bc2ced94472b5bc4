"""A whole market of invented prices, as large as the real one, from a seed: the same rows on every machine."""

import random
from collections.abc import Mapping
from datetime import date
from string import ascii_uppercase

SEED = 20230801


def whole_market(day: date, size: int) -> dict[str, dict[str, float]]:
    """Return `size` tickers, each with its open, high, low, close (US dollars) and volume (shares) on a day.

    As in the real market, some tickers are in mixed case (preferred shares), some have a dot (classes of shares), and
    some volumes are fractional.
    """
    chance = random.Random(f"{SEED}/{day}")  # noqa: S311 - invented prices
    market = {}
    for ticker in _tickers(size):
        opened = round(chance.lognormvariate(3, 1.3) + 0.01, 4)
        closed = round(opened * chance.lognormvariate(0, 0.02), 4)
        market[ticker] = {
            "open": opened,
            "high": round(max(opened, closed) * (1 + chance.random() / 50), 4),
            "low": round(min(opened, closed) * (1 - chance.random() / 50), 4),
            "close": closed,
            "volume": float(int(chance.lognormvariate(12, 2))) + (0.5 if chance.random() < 0.01 else 0),
        }
    return market


def api_rows(market: Mapping[str, Mapping[str, float]], end: int) -> list[dict[str, object]]:
    """Return tickers as the API's answer with the whole market has them; `end` of the session is in ms since 1970."""
    return [
        # The real service abbreviates the names of figures to their first letters.
        {"T": ticker, **{name[0]: value for name, value in bar.items()}, "t": end}
        for ticker, bar in market.items()
    ]


def _tickers(size: int) -> list[str]:
    chance = random.Random(SEED)  # noqa: S311
    found: dict[str, None] = {}
    while len(found) < size:
        ticker = "".join(chance.choices(ascii_uppercase, k=chance.choice((3, 4, 4, 4, 5))))
        kind = chance.random()
        if kind < 0.04:
            ticker += "p" + chance.choice(ascii_uppercase)
        elif kind < 0.06:
            ticker += "." + chance.choice(("A", "B", "U", "WS"))
        found[ticker] = None
    return list(found)
