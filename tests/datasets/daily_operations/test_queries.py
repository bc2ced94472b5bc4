"""The queries of the views, on rows few enough to add up by hand."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.warehouse.columns import query
from include.warehouse.roles import APP
from local.login import Login
from tests.conftest import fresh_warehouse
from tests.datasets.daily_operations.resort import ADMISSION, DAY, LABOR, ORDERS, SELLERS, VIEWS, Rows, fill, view

BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)
NEW_YEAR = date(2023, 1, 1)


@pytest.fixture(scope="module")
def database(postgres: Login) -> Iterator[Login]:
    """Return one warehouse for all: what a test puts into it is never committed."""
    with fresh_warehouse(postgres) as login:
        yield login


@pytest.fixture
def admin(database: Login) -> Iterator[psycopg.Connection[Any]]:
    with database.connect() as connection:
        yield connection
        connection.rollback()


def result(admin: psycopg.Connection[Any], name: str, day: date = DAY) -> list[tuple[Any, ...]]:
    """Return the rows of a view's query, run as the DAGs do: as their role, and with the day as text."""
    admin.execute(sql.SQL("set local role {}").format(sql.Identifier(APP)))
    return sorted(admin.execute(query(DAILY_OPERATIONS, view(name)), {"as_of": day.isoformat()}).fetchall())


@pytest.mark.parametrize("name", VIEWS)
def test_empty_source_tables_give_an_empty_result(admin: psycopg.Connection[Any], name: str) -> None:
    assert result(admin, name) == []


def test_admissions_are_summed_over_the_prices_of_an_entrance(admin: psycopg.Connection[Any]) -> None:
    fill(
        admin,
        guest_attendance=[
            (DAY, "Gate", "50.25", 3),  # 150.75
            (DAY, "Gate", "20.10", 2),  # 40.20
            (DAY, "Gate", "0.00", 7),  # free tickets are counted
            (DAY, "Pier", "50.25", 1),
            (DAY, "Lift", "50.25", 0),  # open, but without guests
            (BEFORE, "Gate", "50.25", 1000),
            (AFTER, "Gate", "50.25", 1000),
            (BEFORE, "Yesterday's", "50.25", 1000),
        ],
    )

    assert result(admin, ADMISSION) == [
        (DAY, "Gate", 12, Decimal("190.95")),
        (DAY, "Lift", 0, Decimal("0.00")),
        (DAY, "Pier", 1, Decimal("50.25")),
    ]


def test_a_day_of_more_tickets_than_an_integer_holds_is_summed(admin: psycopg.Connection[Any]) -> None:
    most = 2**31 - 1
    fill(admin, guest_attendance=[(DAY, "Gate", price, most) for price in ("10.01", "99999999.99")])

    assert result(admin, ADMISSION) == [(DAY, "Gate", 2 * most, most * Decimal("100000010.00"))]


def test_only_what_the_inventory_of_the_day_marks_is_to_be_ordered(admin: psycopg.Connection[Any]) -> None:
    fill(
        admin,
        inventory=[
            (DAY, "Coffee", 5, True),
            (DAY, "Lemonade", 0, True),
            (DAY, "Map", 0, False),  # none left, and not marked: the mark decides, not the count
            (DAY, "Gloves", 500, True),
            (BEFORE, "Coffee", 4, True),
            (BEFORE, "Water", 1, True),
            (AFTER, "Map", 0, True),
        ],
    )

    assert result(admin, ORDERS) == [(DAY, "Coffee", 5), (DAY, "Gloves", 500), (DAY, "Lemonade", 0)]


@pytest.mark.parametrize(
    ("sales", "best"),
    [
        pytest.param(
            [(DAY, "Kiosk", "Coffee", 7, 3), (DAY, "Kiosk", "Map", 6, 30), (DAY, "Lodge", "Map", 1, 3)],
            [("Kiosk", "Coffee"), ("Lodge", "Map")],
            id="by pieces and not by money, each location for itself",
        ),
        pytest.param(
            [(DAY, "Kiosk", "Coffee", 4, 3), (DAY, "Kiosk", "Coffee", 3, 2), (DAY, "Kiosk", "Map", 6, 3)],
            [("Kiosk", "Coffee")],
            id="an item is summed over its prices",
        ),
        pytest.param(
            [
                (DAY, "Kiosk", "Coffee", 7, 3),
                (DAY, "Kiosk", "Map", 5, 3),
                (DAY, "Kiosk", "Map", 2, 4),
                (DAY, "Kiosk", "Water", 6, 3),
            ],
            [("Kiosk", "Coffee"), ("Kiosk", "Map")],
            id="all that tie, and not the next",
        ),
        pytest.param(
            [(DAY, "Kiosk", "Coffee", 0, 3), (DAY, "Kiosk", "Map", 0, 3)],
            [("Kiosk", "Coffee"), ("Kiosk", "Map")],
            id="where nothing was sold, all tie",
        ),
        pytest.param(
            [(DAY, "Kiosk", "Coffee", 1, 3), (BEFORE, "Kiosk", "Map", 9, 3), (AFTER, "Pier", "Map", 9, 3)],
            [("Kiosk", "Coffee")],
            id="only the day",
        ),
    ],
)
def test_the_best_sellers_of_each_location(
    admin: psycopg.Connection[Any], sales: Rows, best: list[tuple[str, str]]
) -> None:
    fill(admin, item_sales=sales)

    assert result(admin, SELLERS) == [(DAY, *each, 1) for each in best]


