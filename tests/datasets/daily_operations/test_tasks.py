"""What each task of daily_operations_view_update does beside calling the functions that other tests look at."""

from datetime import UTC, date, datetime, timedelta, timezone
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.datasets.daily_operations import tasks
from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.pipeline.batch import Batch, batch_id
from local.login import Login
from local.state import State
from tests.datasets.daily_operations.resort import (
    DAY,
    GOOD,
    ORDERS,
    RESORT,
    VIEWS,
    Rows,
    as_app,
    expectations,
    fill,
    refresh,
    stage,
    staging_table,
    visible,
)
from tests.include.warehouse.airflow_connections import give
from tests.toy.batches import TaskInstance

INTERVAL = datetime(2023, 7, 28, 12, tzinfo=UTC)
AFTER = datetime(2023, 8, 2, 12, tzinfo=UTC)
FUTURE = datetime.now(UTC).date() + timedelta(days=2)  # still in the future if midnight passes meanwhile


def run(interval_start: datetime | None = None, after: datetime = AFTER, run_id: str = "a run") -> SimpleNamespace:
    return SimpleNamespace(
        dag_id="daily_operations_view_update",
        run_id=run_id,
        data_interval_start=interval_start,
        run_after=after,
    )


def params(as_of: object = None, allow_older: bool = False) -> dict[str, object]:
    return {"as_of": as_of, "allow_older": allow_older}


def as_batch(batch_id: UUID, day: date = DAY) -> Batch:
    """Return a batch as the `start` task of its run would."""
    return Batch(
        dataset=RESORT.name,
        day=day.isoformat(),
        batch_id=str(batch_id),
        publishes=RESORT.published_names,
        params={},
    )


