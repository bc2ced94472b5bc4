"""A small resort for the tests: rows of its source tables, their refresh, and batches to publish."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg
from jinja2 import FileSystemLoader
from jinja2.sandbox import SandboxedEnvironment  # as Airflow does
from psycopg import sql

from include.dataset import View, suite_name
from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.pipeline.refresh import refresh_statements
from include.quality.gate import PROJECT
from include.warehouse.roles import APP
from local.login import Login
from local.state import ROOT, State

ADMISSION = "admission_by_entrance"
ORDERS = "items_to_order"
SELLERS = "top_selling_items_by_location"
LABOR = "ytd_labor_metrics"
VIEWS = [ADMISSION, ORDERS, SELLERS, LABOR]
"""The views that these tests know. A view that somebody adds is not among them, and fails none of them."""
DAY = date(2023, 8, 1)

Rows = Iterable[tuple[object, ...]]

# One day that passes all suites. What sold nothing and who earned nothing can become null without changing a sum.
GOOD: dict[str, Rows] = {
    "guest_attendance": [
        (DAY, "Gate", "50.00", 3),
        (DAY, "Gate", "20.50", 2),
        (DAY, "Pier", "50.00", 4),
        (DAY, "Lift", "50.00", 0),
    ],
    "inventory": [(DAY, "Coffee", 5, True), (DAY, "Lemonade", 0, True), (DAY, "Map", 90, False)],
    "item_sales": [
        (DAY, "Kiosk", "Coffee", 7, "3.20"),
        (DAY, "Kiosk", "Lemonade", 7, "3.50"),
        (DAY, "Lodge", "Coffee", 9, "3.20"),
        (DAY, "Lodge", "Lemonade", 8, "3.50"),
    ],
    "labor": [
        (date(2023, 1, 1), "Ada", "8.00", "160.00", "120.00"),
        (DAY, "Ada", "7.50", "150.00", "110.50"),
        (DAY, "Ben", "4.00", "80.00", "60.00"),
        (DAY, "Cy", "0.00", "0.00", "0.00"),
    ],
}


def view(name: str) -> View:
    """Return the declaration of a view."""
    [found] = [each for each in DAILY_OPERATIONS.publishes if each.name == name and isinstance(each, View)]
    return found


RESORT = replace(DAILY_OPERATIONS, publishes=tuple(view(name) for name in VIEWS))
"""The dataset with these views only."""


def staging_table(name: str) -> str:
    """Return the name of a view's staging table."""
    return DAILY_OPERATIONS.staging_name(view(name))


def as_app(warehouse: Login, state: State) -> Login:
    """Return the DAGs' login to a warehouse."""
    return warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)


def expectations() -> list[tuple[str, str, str]]:
    """Return view, description and severity of each expectation as it is committed."""
    return [
        (name, each["description"], each["severity"])
        for name in VIEWS
        for each in json.loads((PROJECT / "expectations" / f"{suite_name(view(name))}.json").read_text())[
            "expectations"
        ]
    ]


def fill(admin: psycopg.Connection[Any], **tables: Rows) -> None:
    """Put rows into source tables, as the admin: DAGs may only read them."""
    for table, rows in tables.items():
        name = sql.Identifier(DAILY_OPERATIONS.name, table)
        with admin.cursor().copy(sql.SQL("copy {} from stdin").format(name)) as copy:
            for row in rows:
                copy.write_row(row)


def refresh(connection: psycopg.Connection[Any], day: date = DAY, *only: str) -> UUID:
    """Stage and commit what the queries return for a day under a batch_id of its own, by the DAG's templates."""
    batch_id = uuid4()
    templates = SandboxedEnvironment(loader=FileSystemLoader(ROOT / "include"))
    for name in only or VIEWS:
        for template in refresh_statements(DAILY_OPERATIONS, view(name)):
            statement = templates.from_string(template).render()
            connection.execute(statement.encode(), {"as_of": day.isoformat(), "batch_id": str(batch_id)})
    connection.commit()
    return batch_id


# Rows that show in every view of which batch they are, by its mark, and of which day.
_MARKED = {
    ADMISSION: "%(day)s, 'entrance ' || n, %(mark)s, %(mark)s",
    ORDERS: "%(day)s, 'item ' || n, %(mark)s",
    SELLERS: "%(day)s, 'location', 'item ' || n, %(mark)s",
    LABOR: "'employee ' || n, %(mark)s, %(mark)s, %(mark)s",
}
MARKS = {
    ADMISSION: "total_quantity_sold",
    ORDERS: "quantity_on_hand",
    SELLERS: "quantity_rank",
    LABOR: "ytd_hours_worked",
}
"""The column of each view that holds the mark."""


def stage(
    connection: psycopg.Connection[Any], day: date, mark: int, rows: int = 2, only: Iterable[str] = VIEWS
) -> UUID:
    """Commit rows with a mark to the staging table of each view, under a batch_id of their own."""
    batch_id = uuid4()
    for name in only:
        connection.execute(
            f"insert into {staging_table(name)} "
            f"select %(batch_id)s, now(), {_MARKED[name]} from generate_series(1, {rows}) as n".encode(),
            {"batch_id": batch_id, "day": day, "mark": mark},
        )
    connection.commit()
    return batch_id


ALL_MARKS = " union all ".join(
    f"select '{name}', {mark}::int, count(*)::int from {DAILY_OPERATIONS.published_name(view(name))} group by {mark}"
    for name, mark in MARKS.items()
)


def visible(connection: psycopg.Connection[Any]) -> list[int]:
    """Return the mark that each view shows, all views in one statement; 0 for an empty view."""
    found: dict[str, int] = {}
    for name, mark, _ in connection.execute(ALL_MARKS.encode()).fetchall():
        assert name not in found, f"{name} shows two batches"
        found[name] = mark
    return [found.get(name, 0) for name in VIEWS]
