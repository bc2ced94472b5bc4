"""The sample data: the same for everybody, and rich enough that all views have something to show."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from statistics import mean
from typing import Any

import psycopg
import pytest

from include.quality.gate import gate
from local.login import Login
from local.sources.daily_operations import sample_data
from local.state import State
from tests.conftest import fresh_warehouse
from tests.datasets.daily_operations.resort import RESORT, VIEWS, as_app, refresh, staging_table

TABLES = {
    "guest_attendance": "admission_date",
    "inventory": "inventory_date",
    "item_sales": "sales_date",
    "labor": "labor_date",
}
DAYS = [date(2023, 1, 1) + timedelta(days=number) for number in range(273)]


@pytest.fixture(scope="module")
def loaded(postgres: Login) -> Iterator[Login]:
    """Return a warehouse with the sample data, which no test changes."""
    with fresh_warehouse(postgres) as login:
        with login.connect() as admin:
            sample_data.load(admin)
        yield login


@pytest.fixture
def resort(loaded: Login) -> Iterator[psycopg.Connection[Any]]:
    with loaded.connect(autocommit=True, options="-c default_transaction_read_only=on") as connection:
        yield connection


def contents(connection: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: connection.execute(f"select * from daily_operations.{table} order by 1, 2, 3, 4".encode()).fetchall()
        for table in TABLES
    }


def by_day(connection: psycopg.Connection[Any], question: str) -> dict[date, Any]:
    """Return the second column of an answer by its first."""
    return dict(connection.execute(question.encode()).fetchall())


def test_it_is_the_same_on_every_call_and_is_loaded_once(warehouse: Login, resort: psycopg.Connection[Any]) -> None:
    first = contents(resort)

    with warehouse.connect() as admin:
        assert sample_data.load(admin) == sum(map(len, first.values()))
        assert contents(admin) == first
        assert sample_data.load(admin) == 0
        assert contents(admin) == first


@pytest.mark.parametrize("table", TABLES)
def test_rows_of_a_users_own_are_left_alone(warehouse: Login, table: str) -> None:
    rows = {
        "guest_attendance": "('2020-01-01', 'mine', 1, 1)",
        "inventory": "('2020-01-01', 'mine', 1, true)",
        "item_sales": "('2020-01-01', 'mine', 'mine', 1, 1)",
        "labor": "('2020-01-01', 'mine', 1, 1, 1)",
    }
    with warehouse.connect() as admin:
        admin.execute(f"insert into daily_operations.{table} values {rows[table]}".encode())
        before = contents(admin)

        assert sample_data.load(admin) == 0

        assert contents(admin) == before


@pytest.mark.parametrize(("table", "column"), TABLES.items())
def test_every_day_from_january_to_september_is_there(resort: psycopg.Connection[Any], table: str, column: str) -> None:
    found = resort.execute(f"select distinct {column} from daily_operations.{table} order by 1".encode()).fetchall()
    assert [day for (day,) in found] == DAYS


def test_it_is_the_same_on_every_machine(resort: psycopg.Connection[Any]) -> None:
    """If you change it on purpose, take the screenshots again: they show it."""
    rows_and_sums = {
        table: (len(rows), float(sum(value for row in rows for value in row if isinstance(value, int | Decimal))))
        for table, rows in contents(resort).items()
    }
    assert rows_and_sums == {
        "guest_attendance": (3144, 382997.00),
        "inventory": (3822, 3059299.0),
        "item_sales": (12125, 490894.20),
        "labor": (2558, 758544.29),
    }


def test_weekends_and_seasons_differ(resort: psycopg.Connection[Any]) -> None:
    for table in ("guest_attendance", "item_sales"):
        sold = by_day(
            resort, f"select {TABLES[table]}, sum(quantity_sold)::int from daily_operations.{table} group by 1"
        )

        def average(weekdays: set[int], months: set[int], sold: dict[date, int] = sold) -> float:
            return mean(sold[day] for day in DAYS if day.weekday() in weekdays and day.month in months)

        every_day = set(range(7))
        assert average({5, 6}, set(range(1, 10))) > 1.5 * average({0, 1, 2, 3}, set(range(1, 10)))
        assert average(every_day, {7, 8}) > 1.3 * average(every_day, {1, 2}) > 1.3 * average(every_day, {4, 5})


def test_on_quiet_days_not_every_entrance_is_open(resort: psycopg.Connection[Any]) -> None:
    entrances = by_day(
        resort, "select admission_date, count(distinct entrance_name) from daily_operations.guest_attendance group by 1"
    )
    guests = by_day(
        resort, "select admission_date, sum(quantity_sold)::int from daily_operations.guest_attendance group by 1"
    )
    quiet = [day for day in DAYS if entrances[day] < 4]

    assert 10 <= len(quiet) <= 100
    assert max(guests[day] for day in quiet) < mean(guests.values()) / 2


def test_several_items_of_a_location_sell_best_on_many_days_but_not_on_all(
    resort: psycopg.Connection[Any],
) -> None:
    sold: dict[tuple[date, str], list[int]] = defaultdict(list)
    for day, place, count in resort.execute(
        "select sales_date, location_name, quantity_sold from daily_operations.item_sales"
    ):
        sold[day, place].append(count)
    ties = Counter(day for (day, _), counts in sold.items() if counts.count(max(counts)) > 1)

    assert len(DAYS) / 3 < len(ties) < len(DAYS) * 2 / 3
    assert max(counts.count(max(counts)) for counts in sold.values()) <= 10


def test_each_season_has_another_best_seller(resort: psycopg.Connection[Any]) -> None:
    best = {}
    for month in (1, 7):
        [(best[month],)] = resort.execute(
            "select item_name from daily_operations.item_sales where location_name = 'Lodge Restaurant' "
            "and extract(month from sales_date) = %s group by 1 order by sum(quantity_sold) desc limit 1",
            [month],
        )
    assert best[1] != best[7]


def test_something_is_to_be_ordered_every_day_and_never_everything(resort: psycopg.Connection[Any]) -> None:
    wanted = by_day(
        resort, "select inventory_date, count(*) filter (where order_more) from daily_operations.inventory group by 1"
    )
    items = by_day(resort, "select inventory_date, count(*) from daily_operations.inventory group by 1")

    assert min(wanted.values()) >= 1
    assert [day for day in DAYS if wanted[day] == items[day]] == []


def test_what_was_sold_leaves_the_stock_until_the_next_delivery(resort: psycopg.Connection[Any]) -> None:
    sold: Counter[tuple[date, str]] = Counter()
    for day, item, count in resort.execute(
        "select sales_date, item_name, quantity_sold from daily_operations.item_sales"
    ):
        sold[day, item] += count
    rows = resort.execute(
        "select item_name, inventory_date, quantity_on_hand, order_more from daily_operations.inventory order by 1, 2"
    ).fetchall()

    deliveries = 0
    for item, of_item in groupby(rows, key=lambda row: row[0]):
        stock = None
        for _, day, on_hand, _ in of_item:
            if stock is not None and on_hand != max(0, stock - sold[day, item]):
                assert on_hand > stock - sold[day, item]
                deliveries += 1
            stock = on_hand
    assert deliveries > 10


def test_people_work_believable_hours_for_believable_pay(resort: psycopg.Connection[Any]) -> None:
    worst = resort.execute(
        "select min(hours_worked), max(hours_worked), min(pre_tax_earnings / hours_worked), "
        "max(pre_tax_earnings / hours_worked), min(post_tax_earnings / pre_tax_earnings), "
        "max(post_tax_earnings / pre_tax_earnings) from daily_operations.labor"
    ).fetchone()
    assert worst
    least, most, low, high, after_most_tax, after_least_tax = map(float, worst)
    assert 4 <= least < most <= 9
    assert 15.99 < low < high < 40
    assert 0.7 < after_most_tax < after_least_tax < 0.85
    days_a_week = resort.execute(
        "select max(days) from (select count(*) as days from daily_operations.labor "
        "group by employee_name, date_trunc('week', labor_date)) as weeks"
    ).fetchone()
    assert days_a_week == (5,)


@pytest.mark.parametrize("day", [DAYS[0], date(2023, 4, 18), date(2023, 8, 1), DAYS[-1]], ids=str)
def test_the_views_of_a_day_pass_their_gate(loaded: Login, state: State, day: date) -> None:
    with as_app(loaded, state).connect() as app:
        batch_id = refresh(app, day)
        outcome = gate(app, RESORT, batch_id, day)
        assert (outcome.verdict, outcome.failures) == ("passed", [])
        for name in VIEWS:  # nothing of it is for the other tests
            app.execute(f"delete from {staging_table(name)}".encode())
