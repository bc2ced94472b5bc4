"""Where the exported tables are loaded: the one that has a connection.

Each target is a module here with the four functions of Target.
"""

from typing import Any, Protocol

from include.dataset import Dataset
from include.lake.storage import Manifest
from include.pipeline.batch import Batch

SNOWFLAKE = "snowflake_analytics_conn"
"""The connection that makes Snowflake the target; without it, it is the schema analytics of the warehouse."""


class Target(Protocol):
    """What a target does with one table of one run, in this order."""

    def load(self, dataset: Dataset, batch: Batch, manifest: Manifest) -> int:
        """Stage the rows of an export where readers do not see them; returns their number."""

    def validate(self, dataset: Dataset, batch: Batch, manifest: Manifest, ti: Any) -> None:
        """Compare what was staged with the manifest, and check it; raises GateClosed when it must not be published."""

    def publish(
        self, dataset: Dataset, batch: Batch, manifest: Manifest, dag_run: Any, outlet_events: Any
    ) -> dict[str, Any]:
        """Replace the day that readers see, in one transaction; returns object, day, batch_id and rows."""

    def holds(self, dataset: Dataset, manifest: Manifest) -> bool:
        """Return whether readers see the rows of this export: only then may it be archived."""


def target() -> Target:
    """Return the target that has a connection."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        Connection.get(SNOWFLAKE)
    except AirflowNotFoundException:
        from include.datasets.analytics.targets import warehouse

        return warehouse
    from include.datasets.analytics.targets import snowflake

    return snowflake
