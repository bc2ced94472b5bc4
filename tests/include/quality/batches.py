"""Batches for the gate: a good one, and what it takes to stage and check one."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from include.quality.gate import PROJECT, gate
from include.quality.outcome import Outcome

Row = Mapping[str, object]

DAY = date(2023, 8, 1)
ASKED = ("AAPL", "AMZN")
STAGED = "market_staging.transformed_market_data"


def row(ticker: str | None, **changes: object) -> Row:
    """Give a good row, but for what is changed."""
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


GOOD = [row(ticker) for ticker in ASKED]


def stage(connection: psycopg.Connection[Any], rows: Iterable[Row]) -> UUID:
    """Commit rows to staging under a batch_id of their own."""
    batch_id = uuid4()
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into market_staging.transformed_market_data "
            "(batch_id, market_date, ticker, open_price, high_price, low_price, close_price, change, volume) "
            "values (%(batch_id)s, %(market_date)s, %(ticker)s, %(open_price)s, %(high_price)s, %(low_price)s, "
            "%(close_price)s, %(change)s, %(volume)s)",
            [{**each, "batch_id": batch_id} for each in rows],
        )
    connection.commit()
    return batch_id


def check(
    connection: psycopg.Connection[Any],
    batch_id: UUID,
    tickers: Sequence[str] = ASKED,
    project: Path = PROJECT,
) -> Outcome:
    """Run the market gate on a batch."""
    return gate(connection, "market", batch_id, DAY, {"market": STAGED}, parameters(tickers), project=project)


def parameters(tickers: Sequence[str] = ASKED) -> dict[str, object]:
    """Give what the validate task fills the market suite with."""
    return {"market_dates": [DAY], "tickers": list(tickers)}


class TaskInstance:
    """A task of a run, which keeps what it pushes."""

    def __init__(self, dag_id: str = "market_etl__traditional", run_id: str = "a run") -> None:
        self.dag_id = dag_id
        self.run_id = run_id
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: object) -> None:
        """Keep what is pushed; nothing is pushed twice."""
        assert key not in self.pushed
        self.pushed[key] = value
