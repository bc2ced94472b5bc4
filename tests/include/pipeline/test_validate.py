"""Validating a batch: its columns are checked, and what its gate found is stored, reported and pushed."""

import logging
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any
from uuid import UUID

import psycopg
import pytest

from include.errors import PermanentError
from include.pipeline import validate as module
from include.pipeline.validate import validate, validate_batch
from include.quality.outcome import GateClosed
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.quality.suites import as_rollups_batch, expectations, stage_rollups
from tests.include.warehouse.airflow_connections import give
from tests.toy import READINGS, ROLLUPS
from tests.toy.batches import DAY, GOOD, SENSORS, TaskInstance, as_batch, parameters, row, stage

pytestmark = pytest.mark.usefixtures("toys")

App = psycopg.Connection[Any]

BAD = [row(SENSORS[0], -7.0), row(SENSORS[1])]
EXPECTATIONS = len(expectations("measured"))


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder where the test's reports go."""
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))
    monkeypatch.delenv("AIRLOCK_DATA_DOCS", raising=False)
    return tmp_path / "reports"


def validate_readings(app: App, batch_id: UUID, ti: TaskInstance | None = None) -> Any:
    """Validate a batch of the toy table; returns what was pushed."""
    ti = ti or TaskInstance()
    validate_batch(app, READINGS, batch_id, DAY, parameters(), ti)
    return ti.pushed["return_value"]


def stored(app: App) -> list[tuple[Any, ...]]:
    found = app.execute("select id, batch_id, dag_id, run_id, verdict from quality.validation order by id").fetchall()
    app.commit()
    return found


def test_a_run_is_stored_reported_and_pushed_under_its_own_name(app: App, reports: Path) -> None:
    batch_id = stage(app, GOOD)

    pushed = validate_readings(app, batch_id, TaskInstance("a dag", "a run of it"))

    [(id_, *line)] = stored(app)
    assert line == [batch_id, "a dag", "a run of it", "passed"]
    page = reports / "readings" / DAY.isoformat() / f"{id_}.html"
    assert Path(pushed.pop("report").removeprefix("file://")) == page
    assert pushed == {"checkpoint": "readings", "verdict": "passed", "passed": EXPECTATIONS, "failed": 0}
    written = {str(path.relative_to(reports)) for path in reports.rglob("*") if path.is_file()}
    assert written == {f"readings/{DAY}/{id_}.html", "readings/index.html", "index.html"}


def test_a_closed_gate_has_what_an_alert_is_made_of(app: App, reports: Path) -> None:
    batch_id, ti = stage(app, BAD), TaskInstance()

    with pytest.raises(GateClosed) as raised:
        validate_readings(app, batch_id, ti)

    closed = raised.value
    assert (closed.day, closed.outcome.verdict) == (DAY, "failed")
    assert [each.expectation for each in closed.causes] == ["value is not negative"]
    [(id_, *_)] = stored(app)
    assert closed.report == ti.pushed["return_value"]["report"]
    assert str(closed.report).endswith(f"{reports}/readings/{DAY}/{id_}.html")
    assert str(closed).startswith(f"The gate closed: nothing of batch {batch_id} is published")
    assert "critical: measured: value is not negative: observed 1\n    batch_id=" in str(closed)


@pytest.mark.parametrize("rows", [GOOD, BAD], ids=["passed", "failed"])
@pytest.mark.parametrize("data_docs", ["", "1"], ids=["pages", "data docs as well"])
def test_an_unreachable_report_root_changes_no_verdict(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rows: Any, data_docs: str
) -> None:
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "/dev/null/reports")
    monkeypatch.setenv("AIRLOCK_DATA_DOCS", data_docs)
    batch_id, ti = stage(app, rows), TaskInstance()

    if rows is GOOD:
        validate_readings(app, batch_id, ti)
    else:
        with pytest.raises(GateClosed) as raised:
            validate_readings(app, batch_id, ti)
        assert raised.value.report is None

    verdict = "passed" if rows is GOOD else "failed"
    assert [line[-1] for line in stored(app)] == [verdict]
    pushed = ti.pushed["return_value"]
    assert (pushed["verdict"], pushed["report"]) == (verdict, None)
    warned = [each for each in caplog.records if "/dev/null/reports" in each.getMessage()]
    assert {each.levelname for each in warned} == {"WARNING"}
    assert len(warned) == (2 if data_docs else 1)


def test_results_are_committed_before_the_report_is_written(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the making of the report, and not only in writing its files, leaves the results."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("include.pipeline.validate.report.publish", broken)
    batch_id = stage(app, GOOD)

    with pytest.raises(ZeroDivisionError):
        validate_readings(app, batch_id)
    app.rollback()

    assert [line[-1] for line in stored(app)] == ["passed"]


@pytest.mark.parametrize("value", [None, "", "0", "1"])
def test_data_docs_are_written_only_when_they_are_asked_for(
    app: App, reports: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("AIRLOCK_DATA_DOCS", value)
    batch_id = stage(app, GOOD)

    validate_readings(app, batch_id)

    index = reports / "data_docs" / "readings" / DAY.isoformat() / str(batch_id) / "index.html"
    assert index.is_file() == (reports / "data_docs").exists() == (value == "1")


def test_the_log_names_the_dataset_the_day_and_what_failed(app: App, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="include.quality"), pytest.raises(GateClosed):
        validate_readings(app, stage(app, BAD))

    assert (
        f"Gate readings failed for readings of {DAY}: {EXPECTATIONS - 1} of {EXPECTATIONS} expectations passed, "
        "0 rows quarantined" in caplog.messages
    )
    [failure] = [each for each in caplog.records if each.getMessage().startswith("critical: measured: value is not")]
    assert failure.levelname == "ERROR"


def test_a_gate_that_cannot_run_stores_and_pushes_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "gate", broken)
    ti = TaskInstance()

    with pytest.raises(ZeroDivisionError):
        validate_readings(app, stage(app, GOOD), ti)

    assert (stored(app), ti.pushed) == ([], {})


# The columns may have changed since the run started: a deploy during the run


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the connections of the toy datasets."""
    for dataset in (READINGS, ROLLUPS):
        give(monkeypatch, dataset.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))


@pytest.mark.usefixtures("connected")
def test_a_batch_is_not_validated_when_its_table_has_other_columns_meanwhile(app: App, warehouse: Login) -> None:
    batch, ti = as_batch(stage(app, GOOD)), TaskInstance()
    with warehouse.connect() as admin:
        admin.execute("alter table readings.measured add column unit text")

    with pytest.raises(PermanentError, match=r"readings\.measured has other columns than readings_staging\.measured"):
        validate(READINGS, batch, ti)

    assert (stored(app), ti.pushed) == ([], {})


@pytest.mark.usefixtures("connected")
def test_a_batch_is_not_validated_when_a_query_returns_other_columns_meanwhile(app: App, tmp_path: Path) -> None:
    batch, ti = as_rollups_batch(stage_rollups(app, [("north", 1)])), TaskInstance()
    changed = replace(ROLLUPS, folder=Path(copytree(ROLLUPS.folder, tmp_path / "rollups")))
    validate(changed, batch, TaskInstance())
    query = changed.folder / "totals.sql"
    query.write_text(query.read_text().replace("AS total", "AS total_amount"))

    message = r"rollups/totals\.sql returns other columns than rollups_staging\.totals"
    with pytest.raises(PermanentError, match=message):
        validate(changed, batch, ti)

    assert [line[-1] for line in stored(app)] == ["passed"] * len(ROLLUPS.publishes)  # of the first call
    assert ti.pushed == {}
