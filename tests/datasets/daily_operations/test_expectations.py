"""Every expectation of the views' suites, one by one: a row, or a batch, that it alone catches."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
import pytest

from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.quality.gate import gate
from include.quality.outcome import Finding, Outcome
from local.login import Login
from local.state import State
from tests.conftest import fresh_warehouse
from tests.datasets.daily_operations.resort import (
    ADMISSION,
    DAY,
    GOOD,
    LABOR,
    ORDERS,
    RESORT,
    SELLERS,
    VIEWS,
    Rows,
    as_app,
    expectations,
    fill,
    refresh,
    staging_table,
    view,
)

OF_THE_DAY = "every row is of the run's day"
ADMITTED = "tickets and revenue add up to those of guest_attendance"
NOT_NEGATIVE = "quantities and revenues are finite and not negative"
ORDERED = "items and quantities are those that inventory marks for ordering"
BEST = "every location of item_sales has its best-selling items, and no others"
WORKED = "hours and earnings add up to those of labor"
EARNED = "hours and earnings are finite and not negative"
AFTER_TAX = "nobody earns more after tax than before"
LONG, TOO_LONG = "nobody works more than 12 hours a day on average", "nobody works more than 24 hours a day"

SOURCES = {ADMISSION: "guest_attendance", ORDERS: "inventory", SELLERS: "item_sales", LABOR: "labor"}
NAMES = {ADMISSION: "entrance_name", ORDERS: "item_name", SELLERS: "location_name", LABOR: "employee_name"}
"""The column of each view that says which bad row is meant."""

Caught = dict[tuple[str, str | None], set[tuple[str, str]]]


@dataclass(frozen=True)
class BadRow:
    """A row of a view that only one expectation catches. No other row has its name."""

    view: str
    caught_by: str
    name: str | None
    source: Rows = ()
    """Rows of the view's source table, there before the refresh."""
    change: str = ""
    """A statement on the staging table `{table}`, after the refresh; the batch is the condition `{batch}`."""
    also: tuple[str, ...] = ()
    """Expectations that catch it as well, since no row can fail one without the other."""
    severity: str = "critical"

    def __str__(self) -> str:
        return f"{self.view}: {self.caught_by}: {self.name}"


@dataclass(frozen=True)
class BadBatch:
    """A batch of a view that only one expectation catches."""

    view: str
    caught_by: str
    what: str
    change: str = ""
    """A statement on the staging table `{table}`, after the refresh; the batch is the condition `{batch}`."""
    source: Mapping[str, Rows] = field(default_factory=dict)
    """The rows of source tables that differ from the good ones."""
    severity: str = "critical"

    def __str__(self) -> str:
        return f"{self.view}: {self.caught_by}: {self.what}"


def neutral(view: str, name: str) -> tuple[object, ...]:
    """Return a good source row. Its figures are zero, so that no sum changes when they become null."""
    return {
        ADMISSION: (DAY, name, 0, 0),
        ORDERS: (DAY, name, 5, True),
        SELLERS: (DAY, name, "Coffee", 7, 3),
        LABOR: (DAY, name, 0, 0, 0),
    }[view]


def update(view: str, caught_by: str, name: str, assignments: str, *also: str) -> BadRow:
    change = f"update {{table}} set {assignments} where {{batch}} and {NAMES[view]} = '{name}'"
    return BadRow(view, caught_by, name, [neutral(view, name)], change, also)


def null(view: str, column: str, *also: str) -> BadRow:
    bad = update(view, f"{column} is never empty", f"No {column}", f"{column} = null", *also)
    return replace(bad, name=None) if column == NAMES[view] else bad


def twice(view: str, caught_by: str) -> BadRow:
    change = f"insert into {{table}} select * from {{table}} where {{batch}} and {NAMES[view]} = 'Twice'"
    return BadRow(view, caught_by, "Twice", [neutral(view, "Twice")], change)


def absent(view: str, caught_by: str, name: str, source: Rows, where: str = "true") -> BadRow:
    change = f"delete from {{table}} where {{batch}} and {NAMES[view]} = '{name}' and {where}"
    return BadRow(view, caught_by, name, source, change)


def invented(view: str, caught_by: str, name: str, figures: str) -> BadRow:
    change = f"insert into {{table}} select distinct batch_id, now(), {figures} from {{table}} where {{batch}}"
    return BadRow(view, caught_by, name, change=change)


def admitted(caught_by: str, name: str, price: object, quantity: int, severity: str = "critical") -> BadRow:
    return BadRow(ADMISSION, caught_by, name, [(DAY, name, price, quantity)], severity=severity)


