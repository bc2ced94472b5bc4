"""A dataset of the benchmarks' own: four views of one large table of order lines."""

from pathlib import Path

from include.dataset import Dataset, View, always_open, next_day_at

ORDERS = Dataset(
    name="orders",
    title="Orders of the benchmark",
    owner="benchmarks",
    connection="postgres_orders_conn",
    publishes=(
        View("best_sellers", key=("shop", "product")),
        View("customers", key=("customer",)),
        View("open_lines", key=("line",)),
        View("shops", key=("shop",)),
    ),
    closed_reason=always_open,
    due=next_day_at(13),
    folder=Path(__file__).parent,
)
