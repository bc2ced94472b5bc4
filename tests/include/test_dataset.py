"""Declarations: what is derived from one, and the sentences that refuse those that cannot work."""

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from include import datasets
from include.dataset import (
    PLATFORM_CONNECTIONS,
    Dataset,
    InvalidDeclaration,
    Table,
    View,
    always_open,
    check_distinct,
    name_flaw,
    next_day_at,
    repeated,
    suite_name,
)
from include.errors import PermanentError
from tests.toy import READINGS, ROLLUPS

TABLE = cast(Table, READINGS.publishes[0])
VIEW = cast(View, ROLLUPS.publishes[0])
OTHER = Table("other", key=("day",), day="day")


def declare(**changes: Any) -> Dataset:
    return replace(READINGS, **changes)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"the name {name!r:.20}": (
            {"name": name},
            f"name is {name!r}: use up to 40 lower-case letters, digits and underscores, beginning with a letter.",
        )
        for name in ("", "Readings", "1st", "_readings", "two words", "read-ings", "a.b", "a;b", "lecture_é", "a" * 41)
    },
    **{
        f"the name {name}": (
            {"name": name},
            f"name is {name!r}: a schema of the platform or of Postgres has such a name, so choose another.",
        )
        for name in (
            "warehouse",
            "quality",
            "public",
            "information_schema",
            "pg_catalog",
            "pg_mine",
            "readings_staging",
        )
    },
    **{
        f"{label} {value!r}": ({label: value}, f"{label} is empty: fill it in.")
        for label in ("title", "owner", "connection")
        for value in ("", " \n")
    },
    **{
        f"the connection {value!r}": (
            {"connection": value},
            f"connection is {value!r}: use lower-case letters, digits and _, and none of "
            f"{', '.join(PLATFORM_CONNECTIONS)}.",
        )
        for value in ("Postgres", "a conn", *PLATFORM_CONNECTIONS)
    },
    "a time without a zone": (
        {"due": lambda day: datetime(2023, 8, 2)},
        "due returns a time without a time zone: return it in UTC.",
    ),
    "no time": (
        {"due": lambda day: None},
        "due cannot say when 2023-08-01 is late ('NoneType' object has no attribute 'utcoffset'): "
        "return a datetime in UTC.",
    ),
    "nothing": ({"publishes": ()}, "publishes is empty: declare a Table or a View."),
    "no comma after the only table": (
        {"publishes": TABLE},
        "publishes is not a tuple: write a comma after a single Table or View.",
    ),
    "a list": ({"publishes": [TABLE]}, "publishes is not a tuple: write a comma after a single Table or View."),
    "tables and views": (
        {"publishes": (TABLE, VIEW)},
        "publishes has tables and views: make two datasets of them, they are published differently.",
    ),
    "two tables of one name": (
        {"publishes": (TABLE, replace(TABLE, suite="another"))},
        "two of what it publishes have the name measured: give each one of its own.",
    ),
    "two tables with one suite": (
        {"publishes": (TABLE, replace(OTHER, suite="measured"))},
        "two of what it publishes have the suite measured: give each one of its own.",
    ),
    **{
        f"the table {name!r:.20}": (
            {"publishes": (replace(TABLE, name=name),)},
            f"{name!r}: a table's or view's name has lower-case letters, digits and _ only.",
        )
        for name in ("", "Measured", "1st", "two words", "a.b", "a;b", "é", "a" * 64)
    },
    "the view Totals": (
        {"publishes": (replace(VIEW, name="Totals"),)},
        "'Totals': a table's or view's name has lower-case letters, digits and _ only.",
    ),
    "no key": (
        {"publishes": (replace(VIEW, key=()),)},
        "busiest has the key (): name the columns that identify a row, each once.",
    ),
    "a column twice in the key": (
        {"publishes": (replace(VIEW, key=("sensor", "sensor")),)},
        "busiest has the key ('sensor', 'sensor'): name the columns that identify a row, each once.",
    ),
    "no comma after the only column of the key": (
        {"publishes": (replace(VIEW, key=cast(Any, "sensor")),)},
        "busiest has the key 'sensor', not a tuple: write a comma after a single column.",
    ),
    "a day that is not in the key": (
        {"publishes": (replace(TABLE, day="measured_on"),)},
        "measured has the day column 'measured_on', which is not in its key: days would overlap.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_declaration_that_cannot_work_is_refused_with_what_to_change(kind: str) -> None:
    changes, message = REFUSED[kind]

    with pytest.raises(InvalidDeclaration) as refused:
        declare(**changes)

    assert str(refused.value) == f"include/datasets/readings/dataset.py: {message}"


def test_a_long_name_that_is_refused_is_cut() -> None:
    with pytest.raises(InvalidDeclaration) as refused:
        declare(name="a" * 1000)

    assert len(str(refused.value)) < 250


def test_no_retry_is_made_for_a_refused_declaration() -> None:
    assert issubclass(InvalidDeclaration, PermanentError)


@pytest.mark.parametrize("name", ["a", "a1", "a_1", "a" * 40, "staging", "warehouse_2"])
def test_every_other_name_is_accepted(name: str) -> None:
    assert name_flaw(name) is None
    assert declare(name=name).name == name


def test_the_longest_names_are_identifiers_of_postgres() -> None:
    longest = declare(name="a" * 40, publishes=(replace(TABLE, name="b" * 63),))

    assert max(map(len, [*longest.staging_name(longest.publishes[0]).split("."), f"migrations_{longest.name}"])) <= 63


def test_a_declaration_cannot_be_changed_once_it_was_checked() -> None:
    with pytest.raises(FrozenInstanceError):
        READINGS.name = "another"  # type: ignore[misc]


def test_every_name_is_derived_from_the_declaration() -> None:
    assert (READINGS.views, ROLLUPS.views) == (False, True)
    assert ROLLUPS.published_names == ["rollups.busiest", "rollups.totals"]
    assert ROLLUPS.staging_schema == "rollups_staging"
    assert [ROLLUPS.staging_name(view) for view in ROLLUPS.publishes] == [
        "rollups_staging.busiest",
        "rollups_staging.totals",
    ]
    assert ROLLUPS.query_path(VIEW) == ROLLUPS.folder / "busiest.sql"


@pytest.mark.parametrize(
    ("dataset", "label"),
    [
        (READINGS, "readings.measured"),
        (replace(READINGS, publishes=(TABLE, OTHER)), "readings"),  # published and rolled back together
        (ROLLUPS, "rollups"),
        (replace(ROLLUPS, publishes=(VIEW,)), "rollups"),
    ],
    ids=["a table", "two tables", "two views", "one view"],
)
def test_what_is_published_as_one_has_one_label(dataset: Dataset, label: str) -> None:
    assert dataset.label == label


@pytest.mark.parametrize("each", [TABLE, VIEW])
def test_a_suite_has_the_name_of_its_table_or_view_unless_it_is_given(each: Table | View) -> None:
    assert suite_name(each) == each.name
    assert suite_name(replace(each, suite="its_own")) == "its_own"


@pytest.mark.parametrize(("names", "twice"), [([], None), (["a", "b"], None), (["a", "b", "c", "b", "a"], "b")])
def test_the_first_name_that_is_there_twice_is_found(names: list[str], twice: str | None) -> None:
    assert repeated(iter(names)) == twice


def test_a_dataset_without_closed_days_is_always_open() -> None:
    assert replace(READINGS, closed_reason=always_open).closed_reason(date(2023, 8, 6)) is None


def test_a_day_is_late_at_an_hour_of_the_next_one() -> None:
    assert next_day_at(13)(date(2023, 12, 31)) == datetime(2024, 1, 1, 13, tzinfo=UTC)


def test_two_datasets_of_one_name_are_refused() -> None:
    check_distinct([READINGS, ROLLUPS])

    with pytest.raises(InvalidDeclaration) as refused:
        check_distinct([READINGS, ROLLUPS, replace(ROLLUPS, name="readings")])

    assert str(refused.value) == "include/datasets/__init__.py: two datasets have the name readings: rename one."


@pytest.mark.parametrize("suite", ["measured", ""])
def test_a_suite_of_two_datasets_is_refused(suite: str) -> None:
    view = View("totals" if suite else "measured", key=("day",), suite=suite)

    with pytest.raises(InvalidDeclaration) as refused:
        check_distinct([READINGS, replace(ROLLUPS, publishes=(view,))])

    assert str(refused.value) == (
        "include/datasets: two tables or views have the suite measured: give each one of its own."
    )


@pytest.mark.parametrize("dataset", datasets.DATASETS, ids=lambda dataset: dataset.name)
def test_a_dataset_lives_in_the_folder_of_its_schema(dataset: Dataset) -> None:
    assert dataset.folder == Path(datasets.__file__).parent / dataset.schema
    assert (dataset.folder / "dataset.py").exists()


@pytest.mark.parametrize("dataset", datasets.DATASETS, ids=lambda dataset: dataset.name)
def test_a_dataset_says_for_each_day_when_it_is_late_and_why_it_is_closed(dataset: Dataset) -> None:
    for day in (date(2023, 8, 1) + timedelta(days=number) for number in range(31)):
        assert dataset.due(day).utcoffset() == timedelta(0)
        reason = dataset.closed_reason(day)
        assert reason is None or (isinstance(reason, str) and reason)


def test_the_list_of_datasets_is_checked_when_it_is_imported() -> None:
    assert "\ncheck_distinct(DATASETS)\n" in Path(datasets.__file__).read_text()