def worked(caught_by: str, name: str, *figures: object) -> BadRow:
    return BadRow(LABOR, caught_by, name, [(DAY, name, *figures)])


def every_day(name: str, hours: int) -> list[tuple[object, ...]]:
    """Return the source rows of somebody who worked so many hours on each day from 1 January on."""
    days = range(date(DAY.year, 1, 1).toordinal(), DAY.toordinal() + 1)
    return [(date.fromordinal(day), name, hours, 100, 50) for day in days]


# All of these are in one batch, since each gate takes half a second. The sums are those of the source tables.
ROWS = [
    null(ADMISSION, "admission_date"),
    null(ADMISSION, "entrance_name"),
    null(ADMISSION, "total_quantity_sold"),
    null(ADMISSION, "total_gross_revenue"),
    twice(ADMISSION, "one row per entrance"),
    update(ADMISSION, OF_THE_DAY, "The day before", "admission_date = '2023-07-31'"),
    admitted(NOT_NEGATIVE, "Fewer than none", 0, -1),
    admitted(NOT_NEGATIVE, "Money returned", -1, 1),
    admitted(NOT_NEGATIVE, "No number", "NaN", 3),
    admitted("an entrance sells at most 20,000 tickets a day", "One too many", 1, 20001, "warning"),
    null(ORDERS, "inventory_date"),
    null(ORDERS, "item_name", ORDERED),  # no source has an item without a name, or without a count
    BadRow(ORDERS, ORDERED, "No item_name"),
    null(ORDERS, "quantity_on_hand", ORDERED),
    twice(ORDERS, "one row per item"),
    update(ORDERS, OF_THE_DAY, "The day after", "inventory_date = '2023-08-02'"),
    BadRow(ORDERS, "quantities are not negative", "Negative", [(DAY, "Negative", -1, True)]),
    update(ORDERS, ORDERED, "Another count", "quantity_on_hand = quantity_on_hand + 1"),
    absent(ORDERS, ORDERED, "Absent", [neutral(ORDERS, "Absent")]),
    invented(ORDERS, ORDERED, "Map", "date '2023-08-01', 'Map', 90"),  # counted, and not marked
    invented(ORDERS, ORDERED, "Nonesuch", "date '2023-08-01', 'Nonesuch', 0"),
    null(SELLERS, "sales_date"),
    null(SELLERS, "location_name", BEST),
    BadRow(SELLERS, BEST, "No location_name"),
    null(SELLERS, "item_name", BEST),
    null(SELLERS, "quantity_rank"),
    twice(SELLERS, "one row per location and item"),
    update(SELLERS, OF_THE_DAY, "A year before", "sales_date = '2022-08-01'"),
    update(SELLERS, "every rank is 1", "Second", "quantity_rank = 2"),
    update(SELLERS, "every rank is 1", "Zeroth", "quantity_rank = 0"),
    BadRow(
        SELLERS,
        "at most ten items of a location tie",
        "Eleven",
        [(DAY, "Eleven", f"Item {number}", 3, 1) for number in range(11)],
        severity="warning",
    ),
    absent(SELLERS, BEST, "Absent", [neutral(SELLERS, "Absent")]),
    absent(
        SELLERS,
        BEST,
        "Half a tie",
        [(DAY, "Half a tie", item, 7, 3) for item in ("Coffee", "Map")],
        "item_name = 'Map'",
    ),
    update(SELLERS, BEST, "Another item", "item_name = 'Lemonade'"),
    invented(SELLERS, BEST, "Sold nothing", "date '2023-08-01', 'Sold nothing', 'Coffee', 1"),
    null(LABOR, "employee_name"),
    null(LABOR, "ytd_hours_worked"),
    null(LABOR, "ytd_pre_tax_earnings"),
    null(LABOR, "ytd_post_tax_earnings"),
    twice(LABOR, "one row per employee"),
    worked(EARNED, "Negative hours", -1, 20, 10),
    worked(EARNED, "Negative after tax", 1, 20, -10),
    worked(EARNED, "Negative before tax", 1, -10, -20),
    worked(EARNED, "No number", 1, "NaN", "NaN"),
    worked(EARNED, "No number before tax", 1, "NaN", 5),
    worked(AFTER_TAX, "A cent more", 1, "10.00", "10.01"),
    BadRow(LABOR, TOO_LONG, "25 hours", every_day("25 hours", 25), also=(LONG,)),
    BadRow(LABOR, LONG, "13 hours", every_day("13 hours", 13), severity="warning"),
]


def update_batch(view: str, caught_by: str, what: str, assignments: str, where: str) -> BadBatch:
    return BadBatch(view, caught_by, what, f"update {{table}} set {assignments} where {{batch}} and {where}")


