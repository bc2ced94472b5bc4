"""What each task of daily_operations_view_update does beside calling the functions that other tests look at."""

import logging
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from include.airflow_edge import batch_id
from include.daily_operations import tasks, views
from include.daily_operations.publish import publish_views
from include.daily_operations.tasks import Batch
from include.daily_operations.views import SNAPSHOTS
from tests.include.daily_operations.resort import (
    DAY,
    GOOD,
    MARKS,
    VIEWS,
    Rows,
    as_app,
    expectations,
    fill,
    refresh,
    shown,
    stage,
)

from include.warehouse.connections import DAILY_OPERATIONS
from include.warehouse.register import Run
from local.login import Login
from local.state import State
from tests.include.quality.batches import TaskInstance
from tests.include.warehouse.airflow_connections import give

EXPECTATIONS = len(expectations())
INTERVAL = datetime(2023, 7, 28, 12, tzinfo=UTC)
AFTER = datetime(2023, 8, 2, 12, tzinfo=UTC)
FUTURE = datetime.now(UTC).date() + timedelta(days=2)  # still so if midnight passes meanwhile


def run(interval_start: datetime | None = None, after: datetime = AFTER, run_id: str = "a run") -> SimpleNamespace:
    return SimpleNamespace(
        dag_id="daily_operations_view_update",
        run_id=run_id,
        data_interval_start=interval_start,
        run_after=after,
    )


def params(as_of: object = None, allow_older: bool = False) -> dict[str, object]:
    return {"as_of": as_of, "allow_older": allow_older}


