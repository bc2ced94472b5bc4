"""What every validate task does around its gate: results, report and XCom, in that order and come what may."""

import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from include.quality.tasks import pass_gate

from include.quality import tasks
from include.quality.outcome import GateClosed
from tests.include.quality.batches import DAY, GOOD, STAGED, TaskInstance, parameters, row, stage

App = psycopg.Connection[Any]

BAD = [row("AAPL", volume=-7.0), row("AMZN")]


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the folder where the test's reports go."""
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))
    monkeypatch.delenv("AIRLOCK_DATA_DOCS", raising=False)
    return tmp_path / "reports"


def validate(app: App, batch_id: UUID, ti: TaskInstance | None = None) -> Any:
    """Pass the market's gate; gives what was pushed."""
    ti = ti or TaskInstance()
    pass_gate(ti, app, "market", batch_id, DAY, {"market": STAGED}, parameters(), subject="the test")
    return ti.pushed["return_value"]


def stored(app: App) -> list[tuple[Any, ...]]:
    found = app.execute("select id, batch_id, dag_id, run_id, verdict from quality.validation order by id").fetchall()
    app.commit()
    return found


def test_a_run_is_stored_reported_and_pushed_under_its_own_name(app: App, reports: Path) -> None:
    batch_id = stage(app, GOOD)

    pushed = validate(app, batch_id, TaskInstance("a dag", "a run of it"))

    [(id_, *line)] = stored(app)
    assert line == [batch_id, "a dag", "a run of it", "passed"]
    page = reports / "market" / DAY.isoformat() / f"{id_}.html"
    assert Path(pushed.pop("report").removeprefix("file://")) == page
    assert pushed == {"checkpoint": "market", "verdict": "passed", "passed": 18, "failed": 0}
    written = {str(path.relative_to(reports)) for path in reports.rglob("*") if path.is_file()}
    assert written == {f"market/{DAY}/{id_}.html", "market/index.html", "index.html"}


def test_a_closed_gate_carries_what_an_alert_is_made_of(app: App, reports: Path) -> None:
    batch_id, ti = stage(app, BAD), TaskInstance()

    with pytest.raises(GateClosed) as raised:
        validate(app, batch_id, ti)

    closed = raised.value
    assert (closed.day, closed.outcome.verdict) == (DAY, "failed")
    assert [each.expectation for each in closed.by] == ["volume is finite and not negative"]
    [(id_, *_)] = stored(app)
    assert closed.report == ti.pushed["return_value"]["report"]
    assert str(closed.report).endswith(f"{reports}/market/{DAY}/{id_}.html")
    assert str(closed).startswith(f"The gate closed: nothing of batch {batch_id} is published")
    assert "critical: market: volume is finite and not negative: observed 1\n    batch_id=" in str(closed)


@pytest.mark.parametrize("rows", [GOOD, BAD], ids=["passed", "failed"])
@pytest.mark.parametrize("data_docs", ["", "1"], ids=["pages", "data docs, too"])
def test_an_unreachable_report_root_changes_no_verdict(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rows: Any, data_docs: str
) -> None:
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "/dev/null/reports")
    monkeypatch.setenv("AIRLOCK_DATA_DOCS", data_docs)
    batch_id, ti = stage(app, rows), TaskInstance()

    if rows is GOOD:
        validate(app, batch_id, ti)
    else:
        with pytest.raises(GateClosed) as raised:
            validate(app, batch_id, ti)
        assert raised.value.report is None

    verdict = "passed" if rows is GOOD else "failed"
    assert [line[-1] for line in stored(app)] == [verdict]
    pushed = ti.pushed["return_value"]
    assert (pushed["verdict"], pushed["report"]) == (verdict, None)
    warned = [each for each in caplog.records if "/dev/null/reports" in each.getMessage()]
    assert {each.levelname for each in warned} == {"WARNING"}
    assert len(warned) == (2 if data_docs else 1)


def test_results_are_committed_before_a_report_is_begun(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report whose making fails, and not only its writing, leaves the results."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("include.quality.tasks.report.publish", broken)
    batch_id = stage(app, GOOD)

    with pytest.raises(ZeroDivisionError):
        validate(app, batch_id)
    app.rollback()

    assert [line[-1] for line in stored(app)] == ["passed"]


@pytest.mark.parametrize("value", [None, "", "0", "1"])
def test_data_docs_are_written_only_when_they_are_asked_for(
    app: App, reports: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("AIRLOCK_DATA_DOCS", value)
    batch_id = stage(app, GOOD)

    validate(app, batch_id)

    index = reports / "data_docs" / "market" / DAY.isoformat() / str(batch_id) / "index.html"
    assert index.is_file() == (reports / "data_docs").exists() == (value == "1")


def test_the_log_names_the_batch_and_what_it_did_not_meet(app: App, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="include.quality"), pytest.raises(GateClosed):
        validate(app, stage(app, BAD))

    assert "Gate market failed for the test: 17 of 18 expectations met, 0 rows quarantined" in caplog.messages
    [told] = [each for each in caplog.records if each.getMessage().startswith("critical: market: volume is finite")]
    assert told.levelname == "ERROR"


def test_a_gate_that_cannot_run_stores_and_pushes_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "gate", broken)
    ti = TaskInstance()

    with pytest.raises(ZeroDivisionError):
        validate(app, stage(app, GOOD), ti)

    assert (stored(app), ti.pushed) == ([], {})
