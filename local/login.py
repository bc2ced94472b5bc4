"""Logins to databases, and the roles and databases that the local platform creates."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql

from include.warehouse.roles import set_password
from include.warehouse.session import Session

MADE_HERE = "made by Airlock's local platform"


@dataclass(frozen=True)
class Login:
    """How to reach one database as one role."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    dbname: str

    def connect(self, **options: Any) -> Session:
        """Open a session, as the DAGs do; the caller closes it."""
        return Session.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=self.dbname, **options
        )

    def as_airflow_connection(self) -> str:
        """Return the login in the JSON form of an AIRFLOW_CONN_* variable."""
        return json.dumps(
            {
                "conn_type": "postgres",
                "host": self.host,
                "port": self.port,
                "login": self.user,
                "password": self.password,
                "schema": self.dbname,
            }
        )

    def as_role(self, user: str, password: str, dbname: str) -> "Login":
        """Return the login of another role on the same server."""
        return replace(self, user=user, password=password, dbname=dbname)


def ensure_role(admin: Login, login: Login) -> None:
    """Create a role if it is missing, and let it log in with this password."""
    role = sql.Identifier(login.user)
    with admin.connect(autocommit=True) as connection:
        if not connection.execute("select 1 from pg_roles where rolname = %s", [login.user]).fetchone():
            connection.execute(sql.SQL("create role {} login").format(role))
        connection.execute(sql.SQL("grant {} to current_user").format(role))
        set_password(connection, login.user, login.password)


def ensure_database(admin: Login, name: str, owner: str) -> None:
    """Create a database if it is missing, with a comment that says who created it, and closed to other roles.

    Its encoding and order of texts are the same on every server, and it has nothing of the server's template.
    """
    database = sql.Identifier(name)
    with admin.connect(autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            connection.execute(
                sql.SQL(
                    "create database {} owner {} encoding 'UTF8' locale_provider libc locale 'C' template template0"
                ).format(database, sql.Identifier(owner))
            )
            connection.execute(sql.SQL("revoke connect, temporary on database {} from public").format(database))
            connection.execute(sql.SQL("comment on database {} is {}").format(database, sql.Literal(MADE_HERE)))
