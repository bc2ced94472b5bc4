"""What the task of the migrations DAG does. The functions beside this file do the work; here they meet Airflow."""

import logging

from include.airflow_edge import as_task
from include.errors import PermanentError
from include.warehouse import connections
from include.warehouse.roles import APP, READER

log = logging.getLogger(__name__)


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