def delete_batch(view: str, caught_by: str, what: str, where: str = "true", **source: Rows) -> BadBatch:
    return BadBatch(view, caught_by, what, f"delete from {{table}} where {{batch}} and {where}", source)


BATCHES = [
    BadBatch(ADMISSION, "the day has admissions", "none", source={"guest_attendance": []}),
    BadBatch(
        ADMISSION,
        "there are at most 50 entrances",
        "51",
        source={"guest_attendance": [(DAY, f"Door {number}", 1, 1) for number in range(51)]},
        severity="warning",
    ),
    update_batch(ADMISSION, ADMITTED, "a ticket more", "total_quantity_sold = 5", "entrance_name = 'Pier'"),
    update_batch(ADMISSION, ADMITTED, "a cent more", "total_gross_revenue = 200.01", "entrance_name = 'Pier'"),
    delete_batch(ADMISSION, ADMITTED, "an entrance is absent", "entrance_name = 'Pier'"),
    BadBatch(
        ORDERS,
        "at most 500 items are to be ordered",
        "501",
        source={"inventory": [(DAY, f"Item {number}", 1, True) for number in range(501)]},
        severity="warning",
    ),
    BadBatch(
        ORDERS,
        "the inventory of the day was counted",
        "only the day before",
        source={"inventory": [(date(2023, 7, 31), "Coffee", 1, True)]},
    ),
    delete_batch(ORDERS, ORDERED, "all are absent"),
    BadBatch(SELLERS, "the day has sales", "none", source={"item_sales": []}),
    # Zero hours: without a row for the day, another expectation would catch it.
    delete_batch(LABOR, "somebody worked since 1 January", "nobody", labor=[(DAY, "Cy", 0, 0, 0)]),
    BadBatch(LABOR, "labor has the run's day", "only days before", source={"labor": every_day("Dee", 8)[:-1]}),
    update_batch(LABOR, WORKED, "a quarter of an hour more", "ytd_hours_worked = 4.25", "employee_name = 'Ben'"),
    update_batch(LABOR, WORKED, "a cent more before tax", "ytd_pre_tax_earnings = 80.01", "employee_name = 'Ben'"),
    update_batch(LABOR, WORKED, "a cent less after tax", "ytd_post_tax_earnings = 59.99", "employee_name = 'Ben'"),
    delete_batch(LABOR, WORKED, "an employee is absent", "employee_name = 'Ben'"),
]
BAD: list[BadRow | BadBatch] = [*ROWS, *BATCHES]
SEVERITIES = {(bad.view, bad.caught_by): bad.severity for bad in BAD}

YOURS: list[BadBatch] = []
"""A batch for each expectation that you add. What is above may fail your expectation, too."""


@pytest.fixture(scope="module")
def warehouse(postgres: Login) -> Iterator[Login]:
    """Return one warehouse for all of these batches; the source tables are filled for each."""
    with fresh_warehouse(postgres) as login:
        yield login


def put(admin: psycopg.Connection[Any], **source: Rows) -> None:
    """Fill the source tables with these rows, and no others."""
    for table in SOURCES.values():
        admin.execute(f"delete from {DAILY_OPERATIONS.name}.{table}".encode())
    fill(admin, **source)
    admin.commit()


def change(admin: psycopg.Connection[Any], batch_id: UUID, *bad: BadRow | BadBatch) -> None:
    """Change the staged rows of a batch."""
    for each in bad:
        statement = each.change.format(table=staging_table(each.view), batch=f"batch_id = '{batch_id}'")
        admin.execute(statement.encode())
    admin.commit()


def check(app: psycopg.Connection[Any], batch_id: UUID, *views: str, day: date = DAY) -> Outcome:
    """Run the gate on some views, as the validate task does on all."""
    dataset = replace(DAILY_OPERATIONS, publishes=tuple(view(name) for name in views)) if views else RESORT
    return gate(app, dataset, batch_id, day)


def our_failures(outcome: Outcome) -> list[Finding]:
    """Return what failed, apart from expectations that were added."""
    return [finding for finding in outcome.failures if (finding.suite, finding.expectation) in SEVERITIES]


def identity(view: str, sampled: Mapping[str, Any]) -> str | None:
    """Return the name of a sampled row: of the view's, or of the source's when the view has none."""
    name: str | None = sampled.get(NAMES[view]) or sampled.get(f"source_{NAMES[view]}")
    return name


