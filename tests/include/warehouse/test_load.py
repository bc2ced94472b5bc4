"""Loading into staging: exact, repeatable, and nothing when it does not finish."""

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from math import inf, nan
from typing import Any, cast
from uuid import uuid4

import pandas
import psycopg
import pytest
from include.market.params import MARKET_COLUMNS
from include.warehouse.load import load_batch

from include.errors import PermanentError
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.concurrency import await_blocked, kill_midway, terminate
from tests.include.warehouse.publications import publish

TABLE = "transformed_market_data"
DAY = date(2023, 8, 1)


def rows(tickers: list[str], close: float = 195.605) -> list[tuple[object, ...]]:
    return [(DAY, ticker, 196.235, 196.73, 195.28, close, close - 196.235, 35175100.0) for ticker in tickers]


def frame(records: list[tuple[object, ...]]) -> pandas.DataFrame:
    return pandas.DataFrame(records, columns=list(MARKET_COLUMNS))


def staged(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"select batch_id, {', '.join(MARKET_COLUMNS)} from market_staging.{TABLE} order by batch_id, ticker".encode()
    ).fetchall()


def test_a_load_stages_each_row_under_its_batch(app: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()

    assert load_batch(app, TABLE, batch_id, frame(rows(["AAPL", "AMZN"]))) == 2

    assert staged(app) == [(batch_id, *row) for row in rows(["AAPL", "AMZN"])]


def test_a_load_that_is_tried_again_replaces_itself_and_nothing_else(app: psycopg.Connection[Any]) -> None:
    first, second = sorted([uuid4(), uuid4()])
    load_batch(app, TABLE, first, frame(rows(["AAPL", "AMZN"])))
    load_batch(app, TABLE, second, frame(rows(["AAPL"])))
    app.commit()

    load_batch(app, TABLE, second, frame(rows(["MSFT"], close=196.0)))

    assert [(row[0], row[2], row[6]) for row in staged(app)] == [
        (first, "AAPL", 195.605),
        (first, "AMZN", 195.605),
        (second, "MSFT", 196.0),
    ]


def test_a_batch_that_was_published_stays_as_it_is(app: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()
    load_batch(app, TABLE, batch_id, frame(rows(["AAPL", "AMZN"])))
    publish(app, batch_id)

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is; clear the run from"):
        load_batch(app, TABLE, batch_id, frame(rows(["MSFT"])))

    app.rollback()
    assert [(row[0], row[2]) for row in staged(app)] == [(batch_id, "AAPL"), (batch_id, "AMZN")]


@pytest.mark.parametrize("then", ["load", "publish"])
def test_a_late_try_of_the_same_load_is_waited_for(
    app: psycopg.Connection[Any], warehouse: Login, state: State, then: str
) -> None:
    """A worker that was given up on may still be loading: its rows shall be replaced or published, not doubled."""
    batch_id = uuid4()
    batch = frame(rows(["AAPL", "AMZN"]))

    def follow() -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            if then == "load":
                load_batch(connection, TABLE, batch_id, batch)
            else:
                publish(connection, batch_id)

    with ThreadPoolExecutor(1) as executor:
        load_batch(app, TABLE, batch_id, batch)
        done = executor.submit(follow)
        await_blocked(warehouse)
        app.commit()
        done.result()

    assert [(row[0], row[2]) for row in staged(app)] == [(batch_id, "AAPL"), (batch_id, "AMZN")]


def test_figures_and_dates_arrive_to_the_bit(app: psycopg.Connection[Any]) -> None:
    figures = (0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 2.0**53 + 2, 1 / 3)
    odd = (nan, inf, -inf, 1e22, 123456789.123456789, 2.5e-8)
    records: list[tuple[object, ...]] = [(date.min, "A", *figures), (date.max, "B", *odd)]

    load_batch(app, TABLE, uuid4(), frame(records))

    found = staged(app)
    assert [(row[1], row[2]) for row in found] == [(date.min, "A"), (date.max, "B")]
    assert [bits(row[3:]) for row in found] == [bits(figures), bits(odd)]


def bits(figures: tuple[float, ...]) -> bytes:
    return struct.pack(f"{len(figures)}d", *figures)


def test_an_awkward_text_arrives_as_it_is(app: psycopg.Connection[Any]) -> None:
    awkward = "\\N\t\n\r'\"\\.,é"

    load_batch(app, TABLE, uuid4(), frame(rows([awkward])))

    assert [row[2] for row in staged(app)] == [awkward]


class Interrupted:
    """Many rows, as load_batch asks a frame for them, with an event halfway."""

    columns = MARKET_COLUMNS

    def __init__(self, event: Callable[[], None]) -> None:
        self._event = event

    def __len__(self) -> int:
        return 20_000

    def itertuples(self, **_: object) -> Iterator[tuple[object, ...]]:
        [row] = rows(["NEW"])
        for number in range(len(self)):
            if number == len(self) // 2:
                self._event()
            yield row


def test_a_load_whose_session_ends_midway_leaves_what_was_there(app: psycopg.Connection[Any], warehouse: Login) -> None:
    batch_id = uuid4()
    load_batch(app, TABLE, batch_id, frame(rows(["OLD"])))
    app.commit()
    interrupted = Interrupted(lambda: terminate(warehouse, app.info.backend_pid))

    with pytest.raises(psycopg.OperationalError):
        load_batch(app, TABLE, batch_id, cast(Any, interrupted))

    with warehouse.connect() as admin:
        assert [row[2] for row in staged(admin)] == ["OLD"]


def test_a_load_whose_process_is_killed_midway_leaves_what_was_there(
    app: psycopg.Connection[Any], warehouse: Login, state: State
) -> None:
    batch_id = uuid4()
    load_batch(app, TABLE, batch_id, frame(rows(["OLD"])))
    app.commit()

    def load(here: Callable[[int], None]) -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            interrupted = Interrupted(lambda: here(connection.info.backend_pid))
            load_batch(connection, TABLE, batch_id, cast(Any, interrupted))

    kill_midway(warehouse, load)

    assert [row[2] for row in staged(app)] == ["OLD"]
    app.commit()
    assert load_batch(app, TABLE, batch_id, frame(rows(["NEW"]))) == 1  # nothing of the dead is in the way
    assert [row[2] for row in staged(app)] == ["NEW"]
