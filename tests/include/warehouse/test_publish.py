"""Publishing a day: all of it or nothing, one at a time, and in nobody's way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from include.warehouse.publish import publish_market_day

from include.errors import PermanentError
from include.warehouse.roles import APP, READER
from local.login import Login
from local.state import State
from tests.include.quality.batches import DAY, Row, row, stage
from tests.include.warehouse.concurrency import await_blocked, kill_midway, terminate
from tests.include.warehouse.publications import KEEP, batch, publish, published, registered, run

OTHER_DAY = date(2023, 7, 31)
OLD = [(OTHER_DAY, "AAPL", 1.0), (DAY, "AAPL", 1.0), (DAY, "GOOG", 1.0)]
NEW = [(OTHER_DAY, "AAPL", 1.0), (DAY, "AAPL", 2.0), (DAY, "AMZN", 2.0)]


@pytest.fixture
def new(app: psycopg.Connection[Any]) -> UUID:
    """Publish the old rows, and stage the batch that is to replace those of the day."""
    old = [row("AAPL", volume=1.0), row("GOOG", volume=1.0)]
    publish(app, stage(app, [row("AAPL", volume=1.0, market_date=OTHER_DAY)]), "old", OTHER_DAY)
    publish(app, stage(app, old), "old")
    return stage(app, batch(2.0))


def publish_open(connection: psycopg.Connection[Any], batch_id: UUID, day: date = DAY) -> int:
    """Publish a batch, and leave the transaction open."""
    return publish_market_day(connection, batch_id, day, run("new"), keep=KEEP)


def assert_old(connection: psycopg.Connection[Any]) -> None:
    """Make sure that a publication left no trace."""
    assert published(connection) == OLD
    assert [(line.day, line.run, line.is_current) for line in registered(connection)] == [
        (OTHER_DAY, "old", True),
        (DAY, "old", True),
    ]


def test_a_batch_replaces_its_day_and_only_that(app: psycopg.Connection[Any], new: UUID) -> None:
    assert published(app) == OLD
    assert publish_open(app, new) == 2
    assert published(app) == NEW
    assert publish_open(app, new) == 2  # again, as a retry does
    assert published(app) == NEW


def test_every_column_is_published_as_it_was_staged(app: psycopg.Connection[Any]) -> None:
    publish(app, stage(app, [row("AAPL")]))

    found = app.execute("select * from market.transformed_market_data").fetchall()
    assert found == [tuple(row("AAPL").values())]


@pytest.mark.usefixtures("new")
def test_a_batch_that_is_not_staged_replaces_nothing(app: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()

    with pytest.raises(PermanentError, match=f"Batch {batch_id} of {DAY} is not in staging .*: run the day again"):
        publish_open(app, batch_id)

    app.rollback()
    assert_old(app)


def test_a_batch_of_another_day_replaces_nothing(app: psycopg.Connection[Any], new: UUID) -> None:
    with pytest.raises(PermanentError, match=f"Batch {new} of {OTHER_DAY} is not in staging"):
        publish_open(app, new, OTHER_DAY)

    app.rollback()
    assert_old(app)


@pytest.mark.usefixtures("new")
@pytest.mark.parametrize(
    ("flawed", "error"),
    [
        ([*batch(3.0), row("GOOG", volume=None)], psycopg.errors.NotNullViolation),
        ([*batch(3.0), row("AAPL", volume=3.0)], psycopg.errors.UniqueViolation),
    ],
    ids=["an empty figure", "a ticker twice"],
)
def test_what_the_table_forbids_leaves_the_old_rows(
    app: psycopg.Connection[Any], flawed: list[Row], error: type[psycopg.Error]
) -> None:
    batch_id = stage(app, flawed)

    with pytest.raises(error):
        publish_open(app, batch_id)

    app.rollback()
    assert_old(app)


def test_a_publisher_whose_session_ends_before_its_commit_leaves_the_old_rows(
    app: psycopg.Connection[Any], warehouse: Login, new: UUID
) -> None:
    publish_open(app, new)
    terminate(warehouse, app.info.backend_pid)

    with pytest.raises(psycopg.OperationalError):
        app.commit()

    with warehouse.connect() as admin:
        assert_old(admin)


def test_a_publisher_that_is_killed_before_its_commit_leaves_the_old_rows(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID
) -> None:
    def publish_and_wait(here: Callable[[int], None]) -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            publish_open(connection, new)
            here(connection.info.backend_pid)

    kill_midway(warehouse, publish_and_wait)

    assert_old(app)
    assert publish_open(app, new) == 2  # nothing of the dead is in the way
    assert published(app) == NEW


@pytest.mark.parametrize("day", [DAY, date(2023, 8, 2)], ids=["a published day", "a new day"])
def test_two_publishers_of_a_day_take_turns(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID, day: date
) -> None:
    first, second = (stage(app, [{**each, "market_date": day} for each in batch(volume)]) for volume in (7.0, 8.0))

    def publish_second() -> int:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            return publish_open(connection, second, day)

    with ThreadPoolExecutor(1) as executor:
        publish_open(app, first, day)
        rows = executor.submit(publish_second)
        await_blocked(warehouse)
        app.commit()
        assert rows.result() == 2

    assert [each for each in published(app) if each[0] == day] == [(day, "AAPL", 8.0), (day, "AMZN", 8.0)]


def test_a_reader_waits_for_nobody_and_sees_one_state(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID
) -> None:
    login = warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)
    with login.connect(autocommit=True, options="-c statement_timeout=5s") as reader:
        publish_open(app, new)
        assert published(reader) == OLD
        app.commit()
        assert published(reader) == NEW


def test_publishers_of_two_days_do_not_wait_for_each_other(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID
) -> None:
    other = stage(app, [row("AAPL", volume=9.0, market_date=OTHER_DAY)])
    login = warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)
    with login.connect(options="-c lock_timeout=5s") as connection:
        publish_open(app, new)
        assert publish_open(connection, other, OTHER_DAY) == 1
