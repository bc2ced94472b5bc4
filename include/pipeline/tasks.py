"""What tasks of every dataset do, and the tasks of the platform's own DAGs: where the pipeline meets Airflow."""

import logging
from typing import Any

from include import datasets
from include.dataset import Dataset
from include.errors import PermanentError, short_repr
from include.params import parse_day
from include.pipeline.batch import Batch, key_of
from include.pipeline.publish import publish_batch, roll_back_batch
from include.settings import settings
from include.task_errors import as_task
from include.warehouse import connections
from include.warehouse.connections import connect
from include.warehouse.register import Run
from include.warehouse.roles import APP, READER

log = logging.getLogger(__name__)


def publish(
    dataset: Dataset, batch: Batch, dag_run: Any, outlet_events: Any, *, allow_older: bool = False
) -> dict[str, Any]:
    """Let readers see the batch of a run, in one transaction; returns object, day, batch_id and rows.

    The outlets of the task are the dataset's assets; `outlet_events` gets what their events say.
    """
    from include.pipeline import assets
    from include.quality import report

    batch_id, day = key_of(dataset, batch)
    with connect(dataset.connection) as connection:
        rows = publish_batch(
            connection,
            dataset,
            batch_id,
            day,
            Run(dag_run.dag_id, dag_run.run_id),
            keep=settings().publications_kept,
            allow_older=allow_older,
        )
        extras = assets.extras(connection, dataset, batch["day"], batch_id)
        connection.commit()
        page = report.refresh(connection, dataset.name, batch_id, settings().report_root)
    for name, extra in extras.items():
        outlet_events[assets.asset(name)].extra = {**extra, "report": page}
    return {"object": dataset.label, "day": batch["day"], "batch_id": batch["batch_id"], "rows": rows}


@as_task
def roll_back(dag_run: Any, params: dict[str, Any], outlet_events: Any) -> dict[str, Any]:
    """Publish again what readers saw before, in one transaction; returns object, day, batch_id and rows.

    The outlet of the task is the alias ROLLED_BACK; it stands for the assets that were rolled back.
    """
    from include.pipeline import assets
    from include.quality import report

    by_label = {dataset.label: dataset for dataset in datasets.DATASETS}
    dataset = by_label.get(params["object"])
    if not dataset:
        raise PermanentError(f"object is {short_repr(params['object'])}: give one of {', '.join(by_label)}.")
    with connect(dataset.connection) as connection:
        day, batch_id, rows = roll_back_batch(
            connection,
            dataset,
            parse_day("day", params["day"]),
            Run(dag_run.dag_id, dag_run.run_id),
            keep=settings().publications_kept,
        )
        extras = assets.extras(connection, dataset, day.isoformat(), batch_id)
        connection.commit()
        page = report.refresh(connection, dataset.name, batch_id, settings().report_root)
    for name, extra in extras.items():
        event = {**extra, "report": page, "rolled_back": True}
        outlet_events[assets.ROLLED_BACK].add(assets.asset(name), extra=event)
    log.info("Readers of %s see batch %s of %s again", dataset.label, batch_id, day)
    return {"object": dataset.label, "day": day.isoformat(), "batch_id": str(batch_id), "rows": rows}


@as_task
def migrate() -> list[str]:
    """Migrate the warehouse as the admin and set the roles' passwords; returns the migrations that were applied.

    Fails without a retry when the connections do not name one and the same database.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from include.warehouse import migrate as migrations

    admin = Connection.get(connections.ADMIN)
    passwords: dict[str, str] = {}
    roles = {**{dataset.connection: APP for dataset in datasets.DATASETS}, connections.READER: READER}
    for conn_id, role in roles.items():
        try:
            connection = Connection.get(conn_id)
        except AirflowNotFoundException:
            if conn_id != connections.READER:
                raise
            log.info("No connection %s: the password of %s stays as it is", conn_id, role)
            continue
        for part in ("host", "port", "schema"):
            if getattr(connection, part) != getattr(admin, part):
                raise PermanentError(
                    f"Connection {conn_id} has {part} {getattr(connection, part)!r}, {connections.ADMIN} has "
                    f"{getattr(admin, part)!r}: all of them must name the one warehouse database."
                )
        if connection.login != role:
            raise PermanentError(f"Connection {conn_id} logs in as {connection.login!r}: it must be the role {role}.")
        if not connection.password:
            raise PermanentError(f"Connection {conn_id} has no password: {role} logs in with one.")
        if passwords.setdefault(role, connection.password) != connection.password:
            raise PermanentError(f"Connection {conn_id} has another password for {role} than the others.")
    applied = migrations.migrate(lambda: connect(connections.ADMIN), passwords, datasets.DATASETS)
    log.info("Applied: %s", ", ".join(applied) or "nothing, the warehouse was up to date")
    return applied
