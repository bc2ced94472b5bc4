import socket
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from include.warehouse.roles import set_password
from local.database import server
from local.login import Login, ensure_database, ensure_role
from local.state import LocalError, State


def test_a_role_and_its_database_are_created_once(postgres: Login) -> None:
    owner = postgres.as_role("somebody", "its: password", "somebodys")
    for _ in range(2):
        ensure_role(postgres, owner)
        ensure_database(postgres, "somebodys", owner="somebody")
    with owner.connect() as connection:
        owners = connection.execute(
            "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
        ).fetchall()
        made = connection.execute(
            "select pg_encoding_to_char(encoding), datcollate, datctype from pg_database "
            "where datname = current_database()"
        ).fetchall()
    assert owners == [("somebody",)]
    assert made == [("UTF8", "C", "C")]
    stranger = postgres.as_role("a stranger", "a password", "somebodys")
    ensure_role(postgres, stranger)
    for database in ("somebodys", "postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            replace(stranger, dbname=database).connect()


@pytest.fixture
def owner_of_a_server(postgres: Login) -> Iterator[Login]:
    login = postgres.as_role("limited", "p@ss/w:rd", "postgres")
    with postgres.connect(autocommit=True) as connection:
        connection.execute("create role limited login")
        connection.execute("grant connect on database postgres to limited")
        set_password(connection, login.user, login.password)
        yield login
        connection.execute("drop owned by limited")
        connection.execute("drop role limited")


def url(login: Login, password: str) -> str:
    return f"postgresql://{login.user}:{password}@{login.host}:{login.port}/postgres"


def test_a_server_of_the_users_own_is_used_as_it_is(postgres: Login, own_state: State) -> None:
    ensure_database(postgres, "warehouse", owner=postgres.user)
    try:
        with server(own_state, url(postgres, postgres.password)) as login:
            assert login == postgres
    finally:
        drop_warehouse(postgres)
    assert not own_state.folder.exists()


def test_a_warehouse_that_somebody_else_created_is_not_used(postgres: Login, own_state: State) -> None:
    with postgres.connect(autocommit=True) as connection:
        connection.execute("create database warehouse")
    try:
        with (
            pytest.raises(LocalError, match="somebody else created the database warehouse"),
            server(own_state, url(postgres, postgres.password)),
        ):
            pass
    finally:
        drop_warehouse(postgres)


def drop_warehouse(postgres: Login) -> None:
    with postgres.connect(autocommit=True) as connection:
        connection.execute("drop database warehouse")


def test_an_option_in_the_url_is_not_ignored_silently(postgres: Login, own_state: State) -> None:
    with (
        pytest.raises(LocalError, match="the options sslmode are not supported"),
        server(own_state, url(postgres, postgres.password) + "?sslmode=verify-full"),
    ):
        pass


def test_a_server_of_the_users_own_must_allow_creating_roles(owner_of_a_server: Login, own_state: State) -> None:
    with (
        pytest.raises(LocalError, match="ALTER ROLE limited CREATEROLE CREATEDB"),
        server(own_state, url(owner_of_a_server, "p%40ss%2Fw%3Ard")),
    ):
        pass


def test_a_url_that_does_not_work_is_reported_without_its_password(postgres: Login, own_state: State) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = replace(postgres, port=nobody.getsockname()[1])
        for bad_url in (
            "postgresql//admin:hidden@host/db",
            "postgresql://admin:hidden@host:port/db",
            "host=127.0.0.1 password=hidden",
            url(postgres, "hidden"),
            url(closed, "hidden"),
        ):
            with pytest.raises(LocalError, match="AIRLOCK_DATABASE_URL") as error, server(own_state, bad_url):
                pass
            assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    "socket_url",
    [
        "postgresql:///postgres?host=/var/run/postgresql",
        "postgresql://admin:hidden@%2Fvar%2Frun%2Fpostgresql/postgres",
        "postgresql://admin:hidden@%40abstract/postgres",
        "host=/var/run/postgresql user=admin password=hidden",
    ],
)
def test_a_unix_socket_is_refused_before_anything_is_made(own_state: State, socket_url: str) -> None:
    with (
        pytest.raises(LocalError, match=r"names the Unix socket .*not supported: let the server listen on") as error,
        server(own_state, socket_url),
    ):
        pass
    assert "hidden" not in str(error.value)
