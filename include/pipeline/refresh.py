"""Refreshing a view: the server runs its query into the staging table."""

from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from include.dataset import Dataset, View

REFRESH_PARAMETERS = {
    "as_of": "{{ ti.xcom_pull('start')['day'] }}",
    "batch_id": "{{ ti.xcom_pull('start')['batch_id'] }}",
}
"""The values that the statements are run with, from the batch that the task `start` opened."""


class RefreshOperator(SQLExecuteQueryOperator):
    """Airflow's own operator, in a session of the warehouse."""

    def get_db_hook(self) -> Any:
        """Return the hook whose sessions do not depend on the server's settings."""
        from include.warehouse.hook import WarehouseHook

        return WarehouseHook(str(self.conn_id))


def refresh_statements(dataset: Dataset, view: View) -> list[str]:
    """Return the Jinja templates of the statements that refresh a view, to run in one transaction.

    Their search path is the folder include/. Names are written into the templates, since a run's conf could override
    a param.
    """
    names = f"{{% set staging = '{dataset.staging_name(view)}' %}}"
    query = f"{{% set query = 'datasets/{dataset.folder.name}/{view.name}.sql' %}}"
    return [
        f"{names}{query}{{% include 'pipeline/sql/{statement}.sql' %}}" for statement in ("claim_batch", "refresh_view")
    ]
