"""The tenants of the platform: one folder each, with everything that is its own."""

from include.dataset import Dataset, InvalidDeclaration, repeated, suite_name
from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.datasets.market.dataset import MARKET

DATASETS: tuple[Dataset, ...] = (
    MARKET,
    DAILY_OPERATIONS,
)

if twice := repeated(dataset.name for dataset in DATASETS):
    raise InvalidDeclaration(f"include/datasets/__init__.py: two datasets have the name {twice}: rename one.")
if twice := repeated(suite_name(each) for dataset in DATASETS for each in dataset.publishes):
    raise InvalidDeclaration(f"include/datasets: two tables or views have the suite {twice}: give each one of its own.")
