"""The one place where a warehouse connection is opened by its Airflow name."""

from typing import Any

import psycopg

ADMIN = "postgres_admin_conn"
READER = "postgres_reader_conn"


def connect(conn_id: str) -> psycopg.Connection[Any]:
    """Open an Airflow connection; as a context manager it is one transaction: committed or rolled back, then closed."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    connection = PostgresHook(postgres_conn_id=conn_id).get_conn()
    assert isinstance(connection, psycopg.Connection)  # noqa: S101 - psycopg2 only without SQLAlchemy 2
    return connection
