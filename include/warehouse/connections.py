"""The one place where a warehouse connection is opened by its Airflow name."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.warehouse.session import Session

ADMIN = "postgres_admin_conn"
READER = "postgres_reader_conn"


def connect(conn_id: str, **options: Any) -> "Session":
    """Open an Airflow connection; as a context manager it is one transaction: committed or rolled back, then closed.

    `options` are those of `Session.connect`, and go before what the Airflow connection says.
    """
    from include.warehouse.hook import WarehouseHook
    from include.warehouse.session import Session

    connection = WarehouseHook(conn_id, **options).get_conn()
    assert isinstance(connection, Session)  # noqa: S101 - the hook has no other
    return connection