WORKED: Rows = [
    (date(2022, 12, 31), "Ada", "8.00", "100.00", "80.00"),
    (NEW_YEAR, "Ada", "1.25", "10.10", "8.01"),
    (date(2023, 3, 15), "Ada", "2.50", "20.20", "16.02"),
    (date(2023, 3, 15), "Ben", "4.00", "40.00", "30.00"),
    (DAY, "Ada", "4.75", "40.40", "32.04"),
    (AFTER, "Ada", "8.00", "100.00", "80.00"),
    (AFTER, "Cy", "8.00", "100.00", "80.00"),
    (date(2024, 1, 1), "Ada", "8.00", "100.00", "80.00"),
    (date(2024, 8, 1), "Ada", "0.50", "1.00", "1.00"),
]


@pytest.mark.parametrize(
    ("day", "worked"),
    [
        (NEW_YEAR, [("Ada", "1.25", "10.10", "8.01")]),
        (BEFORE, [("Ada", "3.75", "30.30", "24.03"), ("Ben", "4.00", "40.00", "30.00")]),
        (DAY, [("Ada", "8.50", "70.70", "56.07"), ("Ben", "4.00", "40.00", "30.00")]),
        (date(2022, 12, 31), [("Ada", "8.00", "100.00", "80.00")]),
        (date(2024, 8, 1), [("Ada", "8.50", "101.00", "81.00")]),
        (date(2021, 8, 1), []),
    ],
    ids=str,
)
def test_labor_is_summed_from_1_january_to_the_day_itself(
    admin: psycopg.Connection[Any], day: date, worked: list[tuple[str, ...]]
) -> None:
    fill(admin, labor=WORKED)

    assert result(admin, LABOR, day) == [(name, *map(Decimal, sums)) for name, *sums in worked]


def test_all_queries_return_what_plain_python_computes_from_many_rows(admin: psycopg.Connection[Any]) -> None:
    chance = Random(7)  # noqa: S311 - the same rows every time
    days = [DAY - timedelta(days=number) for number in range(4)]
    names = ["Ada", "Ben", "Cy"]
    attendance = [(day, name, price, chance.randrange(9)) for day in days for name in names for price in (20, 30, 50)]
    stock = [(day, name, chance.randrange(9), chance.random() < 0.5) for day in days for name in names]
    sales = [
        (day, place, name, chance.randrange(3), price)
        for day in days
        for place in ("Kiosk", "Lodge", "Pier")
        for name in names
        for price in (2, 3)
    ]
    labor = [(day, name, *(chance.randrange(1, 9) for _ in range(3))) for day in days for name in names]
    fill(admin, guest_attendance=attendance, inventory=stock, item_sales=sales, labor=labor)

    admitted: dict[tuple[date, str], list[int]] = defaultdict(lambda: [0, 0])
    for day, name, price, count in attendance:
        admitted[day, name][0] += count
        admitted[day, name][1] += price * count
    sold: dict[tuple[date, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for day, place, name, count, _ in sales:
        sold[day, place][name] += count
    for number, as_of in enumerate(days):
        assert result(admin, ADMISSION, as_of) == [(as_of, name, *admitted[as_of, name]) for name in names]
        assert result(admin, ORDERS, as_of) == [
            (day, name, count) for day, name, count, wanted in stock if wanted and day == as_of
        ]
        assert result(admin, SELLERS, as_of) == [
            (day, place, name, 1)
            for (day, place), items in sorted(sold.items())
            for name, count in items.items()
            if day == as_of and count == max(items.values())
        ]
        rows_of = [[row for day, *row in labor if day in days[number:] and row[0] == name] for name in names]
        assert result(admin, LABOR, as_of) == [
            (rows[0][0], *(sum(figures) for figures in list(zip(*rows, strict=True))[1:])) for rows in rows_of
        ]
