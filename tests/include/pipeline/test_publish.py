"""Publishing a day of a table: all of it or nothing, one publisher at a time, and no reader waits."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import IsolationLevel

from include.errors import PermanentError
from include.pipeline.publish import publish_batch, roll_back_batch
from include.warehouse.roles import APP, READER
from local.login import Login
from local.state import State
from tests.include.warehouse.concurrency import await_blocked, kill_midway, terminate
from tests.toy import READINGS
from tests.toy.batches import (
    DAY,
    KEEP,
    PUBLISHED,
    STAGING,
    Row,
    publish,
    publish_new,
    published,
    registered,
    roll_back,
    row,
    run,
    stage,
    with_value,
)

OTHER_DAY = date(2023, 7, 31)
OLD = [(OTHER_DAY, "north", 1.0), (DAY, "east", 1.0), (DAY, "north", 1.0)]
NEW = [(OTHER_DAY, "north", 1.0), (DAY, "north", 2.0), (DAY, "south", 2.0)]


@pytest.fixture
def new(app: psycopg.Connection[Any]) -> UUID:
    """Publish the old rows, and stage the batch that is to replace those of the day."""
    publish(app, stage(app, [row("north", 1.0, OTHER_DAY)]), "old", OTHER_DAY)
    publish(app, stage(app, [row("north", 1.0), row("east", 1.0)]), "old")
    return stage(app, with_value(2.0))


def publish_open(connection: psycopg.Connection[Any], batch_id: UUID, day: date = DAY) -> int:
    """Publish a batch, and leave the transaction open."""
    return publish_batch(connection, READINGS, batch_id, day, run("new"), keep=KEEP)


def as_app(warehouse: Login, state: State) -> Login:
    return warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)


def assert_old(connection: psycopg.Connection[Any]) -> None:
    """Make sure that a publication left no trace."""
    assert published(connection) == OLD
    assert [(line.day, line.run, line.is_current) for line in registered(connection)] == [
        (OTHER_DAY, "old", True),
        (DAY, "old", True),
    ]


def test_a_batch_replaces_its_day_and_nothing_else(app: psycopg.Connection[Any], new: UUID) -> None:
    assert published(app) == OLD
    assert publish_open(app, new) == 2
    assert published(app) == NEW
    assert publish_open(app, new) == 2  # again, as a retry does
    assert published(app) == NEW


def changes(connection: psycopg.Connection[Any]) -> list[Any]:
    """Return what each publication changed, oldest first."""
    return [found for (found,) in connection.execute("select changes from warehouse.publication order by id")]


def test_a_publication_says_what_it_changed(app: psycopg.Connection[Any], new: UUID) -> None:
    publish(app, new, "new")

    added, removed, altered = (
        {"before": as_json(before), "after": as_json(after)}
        for before, after in (
            (None, row("south", 2.0)),
            (row("east", 1.0), None),
            (row("north", 1.0), row("north", 2.0)),
        )
    )
    *first, found = changes(app)
    assert first == [None, None]  # the days were new
    sample = found.pop("sample")
    assert found == {"added": 1, "removed": 1, "altered": 1}
    assert len(sample) == 3
    assert all(each in sample for each in (added, removed, altered))


def as_json(found: Row | None) -> dict[str, object] | None:
    return (
        None
        if found is None
        else {name: str(value) if isinstance(value, date) else value for name, value in found.items()}
    )


def test_a_publication_of_the_same_rows_changed_nothing(app: psycopg.Connection[Any], new: UUID) -> None:
    publish(app, new, "new")
    publish(app, stage(app, with_value(2.0)), "again")

    assert changes(app)[-1] == {"added": 0, "removed": 0, "altered": 0, "sample": None}


def test_only_a_few_of_many_changes_are_kept(app: psycopg.Connection[Any]) -> None:
    sensors = [f"s{number:03}" for number in range(200)]
    for value in (1.0, 2.0):
        publish(app, stage(app, [row(sensor, value) for sensor in sensors]), f"run {value}")

    found = changes(app)[-1]
    assert found["altered"] == len(sensors)
    assert len(found["sample"]) == 5


def test_a_rollback_says_what_it_changed(app: psycopg.Connection[Any], new: UUID) -> None:
    publish(app, new, "new")
    roll_back(app)

    found = changes(app)[-1]
    assert (found["added"], found["removed"], found["altered"]) == (1, 1, 1)


def test_every_column_is_published_as_it_was_staged(app: psycopg.Connection[Any]) -> None:
    publish(app, stage(app, [row("north")]))

    found = app.execute(f"select * from {PUBLISHED}".encode()).fetchall()
    assert found == [tuple(row("north").values())]


def test_columns_are_published_by_their_names(app: psycopg.Connection[Any], warehouse: Login) -> None:
    """A migration that follows the message may leave another order, which a run reports; no figure is exchanged."""
    with warehouse.connect() as admin:
        admin.execute(f"alter table {STAGING} drop column value, add column value double precision".encode())
        admin.execute(f"alter table {PUBLISHED} drop column sensor cascade, add column sensor text".encode())
    publish(app, stage(app, [row("north", 3.0)]))

    assert published(app) == [(DAY, "north", 3.0)]


def test_only_the_rows_of_the_day_are_published(app: psycopg.Connection[Any], new: UUID) -> None:
    """A row of another day in the batch must not appear in a day that nobody published."""
    mixed = stage(app, [*with_value(2.0), row("north", 9.0, OTHER_DAY), row("north", 9.0, date(2023, 8, 2))])

    assert publish_open(app, mixed) == 2
    assert published(app) == NEW


@pytest.mark.usefixtures("new")
def test_a_batch_that_is_not_staged_replaces_nothing(app: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()

    with pytest.raises(PermanentError) as refused:
        publish_open(app, batch_id)

    assert str(refused.value) == (
        f"Batch {batch_id} of {DAY} is not in staging (the last {KEEP} published batches are kept): run the day again."
    )
    app.rollback()
    assert_old(app)


def test_a_batch_of_another_day_replaces_nothing(app: psycopg.Connection[Any], new: UUID) -> None:
    with pytest.raises(PermanentError, match=f"^Batch {new} of {OTHER_DAY} is not in staging"):
        publish_open(app, new, OTHER_DAY)

    app.rollback()
    assert_old(app)


@pytest.mark.usefixtures("new")
@pytest.mark.parametrize(
    ("flawed", "message"),
    [
        ([*with_value(3.0), row("east", None)], 'null value in column "value"'),
        ([*with_value(3.0), row("north", 3.0)], "duplicate key value violates unique constraint"),
    ],
    ids=["an empty figure", "a sensor twice"],
)
def test_what_the_table_forbids_leaves_the_old_rows_and_is_reported_without_the_data(
    app: psycopg.Connection[Any], flawed: list[Row], message: str
) -> None:
    batch_id = stage(app, flawed)

    with pytest.raises(PermanentError) as refused:
        publish_open(app, batch_id)

    assert str(refused.value).startswith(f"{PUBLISHED} refused batch {batch_id}: {message}")
    assert "Add an expectation to the suite" in str(refused.value)
    assert [text for text in ("east", "north", "2023-08-01") if text in str(refused.value)] == []

    app.rollback()
    assert_old(app)


def test_an_older_day_of_a_table_may_be_published_at_any_time(app: psycopg.Connection[Any]) -> None:
    publish_new(app, 1.0)

    publish_new(app, 2.0, OTHER_DAY)

    assert [(day, value) for day, sensor, value in published(app) if sensor == "north"] == [
        (OTHER_DAY, 2.0),
        (DAY, 1.0),
    ]


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
    def publish_and_wait(wait_for_kill: Callable[[int], None]) -> None:
        with as_app(warehouse, state).connect() as connection:
            publish_open(connection, new)
            wait_for_kill(connection.info.backend_pid)

    kill_midway(warehouse, publish_and_wait)

    assert_old(app)
    assert publish_open(app, new) == 2  # no lock is left
    assert published(app) == NEW


def test_a_rollback_that_is_killed_before_its_commit_changes_nothing(
    app: psycopg.Connection[Any], warehouse: Login, state: State
) -> None:
    publish_new(app, 1.0)
    publish_new(app, 2.0)
    before = (published(app), registered(app))
    app.commit()

    def roll_back_and_wait(wait_for_kill: Callable[[int], None]) -> None:
        with as_app(warehouse, state).connect() as connection:
            roll_back_batch(connection, READINGS, DAY, run("a rollback"), keep=KEEP)
            wait_for_kill(connection.info.backend_pid)

    kill_midway(warehouse, roll_back_and_wait)

    assert (published(app), registered(app)) == before
    roll_back(app)  # no lock is left
    assert {value for _, _, value in published(app)} == {1.0}


@pytest.mark.parametrize("day", [DAY, date(2023, 8, 2)], ids=["a published day", "a new day"])
def test_two_publishers_of_a_day_take_turns(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID, day: date
) -> None:
    first, second = (stage(app, with_value(value, day)) for value in (7.0, 8.0))

    def publish_second() -> int:
        with as_app(warehouse, state).connect() as connection:
            return publish_open(connection, second, day)

    with ThreadPoolExecutor(1) as executor:
        publish_open(app, first, day)
        rows = executor.submit(publish_second)
        await_blocked(warehouse)
        app.commit()
        assert rows.result() == 2

    assert [each for each in published(app) if each[0] == day] == [(day, "north", 8.0), (day, "south", 8.0)]


def test_a_reader_waits_for_nobody_and_sees_one_state(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID
) -> None:
    login = warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)
    with login.connect(autocommit=True, options="-c statement_timeout=5s") as reader:
        publish_open(app, new)
        assert published(reader) == OLD
        app.commit()
        assert published(reader) == NEW


def test_a_reader_in_a_long_transaction_keeps_its_state_and_is_waited_for_by_nobody(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID
) -> None:
    login = warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)
    with login.connect() as reader, as_app(warehouse, state).connect(options="-c lock_timeout=5s") as publisher:
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        assert published(reader) == OLD

        publish(publisher, new, "new")
        publish_new(publisher, 3.0, keep=2)  # removes the old batch

        assert published(reader) == OLD
        reader.commit()
        assert {value for day, _, value in published(reader) if day == DAY} == {3.0}


def test_publishers_of_two_days_do_not_wait_for_each_other(
    app: psycopg.Connection[Any], warehouse: Login, state: State, new: UUID
) -> None:
    other = stage(app, [row("north", 9.0, OTHER_DAY)])
    with as_app(warehouse, state).connect(options="-c lock_timeout=5s") as connection:
        publish_open(app, new)
        assert publish_open(connection, other, OTHER_DAY) == 1


def test_a_rollback_of_a_table_needs_a_day(app: psycopg.Connection[Any]) -> None:
    publish_new(app, 1.0)
    publish_new(app, 2.0)

    with pytest.raises(PermanentError) as refused:
        roll_back_batch(app, READINGS, None, run("a rollback"), keep=KEEP)

    assert str(refused.value) == "day is empty: give the day of readings.measured that is to be restored."
