"""Rows of market data: a good batch, and what it takes to stage and check one."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg

from include.dataset import suite_name
from include.datasets.market.dataset import MARKET
from include.pipeline.batch import Batch
from include.quality.gate import PROJECT, gate
from include.quality.outcome import Outcome

Row = Mapping[str, object]

DAY = date(2023, 8, 1)
TICKERS = ("AAPL", "AMZN")
TABLE = MARKET.publishes[0]
PUBLISHED = MARKET.published_name(TABLE)
STAGING = MARKET.staging_name(TABLE)
SUITE = suite_name(TABLE)


def expectations() -> list[str]:
    """Return the description of each expectation of the suite as it is committed."""
    suite = json.loads((PROJECT / "expectations" / f"{SUITE}.json").read_text())
    return [each["description"] for each in suite["expectations"]]


def row(ticker: str | None, **changes: object) -> Row:
    """Return a good row, apart from what is changed."""
    return {
        "market_date": DAY,
        "ticker": ticker,
        "open_price": 196.235,
        "high_price": 196.73,
        "low_price": 195.28,
        "close_price": 195.605,
        "change": 195.605 - 196.235,
        "volume": 35175100.0,
        **changes,
    }


GOOD = [row(ticker) for ticker in TICKERS]


def stage(connection: psycopg.Connection[Any], rows: Iterable[Row]) -> UUID:
    """Commit rows to the staging table under a batch_id of their own."""
    batch_id = uuid4()
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into {STAGING} "
            "(batch_id, market_date, ticker, open_price, high_price, low_price, close_price, change, volume) "
            "values (%(batch_id)s, %(market_date)s, %(ticker)s, %(open_price)s, %(high_price)s, %(low_price)s, "
            "%(close_price)s, %(change)s, %(volume)s)".encode(),
            [{**each, "batch_id": batch_id} for each in rows],
        )
    connection.commit()
    return batch_id


def as_batch(batch_id: UUID, tickers: Sequence[str] = TICKERS) -> Batch:
    """Return a staged batch as the `start` task of its run would."""
    return Batch(
        dataset=MARKET.name,
        day=DAY.isoformat(),
        batch_id=str(batch_id),
        publishes=MARKET.published_names,
        params={"tickers": list(tickers)},
    )


def check(connection: psycopg.Connection[Any], batch_id: UUID, tickers: Sequence[str] = TICKERS) -> Outcome:
    """Run the gate of the market on a batch."""
    return gate(connection, MARKET, batch_id, DAY, {"tickers": list(tickers)})
