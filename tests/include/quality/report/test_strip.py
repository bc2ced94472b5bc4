"""The strip of a dataset's last days: one cell per day."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.dataset import Dataset
from include.errors import PermanentError
from include.quality import report
from include.quality.report.overview import DAYS
from tests.include.quality.report.filled import (
    DAY,
    FAILED,
    NOW,
    QUARANTINED,
    WARNED,
    Node,
    publish,
    read,
    store,
    validation,
)
from tests.toy import READINGS, ROLLUPS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def strip(root: Path, title: str = READINGS.title) -> list[Node]:
    """Return the cells of a dataset on the home page."""
    home = read(root / "index.html").section(title)
    cells = [each for each in home.all("ul", "strip")[0] if "cell" in each.classes]
    assert all(each.attributes["title"] == each.attributes["aria-label"] for each in cells)
    return cells


def states(cells: list[Node]) -> list[str]:
    return [each.classes[1] for each in cells]


def test_every_state_has_a_colour_a_sign_and_words(app: psycopg.Connection[Any], root: Path) -> None:
    verdicts = {
        date(2023, 9, 13): validation(),
        date(2023, 9, 14): validation(WARNED),
        date(2023, 9, 15): validation(QUARANTINED, rows=1234, quarantined=1),
        date(2023, 9, 18): validation(FAILED),
        date(2023, 9, 20): validation(rows=1),
    }
    ids = [store(app, verdict, day=day) for day, verdict in verdicts.items()]
    publish(app, ids[-1], root)

    cells = strip(root)
    assert len(cells) == DAYS
    assert [(each.classes[1], each.text, each.attributes["title"]) for each in cells[-10:]] == [
        ("none", "", "Tue 12 Sep 2023: nothing due"),  # before the first validation of all
        ("passed", "", "Wed 13 Sep 2023: passed, 24 rows"),
        ("warned", "!", "Thu 14 Sep 2023: passed with a warning, 24 rows"),
        ("quarantined", "◐", "Fri 15 Sep 2023: rows quarantined, 1,234 rows"),
        ("missing", "?", "Sat 16 Sep 2023: missing"),
        ("closed", "·", "Sun 17 Sep 2023: 2023-09-17 is a Sunday"),
        ("failed", "✕", "Mon 18 Sep 2023: failed, 24 rows"),
        ("missing", "?", "Tue 19 Sep 2023: missing"),
        ("passed", "", "Wed 20 Sep 2023: passed, 1 row"),
        ("missing", "?", "Thu 21 Sep 2023: missing"),  # due by now, and not there
    ]
    links = [each.attributes["href"] for each in cells if each.tag == "a"]
    assert links == [f"readings/{day}/{of[0]}.html" for day, of in zip(verdicts, ids, strict=True)]
    assert {each.text for each in read(root / "index.html").all("ul", "legend")[0].all("li")} == {
        "passed", "!passed with a warning", "◐rows quarantined", "✕failed", "·closed", "?missing", "nothing due",
    }  # fmt: skip
    same = [each for each in read(root / "readings" / "index.html").all("ul", "strip")[0] if "cell" in each.classes]
    assert [each.attributes["title"] for each in same] == [each.attributes["title"] for each in cells]
    bars = [each.text for each in read(root / "index.html").section(READINGS.title).all("g", "bar")]
    assert bars[2] == "Fri 15 Sep 2023: 1,234 rows"
    assert len(bars) == len(verdicts)


def test_a_closed_day_that_was_validated_shows_its_verdict(app: psycopg.Connection[Any], root: Path) -> None:
    store(app, day=date(2023, 9, 8))
    publish(app, store(app, day=date(2023, 9, 17)), root)

    cells = {str(each.attributes["title"]).split(":")[0]: each for each in strip(root)}
    assert cells["Sun 10 Sep 2023"].attributes["title"] == "Sun 10 Sep 2023: 2023-09-10 is a Sunday"
    assert cells["Sun 17 Sep 2023"].classes[1] == "passed"
    assert cells["Mon 18 Sep 2023"].classes[1] == "missing"


def test_a_day_that_the_calendar_does_not_cover_is_expected(
    app: psycopg.Connection[Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed_reason(day: date) -> str | None:
        raise PermanentError(f"{day} is outside the calendar")

    monkeypatch.setattr("include.datasets.DATASETS", (replace(READINGS, closed_reason=closed_reason), ROLLUPS))
    store(app, day=date(2023, 9, 15))
    publish(app, store(app, day=date(2023, 9, 18)), root)

    assert states(strip(root))[-8:] == [
        "none", "passed", "missing", "missing", "passed", "missing", "missing", "missing",
    ]  # fmt: skip


def test_a_day_shows_the_worst_suite_of_its_latest_run(app: psycopg.Connection[Any], root: Path) -> None:
    store(app, validation(FAILED))
    again = datetime(2023, 9, 22, 10, tzinfo=UTC)
    ids = store(app, validation(rows=5), validation(WARNED, suite="people", rows=6), started_at=again)
    publish(app, ids, root)

    [*_, last] = strip(root)
    assert last.attributes["title"] == "Thu 21 Sep 2023: passed with a warning, 11 rows"
    assert last.attributes["href"] == f"readings/{DAY}/{ids[0]}.html"


def on_weekdays(day: date) -> datetime:
    """Return 10:00 of the next weekday, as the `due` of a dataset whose runs are on weekdays."""
    following = day + timedelta(days={4: 3, 5: 2}.get(day.weekday(), 1))
    return datetime(following.year, following.month, following.day, 10, tzinfo=UTC)


WEEKDAYS = replace(READINGS, due=on_weekdays)


@pytest.mark.parametrize(
    ("dataset", "now", "last"),
    [
        (READINGS, datetime(2023, 9, 22, 9, 59, tzinfo=UTC), date(2023, 9, 20)),
        (READINGS, datetime(2023, 9, 22, 10, 0, tzinfo=UTC), date(2023, 9, 21)),
        (READINGS, datetime(2023, 9, 25, 11, 0, tzinfo=UTC), date(2023, 9, 24)),  # a Sunday, which is closed
        (READINGS, datetime(2023, 11, 17, 11, 0, tzinfo=UTC), date(2023, 11, 16)),
        (ROLLUPS, datetime(2023, 9, 22, 12, 59, tzinfo=UTC), date(2023, 9, 20)),
        (ROLLUPS, datetime(2023, 9, 22, 13, 0, tzinfo=UTC), date(2023, 9, 21)),
        (WEEKDAYS, datetime(2023, 9, 25, 9, 0, tzinfo=UTC), date(2023, 9, 21)),  # on Monday, Friday is not late yet
        (WEEKDAYS, datetime(2023, 9, 25, 11, 0, tzinfo=UTC), date(2023, 9, 24)),
    ],
)
def test_the_strip_ends_at_the_last_day_that_is_due(
    app: psycopg.Connection[Any],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Dataset,
    now: datetime,
    last: date,
) -> None:
    monkeypatch.setattr("include.datasets.DATASETS", (dataset,))
    ids = store(app, day=date(2023, 9, 19), checkpoint=dataset.name)
    assert report.publish(app, dataset.name, ids, str(root), now=now)

    cells = strip(root, dataset.title)
    assert str(cells[-1].attributes["title"]).startswith(f"{last:%a} {last.day} {last:%b} {last.year}:")
    assert "as of" not in read(root / "index.html").text


def test_a_day_that_is_validated_before_it_is_due_is_shown(app: psycopg.Connection[Any], root: Path) -> None:
    ids = store(app)
    assert report.publish(app, READINGS.name, ids, str(root), now=datetime(2023, 9, 22, 9, 0, 30, tzinfo=UTC))

    assert strip(root)[-1].attributes["title"] == "Thu 21 Sep 2023: passed, 24 rows"


@pytest.mark.parametrize("day", [date(2023, 3, 15), date(1, 1, 20)], ids=["a backfill", "the year 1"])
def test_the_strip_of_old_days_ends_at_the_latest_validated_day(
    app: psycopg.Connection[Any], root: Path, day: date
) -> None:
    store(app, day=day - timedelta(days=2), started_at=NOW)
    publish(app, store(app, day=day, started_at=NOW), root)

    cells = strip(root)
    assert states(cells)[-3:] == ["passed", "missing", "passed"]
    assert set(states(cells)[:-3]) <= {"none", "closed"}
    assert f"as of {day:%a} {day.day} {day:%b} {day.year}" in read(root / "index.html").section(READINGS.title).text


def test_a_day_in_the_future_does_not_hide_the_present(app: psycopg.Connection[Any], root: Path) -> None:
    publish(app, store(app, day=date(2062, 1, 2)), root)
    assert strip(root)[-1].attributes["title"] == "Mon 2 Jan 2062: passed, 24 rows"

    publish(app, store(app), root)
    assert strip(root)[-1].attributes["title"] == "Thu 21 Sep 2023: passed, 24 rows"


def test_a_checkpoint_without_a_dataset_is_expected_every_day(app: psycopg.Connection[Any], root: Path) -> None:
    store(app, day=date(2023, 9, 15), checkpoint="mine")
    publish(app, store(app, day=date(2023, 9, 18), checkpoint="mine"), root, "mine")

    assert states(strip(root, "mine"))[-6:] == ["passed", "missing", "missing", "passed", "missing", "missing"]
