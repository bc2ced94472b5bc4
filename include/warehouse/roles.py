"""The roles of the warehouse and their passwords."""

from typing import Any

import psycopg
from psycopg import sql

APP = "airlock_app"
READER = "airlock_reader"


def set_password(connection: psycopg.Connection[Any], role: str, password: str) -> None:
    """Set the password of a role.

    What travels is the SCRAM verifier, made here: the server may log the statement, and then logs no password.
    """
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier)))
