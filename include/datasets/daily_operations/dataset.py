"""Four views of a resort's daily operations, made of tables that other systems fill."""

from pathlib import Path

from include.dataset import Dataset, View, always_open, next_day_at

DAILY_OPERATIONS = Dataset(
    name="daily_operations",
    title="Daily operations",
    owner="data-platform",
    connection="postgres_daily_operational_conn",
    publishes=(
        View("admission_by_entrance", key=("admission_date", "entrance_name")),
        View("items_to_order", key=("inventory_date", "item_name")),
        View("top_selling_items_by_location", key=("sales_date", "location_name", "item_name")),
        View("ytd_labor_metrics", key=("employee_name",)),
    ),
    closed_reason=always_open,
    due=next_day_at(13),
    folder=Path(__file__).parent,
    reads=tuple(f"daily_operations.{table}" for table in ("guest_attendance", "inventory", "item_sales", "labor")),
)
