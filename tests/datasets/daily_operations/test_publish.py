"""Publishing the views: all of them at once, in nobody's way, and back again."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from include.daily_operations import views
from include.daily_operations.publish import publish_views, refuse_older, roll_back_views
from include.daily_operations.schema import ensure_views
from include.daily_operations.views import SNAPSHOTS
from psycopg import IsolationLevel
from tests.include.daily_operations.resort import ALL_MARKS, MARKS, VIEWS, as_app, shown, stage

from include.errors import PermanentError
from include.warehouse.register import Run
from include.warehouse.roles import READER
from local.login import Login
from local.state import State
from tests.include.warehouse.concurrency import PATIENCE, await_blocked, kill_midway, terminate

DAYS = [date(2023, 8, 1) + timedelta(days=number) for number in range(5)]


def everywhere(mark: int) -> list[int]:
    return [mark] * len(VIEWS)


def publish(
    connection: psycopg.Connection[Any], day: date, mark: int, *, keep: int = 7, allow_older: bool = False
) -> UUID:
    """Stage and publish rows that bear a mark, in a transaction of its own."""
    batch_id = stage(connection, day, mark)
    publish_views(connection, batch_id, day, Run("update", f"run {mark}"), keep=keep, allow_older=allow_older)
    connection.commit()
    return batch_id


def roll_back(
    connection: psycopg.Connection[Any], run_id: str, day: date | None = None, keep: int = 7
) -> tuple[date, UUID, int]:
    found = roll_back_views(connection, day, Run("rollback", run_id), keep=keep)
    connection.commit()
    return found


def history(connection: psycopg.Connection[Any], view: str = VIEWS[0]) -> list[tuple[Any, ...]]:
    """Give what the register tells of a view, oldest first; of a rollback, to which line it went back."""
    return connection.execute(
        "select p.day, p.batch_id, p.dag_id, p.run_id, p.is_current, "
        "(select count(*) from warehouse.publication q where q.object = p.object and q.id <= p.restores) "
        "from warehouse.publication p where object = %s and scope = 'object' order by id",
        [f"daily_operations.{view}"],
    ).fetchall()


def kept(connection: psycopg.Connection[Any]) -> list[set[int]]:
    """Give for each view the marks of all snapshots that are there."""
    return [
        {row[0] for row in connection.execute(f"select {mark}::int from {SNAPSHOTS}.{view}".encode())}
        for view, mark in MARKS.items()
    ]


@pytest.fixture
def reader(warehouse: Login, state: State) -> Login:
    return warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)


def test_before_the_first_publication_the_views_are_empty(app: psycopg.Connection[Any], reader: Login) -> None:
    stage(app, DAYS[0], 1)

    with reader.connect() as connection:
        assert shown(connection) == everywhere(0)


def test_readers_see_what_was_published_last_and_nothing_else(app: psycopg.Connection[Any], reader: Login) -> None:
    with reader.connect(autocommit=True) as connection:
        for number, day in enumerate(DAYS, 1):
            batch_id = stage(app, day, number)
            assert publish_views(app, batch_id, day, Run("update", f"run {number}"), keep=7) == 2 * len(VIEWS)
            assert shown(connection) == everywhere(number - 1)
            app.commit()
            assert shown(connection) == everywhere(number)


def test_a_publication_is_registered_for_each_view(app: psycopg.Connection[Any]) -> None:
    first, second = (publish(app, DAYS[number], number) for number in (0, 1))

    for view in VIEWS:
        assert history(app, view) == [
            (DAYS[0], first, "update", "run 0", False, 0),
            (DAYS[1], second, "update", "run 1", True, 0),
        ]


def test_a_retry_after_the_commit_changes_nothing(app: psycopg.Connection[Any]) -> None:
    batch_id = publish(app, DAYS[0], 1)
    before = history(app)

    assert publish_views(app, batch_id, DAYS[0], Run("update", "run 1"), keep=7) == 2 * len(VIEWS)

    assert history(app) == before
    assert shown(app) == everywhere(1)


# How a reader looks at all views. Each look must find one batch, whole, in every view.
LOOKS = [
    (IsolationLevel.READ_COMMITTED, [ALL_MARKS]),
    (IsolationLevel.REPEATABLE_READ, ALL_MARKS.split(" union all ")),
]


def keep_looking(login: Login, isolation: IsolationLevel, statements: list[str], stop: Connection) -> None:
    """Look until told to stop, and at least once before and after that; send how often, and all that was found."""
    found, looks, stopped = set(), 0, False
    with login.connect() as connection:
        connection.isolation_level = isolation
        while True:
            with connection.transaction():
                rows = [row for statement in statements for row in connection.execute(statement.encode())]
            found.add(tuple(sorted(rows)))
            looks += 1
            if looks == 1:
                stop.send("looking")
            if stopped:
                break
            stopped = stop.poll()
    stop.send((looks, found))


def test_no_reader_ever_sees_two_batches_or_an_empty_view(
    app: psycopg.Connection[Any], warehouse: Login, state: State, reader: Login
) -> None:
    """While days come and go, publications are rolled back, and publishers are killed before their commit."""
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
        if mark % 10 == 0:  # the process dies

            def die(here: Callable[[int], None], day: date = day, mark: int = mark) -> None:
                with as_app(warehouse, state).connect() as connection:
                    batch_id = stage(connection, day, -mark)
                    publish_views(connection, batch_id, day, Run("killed", str(mark)), keep=3, allow_older=True)
                    here(connection.info.backend_pid)

            kill_midway(warehouse, die)
        elif mark % 10 == 5:  # the session is ended from the server's side
            with as_app(warehouse, state).connect() as connection:
                batch_id = stage(connection, day, -mark)
                publish_views(connection, batch_id, day, Run("ended", str(mark)), keep=3, allow_older=True)
                terminate(warehouse, connection.info.backend_pid)
                connection.close()
        elif mark % 10 in (3, 9):
            roll_back(app, f"run {mark}", keep=3)
        else:
            publish(app, day, mark, keep=3, allow_older=True)

    final = shown(app)[0]
    app.commit()
    for process, ours in readers:
        ours.send("stop")
        assert ours.poll(PATIENCE)
        looks, found = ours.recv()
        process.join()
        assert process.exitcode == 0
        # One whole batch a look: so many rows of one mark in each view. None of those who died.
        marks = {look[0][1] for look in found}
        assert found == {tuple((view, mark, 2) for view in VIEWS) for mark in marks}
        assert min(marks) > 0
        assert {1, final} <= marks
        assert looks > len(found)


def test_a_reader_of_long_is_in_nobodys_way_and_sees_nothing_new(
    app: psycopg.Connection[Any], warehouse: Login, state: State, reader: Login
) -> None:
    publish(app, DAYS[0], 1, keep=2)
    with (
        reader.connect() as connection,
        as_app(warehouse, state).connect(options="-c lock_timeout=5s") as publisher,
    ):
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        assert shown(connection) == everywhere(1)

        for mark in range(2, 6):
            publish(publisher, DAYS[1], mark, keep=2)
        roll_back(publisher, "a run", keep=2)

        assert kept(publisher) == [{4, 5}] * len(VIEWS)  # what the reader looks at is removed
        assert shown(connection) == everywhere(1)  # but not for the reader
        connection.commit()
        assert shown(connection) == everywhere(4)


def test_a_view_of_the_users_own_grants_and_owners_outlive_publications(
    app: psycopg.Connection[Any], warehouse: Login, state: State, reader: Login
) -> None:
    publish(app, DAYS[0], 1)
    described = (
        "select oid, relname, relowner, relacl::text from pg_class where relkind in ('v', 'r') and relnamespace in "
        "('daily_operations'::regnamespace, 'daily_operations_snapshots'::regnamespace, 'public'::regnamespace)"
    )
    with warehouse.connect(autocommit=True) as admin:
        admin.execute(
            "create view public.report as "
            "select total_quantity_sold, quantity_on_hand from daily_operations.admission_by_entrance "
            "cross join daily_operations.items_to_order"
        )
        admin.execute(f"grant select on public.report to {READER}".encode())
        admin.execute(f"grant insert on daily_operations.items_to_order to {READER} with grant option".encode())
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

    told = "The views of daily_operations show 2023-08-03: to publish the older 2023-08-02, set the param allow_older."
    with pytest.raises(PermanentError) as refused:
        publish_views(app, older, DAYS[1], Run("update", "a run"), keep=7)
    assert str(refused.value) == told
    with pytest.raises(PermanentError) as refused:
        refuse_older(app, DAYS[1])
    assert str(refused.value) == told
    app.rollback()
    assert shown(app) == everywhere(1)

    publish_views(app, older, DAYS[1], Run("update", "a run"), keep=7, allow_older=True)
    assert shown(app) == everywhere(2)


@pytest.mark.parametrize("day", [DAYS[2], DAYS[3]], ids=["the same day", "a later day"])
def test_no_other_day_is_refused(app: psycopg.Connection[Any], day: date) -> None:
    refuse_older(app, date.min)  # nothing is published yet
    publish(app, DAYS[2], 1)

    refuse_older(app, day)
    publish(app, day, 2)

    assert shown(app) == everywhere(2)


def test_what_was_rolled_back_is_no_later_day_any_more(app: psycopg.Connection[Any]) -> None:
    publish(app, DAYS[0], 1)
    publish(app, DAYS[2], 2)
    roll_back(app, "a run")

    publish(app, DAYS[1], 3)

    assert shown(app) == everywhere(3)


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [(DAYS[0], DAYS[1], 2), (DAYS[1], DAYS[1], 2), (DAYS[1], DAYS[0], 1)],
    ids=["a later day", "the same day", "an older day, which is refused only now"],
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
        publish_views(app, batch_id, first, Run("update", "run 1"), keep=7)
        refused = executor.submit(publish_second)
        await_blocked(warehouse)
        app.commit()
        assert ("set the param allow_older" in refused.result()) == (result == 1)

    assert shown(app) == everywhere(result)
    assert len(history(app)) == result


def test_a_rollback_and_a_publisher_take_turns(app: psycopg.Connection[Any], warehouse: Login, state: State) -> None:
    for number in (0, 1):
        publish(app, DAYS[number], number)

    def publish_next() -> None:
        with as_app(warehouse, state).connect() as connection:
            publish(connection, DAYS[2], 2)

    with ThreadPoolExecutor(1) as executor:
        roll_back_views(app, None, Run("rollback", "a run"), keep=7)
        published = executor.submit(publish_next)
        await_blocked(warehouse)
        app.commit()
        published.result()

    assert shown(app) == everywhere(2)
    assert [line[-1] for line in history(app)] == [0, 0, 1, 0]


def test_a_batch_without_snapshots_publishes_nothing(app: psycopg.Connection[Any]) -> None:
    published = publish(app, DAYS[0], 1, keep=2)
    batch_id = uuid4()

    with pytest.raises(PermanentError) as refused:
        publish_views(app, batch_id, DAYS[1], Run("update", "a run"), keep=2)

    assert str(refused.value) == (
        f"There are no snapshots of batch {batch_id} of 2023-08-02 (the last 2 published ones are kept): "
        "run the day again."
    )
    app.rollback()
    assert shown(app) == everywhere(1)
    assert history(app) == [(DAYS[0], published, "update", "run 1", True, 0)]


def test_a_view_that_rightly_has_no_rows_is_published_with_the_others(app: psycopg.Connection[Any]) -> None:
    publish(app, DAYS[0], 1)
    batch_id = stage(app, DAYS[1], 2, only=[view for view in VIEWS if view != "items_to_order"])

    assert publish_views(app, batch_id, DAYS[1], Run("update", "run 2"), keep=7) == 6

    assert shown(app) == [2, 0, 2, 2]


def test_the_last_published_batches_stay_and_what_is_under_way(app: psycopg.Connection[Any]) -> None:
    stage(app, DAYS[0], -1)  # a gate closed on it, long ago
    publish(app, DAYS[0], 1, keep=3)
    publish(app, DAYS[1], 2, keep=3)
    assert kept(app) == [{-1, 1, 2}] * len(VIEWS)  # as long as there are not so many, all stays

    publish(app, DAYS[1], 3, keep=3)
    assert kept(app) == [{1, 2, 3}] * len(VIEWS)
    app.commit()  # what is loaded from here on was not loaded before those were published
    stage(app, DAYS[2], -2)
    publish(app, DAYS[2], 4, keep=3)

    assert kept(app) == [{2, 3, 4, -2}] * len(VIEWS)
    publish(app, DAYS[2], 5, keep=2)  # from now on fewer; and what two publications overtook is given up
    assert kept(app) == [{4, 5}] * len(VIEWS)


def test_a_batch_that_was_gone_back_to_is_among_the_last(app: psycopg.Connection[Any]) -> None:
    for mark in (1, 2, 3):
        publish(app, DAYS[mark], mark, keep=3)
    for run_id in ("first", "second"):
        roll_back(app, run_id, keep=3)

    publish(app, DAYS[4], 4, keep=2)

    assert kept(app) == [{1, 4}] * len(VIEWS)
    assert shown(app) == everywhere(4)


def test_rolling_back_goes_one_publication_further_each_time(app: psycopg.Connection[Any], reader: Login) -> None:
    batches = [publish(app, DAYS[number], number) for number in range(3)]

    with reader.connect(autocommit=True) as connection:
        assert roll_back(app, "first") == (DAYS[1], batches[1], 2 * len(VIEWS))
        assert shown(connection) == everywhere(1)
        assert roll_back(app, "second") == (DAYS[0], batches[0], 2 * len(VIEWS))
        assert shown(connection) == everywhere(0)

    for view in VIEWS:
        assert history(app, view)[3:] == [
            (DAYS[1], batches[1], "rollback", "first", False, 2),  # it went back to the second publication
            (DAYS[0], batches[0], "rollback", "second", True, 1),
        ]


def test_a_retry_of_a_rollback_does_not_go_back_once_more(app: psycopg.Connection[Any]) -> None:
    batches = [publish(app, DAYS[number], number) for number in range(3)]
    roll_back(app, "a run")
    before = history(app)

    assert roll_back(app, "a run") == (DAYS[1], batches[1], 2 * len(VIEWS))

    assert history(app) == before
    assert shown(app) == everywhere(1)


def test_a_day_asked_for_is_gone_back_to_in_its_last_publication(app: psycopg.Connection[Any]) -> None:
    for mark, day in enumerate([DAYS[0], DAYS[1], DAYS[1], DAYS[2], DAYS[3]]):
        publish(app, day, mark)

    assert roll_back(app, "first", day=DAYS[1])[0] == DAYS[1]
    assert shown(app) == everywhere(2)
    assert roll_back(app, "first", day=DAYS[1])[0] == DAYS[1]  # a retry
    assert shown(app) == everywhere(2)
    roll_back(app, "second", day=DAYS[1])  # the same day, as it was published before
    assert shown(app) == everywhere(1)


def test_publishing_after_a_rollback_goes_forward_again(app: psycopg.Connection[Any]) -> None:
    publish(app, DAYS[0], 1)
    batch_id = publish(app, DAYS[1], 2)
    roll_back(app, "a run")

    # The publish task cleared: its batch was published before, and is again.
    publish_views(app, batch_id, DAYS[1], Run("update", "run 2"), keep=7)
    assert shown(app) == everywhere(2)
    app.commit()
    roll_back(app, "another run")
    assert shown(app) == everywhere(1)


@pytest.mark.parametrize("keep", [3, 7])
def test_a_rollback_goes_back_to_what_readers_saw_and_not_to_what_was_withdrawn(
    app: psycopg.Connection[Any], keep: int
) -> None:
    for mark in (1, 2, 3):
        publish(app, DAYS[mark], mark, keep=keep)
    roll_back(app, "first", keep=keep)  # 3 was bad
    publish(app, DAYS[4], 4, keep=keep)

    roll_back(app, "second", keep=keep)
    assert shown(app) == everywhere(2)  # as readers did before 4, though it is not the publication before

    if keep == 7:
        roll_back(app, "third", keep=keep)
        assert shown(app) == everywhere(1)


NEVER = "The views of daily_operations have no earlier publication{} to go back to."


@pytest.mark.parametrize(
    ("published", "day", "message"),
    [
        ([], None, NEVER.format("")),
        ([DAYS[0]], None, NEVER.format("")),
        ([DAYS[0]], DAYS[0], NEVER.format(" of 2023-08-01")),
        ([DAYS[0], DAYS[1]], DAYS[2], NEVER.format(" of 2023-08-03")),
        ([DAYS[0], DAYS[1]], DAYS[1], NEVER.format(" of 2023-08-02")),
    ],
    ids=["no publication", "only one", "only one of the day", "none of the day", "what is shown is the only one"],
)
def test_without_an_earlier_publication_there_is_nothing_to_go_back_to(
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


def test_what_is_not_kept_any_more_cannot_be_gone_back_to(app: psycopg.Connection[Any]) -> None:
    first = publish(app, DAYS[0], 0, keep=2)
    for mark in (1, 2):
        publish(app, DAYS[mark], mark, keep=2)
    before = history(app)

    with pytest.raises(PermanentError) as refused:
        roll_back(app, "a run", DAYS[0], keep=2)

    assert str(refused.value).startswith(
        f"There are no snapshots of batch {first} of 2023-08-01 (the last 2 published ones are kept)"
    )
    app.rollback()
    assert (shown(app), history(app)) == (everywhere(2), before)
    assert roll_back(app, "a run", keep=2)[0] == DAYS[1]  # what is kept, can


@pytest.fixture
def fifth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warehouse: Login) -> Callable[[], None]:
    """Give what adds a fifth view to the four."""
    folder = Path(shutil.copytree(views.FOLDER, tmp_path / "daily_operations"))

    def add() -> None:
        (folder / "zoo.sql").write_text("SELECT %(as_of)s::date AS day")
        monkeypatch.setattr(views, "FOLDER", folder)
        with warehouse.connect() as admin:
            ensure_views(admin)

    return add


def test_a_view_that_the_earlier_publication_did_not_have_is_told(
    app: psycopg.Connection[Any], fifth: Callable[[], None]
) -> None:
    publish(app, DAYS[0], 0)
    fifth()
    batch_id = publish(app, DAYS[1], 1)
    before = history(app)

    with pytest.raises(PermanentError) as refused:
        roll_back(app, "a run")

    assert str(refused.value) == (
        "The views of daily_operations were not all published together before: "
        + "".join(f"{view}: 2023-08-01, " for view in VIEWS)
        + "zoo: never. Run daily_operations_view_update for the day that you want, with allow_older."
    )
    app.rollback()
    assert (shown(app), history(app)) == (everywhere(1), before)
    assert history(app, "zoo") == [(DAYS[1], batch_id, "update", "run 1", True, 0)]


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_a_rollback_that_ends_before_its_commit_changes_nothing(
    app: psycopg.Connection[Any], warehouse: Login, state: State, end: str
) -> None:
    for mark in (1, 2):
        publish(app, DAYS[mark], mark)
    before = history(app)
    app.commit()

    def begin(here: Callable[[int], None]) -> None:
        with as_app(warehouse, state).connect() as connection:
            roll_back_views(connection, None, Run("rollback", "a run"), keep=7)
            here(connection.info.backend_pid)

    if end == "killed":
        kill_midway(warehouse, begin)
    else:
        with pytest.raises(psycopg.OperationalError):
            begin(lambda pid: terminate(warehouse, pid))

    assert (shown(app), history(app)) == (everywhere(2), before)
    roll_back(app, "a run")  # nothing of the dead is in the way
    assert shown(app) == everywhere(1)