@pytest.fixture(autouse=True)
def reports(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Set up the tasks with the known views and their connection; return the folder of their reports."""
    monkeypatch.setattr(tasks, "DAILY_OPERATIONS", RESORT)
    give(monkeypatch, DAILY_OPERATIONS.connection, as_app(warehouse, state))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))
    return tmp_path / "reports"


@pytest.mark.parametrize(
    ("asked", "interval_start", "after", "day"),
    [
        ("2023-07-03", INTERVAL, AFTER, "2023-07-03"),
        (None, INTERVAL, AFTER, "2023-07-28"),
        ("", INTERVAL, AFTER, "2023-07-28"),
        # In UTC it is the next day.
        (None, datetime(2023, 7, 28, 20, tzinfo=timezone(timedelta(hours=-8))), AFTER, "2023-07-29"),
        (None, None, AFTER, "2023-08-01"),
        ("", None, datetime(2023, 1, 1, 0, tzinfo=UTC), "2022-12-31"),
        # In UTC it is still the day before.
        (None, None, datetime(2023, 8, 2, 3, tzinfo=timezone(timedelta(hours=9))), "2023-07-31"),
    ],
)
def test_the_day_is_the_params_else_the_intervals_else_the_one_before_the_run(
    asked: object, interval_start: datetime | None, after: datetime, day: str
) -> None:
    dag_run = run(interval_start, after)
    batch_day = date.fromisoformat(day)
    assert tasks.open_batch(dag_run, params(asked)) == as_batch(
        batch_id(dag_run, "daily_operations", batch_day), batch_day
    )


@pytest.mark.parametrize(
    ("as_of", "message"),
    [
        (FUTURE.isoformat(), f"The day is {FUTURE}, which is in the future: give today or a day before."),
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


def publish(app: psycopg.Connection[Any], day: date, mark: int, run_id: str = "another run") -> UUID:
    batch = stage(app, day, mark)
    tasks.publish_views(as_batch(batch, day), run(run_id=run_id), params(), OutletEventAccessors())
    return batch


def test_a_day_older_than_the_published_one_is_refused_before_anything_is_refreshed(
    app: psycopg.Connection[Any],
) -> None:
    publish(app, date(2023, 8, 2), 1)

    with pytest.raises(AirflowFailException, match="show 2023-08-02: to publish the older 2023-08-01, set the param"):
        tasks.open_batch(run(), params("2023-08-01"))

    for given in (params("2023-08-02"), params("2023-08-03"), params("2023-08-01", allow_older=True)):
        assert tasks.open_batch(run(), given)["day"] == given["as_of"]


def test_a_run_keeps_its_batch_until_it_is_published(app: psycopg.Connection[Any]) -> None:
    def opened(run_id: str = "a run") -> UUID:
        return UUID(tasks.open_batch(run(run_id=run_id), params())["batch_id"])

    first = opened()
    assert opened() == first  # a retry, or cleared before anything was published
    assert opened("another run") != first

    app.execute(f"insert into {staging_table(ORDERS)} values (%s, now(), %s, 'Coffee', 1)".encode(), [first, DAY])
    app.commit()
    tasks.publish_views(as_batch(first), run(), params(), OutletEventAccessors())
    second = opened()
    assert second != first
    assert opened() == second


def refreshed(app: psycopg.Connection[Any], warehouse: Login, **source: Rows) -> Batch:
    """Refresh all views of the good source rows, apart from these tables."""
    with warehouse.connect() as admin:
        fill(admin, **{**GOOD, **source})
    return as_batch(refresh(app))


def test_views_that_pass_push_their_outcome_and_the_page_of_their_report(
    app: psycopg.Connection[Any], warehouse: Login, reports: Path
) -> None:
    batch, ti = refreshed(app, warehouse), TaskInstance()

    tasks.validate_views(batch, ti)

    page = Path(ti.pushed["return_value"].pop("report").removeprefix("file://"))
    assert ti.pushed == {
        "return_value": {
            "checkpoint": "daily_operations",
            "verdict": "passed",
            "passed": len(expectations()),
            "failed": 0,
        }
    }
    stored = app.execute("select suite from quality.validation where batch_id = %s", [batch["batch_id"]]).fetchall()
    assert sorted(suite for (suite,) in stored) == VIEWS
    assert page.is_relative_to(reports / "daily_operations" / DAY.isoformat())
    text = unescape(page.read_text())
    assert [name for view, name, _ in expectations() if view not in text or name not in text] == []


def test_one_bad_view_closes_the_gate_and_the_views_show_what_they_showed(
    app: psycopg.Connection[Any], warehouse: Login, caplog: pytest.LogCaptureFixture
) -> None:
    publish(app, date(2023, 7, 31), 1)
    inventory = [(DAY, "Coffee", -5, True), (DAY, "Map", 3, False)]
    batch, ti = refreshed(app, warehouse, inventory=inventory), TaskInstance()

    with pytest.raises(AirflowFailException) as raised:
        tasks.validate_views(batch, ti)

    pushed = ti.pushed["return_value"]
    assert pushed.pop("report")
    assert pushed == {
        "checkpoint": "daily_operations",
        "verdict": "failed",
        "passed": len(expectations()) - 1,
        "failed": 1,
    }
    failure = "critical: items_to_order: quantities are not negative: observed 1\n    "
    assert f"nothing of batch {batch['batch_id']} is published, readers see what they saw" in str(raised.value)
    assert failure in str(raised.value)
    assert "item_name=Coffee, quantity_on_hand=-5" in str(raised.value)
    assert [each.levelname for each in caplog.records if failure in each.getMessage()] == ["ERROR"]
    assert visible(app) == [1] * len(VIEWS)


def test_a_warning_lets_the_views_through(app: psycopg.Connection[Any], warehouse: Login) -> None:
    attendance = [(DAY, "Gate", "1.00", 20001)]
    batch, ti = refreshed(app, warehouse, guest_attendance=attendance), TaskInstance()

    tasks.validate_views(batch, ti)

    pushed = ti.pushed["return_value"]
    assert (pushed["verdict"], pushed["passed"], pushed["failed"]) == ("warned", len(expectations()) - 1, 1)


def test_a_day_without_any_source_rows_closes_the_gate(app: psycopg.Connection[Any], warehouse: Login) -> None:
    """Other days have rows: an empty day means that a source is not filled yet."""
    with warehouse.connect() as admin:
        fill(admin, **GOOD)
    day = date(2023, 8, 2)

    with pytest.raises(AirflowFailException) as raised:
        tasks.validate_views(as_batch(refresh(app, day), day), TaskInstance())

    for failure in (
        "admission_by_entrance: the day has admissions",
        "items_to_order: the inventory of the day was counted",
        "top_selling_items_by_location: the day has sales",
        "ytd_labor_metrics: labor has the run's day",
    ):
        assert f"critical: {failure}" in str(raised.value)


def test_publishing_returns_what_was_published_however_often_it_is_tried(app: psycopg.Connection[Any]) -> None:
    batch = as_batch(stage(app, DAY, 1, rows=3))

    for _ in range(2):
        assert tasks.publish_views(batch, run(), params(), OutletEventAccessors()) == {
            "object": "daily_operations",
            "day": "2023-08-01",
            "batch_id": batch["batch_id"],
            "rows": 3 * len(VIEWS),
        }

    assert visible(app) == [1] * len(VIEWS)
    registered = app.execute("select object, day, batch_id::text, dag_id, run_id from warehouse.publication").fetchall()
    assert sorted(registered) == [
        (name, DAY, batch["batch_id"], "daily_operations_view_update", "a run") for name in RESORT.published_names
    ]


def test_a_day_that_became_older_during_the_run_is_not_published(app: psycopg.Connection[Any]) -> None:
    batch = as_batch(stage(app, DAY, 2))
    publish(app, date(2023, 8, 2), 1)

    with pytest.raises(AirflowFailException, match="set the param allow_older"):
        tasks.publish_views(batch, run(), params(), OutletEventAccessors())
    assert visible(app) == [1] * len(VIEWS)
    app.rollback()

    assert tasks.publish_views(batch, run(), params(allow_older=True), OutletEventAccessors())["rows"] == 2 * len(VIEWS)
    assert visible(app) == [2] * len(VIEWS)


def test_a_batch_that_was_never_refreshed_is_not_published(app: psycopg.Connection[Any]) -> None:
    publish(app, DAY, 1)

    with pytest.raises(AirflowFailException, match=r"Batch .* is not in staging .*: run the day again"):
        tasks.publish_views(as_batch(uuid4()), run(), params(), OutletEventAccessors())

    assert visible(app) == [1] * len(VIEWS)


@pytest.mark.parametrize("task", ["validate_views", "publish_views"])
def test_a_view_that_was_added_during_the_run_is_not_published_unchecked(
    app: psycopg.Connection[Any], task: str
) -> None:
    batch = as_batch(stage(app, DAY, 1))
    batch["publishes"] = batch["publishes"][1:]
    arguments: tuple[Any, ...] = (
        (TaskInstance(),) if task == "validate_views" else (run(), params(), OutletEventAccessors())
    )

    with pytest.raises(AirflowFailException, match="now: clear the run from its start task on"):
        getattr(tasks, task)(batch, *arguments)
