"""Sample data for the source tables of daily operations: a small lakeside resort, January to September 2023.

It is invented, and the same on every machine: all random numbers come from one seed.
"""

import math
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Any

import psycopg
from psycopg import sql

FIRST, LAST = date(2023, 1, 1), date(2023, 9, 30)
_SEED = 2023

Row = tuple[object, ...]

# How busy a day is: by weekday from Monday, and by month for snow in winter, mud in April and the lake in summer.
_WEEKDAYS = (0.7, 0.55, 0.65, 0.75, 1.1, 1.8, 1.5)
_MONTHS = (1.1, 1.2, 0.8, 0.4, 0.6, 1.1, 1.7, 1.8, 0.9)
_STORMS = {date(2023, 1, 31), date(2023, 4, 18), date(2023, 6, 6), date(2023, 9, 19)}

_ENTRANCES = {"Main Gate": 420, "Lakeside Pier": 260, "Hilltop Lift": 180, "East Car Park": 90}
_TICKETS = {"adult": (48, 54), "child": (29, 33), "evening": (22, 25)}  # USD before and from June
_TICKET_SHARES = {"adult": 0.55, "child": 0.3, "evening": 0.15}
_LOCATIONS = {"Lodge Restaurant": 1.0, "Pier Café": 0.7, "Summit Hut": 0.45, "Beach Kiosk": 0.3, "Gift Shop": 0.35}
# The pieces sold per day at a location of size 1, and USD per piece.
_ITEMS = {
    "Apple Strudel": (32, "5.50"),
    "Bottled Water": (60, "2.50"),
    "Cheese Fondue": (18, "24.00"),
    "Coffee": (85, "3.20"),
    "Fish and Chips": (38, "14.50"),
    "French Fries": (58, "4.80"),
    "Hot Chocolate": (44, "4.20"),
    "Ice Cream": (55, "3.80"),
    "Lemonade": (48, "3.50"),
    "Pizza Slice": (50, "5.00"),
    "Sun Hat": (8, "19.00"),
    "Sunscreen": (10, "12.50"),
    "Trail Map": (12, "6.00"),
    "Wool Gloves": (7, "16.00"),
}
_WINTER = {"Cheese Fondue", "Hot Chocolate", "Wool Gloves"}
_SUMMER = {"Bottled Water", "Ice Cream", "Lemonade", "Sun Hat", "Sunscreen"}
_GIFTS = {"Sun Hat", "Sunscreen", "Trail Map", "Wool Gloves", "Bottled Water"}
_EMPLOYEES = (
    "Ada Lindqvist", "Ben Okafor", "Carla Mendes", "Dan Whitlock", "Elif Yilmaz", "Farid Haddad", "Grace Tan",
    "Hugo Brandt", "Ines Rocha", "Jonas Weber", "Keiko Mori", "Liam O'Connor", "Maya Patel", "Noah Dubois",
    "Olga Petrova", "Pedro Alvarez", "Quinn Harper", "Rosa Bianchi", "Sven Eriksen", "Tara Singh",
)  # fmt: skip


def load(connection: psycopg.Connection[Any]) -> int:
    """Fill the source tables if all of them are empty, in the caller's transaction; returns the number of rows."""
    tables = {
        "guest_attendance": _guest_attendance,
        "inventory": _inventory,
        "item_sales": _item_sales,
        "labor": _labor,
    }
    names = {name: sql.Identifier("daily_operations", name) for name in tables}
    for name in names.values():
        if connection.execute(sql.SQL("select 1 from {} limit 1").format(name)).fetchone():
            return 0
    loaded = 0
    for table, rows in tables.items():
        with connection.cursor().copy(sql.SQL("copy {} from stdin").format(names[table])) as copy:
            for row in rows():
                copy.write_row(row)
                loaded += 1
    return loaded


def _days() -> Iterator[date]:
    for number in range((LAST - FIRST).days + 1):
        yield FIRST + timedelta(days=number)


def _chance(seed: int = _SEED) -> Random:
    return Random(seed)  # noqa: S311 - nothing here is a secret


def _busy(day: date) -> float:
    weather = 0.15 if day in _STORMS else 0.85 + 0.3 * _chance(day.toordinal()).random()
    return _WEEKDAYS[day.weekday()] * _MONTHS[day.month - 1] * weather


def _around(chance: Random, expected: float) -> int:
    """Return a whole number that is usually near the expected one, and never negative."""
    return max(0, round(chance.gauss(expected, math.sqrt(expected) if expected > 0 else 0)))


def _guest_attendance() -> Iterator[Row]:
    """(admission_date, entrance_name, ticket_price, quantity_sold); on quiet days the small entrances are closed."""
    chance = _chance()
    for day in _days():
        busy = _busy(day)
        for entrance, guests in _ENTRANCES.items():
            if busy < 0.35 and guests < 200:
                continue
            for ticket, prices in _TICKETS.items():
                yield day, entrance, prices[day.month >= 6], _around(chance, guests * busy * _TICKET_SHARES[ticket])


def _item_sales() -> Iterator[Row]:
    """(sales_date, location_name, item_name, quantity_sold, unit_price)."""
    chance = _chance()
    for day in _days():
        for location, size in _LOCATIONS.items():
            for item, (pieces, price) in _ITEMS.items():
                if (location == "Gift Shop") != (item in _GIFTS) and item != "Bottled Water":
                    continue
                season = 1.5 if item in (_SUMMER if 5 <= day.month <= 9 else _WINTER) else 1.0
                sold = _around(chance, pieces * size * season * _busy(day))
                if size < 0.4 and sold > 10:  # small stands count boxes of five, so that items often tie
                    sold -= sold % 5
                if sold:
                    yield day, location, item, sold, price


def _inventory() -> Iterator[Row]:
    """(inventory_date, item_name, quantity_on_hand, order_more): an order arrives ten days after the stock is low."""
    sold: dict[tuple[object, object], int] = {}
    for day, _, item, quantity, _ in _item_sales():
        sold[day, item] = sold.get((day, item), 0) + int(str(quantity))
    for number, (item, (pieces, _)) in enumerate(_ITEMS.items()):
        low = pieces * 24
        stock, due = low + pieces * 6 * number, None
        for day in _days():
            if day == due:
                stock, due = stock + low * 3 // 2, None
            stock = max(0, stock - sold.get((day, item), 0))
            if stock < low and not due:
                due = day + timedelta(days=10)
            yield day, item, stock, stock < low


def _labor() -> Iterator[Row]:
    """(labor_date, employee_name, hours_worked, pre_tax_earnings, post_tax_earnings): a five-day week for most."""
    chance = _chance()
    for day in _days():
        for number, name in enumerate(_EMPLOYEES):
            needed = chance.random() < 0.35 + 0.4 * min(1.0, _busy(day))
            if not needed or (day.weekday() + number) % 7 in (0, 1):
                continue
            quarters = 16 + int(chance.random() * 21)  # four to nine hours
            cents = quarters * (1600 + 95 * number) // 4
            tax = 18 + number % 9  # percent
            yield day, name, quarters / 4, f"{cents / 100:.2f}", f"{cents * (100 - tax) / 10_000:.2f}"
