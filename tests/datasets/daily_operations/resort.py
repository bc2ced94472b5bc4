"""A small resort for the tests: rows of its source tables, what the queries give of them, and batches to publish."""

import json
from collections.abc import Iterable
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg
from include.daily_operations import views
from jinja2 import FileSystemLoader, PrefixLoader
from jinja2.sandbox import SandboxedEnvironment  # as Airflow does
from psycopg import sql

from include.quality.gate import PROJECT
from include.warehouse.roles import APP
from local.login import Login
from local.state import ROOT, State

VIEWS = ["admission_by_entrance", "items_to_order", "top_selling_items_by_location", "ytd_labor_metrics"]
DAY = date(2023, 8, 1)

Rows = Iterable[tuple[object, ...]]

# One day that all suites are content with. What sold nothing and who earned nothing can be made null unnoticed.
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


def as_app(warehouse: Login, state: State) -> Login:
    """Give the DAGs' login to a warehouse."""
    return warehouse.as_role(APP, state.secrets[APP], warehouse.dbname)


def expectations() -> list[tuple[str, str, str]]:
    """Give view, name and severity of each expectation as it is committed."""
    return [
        (view, each["description"], each["severity"])
        for view in VIEWS
        for each in json.loads((PROJECT / "expectations" / f"{view}.json").read_text())["expectations"]
    ]


def fill(admin: psycopg.Connection[Any], **tables: Rows) -> None:
    """Put rows into source tables, as the admin: DAGs may only read them."""
    for table, rows in tables.items():
        name = sql.Identifier("daily_operations", table)
        with admin.cursor().copy(sql.SQL("copy {} from stdin").format(name)) as copy:
            for row in rows:
                copy.write_row(row)


def refresh(connection: psycopg.Connection[Any], day: date = DAY, *only: str) -> UUID:
    """Commit what the queries give for a day under a batch_id of its own, by the template that the DAG uses."""
    batch_id = uuid4()
    folders = {"sql": FileSystemLoader(ROOT / "include" / "sql"), "daily_operations": FileSystemLoader(views.FOLDER)}
    templates = SandboxedEnvironment(loader=PrefixLoader(folders))
    for view in only or views.views():
        for name in ("claim_batch", "refresh_view"):
            statement = templates.get_template(f"sql/daily_operations/{name}.sql").render(view=view)
            connection.execute(statement.encode(), {"as_of": day.isoformat(), "batch_id": str(batch_id)})
    connection.commit()
    return batch_id


# Rows that tell in every view of which batch they are, by its mark, and of which day.
_MARKED = {
    "admission_by_entrance": "%(day)s, 'entrance ' || n, %(mark)s, %(mark)s",
    "items_to_order": "%(day)s, 'item ' || n, %(mark)s",
    "top_selling_items_by_location": "%(day)s, 'location', 'item ' || n, %(mark)s",
    "ytd_labor_metrics": "'employee ' || n, %(mark)s, %(mark)s, %(mark)s",
}
MARKS = {
    "admission_by_entrance": "total_quantity_sold",
    "items_to_order": "quantity_on_hand",
    "top_selling_items_by_location": "quantity_rank",
    "ytd_labor_metrics": "ytd_hours_worked",
}


def stage(
    connection: psycopg.Connection[Any], day: date, mark: int, rows: int = 2, only: Iterable[str] = VIEWS
) -> UUID:
    """Commit snapshots, in each of the views so many rows that bear a mark, under a batch_id of their own."""
    batch_id = uuid4()
    for view in only:
        connection.execute(
            f"insert into daily_operations_snapshots.{view} "
            f"select %(batch_id)s, now(), {_MARKED[view]} from generate_series(1, {rows}) as n".encode(),
            {"batch_id": batch_id, "day": day, "mark": mark},
        )
    connection.commit()
    return batch_id


ALL_MARKS = " union all ".join(
    f"select '{view}', {mark}::int, count(*)::int from daily_operations.{view} group by {mark}"
    for view, mark in MARKS.items()
)


def shown(connection: psycopg.Connection[Any]) -> list[int]:
    """Give the mark that each view shows, all views in one statement; 0 for an empty view."""
    found: dict[str, int] = {}
    for view, mark, _ in connection.execute(ALL_MARKS.encode()).fetchall():
        assert view not in found, f"{view} shows two batches"
        found[view] = mark
    return [found.get(view, 0) for view in VIEWS]
