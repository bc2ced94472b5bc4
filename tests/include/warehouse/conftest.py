"""Empty databases, and roles of a test's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from psycopg import sql

from include.warehouse.roles import set_password
from local.login import Login


@contextmanager
def empty_database(postgres: Login) -> Iterator[Login]:
    """Create a database without anything in it, and yield the admin's login to it; drop it at the end."""
    name = f"empty_{uuid4().hex}"
    with postgres.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield replace(postgres, dbname=name)
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def empty(postgres: Login) -> Iterator[Login]:
    """Return the admin's login to a database without anything in it."""
    with empty_database(postgres) as login:
        yield login


@pytest.fixture
def role(warehouse: Login) -> Iterator[Login]:
    """Return the login of a role of this test's own, since passwords belong to the whole server."""
    login = warehouse.as_role(f"tester_{uuid4().hex}", "the old one", warehouse.dbname)
    name = sql.Identifier(login.user)
    with warehouse.connect(autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login").format(name))
        set_password(admin, login.user, login.password)
        yield login
        admin.execute(sql.SQL("drop role {}").format(name))
