"""Publishing views: all of them at once, while no reader waits, and back again."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import IsolationLevel

from include.dataset import Dataset, View
from include.errors import PermanentError
from include.pipeline.publish import publish_batch, refuse_older, roll_back_batch
from include.warehouse.roles import APP, READER
from include.warehouse.staging import ensure_staging
from local.login import Login
from local.state import State
from tests.include.warehouse.concurrency import PATIENCE, await_blocked, kill_midway, terminate
from tests.toy import ROLLUPS
from tests.toy.view_batches import (
    ALL_MARKS,
    DAYS,
    KEEP,
    ROWS,
    VIEWS,
    everywhere,
    history,
    kept,
    publish,
    roll_back,
    run,
    stage,
    visible,
)

ALL_ROWS = ROWS * len(VIEWS)


@pytest.fixture
def reader(warehouse: Login, state: State) -> Login:
    return warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)


def as_app(warehouse: Login, state: State) -> Login:
    return warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)


def test_before_the_first_publication_the_views_are_empty(app: psycopg.Connection[Any], reader: Login) -> None:
    stage(app, DAYS[0], 1)

    with reader.connect() as connection:
        assert visible(connection) == everywhere(0)


def test_readers_see_what_was_published_last_and_nothing_else(app: psycopg.Connection[Any], reader: Login) -> None:
    with reader.connect(autocommit=True) as connection:
        for number, day in enumerate(DAYS, 1):
            batch_id = stage(app, day, number)
            assert publish_batch(app, ROLLUPS, batch_id, day, run(f"run {number}"), keep=KEEP) == ALL_ROWS
            assert visible(connection) == everywhere(number - 1)
            app.commit()
            assert visible(connection) == everywhere(number)


def test_a_publication_is_registered_for_each_view(app: psycopg.Connection[Any]) -> None:
    first, second = (publish(app, DAYS[number], number) for number in (0, 1))

    for view in VIEWS:
        assert history(app, view) == [
            (DAYS[0], first, "run 0", False, 0),
            (DAYS[1], second, "run 1", True, 0),
        ]


def test_a_retry_after_the_commit_changes_nothing(app: psycopg.Connection[Any]) -> None:
    batch_id = publish(app, DAYS[0], 1)
    before = history(app)

    assert publish_batch(app, ROLLUPS, batch_id, DAYS[0], run("run 1"), keep=KEEP) == ALL_ROWS

    assert history(app) == before
    assert visible(app) == everywhere(1)


# How a reader looks at all views. Each look must find one batch, whole, in every view.
LOOKS = [
    (IsolationLevel.READ_COMMITTED, [ALL_MARKS]),
    (IsolationLevel.REPEATABLE_READ, ALL_MARKS.split(" union all ")),
]


def keep_looking(login: Login, isolation: IsolationLevel, statements: list[str], pipe: Connection) -> None:
    """Look until a message arrives, at least once before and after it; send how often, and all that was found."""
    found, looks, stopped = set(), 0, False
    with login.connect() as connection:
        connection.isolation_level = isolation
        while True:
            with connection.transaction():
                rows = [row for statement in statements for row in connection.execute(statement.encode())]
            found.add(tuple(sorted(rows)))
            looks += 1
            if looks == 1:
                pipe.send("looking")
            if stopped:
                break
            stopped = pipe.poll()
    pipe.send((looks, found))


def test_no_reader_ever_sees_two_batches_or_an_empty_view(
    app: psycopg.Connection[Any], warehouse: Login, state: State, reader: Login
) -> None:
    """While batches are published and rolled back, and publishers are killed before their commit."""
    publish(app, DAYS[0], 1)
    fork = get_context("fork")
    readers = []
    for look in LOOKS:
        ours, theirs = fork.Pipe()
        process = fork.Process(target=keep_looking, args=(reader, *look, theirs), daemon=True)
        process.start()
        assert ours.poll(PATIENCE)
        assert ours.recv() == "looking"
        readers.append((process, ours))

    for mark in range(2, 42):
        day = DAYS[mark % 2]
        if mark % 10 == 0:  # the process is killed

            def publish_and_wait(wait_for_kill: Callable[[int], None], day: date = day, mark: int = mark) -> None:
                with as_app(warehouse, state).connect() as connection:
                    batch_id = stage(connection, day, -mark)
                    publish_batch(connection, ROLLUPS, batch_id, day, run(f"killed {mark}"), keep=3, allow_older=True)
                    wait_for_kill(connection.info.backend_pid)

            kill_midway(warehouse, publish_and_wait)
        elif mark % 10 == 5:  # the session is ended from the server's side
            with as_app(warehouse, state).connect() as connection:
                batch_id = stage(connection, day, -mark)
                publish_batch(connection, ROLLUPS, batch_id, day, run(f"ended {mark}"), keep=3, allow_older=True)
                terminate(warehouse, connection.info.backend_pid)
                connection.close()
        elif mark % 10 in (3, 9):
            roll_back(app, f"run {mark}", keep=3)
        else:
            publish(app, day, mark, keep=3, allow_older=True)

    final = visible(app)[0]
    app.commit()
    for process, ours in readers:
        ours.send("stop")
        assert ours.poll(PATIENCE)
        looks, found = ours.recv()
        process.join()
        assert process.exitcode == 0
        # Each look found one whole batch: all rows of one mark in each view, and none of a killed publisher.
        marks = {look[0][1] for look in found}
        assert found == {tuple((view, mark, ROWS) for view in VIEWS) for mark in marks}
        assert min(marks) > 0
        assert {1, final} <= marks
        assert looks > len(found)


def test_a_reader_in_a_long_transaction_keeps_its_batch_and_is_waited_for_by_nobody(
    app: psycopg.Connection[Any], warehouse: Login, state: State, reader: Login
) -> None:
    publish(app, DAYS[0], 1, keep=2)
    with (
        reader.connect() as connection,
        as_app(warehouse, state).connect(options="-c lock_timeout=5s") as publisher,
    ):
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        assert visible(connection) == everywhere(1)

        for mark in range(2, 6):
            publish(publisher, DAYS[1], mark, keep=2)
        roll_back(publisher, "a run", keep=2)

        assert kept(publisher) == [{4, 5}] * len(VIEWS)  # what the reader sees is removed
        assert visible(connection) == everywhere(1)  # and the reader still sees it
        connection.commit()
        assert visible(connection) == everywhere(4)


def test_a_users_own_view_grants_and_owners_outlive_publications(
    app: psycopg.Connection[Any], warehouse: Login, reader: Login
) -> None:
    publish(app, DAYS[0], 1)
    described = (
        "select oid, relname, relowner, relacl::text from pg_class where relkind in ('v', 'r') and relnamespace in "
        "('rollups'::regnamespace, 'rollups_staging'::regnamespace, 'public'::regnamespace)"
    )
    with warehouse.connect(autocommit=True) as admin:
        admin.execute(
            "create view public.report as select amount, total from rollups.busiest cross join rollups.totals"
        )
        admin.execute(f"grant select on public.report to {READER}".encode())
        admin.execute(f"grant insert on rollups.busiest to {READER} with grant option".encode())
        before = admin.execute(described).fetchall()

        publish(app, DAYS[1], 2)
        publish(app, DAYS[2], 3)
        roll_back(app, "a run")

        assert admin.execute(described).fetchall() == before
    with reader.connect() as connection:
        assert connection.execute("select distinct * from public.report").fetchall() == [(2, 2)]


def test_an_older_day_is_refused_unless_it_is_asked_for(app: psycopg.Connection[Any]) -> None:
    publish(app, DAYS[2], 1)
    older = stage(app, DAYS[1], 2)

    message = "The views of rollups show 2023-08-03: to publish the older 2023-08-02, set the param allow_older."
    with pytest.raises(PermanentError) as refused:
        publish_batch(app, ROLLUPS, older, DAYS[1], run("a run"), keep=KEEP)
    assert str(refused.value) == message
    with pytest.raises(PermanentError) as refused:
        refuse_older(app, ROLLUPS, DAYS[1])
    assert str(refused.value) == message
    app.rollback()
    assert visible(app) == everywhere(1)

    publish_batch(app, ROLLUPS, older, DAYS[1], run("a run"), keep=KEEP, allow_older=True)
    assert visible(app) == everywhere(2)


@pytest.mark.parametrize("day", [DAYS[2], DAYS[3]], ids=["the same day", "a later day"])
def test_no_other_day_is_refused(app: psycopg.Connection[Any], day: date) -> None:
    refuse_older(app, ROLLUPS, date.min)  # nothing is published yet
    publish(app, DAYS[2], 1)

    refuse_older(app, ROLLUPS, day)
    publish(app, day, 2)

    assert visible(app) == everywhere(2)


def test_a_day_that_was_rolled_back_is_no_later_day_any_more(app: psycopg.Connection[Any]) -> None:
    publish(app, DAYS[0], 1)
    publish(app, DAYS[2], 2)
    roll_back(app, "a run")

    publish(app, DAYS[1], 3)

    assert visible(app) == everywhere(3)


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [(DAYS[0], DAYS[1], 2), (DAYS[1], DAYS[1], 2), (DAYS[1], DAYS[0], 1)],
    ids=["a later day", "the same day", "an older day, which is refused only then"],
)
def test_two_publishers_take_turns(
    app: psycopg.Connection[Any], warehouse: Login, state: State, first: date, second: date, result: int
) -> None:
    def publish_second() -> str:
        with as_app(warehouse, state).connect() as connection:
            try:
                publish(connection, second, 2)
            except PermanentError as error:
                return str(error)
        return ""

    batch_id = stage(app, first, 1)
    with ThreadPoolExecutor(1) as executor:
        publish_batch(app, ROLLUPS, batch_id, first, run("run 1"), keep=KEEP)
        refused = executor.submit(publish_second)
        await_blocked(warehouse)
        app.commit()
        assert ("set the param allow_older" in refused.result()) == (result == 1)

    assert visible(app) == everywhere(result)
    assert len(history(app)) == result


def test_a_rollback_and_a_publisher_take_turns(app: psycopg.Connection[Any], warehouse: Login, state: State) -> None:
    for number in (0, 1):
        publish(app, DAYS[number], number)

    def publish_next() -> None:
        with as_app(warehouse, state).connect() as connection:
            publish(connection, DAYS[2], 2)

    with ThreadPoolExecutor(1) as executor:
        roll_back_batch(app, ROLLUPS, None, run("a rollback"), keep=KEEP)
        published = executor.submit(publish_next)
        await_blocked(warehouse)
        app.commit()
        published.result()

    assert visible(app) == everywhere(2)
    assert [line[-1] for line in history(app)] == [0, 0, 1, 0]


def test_a_batch_that_is_not_staged_publishes_nothing(app: psycopg.Connection[Any]) -> None:
    published = publish(app, DAYS[0], 1, keep=2)
    batch_id = uuid4()

    with pytest.raises(PermanentError) as refused:
        publish_batch(app, ROLLUPS, batch_id, DAYS[1], run("a run"), keep=2)

    assert str(refused.value) == (
        f"Batch {batch_id} of 2023-08-02 is not in staging (the last 2 published batches are kept): run the day again."
    )
    app.rollback()
    assert visible(app) == everywhere(1)
    assert history(app) == [(DAYS[0], published, "run 1", True, 0)]


def test_a_view_that_rightly_has_no_rows_is_published_with_the_others(app: psycopg.Connection[Any]) -> None:
    publish(app, DAYS[0], 1)
    batch_id = stage(app, DAYS[1], 2, only=VIEWS[1:])

    assert publish_batch(app, ROLLUPS, batch_id, DAYS[1], run("run 2"), keep=KEEP) == ALL_ROWS - ROWS

    assert visible(app) == [0, *everywhere(2)[1:]]


def test_the_last_published_batches_stay_and_those_in_progress(app: psycopg.Connection[Any]) -> None:
    stage(app, DAYS[0], -1)  # the gate closed on it, long ago
    publish(app, DAYS[0], 1, keep=3)
    publish(app, DAYS[1], 2, keep=3)
    assert kept(app) == [{-1, 1, 2}] * len(VIEWS)  # until there are more, all stay

    publish(app, DAYS[1], 3, keep=3)
    assert kept(app) == [{1, 2, 3}] * len(VIEWS)
    app.commit()  # what is staged from here on is newer than those
    stage(app, DAYS[2], -2)
    publish(app, DAYS[2], 4, keep=3)

    assert kept(app) == [{2, 3, 4, -2}] * len(VIEWS)
    publish(app, DAYS[2], 5, keep=2)  # from now on fewer; and what is older than both is removed
    assert kept(app) == [{4, 5}] * len(VIEWS)


def test_a_restored_batch_is_one_of_the_last(app: psycopg.Connection[Any]) -> None:
    for mark in (1, 2, 3):
        publish(app, DAYS[mark], mark, keep=3)
    for name in ("first", "second"):
        roll_back(app, name, keep=3)

    publish(app, DAYS[4], 4, keep=2)

    assert kept(app) == [{1, 4}] * len(VIEWS)
    assert visible(app) == everywhere(4)


def test_each_rollback_goes_one_publication_further_back(app: psycopg.Connection[Any], reader: Login) -> None:
    batches = [publish(app, DAYS[number], number) for number in range(3)]

    with reader.connect(autocommit=True) as connection:
        assert roll_back(app, "first") == (DAYS[1], batches[1], ALL_ROWS)
        assert visible(connection) == everywhere(1)
        assert roll_back(app, "second") == (DAYS[0], batches[0], ALL_ROWS)
        assert visible(connection) == everywhere(0)

    for view in VIEWS:
        assert history(app, view)[3:] == [
            (DAYS[1], batches[1], "first", False, 2),  # it restored the second publication
            (DAYS[0], batches[0], "second", True, 1),
        ]


def test_a_retry_of_a_rollback_does_not_go_further_back(app: psycopg.Connection[Any]) -> None:
    batches = [publish(app, DAYS[number], number) for number in range(3)]
    roll_back(app, "a run")
    before = history(app)

    assert roll_back(app, "a run") == (DAYS[1], batches[1], ALL_ROWS)

    assert history(app) == before
    assert visible(app) == everywhere(1)


def test_a_day_that_is_asked_for_is_restored_in_its_last_publication(app: psycopg.Connection[Any]) -> None:
    for mark, day in enumerate([DAYS[0], DAYS[1], DAYS[1], DAYS[2], DAYS[3]]):
        publish(app, day, mark)

    assert roll_back(app, "first", day=DAYS[1])[0] == DAYS[1]
    assert visible(app) == everywhere(2)
    assert roll_back(app, "first", day=DAYS[1])[0] == DAYS[1]  # a retry
    assert visible(app) == everywhere(2)
    roll_back(app, "second", day=DAYS[1])  # the same day, as it was published before
    assert visible(app) == everywhere(1)


def test_a_batch_that_was_rolled_back_can_be_published_again(app: psycopg.Connection[Any]) -> None:
    publish(app, DAYS[0], 1)
    batch_id = publish(app, DAYS[1], 2)
    roll_back(app, "a run")

    # As when the publish task is cleared.
    publish_batch(app, ROLLUPS, batch_id, DAYS[1], run("run 2"), keep=KEEP)
    assert visible(app) == everywhere(2)
    app.commit()
    roll_back(app, "another run")
    assert visible(app) == everywhere(1)


@pytest.mark.parametrize("keep", [3, 7])
def test_a_rollback_restores_what_readers_saw_and_not_what_was_rolled_back(
    app: psycopg.Connection[Any], keep: int
) -> None:
    for mark in (1, 2, 3):
        publish(app, DAYS[mark], mark, keep=keep)
    roll_back(app, "first", keep=keep)  # 3 was bad
    publish(app, DAYS[4], 4, keep=keep)

    roll_back(app, "second", keep=keep)
    assert visible(app) == everywhere(2)  # as readers did before 4, though 3 was published in between

    if keep == 7:
        roll_back(app, "third", keep=keep)
        assert visible(app) == everywhere(1)


NEVER = "rollups has no earlier publication{} to go back to."


@pytest.mark.parametrize(
    ("published", "day", "message"),
    [
        ([], None, NEVER.format("")),
        ([DAYS[0]], None, NEVER.format("")),
        ([DAYS[0]], DAYS[0], NEVER.format(" of 2023-08-01")),
        ([DAYS[0], DAYS[1]], DAYS[2], NEVER.format(" of 2023-08-03")),
        ([DAYS[0], DAYS[1]], DAYS[1], NEVER.format(" of 2023-08-02")),
    ],
    ids=["no publication", "only one", "only one of the day", "none of the day", "the visible one is the only one"],
)
def test_without_an_earlier_publication_nothing_is_restored(
    app: psycopg.Connection[Any], published: list[date], day: date | None, message: str
) -> None:
    for mark, each in enumerate(published):
        publish(app, each, mark)
    before = history(app)

    with pytest.raises(PermanentError) as refused:
        roll_back(app, "a run", day)

    assert str(refused.value) == message
    app.rollback()
    assert history(app) == before


def test_a_batch_that_is_no_longer_kept_cannot_be_restored(app: psycopg.Connection[Any]) -> None:
    first = publish(app, DAYS[0], 0, keep=2)
    for mark in (1, 2):
        publish(app, DAYS[mark], mark, keep=2)
    before = history(app)

    with pytest.raises(PermanentError) as refused:
        roll_back(app, "a run", DAYS[0], keep=2)

    assert str(refused.value).startswith(
        f"Batch {first} of 2023-08-01 is not in staging (the last 2 published batches are kept)"
    )
    app.rollback()
    assert (visible(app), history(app)) == (everywhere(2), before)
    assert roll_back(app, "a run", keep=2)[0] == DAYS[1]  # what is kept can be


@pytest.fixture
def with_one_more(tmp_path: Path) -> Dataset:
    """Return the dataset with a view that was added later."""
    folder = Path(shutil.copytree(ROLLUPS.folder, tmp_path / "rollups"))
    (folder / "days.sql").write_text("SELECT %(as_of)s::date AS day")
    publishes: Any = (*ROLLUPS.publishes, View("days", key=("day",)))
    return replace(ROLLUPS, folder=folder, publishes=publishes)


def test_a_publication_without_a_view_that_was_added_since_is_not_restored(
    app: psycopg.Connection[Any], warehouse: Login, with_one_more: Dataset
) -> None:
    publish(app, DAYS[0], 0)
    with warehouse.connect() as admin:
        ensure_staging(admin, with_one_more)
    batch_id = stage(app, DAYS[1], 1)
    publish_batch(app, with_one_more, batch_id, DAYS[1], run("run 1"), keep=KEEP)
    app.commit()
    before = history(app)

    with pytest.raises(PermanentError) as refused:
        roll_back_batch(app, with_one_more, None, run("a rollback"), keep=KEEP)

    assert str(refused.value) == (
        "rollups has no earlier publication of all its views: "
        + "".join(f"rollups.{view}: 2023-08-01, " for view in VIEWS)
        + "rollups.days: never. Run its DAG for the day that you want, with allow_older."
    )
    app.rollback()
    assert (visible(app), history(app)) == (everywhere(1), before)
    assert history(app, "days") == [(DAYS[1], batch_id, "run 1", True, 0)]


def test_a_view_whose_last_publication_was_another_is_not_restored_with_the_others(
    app: psycopg.Connection[Any], with_one_more: Dataset, warehouse: Login
) -> None:
    """As after a view was removed from the declaration, and declared again."""
    with warehouse.connect() as admin:
        ensure_staging(admin, with_one_more)
    for mark, dataset in enumerate([with_one_more, ROLLUPS, with_one_more]):
        batch_id = stage(app, DAYS[mark], mark)
        publish_batch(app, dataset, batch_id, DAYS[mark], run(f"run {mark}"), keep=KEEP)
        app.commit()

    with pytest.raises(PermanentError) as refused:
        roll_back_batch(app, with_one_more, None, run("a rollback"), keep=KEEP)

    assert str(refused.value).startswith(
        "rollups has no earlier publication of all its views: rollups.busiest: 2023-08-02, "
    )
    assert "rollups.days: 2023-08-01. Run its DAG" in str(refused.value)
    app.rollback()
    assert visible(app) == everywhere(2)


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_a_rollback_that_ends_before_its_commit_changes_nothing(
    app: psycopg.Connection[Any], warehouse: Login, state: State, end: str
) -> None:
    for mark in (1, 2):
        publish(app, DAYS[mark], mark)
    before = history(app)
    app.commit()

    def roll_back_and_wait(wait: Callable[[int], None]) -> None:
        with as_app(warehouse, state).connect() as connection:
            roll_back_batch(connection, ROLLUPS, None, run("a rollback"), keep=KEEP)
            wait(connection.info.backend_pid)

    if end == "killed":
        kill_midway(warehouse, roll_back_and_wait)
    else:
        with pytest.raises(psycopg.OperationalError):
            roll_back_and_wait(lambda pid: terminate(warehouse, pid))

    assert (visible(app), history(app)) == (everywhere(2), before)
    roll_back(app, "a run")  # no lock is left
    assert visible(app) == everywhere(1)
