"""Writing the pages: to any root, two runs at once, and at a cost that does not grow with the history."""

import logging
import resource
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from include.quality import report
from include.quality.report import storage
from include.warehouse.register import Run, lock, register
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.quality.report.filled import DAY, FAILED, NOW, publish, read, store, validation
from tests.include.warehouse.concurrency import PATIENCE, await_blocked, terminate
from tests.toy import READINGS, ROLLUPS
from tests.toy.batches import PUBLISHED

IDLE = psycopg.pq.TransactionStatus.IDLE


def test_a_run_writes_three_pages(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    ids = store(app, validation(), validation(suite="people"))
    address = report.publish(app, READINGS.name, ids, f"{tmp_path}/the reports", now=NOW)

    run = f"readings/2023-09-21/{ids[0]}.html"
    assert address
    assert address.removeprefix("file://") == f"{tmp_path}/the reports/{run}"
    written = [page.relative_to(tmp_path / "the reports").as_posix() for page in tmp_path.rglob("*") if page.is_file()]
    assert sorted(written) == ["index.html", run, "readings/index.html"]
    assert app.info.transaction_status == IDLE


def test_a_root_can_be_a_url(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    address = report.publish(app, READINGS.name, store(app), (tmp_path / "reports").as_uri(), now=NOW)

    assert address
    assert address.startswith((tmp_path / "reports").as_uri())
    assert Path(address.removeprefix("file://")).exists()


def test_every_run_keeps_its_page(app: psycopg.Connection[Any], tmp_path: Path) -> None:
    first, second = (report.publish(app, READINGS.name, store(app), str(tmp_path), now=NOW) for _ in range(2))

    assert first != second
    assert len([*tmp_path.glob("readings/2023-09-21/*.html")]) == 2


@pytest.mark.parametrize(
    "root", ["/dev/null/reports", "nonesuch://bucket/reports"], ids=["a folder", "an unknown store"]
)
def test_an_unreachable_root_is_a_warning(
    app: psycopg.Connection[Any], root: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = store(app, validation(FAILED))
    with caplog.at_level(logging.WARNING, logger="include.quality.report"):
        assert report.publish(app, READINGS.name, ids, root, now=NOW) is None

    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(
        f"The report could not be written to {root}/readings/2023-09-21/{ids[0]}.html"
    )
    assert record.getMessage().endswith("); the verdict stands.")
    assert app.info.transaction_status == IDLE


def test_a_page_is_never_half_written(
    app: psycopg.Connection[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report.publish(app, READINGS.name, store(app), str(tmp_path), now=NOW)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # ends a write midway, as a full disk does
    try:
        with caplog.at_level(logging.WARNING, logger="include.quality.report"):
            report.refresh(app, READINGS.name, uuid4(), str(tmp_path))
            assert report.publish(app, READINGS.name, store(app), str(tmp_path), now=NOW) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "could not be written" in caplog.text
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("trouble", ["a lost connection", "a lock that is held"])
def test_a_report_that_the_warehouse_does_not_allow_is_a_warning(
    warehouse: Login, state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    login = warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)
    with login.connect() as holder, login.connect(limits={"lock_timeout": "100ms"}) as connection:
        ids = store(connection)
        if trouble == "a lost connection":
            terminate(warehouse, connection.info.backend_pid)
        else:
            lock(holder, "quality report")

        assert report.publish(connection, READINGS.name, ids, str(tmp_path), now=NOW) is None
        report.refresh(connection, READINGS.name, uuid4(), str(tmp_path))

    assert "The report of readings could not be made; the verdict stands." in caplog.text
    assert "The report of readings could not be updated" in caplog.text


def test_what_was_published_since_is_shown_by_the_shared_pages_only(
    app: psycopg.Connection[Any], tmp_path: Path
) -> None:
    publish(app, store(app), tmp_path)
    before = {path: path.read_text() for path in tmp_path.rglob("*.html")}
    with app.transaction():
        register(app, PUBLISHED, "day", DAY, uuid4(), Run("a_dag", "a run"))

    report.refresh(app, READINGS.name, uuid4(), str(tmp_path))

    assert {path.name for path, text in before.items() if path.read_text() != text} == {"index.html"}
    for page in (tmp_path / "index.html", tmp_path / "readings" / "index.html"):
        assert "Readers see" in read(page).text


def test_a_dataset_that_was_never_validated_is_on_the_home_page_only(
    app: psycopg.Connection[Any], tmp_path: Path
) -> None:
    report.refresh(app, READINGS.name, uuid4(), str(tmp_path))

    assert [path.name for path in tmp_path.rglob("*.html")] == ["index.html"]


def test_shared_pages_that_cannot_be_written_are_a_warning(
    app: psycopg.Connection[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.quality.report.pages.lists", lambda *_: 1 / 0)

    report.refresh(app, READINGS.name, uuid4(), str(tmp_path))

    assert "The report of readings could not be updated: division by zero" in caplog.text


@pytest.mark.parametrize("cause", ["a table is missing", "another dataset's declaration raises"])
def test_a_report_that_cannot_be_made_is_a_warning_with_its_error(
    app: psycopg.Connection[Any], warehouse: Login, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, cause: str,
) -> None:  # fmt: skip
    store(app, checkpoint=ROLLUPS.name)
    ids = store(app)
    if cause == "a table is missing":
        with warehouse.connect() as admin:
            admin.execute("drop table quality.quarantine")
    else:
        broken = replace(ROLLUPS)
        object.__setattr__(broken, "due", lambda _: 1 / 0)  # a declaration that was right when it was read
        monkeypatch.setattr("include.datasets.DATASETS", (READINGS, broken))

    assert report.publish(app, READINGS.name, ids, str(tmp_path), now=NOW) is None

    assert "The report of readings could not be made; the verdict stands." in caplog.text
    assert ("UndefinedTable" if cause == "a table is missing" else "ZeroDivisionError") in caplog.text
    assert app.info.transaction_status == IDLE


def test_two_runs_that_end_at_the_same_moment_both_appear(
    warehouse: Login, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = Event(), Event()
    write = storage._write

    def slowly(root: str, pages: Mapping[str, str]) -> str | None:
        writing.set()
        assert go_on.wait(PATIENCE)
        return write(root, pages)

    def one(number: int) -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            ids = store(connection, day=DAY - timedelta(days=number))
            assert report.publish(connection, READINGS.name, ids, str(tmp_path), now=NOW)

    monkeypatch.setattr(storage, "_write", slowly)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(one, 1)
        assert writing.wait(PATIENCE)  # it has read the tables
        second = threads.submit(one, 0)
        await_blocked(warehouse)
        go_on.set()
        first.result()
        second.result()

    links = read(tmp_path / "index.html").all("a", "cell")
    assert [each.attributes["title"] for each in links] == [
        "Wed 20 Sep 2023: passed, 24 rows",
        "Thu 21 Sep 2023: passed, 24 rows",
    ]
    assert all((tmp_path / str(each.attributes["href"])).exists() for each in links)


class Recording(psycopg.Cursor[Any]):
    """A cursor that keeps what it executes."""

    executed: list[tuple[Any, Any]]

    def execute(self, query: Any, params: Any = None, **options: Any) -> "Recording":
        self.executed.append((query, params))
        super().execute(query, params, **options)
        return self


HISTORY = """
with kept_out as (
    insert into quality.quarantine (checkpoint, staging_table, day, batch_id, dag_id, run_id, row_data, rules)
    select 'readings', 'readings_staging.measured', date '2023-09-20', gen_random_uuid(), 'd', 'r', '{}', '{}'
    from generate_series(1, %(number)s)
),

published as (
    insert into warehouse.publication (object, scope, day, batch_id, dag_id, run_id)
    select 'readings.measured', 'day', date '2023-09-20' - n, gen_random_uuid(), 'd', 'r'
    from generate_series(%(number)s / 100, %(number)s) as n
    on conflict do nothing
),

stored as (
    insert into quality.validation (
        checkpoint, suite, staging_table, day, batch_id, dag_id, run_id, started_at, seconds, verdict, rows_checked,
        rows_quarantined
    )
    select
        checkpoint, checkpoint, 'readings_staging.measured', date '2023-09-20' - (n / 20)::int, gen_random_uuid(), 'd',
        'r',
        timestamptz '2023-09-21 09:00+00' + later - n * interval '1 hour', 1.5, 'passed', 24, 0
    from generate_series(%(number)s, 1, -1) as n
    cross join (values ('readings', interval '0'), ('rollups', '9 years')) as of (checkpoint, later)
    returning id
)

insert into quality.expectation_result (
    validation_id, position, expectation, type, arguments, severity, verdict, observed, observed_number, sample
)
select id, position, 'expectation ' || position, 't', '{"min_value": 1}', 'critical', 'passed', '24', 24, '[]'
from stored cross join generate_series(1, 5) as position
"""


def cost(connection: psycopg.Connection[Any], root: Path) -> tuple[list[tuple[Any, Any]], int, int]:
    """Return the statements that the report of a run takes, and how many files and bytes it writes."""
    ids = store(connection)
    Recording.executed = []
    connection.cursor_factory = Recording
    publish(connection, ids, root)
    connection.cursor_factory = psycopg.Cursor
    files = [page for page in root.rglob("*") if page.is_file()]
    return list(Recording.executed), len(files), sum(page.stat().st_size for page in files)


def test_the_cost_does_not_grow_with_the_history(
    app: psycopg.Connection[Any], warehouse: Login, tmp_path: Path
) -> None:
    store(app, checkpoint=ROLLUPS.name)
    first, _, _ = cost(app, tmp_path / "first")
    app.execute(HISTORY.encode(), {"number": 1_500})  # more days and runs than are shown
    app.commit()
    some, _, some_bytes = cost(app, tmp_path / "some")
    app.execute(HISTORY.encode(), {"number": 10_000})
    app.commit()
    with warehouse.connect() as admin:
        admin.execute("analyze")
    many, many_files, many_bytes = cost(app, tmp_path / "many")

    assert len(first) == len(some) == len(many)
    assert many_files == 3
    assert abs(many_bytes - some_bytes) < some_bytes / 100  # ids have more digits
    plans = [
        app.execute(b"explain (analyze, timing off, format json) " + str(query).encode(), values).fetchall()[0][0]
        for query, values in many
    ]
    scans = [node for [plan] in plans for node in nodes(plan["Plan"]) if node.get("Relation Name") in GROWING]
    assert {node["Relation Name"] for node in scans} == GROWING
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    assert max(read_by(node) for node in scans) < 1_000  # sixty runs of five expectations, and sixty days


GROWING = {"validation", "expectation_result", "quarantine", "publication"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", []):
        yield from nodes(each)


def read_by(node: dict[str, Any]) -> float:
    read: float = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return read
