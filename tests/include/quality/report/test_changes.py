"""What the page of a run says about a day that had been published before."""

from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from include.pipeline.validate import validate_batch
from include.quality import report
from tests.include.quality.report.filled import read
from tests.toy import READINGS
from tests.toy.batches import DAY, Row, TaskInstance, parameters, publish, roll_back, row, stage

pytestmark = pytest.mark.usefixtures("toys")

ROWS = [row(f"s{number}", 20.0 + number) for number in range(4)]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the report."""
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path))
    return tmp_path


def load(app: psycopg.Connection[Any], rows: list[Row], name: str, root: Path) -> tuple[UUID, Path]:
    """Check and publish a batch as a run does; returns the batch, and the page of the run."""
    batch_id, ti = stage(app, rows), TaskInstance(run_id=name)
    validate_batch(app, READINGS, batch_id, DAY, parameters([str(each["sensor"]) for each in rows]), ti)
    publish(app, batch_id, name)
    report.refresh(app, READINGS.name, batch_id, str(root))
    return batch_id, Path(ti.pushed["return_value"]["report"].removeprefix("file://"))


def test_a_correction_is_shown_on_the_page_of_its_run_and_of_no_other(app: psycopg.Connection[Any], root: Path) -> None:
    _, first = load(app, ROWS, "first", root)
    _, second = load(app, [row("s1", 99.5), *ROWS[2:], row("new", 7.0)], "second", root)

    text = read(second).text
    assert "1 row added, 1 removed, 1 altered." in text
    assert "21 → 99.5" in text
    assert "The day had been published before" not in read(first).text


def test_the_same_rows_again_change_nothing(app: psycopg.Connection[Any], root: Path) -> None:
    load(app, ROWS, "first", root)
    _, second = load(app, ROWS, "second", root)

    assert "0 rows added, 0 removed, 0 altered." in read(second).text


def test_a_rollback_is_shown_on_the_page_of_the_batch_that_it_restored(
    app: psycopg.Connection[Any], root: Path
) -> None:
    batch_id, first = load(app, ROWS, "first", root)
    load(app, ROWS[1:], "second", root)

    assert roll_back(app)[0] == batch_id
    report.refresh(app, READINGS.name, batch_id, str(root))

    assert "1 row added, 0 removed, 0 altered." in read(first).text
