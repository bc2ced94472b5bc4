"""The tables behind the dashboards: copies of the tables of daily operations, each behind gates of its own.

Each table is a dataset, so that one that fails its gate does not stop the others. To add one: a line in TABLES, its
CREATE TABLE in a migration, and its suite.
"""

from pathlib import Path

from include.dataset import Dataset, Table, always_open, next_day_at
from include.lake.export import Source

SCHEMA = "analytics"
TABLES = {
    "guest_attendance": Source(
        "daily_operations.guest_attendance", "admission_date", ("admission_date", "entrance_name", "ticket_price")
    ),
    "inventory": Source("daily_operations.inventory", "inventory_date", ("inventory_date", "item_name")),
    "item_sales": Source(
        "daily_operations.item_sales", "sales_date", ("sales_date", "location_name", "item_name", "unit_price")
    ),
    "labor": Source("daily_operations.labor", "labor_date", ("labor_date", "employee_name")),
}

ANALYTICS = tuple(
    Dataset(
        name=f"{SCHEMA}_{table}",
        title=f"Analytics: {table.replace('_', ' ')}",
        owner="data-platform",
        connection="postgres_daily_operational_conn",
        publishes=(Table(table, key=source.key, day=source.day_column, suite=f"{SCHEMA}_{table}"),),
        closed_reason=always_open,
        due=next_day_at(14),
        folder=Path(__file__).parent,
        group=SCHEMA,
        reads=(source.table,),
    )
    for table, source in TABLES.items()
)
