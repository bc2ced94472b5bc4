"""Opening a batch: which day it is for, under which key it is staged, and when it is not begun at all."""

import logging
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from include.dataset import View
from include.errors import NothingToDo, PermanentError
from include.pipeline.batch import Batch, batch_day, batch_id, key_of, open_batch
from include.warehouse.connections import connect
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.toy import READINGS, ROLLUPS, TOYS, batches, view_batches

DAY = date(2023, 8, 1)
SUNDAY = date(2023, 8, 6)
TODAY = datetime.now(UTC).date()
AFTER = datetime(2023, 8, 2, 12, tzinfo=UTC)


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both toys reach the warehouse through their connections."""
    for dataset in TOYS:
        give(monkeypatch, dataset.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    connect(READINGS.connection).close()  # imports Airflow, which configures logging, before a test reads the log


def run(run_id: str = "a run", interval_start: datetime | None = None, after: datetime = AFTER) -> SimpleNamespace:
    return SimpleNamespace(dag_id="toy_dag", run_id=run_id, data_interval_start=interval_start, run_after=after)


def test_the_key_of_a_batch_is_the_same_on_every_retry_and_machine() -> None:
    # Written down: with another key, a retry after a deployment would leave the rows of the first attempt behind.
    assert batch_id(run("manual__2023-08-01"), "toy", DAY) == UUID("000b45ad-a3b7-55b0-9ca7-73a1c41bd88d")


def test_every_run_has_a_key_of_its_own() -> None:
    runs = [SimpleNamespace(dag_id=dag, run_id=run) for dag in ("a", "b", "a/b") for run in ("c", "b/c", "d")]

    # Airflow's ids have no slash; the only two that could be mistaken for each other are those with one.
    assert len({batch_id(run, "toy", DAY) for run in runs if (run.dag_id, run.run_id) != ("a", "b/c")}) == len(runs) - 1


WEST, EAST = timezone(timedelta(hours=-8)), timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    ("value", "interval_start", "day"),
    [
        ("2023-07-03", datetime(2023, 7, 28, 12, tzinfo=UTC), date(2023, 7, 3)),
        (None, datetime(2023, 7, 28, 12, tzinfo=UTC), date(2023, 7, 28)),
        ("", datetime(2023, 7, 28, 12, tzinfo=UTC), date(2023, 7, 28)),
        (None, datetime(2023, 7, 28, 20, tzinfo=WEST), date(2023, 7, 29)),  # in UTC it is the day after
        (None, datetime(2023, 7, 28, 3, tzinfo=EAST), date(2023, 7, 27)),  # in UTC it is the day before
        (None, None, date(2000, 1, 1)),
        ("", None, date(2000, 1, 1)),
    ],
)
def test_the_day_is_the_params_else_the_intervals_else_what_the_dataset_says(
    value: str | None, interval_start: datetime | None, day: date
) -> None:
    given = []

    def otherwise(run_after: datetime) -> date:
        given.append(run_after)
        return date(2000, 1, 1)

    assert batch_day(run(interval_start=interval_start), "as_of", value, otherwise) == day
    assert given == ([] if value or interval_start else [AFTER])


@pytest.mark.parametrize("value", ["20230801", "2023-02-29", "yesterday", 20230801, "2023-08-01'; drop table labor --"])
def test_a_day_that_is_no_date_is_refused(value: Any) -> None:
    with pytest.raises(PermanentError, match=r"^as_of is .*: give a date as YYYY-MM-DD"):
        batch_day(run(), "as_of", value, lambda _: DAY)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("dataset", TOYS, ids=lambda dataset: dataset.name)
def test_a_batch_is_opened_with_all_that_later_tasks_need(dataset: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="include.pipeline.batch"):
        batch = open_batch(dataset, run(), DAY, {"sensors": ["north"]})

    assert batch == {
        "dataset": dataset.name,
        "day": "2023-08-01",
        "batch_id": str(batch_id(run(), dataset.name, DAY)),
        "publishes": dataset.published_names,
        "params": {"sensors": ["north"]},
    }
    assert key_of(dataset, batch) == (batch_id(run(), dataset.name, DAY), DAY)
    assert f"Batch {batch['batch_id']} of {dataset.name} for 2023-08-01" in caplog.messages


@pytest.mark.usefixtures("connected")
def test_a_run_has_no_params_unless_it_is_given_some() -> None:
    assert open_batch(READINGS, run(), DAY)["params"] == {}


def test_a_day_in_the_future_is_refused() -> None:
    future = TODAY + timedelta(days=2)  # still in the future if midnight passes meanwhile

    with pytest.raises(PermanentError) as refused:
        open_batch(READINGS, run(), future)

    assert str(refused.value) == f"The day is {future}, which is in the future: give today or a day before."


@pytest.mark.usefixtures("connected")
def test_today_is_not_the_future() -> None:
    today = datetime.now(UTC).date()
    assert open_batch(ROLLUPS, run(), today)["day"] == today.isoformat()


def test_a_closed_day_is_nothing_to_do() -> None:
    with pytest.raises(NothingToDo) as nothing:
        open_batch(READINGS, run(), SUNDAY)

    assert str(nothing.value) == "Nothing to load: 2023-08-06 is a Sunday."


@pytest.mark.usefixtures("connected")
def test_views_refuse_an_older_day_before_anything_is_refreshed(app: psycopg.Connection[Any]) -> None:
    view_batches.publish(app, date(2023, 8, 2), 1)

    with pytest.raises(PermanentError, match="show 2023-08-02: to publish the older 2023-08-01, set the param allow_o"):
        open_batch(ROLLUPS, run(), DAY)

    for day, allow_older in ((date(2023, 8, 2), False), (date(2023, 8, 3), False), (DAY, True)):
        assert open_batch(ROLLUPS, run(), day, allow_older=allow_older)["day"] == day.isoformat()


@pytest.mark.usefixtures("connected")
def test_a_table_takes_an_older_day(app: psycopg.Connection[Any]) -> None:
    batches.publish_new(app, 1.0, date(2023, 8, 2))

    assert open_batch(READINGS, run(), DAY)["day"] == "2023-08-01"


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nonesuch", r'^include/datasets/rollups/totals\.sql: column "nonesuch" does not exist'),
        (
            "SELECT 1 AS one",
            r"^include/datasets/rollups/totals\.sql returns other columns than rollups_staging\.totals",
        ),
    ],
)
def test_a_query_that_cannot_be_refreshed_is_refused_before_anything_is(
    tmp_path: Path, query: str, message: str
) -> None:
    folder = Path(shutil.copytree(ROLLUPS.folder, tmp_path / "rollups"))
    (folder / "totals.sql").write_text(query)

    with pytest.raises(PermanentError, match=message):
        open_batch(replace(ROLLUPS, folder=folder), run(), DAY)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("dataset", TOYS, ids=lambda dataset: dataset.name)
def test_a_run_keeps_its_batch_until_that_is_published(app: psycopg.Connection[Any], dataset: Any) -> None:
    def opened(run_id: str = "a run") -> UUID:
        return UUID(open_batch(dataset, run(run_id), DAY)["batch_id"])

    def register(key: UUID) -> None:
        app.execute(
            "insert into warehouse.publication (object, scope, day, batch_id, dag_id, run_id, is_current) "
            "values (%s, 'day', %s, %s, 'toy_dag', 'a run', false)",
            [dataset.published_names[0], DAY, key],
        )
        app.commit()

    first = opened()
    assert opened() == first  # a retry, or cleared before anything was published
    assert opened("another run") != first

    register(first)
    second = opened()
    assert second != first
    assert opened() == second

    register(second)
    third = opened()
    assert third not in (first, second)
    assert opened() == third


def test_a_run_that_began_with_other_views_is_refused() -> None:
    batch = Batch(
        dataset=ROLLUPS.name,
        day="2023-08-01",
        batch_id=str(UUID(int=1)),
        publishes=["rollups.totals"],
        params={},
    )
    more: Any = (*ROLLUPS.publishes, View("more", key=("day",)))

    for now, names in (
        (ROLLUPS, "rollups.busiest, rollups.totals"),
        (replace(ROLLUPS, publishes=more), "rollups.busiest, rollups.totals, rollups.more"),
    ):
        with pytest.raises(PermanentError) as refused:
            key_of(now, batch)
        assert str(refused.value) == (
            f"The run began with rollups.totals, and rollups publishes {names} now: clear the run from its start task "
            "on."
        )
    assert key_of(replace(ROLLUPS, publishes=ROLLUPS.publishes[1:]), batch) == (UUID(int=1), DAY)
