"""What the tasks of the DAGs warehouse_migrations and publication_rollback do: where they meet Airflow."""

import logging
from typing import Any

from include.airflow_edge import as_task
from include.daily_operations.publish import roll_back_views
from include.daily_operations.views import PUBLIC
from include.errors import PermanentError, shown
from include.params import parse_day
from include.settings import settings
from include.warehouse import connections
from include.warehouse.publish import MARKET_DATA, roll_back_market_day
from include.warehouse.register import Run
from include.warehouse.roles import APP, READER

log = logging.getLogger(__name__)

# What can be rolled back: the market table, a day at a time; and the views of daily operations, all together.
ROLLED_BACK = (MARKET_DATA, PUBLIC)


@as_task
def migrate() -> list[str]:
    """Migrate the warehouse as the admin and set the roles' passwords; gives the revisions that were applied.

    Fails without retrying when the connections do not name one and the same database.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from include.warehouse import migrate as migrations

    admin = Connection.get(connections.ADMIN)
    passwords: dict[str, str] = {}
    for conn_id, role in (
        (connections.MARKET, APP),
        (connections.DAILY_OPERATIONS, APP),
        (connections.READER, READER),
    ):
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
    applied = migrations.migrate(lambda: connections.connect(connections.ADMIN), passwords)
    log.info("Applied: %s", ", ".join(applied) or "nothing, the warehouse was up to date")
    return applied


@as_task
def roll_back(dag_run: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Go back to the publication before the one that readers see, in one transaction; gives what they see now."""
    from include.quality import report

    day = parse_day("day", params["day"])
    run = Run(dag_run.dag_id, dag_run.run_id)
    keep = settings().publications_kept
    if params["object"] == MARKET_DATA:
        if not day:
            raise PermanentError(f"day is empty: give the day of {MARKET_DATA} that is to be restored.")
        with connections.connect(connections.MARKET) as connection:
            batch_id, rows = roll_back_market_day(connection, day, run, keep=keep)
            connection.commit()
            report.refresh(connection, "market", settings().report_root)
    elif params["object"] == PUBLIC:
        with connections.connect(connections.DAILY_OPERATIONS) as connection:
            day, batch_id, rows = roll_back_views(connection, day, run, keep=keep)
            connection.commit()
            report.refresh(connection, PUBLIC, settings().report_root)
    else:
        raise PermanentError(f"object is {shown(params['object'])}: give one of {', '.join(ROLLED_BACK)}.")
    log.info("Readers of %s see batch %s of %s again", params["object"], batch_id, day)
    return {"object": params["object"], "day": day.isoformat(), "batch_id": str(batch_id), "rows": rows}