@pytest.fixture(scope="module")
def admin(warehouse: Login) -> Iterator[psycopg.Connection[Any]]:
    with warehouse.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def app(warehouse: Login, state: State) -> Iterator[psycopg.Connection[Any]]:
    with as_app(warehouse, state).connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def bad_rows(admin: psycopg.Connection[Any], app: psycopg.Connection[Any]) -> tuple[UUID, Caught]:
    """Return a batch with the good rows and all bad ones, and which expectations each of them fails."""
    extra = {table: [row for bad in ROWS if SOURCES[bad.view] == table for row in bad.source] for table in GOOD}
    put(admin, **{table: [*rows, *extra[table]] for table, rows in GOOD.items()})
    batch_id = refresh(app)
    change(admin, batch_id, *(bad for bad in ROWS if bad.change))
    found: Caught = defaultdict(set)
    for name in VIEWS:  # one by one: only for a single view, the result names the rows by their key
        for finding in our_failures(check(app, batch_id, name)):
            for sampled in finding.sample:
                found[name, identity(name, sampled)].add((finding.expectation, finding.severity))
    return batch_id, found


@pytest.mark.parametrize("bad", ROWS, ids=str)
def test_one_expectation_alone_catches_the_row(bad_rows: tuple[UUID, Caught], bad: BadRow) -> None:
    _, caught = bad_rows

    assert caught[bad.view, bad.name] == {(name, SEVERITIES[bad.view, name]) for name in (bad.caught_by, *bad.also)}


def test_good_rows_beside_bad_ones_fail_nothing(bad_rows: tuple[UUID, Caught]) -> None:
    _, caught = bad_rows

    assert set(caught) == {(bad.view, bad.name) for bad in ROWS}


def test_one_gate_for_all_views_catches_the_same(app: psycopg.Connection[Any], bad_rows: tuple[UUID, Caught]) -> None:
    batch_id, _ = bad_rows

    outcome = check(app, batch_id)

    assert {(finding.suite, finding.expectation) for finding in our_failures(outcome)} == {
        (bad.view, name) for bad in ROWS for name in (bad.caught_by, *bad.also)
    }


@pytest.mark.parametrize("bad", [*BATCHES, *YOURS], ids=str)
def test_one_expectation_alone_catches_the_batch(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any], bad: BadBatch
) -> None:
    put(admin, **{**GOOD, **bad.source})
    batch_id = refresh(app, DAY, bad.view)
    if bad.change:
        change(admin, batch_id, bad)

    outcome = check(app, batch_id, bad.view)

    found = our_failures(outcome) if bad in BATCHES else outcome.failures
    assert [(each.expectation, each.severity) for each in found] == [(bad.caught_by, bad.severity)]
    assert outcome.verdict == ("failed" if bad.severity == "critical" else "warned")


def test_every_expectation_has_a_batch_that_it_alone_catches() -> None:
    names = [(name, expectation) for name, expectation, _ in expectations()]
    assert len(names) == len(set(names)), "give each expectation a description of its own: reports and alerts show it"
    missing = [each for each in names if each not in {(bad.view, bad.caught_by) for bad in [*BAD, *YOURS]}]
    assert missing == [], f"add to YOURS in this file a BadBatch that only this expectation catches: {missing}"


def test_good_batches_pass(admin: psycopg.Connection[Any], app: psycopg.Connection[Any]) -> None:
    put(admin, **GOOD)

    outcome = check(app, refresh(app))

    assert (outcome.verdict, outcome.failures) == ("passed", [])
    assert sorted((each.suite, each.expectation, each.severity) for each in outcome.findings) == sorted(expectations())


def test_batches_at_every_limit_pass(admin: psycopg.Connection[Any], app: psycopg.Connection[Any]) -> None:
    day = date(2024, 2, 29)
    since = range(date(2024, 1, 1).toordinal(), day.toordinal() + 1)
    put(
        admin,
        guest_attendance=[(day, f"Door {number}", "0.00", 20000) for number in range(50)],
        inventory=[(day, f"Item {number}", 0, True) for number in range(500)],
        item_sales=[(day, "Kiosk", f"Item {number}", 0, 1) for number in range(10)],
        labor=[(date.fromordinal(each), "Dee", 12, 100, 100) for each in since],
    )

    assert our_failures(check(app, refresh(app, day), day=day)) == []


def test_a_day_on_which_nothing_is_to_be_ordered_is_a_good_one(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    put(admin, inventory=[(DAY, "Coffee", 5, False)])

    assert our_failures(check(app, refresh(app, DAY, ORDERS), ORDERS)) == []


def test_a_batch_that_does_not_exist_is_caught_by_every_suite(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    put(admin, **GOOD)

    outcome = check(app, UUID(int=0))

    assert {each.suite for each in our_failures(outcome) if each.severity == "critical"} == set(VIEWS)
