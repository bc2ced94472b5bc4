"""Every expectation of the views' suites, one by one: snapshots that it alone catches."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
import pytest
from include.daily_operations.views import PUBLIC, SNAPSHOTS
from tests.include.daily_operations.resort import DAY, GOOD, VIEWS, Rows, expectations, fill, refresh

from include.quality.gate import gate
from include.quality.outcome import Outcome
from local.login import Login
from tests.conftest import fresh_warehouse

ADMISSION, ORDERS, SELLERS, LABOR = VIEWS

OF_THE_DAY = "every row is of the run's day"
ADMITTED = "tickets and revenue add up to those of guest_attendance"
NOT_NEGATIVE = "quantities and revenues are finite and not negative"
ORDERED = "items and quantities are those that inventory marks for ordering"
BEST = "every location of item_sales has its best-selling items, and no others"
WORKED = "hours and earnings add up to those of labor"
EARNED = "hours and earnings are finite and not negative"
LONG, TOO_LONG = "nobody works more than 12 hours a day on average", "nobody works more than 24 hours a day"
WARNINGS = {
    "there are at most 50 entrances",
    "an entrance sells at most 20,000 tickets a day",
    "at most 500 items are to be ordered",
    "at most ten items of a location tie",
    LONG,
}


@dataclass(frozen=True)
class Mutation:
    """What is wrong with the snapshots of one view, and who says so."""

    view: str
    caught_by: str
    what: str
    change: str = ""
    """A statement on the snapshots, which are `{these}`, as a condition, of the table `{table}`."""
    source: dict[str, Rows] = field(default_factory=dict)
    """Other rows of source tables, there before the refresh."""
    also: tuple[str, ...] = ()
    """Who cannot but say so, too."""

    def __str__(self) -> str:
        return f"{self.view}: {self.caught_by}: {self.what}"


def update(view: str, caught_by: str, what: str, change: str, where: str, *also: str) -> Mutation:
    return Mutation(view, caught_by, what, f"update {{table}} set {change} where {{these}} and {where}", also=also)


def null(view: str, column: str, where: str, *also: str) -> Mutation:
    return update(view, f"{column} is never empty", "null", f"{column} = null", where, *also)


def delete(view: str, caught_by: str, what: str, where: str) -> Mutation:
    return Mutation(view, caught_by, what, f"delete from {{table}} where {{these}} and {where}")


def insert(view: str, caught_by: str, what: str, row: str, where: str = "true") -> Mutation:
    change = f"insert into {{table}} select batch_id, now(), {row} from {{table}} where {{these}} and {where} limit 1"
    return Mutation(view, caught_by, what, change)


def admitted(caught_by: str, what: str, *rows: tuple[object, ...]) -> Mutation:
    attendance = [*GOOD["guest_attendance"], *((DAY, *row) for row in rows)]
    return Mutation(ADMISSION, caught_by, what, source={"guest_attendance": attendance})


def worked(caught_by: str, what: str, *figures: object) -> Mutation:
    return Mutation(LABOR, caught_by, what, source={"labor": [*GOOD["labor"], (DAY, "Dee", *figures)]})


def every_day(hours: int) -> list[tuple[object, ...]]:
    """Give the source rows of one who worked so many hours on each day from 1 January on."""
    days = range(date(DAY.year, 1, 1).toordinal(), DAY.toordinal() + 1)
    return [(date.fromordinal(day), "Dee", hours, 100, 50) for day in days]


MUTATIONS = [
    Mutation(ADMISSION, "the day has admissions", "none", source={"guest_attendance": []}),
    admitted("there are at most 50 entrances", "51", *((f"Door {number}", 1, 1) for number in range(48))),
    null(ADMISSION, "admission_date", "entrance_name = 'Pier'"),
    null(ADMISSION, "entrance_name", "entrance_name = 'Pier'"),
    null(ADMISSION, "total_quantity_sold", "entrance_name = 'Lift'"),
    null(ADMISSION, "total_gross_revenue", "entrance_name = 'Lift'"),
    insert(ADMISSION, "one row an entrance", "twice the same", "admission_date, 'Lift', 0, 0"),
    update(ADMISSION, OF_THE_DAY, "the day before", "admission_date = '2023-07-31'", "entrance_name = 'Pier'"),
    admitted(NOT_NEGATIVE, "fewer than none", ("Back Door", 0, -1)),
    admitted(NOT_NEGATIVE, "money given back", ("Back Door", -1, 1)),
    admitted("an entrance sells at most 20,000 tickets a day", "20,001", ("Back Door", 1, 20001)),
    update(ADMISSION, ADMITTED, "a ticket", "total_quantity_sold = 5", "entrance_name = 'Pier'"),
    update(ADMISSION, ADMITTED, "a cent", "total_gross_revenue = 200.01", "entrance_name = 'Pier'"),
    delete(ADMISSION, ADMITTED, "an entrance is absent", "entrance_name = 'Pier'"),
    Mutation(
        ORDERS,
        "at most 500 items are to be ordered",
        "501",
        source={"inventory": [(DAY, f"Item {number}", 1, True) for number in range(501)]},
    ),
    null(ORDERS, "inventory_date", "item_name = 'Coffee'"),
    null(ORDERS, "item_name", "item_name = 'Coffee'", ORDERED),
    null(ORDERS, "quantity_on_hand", "item_name = 'Coffee'", ORDERED),
    insert(ORDERS, "one row an item", "twice the same", "inventory_date, item_name, quantity_on_hand"),
    update(ORDERS, OF_THE_DAY, "the day after", "inventory_date = '2023-08-02'", "item_name = 'Coffee'"),
    Mutation(ORDERS, "quantities are not negative", "negative", source={"inventory": [(DAY, "Coffee", -1, True)]}),
    update(ORDERS, ORDERED, "another count", "quantity_on_hand = quantity_on_hand + 1", "item_name = 'Coffee'"),
    Mutation(
        ORDERS,
        "the inventory of the day was counted",
        "only the day before's",
        source={"inventory": [(date(2023, 7, 31), "Coffee", 1, True)]},
    ),
    delete(ORDERS, ORDERED, "one is absent", "item_name = 'Coffee'"),
    delete(ORDERS, ORDERED, "all are absent", "true"),
    insert(ORDERS, ORDERED, "one that is not marked", "inventory_date, 'Map', 90"),
    insert(ORDERS, ORDERED, "one that was not counted", "inventory_date, 'Nonesuch', 0"),
    Mutation(SELLERS, "the day has sales", "none", source={"item_sales": []}),
    null(SELLERS, "sales_date", "location_name = 'Lodge'"),
    null(SELLERS, "location_name", "location_name = 'Lodge'", BEST),
    null(SELLERS, "item_name", "location_name = 'Lodge'", BEST),
    null(SELLERS, "quantity_rank", "location_name = 'Lodge'"),
    insert(SELLERS, "one row a location and item", "twice the same", "sales_date, 'Lodge', 'Coffee', 1"),
    update(SELLERS, OF_THE_DAY, "a year before", "sales_date = '2022-08-01'", "location_name = 'Lodge'"),
    update(SELLERS, "every rank is 1", "two", "quantity_rank = 2", "location_name = 'Lodge'"),
    update(SELLERS, "every rank is 1", "zero", "quantity_rank = 0", "location_name = 'Lodge'"),
    Mutation(
        SELLERS,
        "at most ten items of a location tie",
        "eleven",
        source={"item_sales": [(DAY, "Kiosk", f"Item {number}", 3, 1) for number in range(11)]},
    ),
    delete(SELLERS, BEST, "a location is absent", "location_name = 'Lodge'"),
    delete(SELLERS, BEST, "one of two that tie is absent", "item_name = 'Lemonade'"),
    update(SELLERS, BEST, "the second best", "item_name = 'Lemonade'", "location_name = 'Lodge'"),
    insert(SELLERS, BEST, "a location that sold nothing", "sales_date, 'Nowhere', 'Coffee', 1"),
    # Hours of none: without them it would be labor that lacks the day.
    Mutation(
        LABOR,
        "somebody worked since 1 January",
        "nobody",
        "delete from {table} where {these}",
        source={"labor": [(DAY, "Cy", 0, 0, 0)]},
    ),
    null(LABOR, "employee_name", "employee_name = 'Ada'"),
    null(LABOR, "ytd_hours_worked", "employee_name = 'Cy'"),
    null(LABOR, "ytd_pre_tax_earnings", "employee_name = 'Cy'"),
    null(LABOR, "ytd_post_tax_earnings", "employee_name = 'Cy'"),
    insert(LABOR, "one row an employee", "twice the same", "'Cy', 0, 0, 0"),
    worked(EARNED, "hours", -1, 20, 10),
    worked(EARNED, "after tax", 1, 20, -10),
    worked(EARNED, "before tax, too", 1, -10, -20),
    worked("nobody earns more after tax than before", "a cent", 1, "10.00", "10.01"),
    Mutation(LABOR, TOO_LONG, "25 hours", source={"labor": every_day(25)}, also=(LONG,)),
    Mutation(LABOR, LONG, "13 hours", source={"labor": every_day(13)}),
    Mutation(LABOR, "labor has the run's day", "only days before", source={"labor": every_day(8)[:-1]}),
    update(LABOR, WORKED, "a quarter of an hour", "ytd_hours_worked = 4.25", "employee_name = 'Ben'"),
    update(LABOR, WORKED, "a cent before tax", "ytd_pre_tax_earnings = 80.01", "employee_name = 'Ben'"),
    update(LABOR, WORKED, "a cent after tax", "ytd_post_tax_earnings = 59.99", "employee_name = 'Ben'"),
    delete(LABOR, WORKED, "an employee is absent", "employee_name = 'Ben'"),
]


@pytest.fixture(scope="module")
def warehouse(postgres: Login) -> Iterator[Login]:
    """Give one warehouse for all, which each test fills anew."""
    with fresh_warehouse(postgres) as login:
        yield login


@pytest.fixture
def admin(warehouse: Login) -> Iterator[psycopg.Connection[Any]]:
    with warehouse.connect(autocommit=True) as connection:
        yield connection
        connection.execute("delete from daily_operations.guest_attendance; delete from daily_operations.inventory")
        connection.execute("delete from daily_operations.item_sales; delete from daily_operations.labor")


def check(app: psycopg.Connection[Any], batch_id: UUID, *views: str, day: date = DAY) -> Outcome:
    """Run the gate on the snapshots of some views, as the validate task does on those of all."""
    batches = {view: f"{SNAPSHOTS}.{view}" for view in views}
    return gate(app, PUBLIC, batch_id, day, batches)


def make(admin: psycopg.Connection[Any], app: psycopg.Connection[Any], *mutations: Mutation) -> UUID:
    """Refresh all views of the good source rows, but for what is wrong."""
    source = dict(GOOD)
    for mutation in mutations:
        source.update(mutation.source)
    fill(admin, **source)
    batch_id = refresh(app)
    for mutation in mutations:
        table = f"{SNAPSHOTS}.{mutation.view}"
        admin.execute(mutation.change.format(table=table, these=f"batch_id = '{batch_id}'").encode())
    return batch_id


def told(outcome: Outcome) -> set[tuple[str, str]]:
    found = [(f"{each.suite}: {each.expectation}", each.severity) for each in outcome.failures]
    assert len(found) == len(set(found))
    return set(found)


def expected(*mutations: Mutation) -> set[tuple[str, str]]:
    return {
        (f"{mutation.view}: {name}", "warning" if name in WARNINGS else "critical")
        for mutation in mutations
        for name in (mutation.caught_by, *mutation.also)
    }


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_one_expectation_alone_catches_it(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any], mutation: Mutation
) -> None:
    # Only the suite of the view, to save time: the others see neither its snapshots nor its source table.
    outcome = check(app, make(admin, app, mutation), mutation.view)

    assert told(outcome) == expected(mutation)
    warned = mutation.caught_by in WARNINGS
    assert outcome.verdict == ("warned" if warned else "failed")


def test_one_checkpoint_catches_what_is_wrong_with_any_view(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    wrong = [next(mutation for mutation in MUTATIONS if mutation.view == view and mutation.change) for view in VIEWS]

    outcome = check(app, make(admin, app, *wrong), *VIEWS)

    assert told(outcome) == expected(*wrong)


def test_what_is_wrong_with_one_view_alone_closes_the_gate_for_all(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    [wrong] = [mutation for mutation in MUTATIONS if mutation.what == "all are absent"]

    assert check(app, make(admin, app, wrong), *VIEWS).verdict == "failed"


def test_every_expectation_has_snapshots_that_it_alone_catches() -> None:
    names = [(view, name) for view, name, _ in expectations()]
    alone = {(mutation.view, mutation.caught_by) for mutation in MUTATIONS if not mutation.also}
    in_company = {(mutation.view, mutation.caught_by) for mutation in MUTATIONS if mutation.also}

    assert len(names) == len(set(names))
    assert alone | in_company == set(names)
    assert in_company - alone == {
        (ORDERS, "item_name is never empty"),  # no source has an item without a name, or without a count
        (ORDERS, "quantity_on_hand is never empty"),
        (SELLERS, "location_name is never empty"),
        (SELLERS, "item_name is never empty"),
        (LABOR, TOO_LONG),
    }


def test_what_only_warns_is_what_may_be_true() -> None:
    assert {name for _, name, severity in expectations() if severity == "warning"} == WARNINGS


def test_good_snapshots_meet_all(admin: psycopg.Connection[Any], app: psycopg.Connection[Any]) -> None:
    outcome = check(app, make(admin, app), *VIEWS)

    assert (outcome.verdict, outcome.failures) == ("passed", [])
    assert outcome.passed == len(expectations())


def test_snapshots_at_every_limit_meet_all(admin: psycopg.Connection[Any], app: psycopg.Connection[Any]) -> None:
    day = date(2024, 2, 29)
    since = range(date(2024, 1, 1).toordinal(), day.toordinal() + 1)
    fill(
        admin,
        guest_attendance=[(day, f"Door {number}", "0.00", 20000) for number in range(50)],
        inventory=[(day, f"Item {number}", 0, True) for number in range(500)],
        item_sales=[(day, "Kiosk", f"Item {number}", 0, 1) for number in range(10)],
        labor=[(date.fromordinal(each), "Dee", 12, 100, 100) for each in since],
    )

    outcome = check(app, refresh(app, day), *VIEWS, day=day)

    assert (outcome.verdict, outcome.failures) == ("passed", [])


def test_a_day_on_which_nothing_is_to_be_ordered_is_a_good_one(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    fill(admin, inventory=[(DAY, "Coffee", 5, False)])

    assert told(check(app, refresh(app), ORDERS)) == set()


def test_a_batch_that_is_not_there_is_caught_by_every_suite(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    fill(admin, **GOOD)

    outcome = check(app, UUID(int=0), *VIEWS)

    assert {name.split(":")[0] for name, severity in told(outcome) if severity == "critical"} == set(VIEWS)


@pytest.mark.parametrize(
    ("view", "source"),
    [
        (ADMISSION, {"guest_attendance": [(DAY, "Gate", "NaN", 3)]}),
        (LABOR, {"labor": [(DAY, "Dee", 1, "NaN", "NaN")]}),
        (LABOR, {"labor": [(DAY, "Dee", 1, "NaN", 5)]}),
    ],
    ids=["a ticket price", "earnings", "earnings before tax"],
)
def test_no_figure_gets_through_that_is_no_number(
    admin: psycopg.Connection[Any], app: psycopg.Connection[Any], view: str, source: dict[str, Rows]
) -> None:
    fill(admin, **{**GOOD, **source})

    assert check(app, refresh(app), view).verdict == "failed"
