"""The register of publications: what readers see, what they saw before, and the way back to it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from include.errors import PermanentError
from include.pipeline.publish import publish_batch, roll_back_batch
from include.warehouse import register
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.concurrency import await_blocked
from tests.toy import READINGS
from tests.toy.batches import (
    DAY,
    KEEP,
    PUBLISHED,
    Line,
    publish,
    publish_new,
    published,
    registered,
    roll_back,
    row,
    run,
    stage,
    staged,
    with_value,
)

OTHER_DAY = date(2023, 7, 31)


def replay(app: psycopg.Connection[Any], history: str, keep: int = KEEP) -> dict[str, UUID]:
    """Publish (a letter: that batch, staged when it is first named) and roll back (<); return the batches."""
    batches: dict[str, UUID] = {}
    for number, step in enumerate(history.split()):
        if step == "<":
            roll_back(app, f"step {number}", keep=keep)
        else:
            if step not in batches:
                batches[step] = stage(app, with_value(float(ord(step))))
            publish(app, batches[step], f"step {number}", keep=keep)
    return batches


def seen_letter(app: psycopg.Connection[Any]) -> str:
    """Return the letter of the batch that readers see."""
    return "".join({chr(int(value)) for _, _, value in published(app)})


def test_each_publication_of_a_day_is_registered_and_the_last_is_current(app: psycopg.Connection[Any]) -> None:
    first, other, second = (publish_new(app, 1.0), publish_new(app, 2.0, OTHER_DAY), publish_new(app, 3.0))

    assert registered(app) == [
        Line(DAY, first, "run 1", is_current=False, restores=None),
        Line(OTHER_DAY, other, "run 2", is_current=True, restores=None),
        Line(DAY, second, "run 3", is_current=True, restores=None),
    ]
    names = app.execute("select distinct object, scope, dag_id from warehouse.publication").fetchall()
    assert names == [("readings.measured", "day", "a_dag")]


def test_a_retry_of_a_publication_is_not_registered_again(app: psycopg.Connection[Any]) -> None:
    publish_new(app, 1.0, OTHER_DAY)
    batch_id = publish_new(app, 2.0)
    before = registered(app)

    assert publish(app, batch_id, "run 2") == 2

    assert registered(app) == before


@pytest.mark.parametrize(("scope", "day"), [("day", DAY), ("object", OTHER_DAY)])
def test_the_warehouse_refuses_a_second_current_publication(
    app: psycopg.Connection[Any], scope: str, day: date
) -> None:
    insert = (
        "insert into warehouse.publication (object, scope, day, batch_id, dag_id, run_id) "
        "values ('an object', %s, %s, gen_random_uuid(), 'a_dag', 'a run')"
    )
    app.execute(insert, [scope, DAY])

    with pytest.raises(psycopg.errors.UniqueViolation):
        app.execute(insert, [scope, day])


def test_a_rollback_restores_the_rows_exactly_and_is_registered_itself(app: psycopg.Connection[Any]) -> None:
    def whole_table() -> list[tuple[Any, ...]]:
        return app.execute(f"select * from {PUBLISHED} order by day, sensor".encode()).fetchall()

    values = {"a": 0.1 + 0.2, "b": 5e-324, "c": -0.0, "d": 2.0**53 + 2}
    publish_new(app, 1.0, OTHER_DAY)
    first = stage(app, [row(sensor, value) for sensor, value in values.items()])
    publish(app, first, "the first run")
    before = whole_table()
    second = publish_new(app, 2.0)

    assert roll_back(app) == (first, len(values))

    assert repr(whole_table()) == repr(before)  # -0.0 equals 0.0
    assert registered(app)[1:] == [
        Line(DAY, first, "the first run", is_current=False, restores=None),
        Line(DAY, second, "run 2", is_current=False, restores=None),
        Line(DAY, first, "a rollback", is_current=True, restores=first),
    ]


@pytest.mark.parametrize(
    ("history", "seen"),
    [
        ("A B C <", "B"),
        ("A B C < <", "A"),  # further back, not forward
        ("A B < B", "B"),  # forward again
        ("A B C < C <", "B"),
        ("A B C < C < <", "A"),
        ("A B < C <", "A"),  # not B, which was rolled back before C
        ("A B C < < D <", "A"),
        ("A B C < D < <", "A"),
        ("A B C < B D <", "B"),
        ("A B A <", "B"),
        ("A B A < <", "A"),
    ],
)
def test_a_rollback_goes_to_the_publication_before(app: psycopg.Connection[Any], history: str, seen: str) -> None:
    batches = replay(app, history)

    assert seen_letter(app) == seen
    assert [line.batch_id for line in registered(app) if line.is_current] == [batches[seen]]


@pytest.mark.parametrize("history", ["", "A", "A A", "A B <", "A B C < <", "A B < B <"])
def test_a_day_without_an_earlier_publication_stays_as_it_is(app: psycopg.Connection[Any], history: str) -> None:
    replay(app, history)
    before = (published(app), registered(app))

    with pytest.raises(PermanentError, match=f"^readings.measured has no earlier publication of {DAY} to go back to"):
        roll_back(app, "one too many")

    assert (published(app), registered(app)) == before


def test_one_day_is_rolled_back_without_the_others(app: psycopg.Connection[Any]) -> None:
    publish_new(app, 1.0, OTHER_DAY)
    publish_new(app, 2.0)
    publish_new(app, 3.0, OTHER_DAY)

    with pytest.raises(PermanentError, match=f"no earlier publication of {DAY}"):
        roll_back(app, day=DAY)
    roll_back(app, day=OTHER_DAY)

    assert [(day, value) for day, sensor, value in published(app) if sensor == "north"] == [
        (OTHER_DAY, 1.0),
        (DAY, 2.0),
    ]


@pytest.mark.parametrize("history", ["A B C <", "A B C < <"])
def test_a_retry_of_a_rollback_changes_nothing(app: psycopg.Connection[Any], history: str) -> None:
    batches = replay(app, history)
    before = (published(app), registered(app))

    assert roll_back(app, before[1][-1].run) == (batches[seen_letter(app)], 2)

    assert (published(app), registered(app)) == before


def test_a_batch_that_is_no_longer_kept_cannot_be_restored(app: psycopg.Connection[Any]) -> None:
    batches = replay(app, "A B C <", keep=2)
    before = (published(app), registered(app), staged(app))

    with pytest.raises(
        PermanentError,
        match=rf"^Batch {batches['A']} of {DAY} is not in staging \(the last 2 published batches are kept\)",
    ):
        roll_back(app, "one too many", keep=2)

    assert (published(app), registered(app), staged(app)) == before
    assert seen_letter(app) == "B"


@pytest.mark.parametrize(
    ("history", "keep", "kept"),
    [
        ("A", 2, "A"),
        ("A B C D", 2, "CD"),
        ("A B < C", 2, "AC"),  # A is what readers saw before C
        ("A B A C", 2, "AC"),
        ("A B C <", 3, "ABC"),  # the rollback is a publication, and B still one batch
        ("A B C C", 3, "ABC"),
    ],
)
def test_the_last_published_batches_of_a_day_are_kept(
    app: psycopg.Connection[Any], history: str, keep: int, kept: str
) -> None:
    batches = replay(app, history, keep)

    assert staged(app) == {batches[letter] for letter in kept}


def test_only_batches_of_the_day_that_are_older_than_those_kept_are_removed(app: psycopg.Connection[Any]) -> None:
    never_published = stage(app, with_value(0.0))
    other_day = {stage(app, with_value(0.0, OTHER_DAY)), *(publish_new(app, 1.0, OTHER_DAY, keep=9) for _ in range(3))}
    first = publish_new(app, 1.0, keep=2)
    assert staged(app) == {*other_day, never_published, first}  # there are not enough publications yet

    second = publish_new(app, 2.0, keep=2)
    assert staged(app) == {*other_day, first, second}

    in_progress = stage(app, with_value(3.0))
    third = publish_new(app, 4.0, keep=2)
    assert staged(app) == {*other_day, second, third, in_progress}
    assert publish(app, in_progress, "run 3") == 2


def test_a_run_that_runs_again_after_its_publication_gets_another_batch(app: psycopg.Connection[Any]) -> None:
    batch_id = stage(app, with_value(1.0))
    assert register.unpublished(app, batch_id) == batch_id  # a retry before that replaces its rows

    publish(app, batch_id)
    again = register.unpublished(app, batch_id)
    assert (again != batch_id, register.unpublished(app, batch_id)) == (True, again)

    register.register(app, "another object", "object", DAY, again, run("again"))
    assert register.unpublished(app, batch_id) not in {batch_id, again}


Act = Callable[[psycopg.Connection[Any], UUID], object]


def publish_again(connection: psycopg.Connection[Any], batch_id: UUID) -> None:
    publish_batch(connection, READINGS, batch_id, DAY, run("the publication"), keep=KEEP)


def go_back(connection: psycopg.Connection[Any], _: UUID) -> None:
    roll_back_batch(connection, READINGS, DAY, run(f"the rollback of session {connection.info.backend_pid}"), keep=KEEP)


@pytest.mark.parametrize(
    ("first", "second", "seen"),
    [(go_back, go_back, "A"), (publish_again, go_back, "C"), (go_back, publish_again, "D")],
    ids=["two rollbacks", "a rollback after a publisher", "a publisher after a rollback"],
)
def test_two_that_change_a_day_take_turns(
    app: psycopg.Connection[Any], warehouse: Login, state: State, first: Act, second: Act, seen: str
) -> None:
    replay(app, "A B C")
    fourth = stage(app, with_value(float(ord("D"))))

    def act_second() -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            second(connection, fourth)

    with ThreadPoolExecutor(1) as executor:
        first(app, fourth)
        done = executor.submit(act_second)
        await_blocked(warehouse)
        app.commit()
        done.result()

    assert seen_letter(app) == seen
    assert len(registered(app)) == 5
    assert [line.is_current for line in registered(app)] == [False] * 4 + [True]


def test_an_object_that_was_never_published_has_no_current_publication(app: psycopg.Connection[Any]) -> None:
    assert register.current(app, PUBLISHED, DAY) is None
    assert register.current(app, str(uuid4())) is None
