"""The tenants of the platform: one folder each, with everything that is its own."""

from include.dataset import Dataset, check_distinct
from include.datasets.analytics.dataset import ANALYTICS
from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.datasets.market.dataset import MARKET

DATASETS: tuple[Dataset, ...] = (
    MARKET,
    DAILY_OPERATIONS,
    *ANALYTICS,
)

check_distinct(DATASETS)
