"""Loading a batch into its staging table: exact, repeatable, and nothing when it does not finish."""

import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from math import inf, nan
from typing import Any
from uuid import uuid4

import pandas
import psycopg
import pytest

from include.errors import PermanentError
from include.pipeline import load as load_module
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


# For each type a value of pandas, and what Postgres returns for it.
BINARY: dict[str, tuple[Any, Any]] = {
    "bigint": (2**40, 2**40),
    "boolean": (True, True),
    "date": (DAY, DAY),
    "double precision": (0.1 + 0.2, 0.1 + 0.2),
    "integer": (7, 7),
    "numeric": (Decimal("0.10"), Decimal("0.10")),
    "text": ("é", "é"),
    "timestamp with time zone": (pandas.Timestamp(2023, 8, 1, 12, tz="UTC"), datetime(2023, 8, 1, 12, tzinfo=UTC)),
}
OTHERS: dict[str, tuple[Any, Any]] = {
    "numeric(10,2)": (Decimal("1.5"), Decimal("1.50")),
    "smallint": (7, 7),
    "jsonb": ('{"a": 1}', {"a": 1}),
    "timestamp without time zone": (pandas.Timestamp(2023, 8, 1, 12), datetime(2023, 8, 1, 12)),
}


@pytest.mark.parametrize("types", [BINARY, BINARY | OTHERS], ids=["as binary", "as text"])
def test_values_of_any_type_arrive_and_missing_ones_are_null(
    warehouse: Login, types: Mapping[str, tuple[Any, Any]]
) -> None:
    columns = {f"c{number}": each for number, each in enumerate(types.items())}
    records = {name: pandas.Series([value, None], dtype=object) for name, (_, (value, _)) in columns.items()}
    expected = {name: arrived for name, (_, (_, arrived)) in columns.items()}
    with warehouse.connect() as admin:
        for name, (type_, _) in columns.items():
            admin.execute(f"alter table {STAGING} add column {name} {type_}".encode())

        load_batch(
            admin, STAGING, uuid4(), pandas.DataFrame({"day": DAY, "sensor": ["a", "b"], "value": 1.0, **records})
        )

        found = admin.execute(f"select {', '.join(expected)} from {STAGING} order by sensor".encode()).fetchall()
    assert [dict(zip(expected, each, strict=True)) for each in found] == [expected, dict.fromkeys(expected)]


MANY = frame(rows(["NEW"]) * 20_000)


def call_midway(monkeypatch: pytest.MonkeyPatch, event: Callable[[], None]) -> None:
    """Let a load call a function when it has sent half of its rows."""
    original = load_module._rows

    def with_event(frame: pandas.DataFrame) -> Iterator[tuple[Any, ...]]:
        for number, row in enumerate(original(frame)):
            if number == len(frame) // 2 > 0:
                event()
            yield row

    monkeypatch.setattr(load_module, "_rows", with_event)


def test_a_load_whose_session_ends_midway_leaves_what_was_there(
    app: psycopg.Connection[Any], warehouse: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = uuid4()
    load_batch(app, STAGING, batch_id, frame(rows(["OLD"])))
    app.commit()
    call_midway(monkeypatch, lambda: terminate(warehouse, app.info.backend_pid))

    with pytest.raises(psycopg.OperationalError):
        load_batch(app, STAGING, batch_id, MANY)

    with warehouse.connect() as admin:
        assert [row[2] for row in staged_rows(admin)] == ["OLD"]


def test_a_load_whose_process_is_killed_midway_leaves_what_was_there(
    app: psycopg.Connection[Any], warehouse: Login, state: State
) -> None:
    batch_id = uuid4()
    load_batch(app, STAGING, batch_id, frame(rows(["OLD"])))
    app.commit()

    def load_and_wait(wait_for_kill: Callable[[int], None]) -> None:
        login = warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)
        with login.connect() as connection, pytest.MonkeyPatch.context() as patch:
            call_midway(patch, lambda: wait_for_kill(connection.info.backend_pid))
            load_batch(connection, STAGING, batch_id, MANY)

    kill_midway(warehouse, load_and_wait)

    assert [row[2] for row in staged_rows(app)] == ["OLD"]
    app.commit()
    assert load_batch(app, STAGING, batch_id, frame(rows(["NEW"]))) == 1  # no lock is left
    assert [row[2] for row in staged_rows(app)] == ["NEW"]
