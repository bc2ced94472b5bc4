"""Loading a batch into its staging table: exact, repeatable, and nothing when it does not finish."""

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

from include.errors import PermanentError
from include.pipeline.load import load, load_batch
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import await_blocked, kill_midway, terminate
from tests.toy import READINGS
from tests.toy.batches import DAY, STAGING, as_batch, publish, staged

COLUMNS = ("day", "sensor", "value")


def rows(sensors: list[str], value: float = 195.605) -> list[tuple[object, ...]]:
    return [(DAY, sensor, value) for sensor in sensors]


def frame(records: list[tuple[object, ...]]) -> pandas.DataFrame:
    return pandas.DataFrame(records, columns=list(COLUMNS))


def staged_rows(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"select batch_id, {', '.join(COLUMNS)} from {STAGING} order by batch_id, sensor".encode()
    ).fetchall()


def test_a_load_stages_each_row_under_its_batch(app: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()

    assert load_batch(app, STAGING, batch_id, frame(rows(["north", "south"]))) == 2

    assert staged_rows(app) == [(batch_id, *row) for row in rows(["north", "south"])]


def test_the_columns_of_a_frame_may_have_another_order(app: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()

    load_batch(app, STAGING, batch_id, frame(rows(["north"]))[["value", "day", "sensor"]])

    assert staged_rows(app) == [(batch_id, *row) for row in rows(["north"])]


def test_a_dataset_loads_through_its_own_connection_and_commits(
    app: psycopg.Connection[Any], warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, READINGS.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    batch_id = uuid4()

    assert load(READINGS, as_batch(batch_id), frame(rows(["north", "south"]))) == 2

    assert staged(app) == {batch_id}


def test_a_retry_of_a_load_replaces_its_rows_and_nothing_else(app: psycopg.Connection[Any]) -> None:
    first, second = sorted([uuid4(), uuid4()])
    load_batch(app, STAGING, first, frame(rows(["north", "south"])))
    load_batch(app, STAGING, second, frame(rows(["north"])))
    app.commit()

    load_batch(app, STAGING, second, frame(rows(["west"], value=196.0)))

    assert [(row[0], row[2], row[3]) for row in staged_rows(app)] == [
        (first, "north", 195.605),
        (first, "south", 195.605),
        (second, "west", 196.0),
    ]


def test_a_batch_that_was_published_stays_as_it_is(app: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()
    load_batch(app, STAGING, batch_id, frame(rows(["north", "south"])))
    publish(app, batch_id)

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is; clear the run from"):
        load_batch(app, STAGING, batch_id, frame(rows(["west"])))

    app.rollback()
    assert [(row[0], row[2]) for row in staged_rows(app)] == [(batch_id, "north"), (batch_id, "south")]


@pytest.mark.parametrize("then", ["load", "publish"])
def test_an_earlier_attempt_that_is_still_loading_is_waited_for(
    app: psycopg.Connection[Any], warehouse: Login, state: State, then: str
) -> None:
    """A worker that Airflow took for dead may still be loading: its rows are replaced or published, never doubled."""
    batch_id = uuid4()
    both = frame(rows(["north", "south"]))

    def follow() -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            if then == "load":
                load_batch(connection, STAGING, batch_id, both)
            else:
                publish(connection, batch_id)

    with ThreadPoolExecutor(1) as executor:
        load_batch(app, STAGING, batch_id, both)
        done = executor.submit(follow)
        await_blocked(warehouse)
        app.commit()
        done.result()

    assert [(row[0], row[2]) for row in staged_rows(app)] == [(batch_id, "north"), (batch_id, "south")]


def test_figures_and_dates_arrive_to_the_bit(app: psycopg.Connection[Any]) -> None:
    figures = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 2.0**53 + 2, 1 / 3]
    figures += [nan, inf, -inf, 1e22, 123456789.123456789, 2.5e-8]
    days = [date.min, date.max] * (len(figures) // 2)
    records: list[tuple[object, ...]] = [
        (day, f"{number:02}", figure) for number, (day, figure) in enumerate(zip(days, figures, strict=True))
    ]

    load_batch(app, STAGING, uuid4(), frame(records))

    found = staged_rows(app)
    assert [row[1] for row in found] == days
    assert [bits(row[3]) for row in found] == [bits(figure) for figure in figures]


def bits(figure: float) -> bytes:
    return struct.pack("d", figure)


def test_a_text_with_special_characters_arrives_as_it_is(app: psycopg.Connection[Any]) -> None:
    special = "\\N\t\n\r'\"\\.,é"

    load_batch(app, STAGING, uuid4(), frame(rows([special])))

    assert [row[2] for row in staged_rows(app)] == [special]


class FrameWithEvent:
    """A frame of many rows, which calls a function when half of them were read."""

    columns = COLUMNS

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
    load_batch(app, STAGING, batch_id, frame(rows(["OLD"])))
    app.commit()
    many = FrameWithEvent(lambda: terminate(warehouse, app.info.backend_pid))

    with pytest.raises(psycopg.OperationalError):
        load_batch(app, STAGING, batch_id, cast(Any, many))

    with warehouse.connect() as admin:
        assert [row[2] for row in staged_rows(admin)] == ["OLD"]


def test_a_load_whose_process_is_killed_midway_leaves_what_was_there(
    app: psycopg.Connection[Any], warehouse: Login, state: State
) -> None:
    batch_id = uuid4()
    load_batch(app, STAGING, batch_id, frame(rows(["OLD"])))
    app.commit()

    def load_and_wait(wait_for_kill: Callable[[int], None]) -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            many = FrameWithEvent(lambda: wait_for_kill(connection.info.backend_pid))
            load_batch(connection, STAGING, batch_id, cast(Any, many))

    kill_midway(warehouse, load_and_wait)

    assert [row[2] for row in staged_rows(app)] == ["OLD"]
    app.commit()
    assert load_batch(app, STAGING, batch_id, frame(rows(["NEW"]))) == 1  # no lock is left
    assert [row[2] for row in staged_rows(app)] == ["NEW"]
