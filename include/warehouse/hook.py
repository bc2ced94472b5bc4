"""Airflow's Postgres hook, whose connections are our sessions."""

import os
from typing import Any

from airflow.providers.postgres.hooks.postgres import PostgresHook

from include.warehouse.session import Session


class WarehouseHook(PostgresHook):
    """Opens sessions to the warehouse, with the options of `Session.connect`. Their name is that of the task."""

    def __init__(self, conn_id: str, **options: Any) -> None:
        super().__init__(postgres_conn_id=conn_id)
        self._options = options

    def _create_connection(self, conn_args: dict[str, Any]) -> Session:
        dag_id, task_id = (os.environ.get(f"AIRFLOW_CTX_{each}_ID") for each in ("DAG", "TASK"))
        name = {"application_name": f"{dag_id}.{task_id}"} if dag_id and task_id else {}
        return Session.connect(**{**name, **conn_args, **self._options})