@pytest.fixture(autouse=True)
def reports(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the tasks their connection, and the folder where their reports go."""
    give(monkeypatch, DAILY_OPERATIONS, as_app(warehouse, state))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))
    return tmp_path / "reports"


def test_the_day_is_the_params_else_the_intervals_else_the_one_before_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    west, east = timezone(timedelta(hours=-8)), timezone(timedelta(hours=9))
    for asked, interval_start, after, day in (
        ("2023-07-03", INTERVAL, AFTER, "2023-07-03"),
        (None, INTERVAL, AFTER, "2023-07-28"),
        ("", INTERVAL, AFTER, "2023-07-28"),
        (None, datetime(2023, 7, 28, 20, tzinfo=west), AFTER, "2023-07-29"),  # in UTC it is the day after
        (None, None, AFTER, "2023-08-01"),
        ("", None, datetime(2023, 1, 1, 0, tzinfo=UTC), "2022-12-31"),
        (None, None, datetime(2023, 8, 2, 3, tzinfo=east), "2023-07-31"),  # in UTC it is still the day before
    ):
        dag_run = run(interval_start, after)
        opened = tasks.open_batch(dag_run, params(asked))
        assert opened == {"as_of": day, "batch_id": str(batch_id(dag_run)), "views": VIEWS}

    with caplog.at_level(logging.INFO, logger="include.daily_operations.tasks"):
        tasks.open_batch(run(), params())
    assert f"Refreshing {', '.join(VIEWS)} as of 2023-08-01" in caplog.messages


@pytest.mark.parametrize(
    ("as_of", "message"),
    [
        (FUTURE.isoformat(), f"as_of is {FUTURE}, which is in the future: give today or a day before."),
        ("20230801", "as_of is '20230801': give a date as YYYY-MM-DD"),
        ("2023-02-29", "as_of is '2023-02-29': give a date as YYYY-MM-DD"),
        ("yesterday", "as_of is 'yesterday': give a date as YYYY-MM-DD"),
        (20230801, "as_of is 20230801: give a date as YYYY-MM-DD"),
        ("2023-08-01'; drop table labor --", "give a date as YYYY-MM-DD"),
    ],
)
def test_a_day_that_cannot_be_refreshed_fails_at_once(as_of: object, message: str) -> None:
    with pytest.raises(AirflowFailException) as raised:
        tasks.open_batch(run(), params(as_of))

    assert message in str(raised.value)


def published(app: psycopg.Connection[Any], day: date, run_id: str = "another run", mark: int = 1) -> UUID:
    batch = stage(app, day, mark)
    publish_views(app, batch, day, Run("daily_operations_view_update", run_id), keep=7)
    app.commit()
    return batch


def test_a_day_older_than_the_published_one_is_refused_before_anything_is_refreshed(
    app: psycopg.Connection[Any],
) -> None:
    published(app, date(2023, 8, 2))

    with pytest.raises(AirflowFailException, match="show 2023-08-02: to publish the older 2023-08-01, set the param"):
        tasks.open_batch(run(), params("2023-08-01"))

    for given in (params("2023-08-02"), params("2023-08-03"), params("2023-08-01", allow_older=True)):
        assert tasks.open_batch(run(), given)["as_of"] == given["as_of"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nonesuch", r'include/daily_operations/labor_costs\.sql: column "nonesuch" does not exist'),
        ("SELECT 1 AS one", "View labor_costs has no table .* yet: run the DAG warehouse_migrations"),
    ],
)
def test_a_view_that_cannot_be_refreshed_fails_before_anything_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, query: str, message: str
) -> None:
    for view in VIEWS:
        (tmp_path / f"{view}.sql").write_text((views.FOLDER / f"{view}.sql").read_text())
    (tmp_path / "labor_costs.sql").write_text(query)
    monkeypatch.setattr(views, "FOLDER", tmp_path)

    with pytest.raises(AirflowFailException, match=message):
        tasks.open_batch(run(), params())


def test_a_run_keeps_its_batch_until_that_is_published(app: psycopg.Connection[Any]) -> None:
    def opened(run_id: str = "a run") -> UUID:
        return UUID(tasks.open_batch(run(run_id=run_id), params())["batch_id"])

    def publish(batch: UUID) -> None:
        app.execute(f"insert into {SNAPSHOTS}.items_to_order select %s, now(), %s, 'Coffee', 1".encode(), [batch, DAY])
        publish_views(app, batch, DAY, Run("daily_operations_view_update", "a run"), keep=7)
        app.commit()

    first = opened()
    assert opened() == first  # a retry, or cleared before anything was published
    assert opened("another run") != first

    publish(first)
    second = opened()
    assert second != first
    assert opened() == second

    publish(second)
    third = opened()
    assert third not in (first, second)
    assert opened() == third


def refreshed(app: psycopg.Connection[Any], warehouse: Login, **source: Rows) -> Batch:
    """Refresh all views of the good source rows, but for these tables."""
    with warehouse.connect() as admin:
        fill(admin, **{**GOOD, **source})
    return Batch(as_of=DAY.isoformat(), batch_id=str(refresh(app)), views=VIEWS)


def test_views_that_pass_push_their_outcome(app: psycopg.Connection[Any], warehouse: Login, reports: Path) -> None:
    batch, ti = refreshed(app, warehouse), TaskInstance("daily_operations_view_update")

    tasks.validate_views(batch, ti)

    report = ti.pushed["return_value"].pop("report")
    assert ti.pushed == {
        "return_value": {
            "checkpoint": "daily_operations",
            "verdict": "passed",
            "passed": EXPECTATIONS,
            "failed": 0,
        }
    }
    stored = app.execute(
        "select id, suite from quality.validation where batch_id = %s order by id", [batch["batch_id"]]
    ).fetchall()
    assert [suite for _, suite in stored] == VIEWS
    page = Path(report.removeprefix("file://"))
    assert page == reports / "daily_operations" / DAY.isoformat() / f"{stored[0][0]}.html"
    text = page.read_text()
    assert [view for view in VIEWS if view not in text] == []
    assert "items and quantities are those that inventory marks for ordering" in text


def test_one_bad_view_closes_the_gate_and_the_views_show_what_they_showed(
    app: psycopg.Connection[Any], warehouse: Login, caplog: pytest.LogCaptureFixture
) -> None:
    published(app, date(2023, 7, 31))
    inventory = [(DAY, "Coffee", -5, True), (DAY, "Map", 3, False)]
    batch, ti = refreshed(app, warehouse, inventory=inventory), TaskInstance("daily_operations_view_update")

    with pytest.raises(AirflowFailException) as raised:
        tasks.validate_views(batch, ti)

    pushed = ti.pushed["return_value"]
    assert pushed.pop("report")
    assert pushed == {
        "checkpoint": "daily_operations",
        "verdict": "failed",
        "passed": EXPECTATIONS - 1,
        "failed": 1,
    }
    told = "critical: items_to_order: quantities are not negative: observed 1\n    "
    assert f"nothing of batch {batch['batch_id']} is published, readers see what they saw" in str(raised.value)
    assert told in str(raised.value)
    assert "item_name=Coffee, quantity_on_hand=-5" in str(raised.value)
    assert [each.levelname for each in caplog.records if told in each.getMessage()] == ["ERROR"]
    assert shown(app) == [1] * len(VIEWS)


def test_a_warning_lets_the_views_through(app: psycopg.Connection[Any], warehouse: Login) -> None:
    attendance = [(DAY, "Gate", "1.00", 20001)]
    batch, ti = refreshed(app, warehouse, guest_attendance=attendance), TaskInstance("daily_operations_view_update")

    tasks.validate_views(batch, ti)

    pushed = ti.pushed["return_value"]
    assert (pushed["verdict"], pushed["passed"], pushed["failed"]) == ("warned", EXPECTATIONS - 1, 1)


def test_a_day_of_which_the_sources_hold_nothing_closes_the_gate(
    app: psycopg.Connection[Any], warehouse: Login
) -> None:
    """Though others are there: a source that is not filled yet is no day without guests."""
    with warehouse.connect() as admin:
        fill(admin, **GOOD)
    batch = Batch(as_of="2023-08-02", batch_id=str(refresh(app, date(2023, 8, 2))), views=VIEWS)

    with pytest.raises(AirflowFailException) as raised:
        tasks.validate_views(batch, TaskInstance("daily_operations_view_update"))

    for told in (
        "admission_by_entrance: the day has admissions",
        "items_to_order: the inventory of the day was counted",
        "top_selling_items_by_location: the day has sales",
        "ytd_labor_metrics: labor has the run's day",
    ):
        assert f"critical: {told}" in str(raised.value)


def test_a_view_without_a_suite_is_not_let_through(
    app: psycopg.Connection[Any], warehouse: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {**refreshed(app, warehouse), "views": [*VIEWS, "labor_costs"]}
    monkeypatch.setattr(tasks, "views", lambda: [*VIEWS, "labor_costs"])

    with pytest.raises(AirflowFailException, match=r"labor_costs has no suite: write .*/labor_costs\.json"):
        tasks.validate_views(cast(Batch, batch), TaskInstance("daily_operations_view_update"))


def test_publishing_gives_what_was_published_however_often_it_is_tried(app: psycopg.Connection[Any]) -> None:
    batch = Batch(as_of="2023-08-01", batch_id=str(stage(app, DAY, 1, rows=3)), views=VIEWS)

    for _ in range(2):
        assert tasks.publish_views(batch, run(), params()) == {
            "object": "daily_operations",
            "day": "2023-08-01",
            "batch_id": batch["batch_id"],
            "rows": 12,
        }

    assert shown(app) == [1] * len(VIEWS)
    registered = app.execute("select object, day, batch_id::text, dag_id, run_id from warehouse.publication").fetchall()
    assert sorted(registered) == [
        (f"daily_operations.{view}", DAY, batch["batch_id"], "daily_operations_view_update", "a run") for view in VIEWS
    ]


def test_a_day_that_became_older_while_the_run_went_on_is_not_published(app: psycopg.Connection[Any]) -> None:
    batch = Batch(as_of="2023-08-01", batch_id=str(stage(app, DAY, 2)), views=VIEWS)
    published(app, date(2023, 8, 2))

    with pytest.raises(AirflowFailException, match="set the param allow_older"):
        tasks.publish_views(batch, run(), params())
    assert shown(app) == [1] * len(VIEWS)
    app.rollback()

    assert tasks.publish_views(batch, run(), params(allow_older=True))["rows"] == 8
    assert shown(app) == [2] * len(VIEWS)


def test_a_batch_that_was_never_refreshed_is_not_published(app: psycopg.Connection[Any]) -> None:
    published(app, DAY)

    with pytest.raises(AirflowFailException, match=r"There are no snapshots of batch .*: run the day again"):
        tasks.publish_views(Batch(as_of="2023-08-01", batch_id=str(UUID(int=1)), views=VIEWS), run(), params())

    assert shown(app) == [1] * len(VIEWS)


def test_as_many_batches_stay_as_the_deployment_wants(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", "2")
    for mark in (1, 2, 3):
        batch = Batch(as_of="2023-08-01", batch_id=str(stage(app, DAY, mark)), views=VIEWS)
        tasks.publish_views(batch, run(run_id=f"run {mark}"), params())

    for view, column in MARKS.items():
        marks = app.execute(f"select distinct {column}::int from {SNAPSHOTS}.{view} order by 1".encode()).fetchall()
        assert marks == [(2,), (3,)]


@pytest.mark.parametrize("task", ["validate_views", "publish_views"])
def test_a_view_that_came_meanwhile_is_not_published_unchecked(app: psycopg.Connection[Any], task: str) -> None:
    batch = Batch(as_of="2023-08-01", batch_id=str(stage(app, DAY, 1)), views=VIEWS[1:])
    arguments: tuple[Any, ...] = (
        (TaskInstance("daily_operations_view_update"),) if task == "validate_views" else (run(), params())
    )

    with pytest.raises(AirflowFailException, match=f"are {', '.join(VIEWS)} now: clear it from its start task on"):
        getattr(tasks, task)(batch, *arguments)
