"""The tasks of the dashboard DAG, step by step: reruns, faults in between, and what is archived."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.datasets.analytics import tasks
from include.datasets.analytics.dataset import ANALYTICS, SCHEMA, TABLES
from include.datasets.analytics.targets.warehouse import frames
from include.lake import storage
from include.lake.export import Source, export
from include.pipeline.assets import asset
from include.pipeline.load import load_batch
from include.warehouse.register import Run
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.object_storage import S3

DAY = date(2023, 8, 1)
SALES = [
    (DAY, "Kiosk", 'Tea, "hot"\n😀', 7, "3.20"),
    (DAY, "Kiosk", "Map", 1, "3.50"),
    (date(2023, 7, 31), "Kiosk", "Map", 9, "3.50"),
]
TABLE = "item_sales"
SOURCE, PUBLISHED = TABLES[TABLE].table, f"{SCHEMA}.{TABLE}"


@dataclass
class TaskInstance:
    """What the tasks read and write of their run."""

    run_id: str = "a run"
    dag_id: str = "a_dag"
    task_id: str = "end"
    log_url: str = "http://airflow.example/"
    values: dict[str | None, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def xcom_pull(self, task_ids: str) -> Any:
        return self.values.get(task_ids)

    def xcom_push(self, key: str, value: Any) -> None:
        self.values[key] = value

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        return dict.fromkeys(run_ids, self.states)


@pytest.fixture
def admin(warehouse: Login, state: State, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """Fill the source, and connect as the admin; the tasks connect as the app."""
    give(monkeypatch, ANALYTICS[0].connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    with warehouse.connect(autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.executemany(f"insert into {SOURCE} values (%s, %s, %s, %s, %s)", SALES)
        yield connection


class Branch:
    """One table of one run, a step at a time."""

    def __init__(self, run_id: str = "a run", table: str = TABLE) -> None:
        self.table, self.ti = table, TaskInstance(run_id)
        self.run: Any = SimpleNamespace(dag_id="a_dag", run_id=run_id, data_interval_start=None)
        self.events = OutletEventAccessors()
        self.ti.values["start"] = tasks.decide_day(self.run, {"as_of": f"{DAY}"})

    def extract(self) -> None:
        self.ti.values[f"{self.table}.extract_to_s3"] = tasks.extract_to_s3(self.table, self.run, self.ti)

    def exported(self) -> dict[str, Any]:
        return dict(self.ti.values[f"{self.table}.extract_to_s3"])

    def validate_export(self) -> None:
        tasks.validate_export(self.table, self.ti)

    def load(self) -> None:
        tasks.load_to_warehouse(self.table, self.ti)

    def validate_load(self) -> None:
        tasks.validate_load(self.table, self.ti)

    def publish(self) -> dict[str, Any]:
        return tasks.publish(self.table, self.run, self.ti, self.events)

    def steps(self) -> list[Any]:
        return [self.extract, self.validate_export, self.load, self.validate_load, self.publish]


def finish(branch: Branch) -> Branch:
    for step in branch.steps():
        step()
    return branch


def rows(connection: psycopg.Connection[Any], table: str = PUBLISHED) -> set[Any]:
    return set(connection.execute(f"select * from {table} where sales_date = %s".encode(), [DAY]).fetchall())


def test_a_day_arrives_as_it_is_in_the_source_and_says_so(admin: psycopg.Connection[Any], s3: S3) -> None:
    branch = Branch()
    *steps, publish = branch.steps()
    for step in steps:
        step()
        assert rows(admin) == set()
    batch_id, checksum = (branch.exported()["manifest"][name] for name in ("batch_id", "sha256"))

    assert publish() == {"object": PUBLISHED, "day": f"{DAY}", "batch_id": batch_id, "rows": 2}

    assert rows(admin) == rows(admin, SOURCE)
    extra = branch.events[asset(PUBLISHED)].extra
    assert extra == {
        "object": PUBLISHED,
        "day": f"{DAY}",
        "batch_id": batch_id,
        "rows": 2,
        "verdict": "passed",
        "report": branch.ti.values["return_value"]["report"],
    }
    folder = f"exports/{SCHEMA}/{TABLE}/{DAY}"
    assert s3.objects() == [f"{folder}/{batch_id}_{checksum[:12]}.parquet", f"{folder}/manifest.json"]


@pytest.mark.parametrize("last", range(5), ids=["extract", "validate_export", "load", "validate_load", "publish"])
def test_a_run_that_was_killed_after_any_step_is_run_again(admin: psycopg.Connection[Any], s3: S3, last: int) -> None:
    branch = Branch()
    for step in branch.steps()[: last + 1]:
        step()
    if last < 4:
        branch.steps()[last]()  # a retry of the task, whose process died before Airflow knew that it had ended
    again = Branch()  # the run, cleared from its start task on

    finish(again)

    assert rows(admin) == rows(admin, SOURCE)
    assert len(s3.objects()) == 2
    staged = admin.execute(f"select count(*) from {SCHEMA}_staging.{TABLE}".encode()).fetchall()
    assert staged == [(2 if last < 4 else 4,)], "a published batch stays for a rollback"


def test_the_same_day_of_another_run_replaces_it(admin: psycopg.Connection[Any], s3: S3) -> None:
    finish(Branch("first"))
    admin.execute(f"update {SOURCE} set quantity_sold = 8 where item_name = 'Map'".encode())

    finish(Branch("second"))

    assert rows(admin) == rows(admin, SOURCE)
    assert len(s3.objects()) == 2


@pytest.mark.parametrize(
    ("change", "expectation"),
    [
        (f"update {SOURCE} set quantity_sold = 8 where item_name = 'Map'", "the same sum of quantity_sold"),
        (f"delete from {SOURCE} where item_name = 'Map'", "as many rows"),
    ],
)
def test_an_export_that_differs_from_its_source_closes_the_gate(
    admin: psycopg.Connection[Any], change: str, expectation: str
) -> None:
    branch = Branch()
    branch.extract()
    admin.execute(change.encode())

    with pytest.raises(
        AirflowFailException,
        match=rf"The gate closed(.|\n)*export against source: the export has {expectation} as the source",
    ):
        branch.validate_export()

    found = admin.execute("select checkpoint, verdict from quality.validation").fetchall()
    assert found == [(f"{SCHEMA}_{TABLE}", "failed")]


def test_staged_rows_that_differ_from_the_manifest_close_the_gate(admin: psycopg.Connection[Any]) -> None:
    branch = Branch()
    for step in branch.steps()[:3]:
        step()
    admin.execute(f"update {SCHEMA}_staging.{TABLE} set unit_price = unit_price + 0.01".encode())

    with pytest.raises(
        AirflowFailException, match=r"The gate closed(.|\n)*staged batch has the same sum of unit_price"
    ):
        branch.validate_load()

    assert rows(admin) == set()


def test_a_row_that_the_suite_refuses_closes_the_gate(admin: psycopg.Connection[Any]) -> None:
    admin.execute(f"update {SOURCE} set quantity_sold = -1".encode())
    branch = Branch()
    for step in branch.steps()[:3]:
        step()

    with pytest.raises(AirflowFailException, match="a location sells between 0 and 100,000 pieces"):
        branch.validate_load()

    assert not branch.events[asset(PUBLISHED)].extra


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            f"alter table {SOURCE} alter unit_price type numeric(14, 2); "
            f"update {SOURCE} set unit_price = 123456789012.34 where item_name = 'Map'",
            f"{SCHEMA}_staging.{TABLE} refused batch .* .NumericValueOutOfRange.: its columns do not fit the rows'",
        ),
        (
            f"alter table {SOURCE} add column note text",
            f"{SCHEMA}_staging.{TABLE} refused batch .* .UndefinedColumn.: its columns do not fit the rows'",
        ),
    ],
    ids=["a value", "a column"],
)
def test_what_the_warehouse_cannot_hold_fails_at_once_and_leaves_what_readers_see(
    admin: psycopg.Connection[Any], change: str, message: str
) -> None:
    finish(Branch("before"))
    seen = rows(admin)
    # The views of the source keep its columns' types.
    admin.execute(f"drop view if exists daily_operations.top_selling_items_by_location cascade; {change}".encode())
    branch = Branch()
    branch.extract()
    branch.validate_export()

    with pytest.raises(AirflowFailException, match=message):
        branch.load()

    assert rows(admin) == seen


def test_a_day_without_rows_fails_and_leaves_what_there_was(admin: psycopg.Connection[Any], s3: S3) -> None:
    finish(Branch())
    before, seen = s3.objects(), rows(admin)
    admin.execute(f"delete from {SOURCE}".encode())

    with pytest.raises(AirflowFailException, match=f"{SOURCE} has no rows of {DAY}: fill it, .* let closed_reason"):
        Branch("later").extract()

    assert (s3.objects(), rows(admin)) == (before, seen)


def test_two_exports_of_a_day_at_once_leave_one_that_can_be_read(admin: psycopg.Connection[Any], s3: S3) -> None:
    branches = [Branch(f"run {number}") for number in range(4)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(Branch.extract, branches))

    manifest = storage.current(PUBLISHED, DAY)

    assert manifest
    assert storage.checksum(manifest) == manifest.sha256
    assert len(s3.objects()) == 2


def test_one_table_that_is_not_set_up_does_not_stop_the_others(admin: psycopg.Connection[Any]) -> None:
    admin.execute(f"drop table {SCHEMA}_staging.labor".encode())

    with pytest.raises(AirflowFailException, match=f"{SCHEMA}_staging.labor does not exist yet"):
        Branch(table="labor").extract()
    finish(Branch())

    assert rows(admin) == rows(admin, SOURCE)


def test_a_number_that_is_missing_stays_apart_from_one_that_is_none(s3: S3, warehouse: Login) -> None:
    with warehouse.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("create table public.measured (day date, id int, wide float8, narrow real, whole int2)")
        connection.execute(
            "insert into public.measured values (%(day)s, 1, null, null, null), (%(day)s, 2, 'NaN', 'NaN', 1), "
            "(%(day)s, 3, 0.1, 0.5, 2)",
            {"day": DAY},
        )
        source = Source("public.measured", "day", ("id",))
        manifest = export(connection, source, DAY, table="public.measured", batch_id=uuid4(), run=Run("a", "b"))
        connection.execute(
            "create table public.staged as select null::uuid as batch_id, * from public.measured limit 0"
        )
        load_batch(connection, "public.staged", uuid4(), frames(manifest))
        query = "select day, id, wide::text, narrow::text, whole from public.{} order by id"
        staged, measured = (
            connection.execute(query.format(name).encode()).fetchall() for name in ("staged", "measured")
        )
        assert staged == measured


def test_an_export_is_archived_when_it_is_old_and_its_rows_are_published(
    admin: psycopg.Connection[Any], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = Branch()
    *steps, publish = branch.steps()
    for step in steps:
        step()
    monkeypatch.setenv("AIRLOCK_ARCHIVE_AFTER_DAYS", "0")
    assert tasks.archive_s3_files() == dict.fromkeys(TABLES, 0), "its rows are not published"
    publish()
    monkeypatch.setenv("AIRLOCK_ARCHIVE_AFTER_DAYS", "1")
    assert tasks.archive_s3_files() == dict.fromkeys(TABLES, 0), "it is not old enough"
    monkeypatch.setenv("AIRLOCK_ARCHIVE_AFTER_DAYS", "0")
    before = s3.objects()

    assert tasks.archive_s3_files() == {**dict.fromkeys(TABLES, 0), TABLE: 1}

    assert s3.objects() == [key.replace("exports/", "archive/") for key in before]
    assert tasks.archive_s3_files() == dict.fromkeys(TABLES, 0)
    finish(Branch("later"))  # the day can be exported again
    assert len(s3.objects()) == 4


def test_a_manifest_that_cannot_be_read_keeps_no_other_export_from_the_archive(
    admin: psycopg.Connection[Any], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(Branch())
    monkeypatch.setenv("AIRLOCK_ARCHIVE_AFTER_DAYS", "0")
    broken = f"exports/{SCHEMA}/guest_attendance/{DAY}/manifest.json"
    s3.client().put_object(Bucket=s3.bucket, Key=broken, Body=b"{")

    with pytest.raises(AirflowFailException, match=f"{broken} cannot be read: .*Remove it, or run the export again"):
        tasks.archive_s3_files()

    left = s3.objects()
    assert [key for key in left if key.startswith("exports/")] == [broken]


def test_an_export_whose_batch_readers_do_not_see_is_not_archived(
    admin: psycopg.Connection[Any], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(Branch())
    Branch("later").extract()
    monkeypatch.setenv("AIRLOCK_ARCHIVE_AFTER_DAYS", "0")

    assert tasks.archive_s3_files() == dict.fromkeys(TABLES, 0)


def test_the_manifest_of_the_export_is_the_tasks_value(admin: psycopg.Connection[Any]) -> None:
    branch = Branch()
    branch.extract()

    found = storage.current(PUBLISHED, DAY)

    assert found
    assert asdict(found) == branch.exported()["manifest"]


@pytest.mark.parametrize(
    ("day", "branch"), [("2023-08-01", "process_market_data"), ("2023-08-05", "market_closed_notification")]
)
def test_the_calendar_of_the_exchange_decides_which_branch_runs(day: str, branch: str) -> None:
    ti = TaskInstance(values={"start": {"day": day}})
    assert tasks.check_market_open("market", ti) == branch


def test_a_closed_market_is_reported_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="include.alerts.notify"):
        tasks.market_closed_notification("market", TaskInstance(values={"start": {"day": "2023-07-04"}}))

    assert "No market data for 2023-07-04" in caplog.text
    assert "XNYS is closed on 2023-07-04 (July 4th)" in caplog.text


def test_the_outcomes_of_all_branches_are_one_message(admin: psycopg.Connection[Any]) -> None:
    run: Any = SimpleNamespace(dag_id="a_dag", run_id="a run")
    good = {"start": "success", "labor.extract_to_s3": "success", "labor.publish": "success", "end": "running"}
    closed = {"inventory.extract_to_s3": "skipped", "inventory.publish": "skipped"}
    assert tasks.report_outcomes(TaskInstance(states=good | closed), run) == {
        "start": "done",
        "labor": "done",
        "inventory": "skipped",
    }

    bad = {"item_sales.validate_load": "failed", "item_sales.publish": "upstream_failed"}
    ti = TaskInstance(states=good | closed | bad, values={"start": {"day": f"{DAY}"}})
    with pytest.raises(AirflowFailException) as failed:
        tasks.report_outcomes(ti, run)
    assert f"{failed.value}" == "inventory: skipped\nitem_sales: failed in validate_load\nlabor: done\nstart: done"
    # Without a message of its own: the day is not reported as late as well.
    found = admin.execute("select subject, kind, day from quality.incident").fetchall()
    assert found == [("analytics_item_sales", "gate", DAY)]
