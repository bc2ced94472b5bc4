"""The views of daily operations: what readers see, what they should see, and how to let refreshes wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import sql

from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.warehouse.columns import identifier
from include.warehouse.roles import APP
from local.login import Login
from tests.datasets.daily_operations.resort import ADMISSION, LABOR, ORDERS, SELLERS, staging_table, view
from tests.include.warehouse.concurrency import await_true

Views = dict[str, list[tuple[Any, ...]]]

# What each view shows of a day, by another query than the view's own.
WANTED = {
    ADMISSION: """
        select distinct admission_date, entrance_name, sum(quantity_sold) over entrance,
            sum(ticket_price * quantity_sold) over entrance
        from daily_operations.guest_attendance where admission_date = %(day)s
        window entrance as (partition by entrance_name)
    """,
    ORDERS: """
        select inventory_date, item_name, quantity_on_hand from daily_operations.inventory
        where (inventory_date, order_more) = (%(day)s, true)
    """,
    SELLERS: """
        with sold as (
            select location_name, item_name, sum(quantity_sold) as quantity from daily_operations.item_sales
            where sales_date = %(day)s group by location_name, item_name
        )
        select %(day)s::date, location_name, item_name, 1 from sold
        where quantity = (select max(quantity) from sold as other where other.location_name = sold.location_name)
    """,
    LABOR: """
        select employee_name, sum(hours_worked), sum(pre_tax_earnings), sum(post_tax_earnings)
        from daily_operations.labor
        where labor_date <= %(day)s and extract(year from labor_date) = extract(year from %(day)s::date)
        group by employee_name
    """,
}


def wanted(admin: Login, day: str) -> Views:
    """Return what the views should show of a day, from the source tables."""
    with admin.connect() as connection:
        return {name: sorted(connection.execute(query.encode(), {"day": day})) for name, query in WANTED.items()}


def visible(reader: Login) -> Views:
    """Return what readers see."""
    with reader.connect() as connection:
        return {
            name: sorted(
                connection.execute(sql.SQL("table {}").format(identifier(DAILY_OPERATIONS.published_name(view(name)))))
            )
            for name in WANTED
        }


@contextmanager
def refreshes_held(admin: Login) -> Iterator[None]:
    """Let every refresh wait where it writes, until the end of the context."""
    with admin.connect() as connection:
        for name in WANTED:
            table = identifier(staging_table(name))
            connection.execute(sql.SQL("lock table {} in share mode").format(table))
        yield


_REFRESHING = f"""
    from unnest(%s::text[]) as view
    inner join pg_stat_activity on query ~ ('INSERT INTO {DAILY_OPERATIONS.staging_schema}\\.' || view || '\\s')
    where datname = current_database() and usename = '{APP}' and state = 'active' and wait_event_type = 'Lock'
"""


def await_all_at_work(admin: Login) -> dict[str, int]:
    """Return, when a refresh of each view waits for its table, all at the same time, their server processes."""
    await_true(admin, f"select count(distinct view) = %s {_REFRESHING}", [len(WANTED), list(WANTED)])
    with admin.connect() as connection:
        found: list[tuple[Any, ...]] = connection.execute(
            f"select view, pid {_REFRESHING}".encode(), [list(WANTED)]
        ).fetchall()
    return dict(found)
