"""The views of daily operations as a test sees them: what readers get, what it should be, and refreshes held still."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import sql

from include.warehouse.roles import APP
from local.login import Login
from tests.include.warehouse.concurrency import await_true

Views = dict[str, list[tuple[Any, ...]]]

# What each view says of a day, asked in other words than the view's own.
WANTED = {
    "admission_by_entrance": """
        select distinct admission_date, entrance_name, sum(quantity_sold) over entrance,
            sum(ticket_price * quantity_sold) over entrance
        from daily_operations.guest_attendance where admission_date = %(day)s
        window entrance as (partition by entrance_name)
    """,
    "items_to_order": """
        select inventory_date, item_name, quantity_on_hand from daily_operations.inventory
        where (inventory_date, order_more) = (%(day)s, true)
    """,
    "top_selling_items_by_location": """
        with sold as (
            select location_name, item_name, sum(quantity_sold) as quantity from daily_operations.item_sales
            where sales_date = %(day)s group by location_name, item_name
        )
        select %(day)s::date, location_name, item_name, 1 from sold
        where quantity = (select max(quantity) from sold as other where other.location_name = sold.location_name)
    """,
    "ytd_labor_metrics": """
        select employee_name, sum(hours_worked), sum(pre_tax_earnings), sum(post_tax_earnings)
        from daily_operations.labor
        where labor_date <= %(day)s and extract(year from labor_date) = extract(year from %(day)s::date)
        group by employee_name
    """,
}


def wanted(admin: Login, day: str) -> Views:
    """Give what the views should show of a day, from the source tables."""
    with admin.connect() as connection:
        return {view: sorted(connection.execute(query.encode(), {"day": day})) for view, query in WANTED.items()}


def shown(reader: Login) -> Views:
    """Give what readers see."""
    with reader.connect() as connection:
        return {
            view: sorted(connection.execute(sql.SQL("table {}").format(sql.Identifier("daily_operations", view))))
            for view in WANTED
        }


@contextmanager
def refreshes_held(admin: Login) -> Iterator[None]:
    """Let every refresh wait where it writes, until the end of the context."""
    with admin.connect() as connection:
        for view in WANTED:
            snapshots = sql.Identifier("daily_operations_snapshots", view)
            connection.execute(sql.SQL("lock table {} in share mode").format(snapshots))
        yield


_AT_WORK = f"""
    from unnest(%s::text[]) as view
    inner join pg_stat_activity on query ~ ('INSERT INTO daily_operations_snapshots\\.' || view || '\\s')
    where datname = current_database() and usename = '{APP}' and state = 'active' and wait_event_type = 'Lock'
"""


def await_all_at_work(admin: Login) -> dict[str, int]:
    """Return when a refresh of each view waits for its table, all at the same time; gives their server processes."""
    await_true(admin, f"select count(distinct view) = %s {_AT_WORK}", [len(WANTED), list(WANTED)])
    with admin.connect() as connection:
        found: list[tuple[Any, ...]] = connection.execute(
            f"select view, pid {_AT_WORK}".encode(), [list(WANTED)]
        ).fetchall()
    return dict(found)
