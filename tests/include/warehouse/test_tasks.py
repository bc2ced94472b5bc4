"""The tasks of the DAGs warehouse_migrations, with the connections that it accepts, and publication_rollback."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from include.daily_operations.publish import publish_views
from include.warehouse.publish import MARKET_DATA

from include.warehouse import migrate as module
from include.warehouse import tasks
from include.warehouse.connections import ADMIN, DAILY_OPERATIONS, MARKET, READER, connect
from include.warehouse.roles import APP, set_password
from include.warehouse.roles import READER as READER_ROLE
from local.login import Login
from local.state import State
from tests.include.quality.batches import stage
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.publications import batch, publish_new, published, registered, run, staged
from tests.include.warehouse.test_migrate import HEAD, SCHEMAS

SECRETS = ("a secret of the app", "a secret of the reader")


@pytest.fixture
def connections(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Login]]:
    """Give four connections that fit together, and the roles their own passwords back at the end."""
    app = warehouse.as_role(APP, SECRETS[0], warehouse.dbname)
    reader = warehouse.as_role(READER_ROLE, SECRETS[1], warehouse.dbname)
    logins = {ADMIN: warehouse, MARKET: app, DAILY_OPERATIONS: app, READER: reader}
    for conn_id, login in logins.items():
        give(monkeypatch, conn_id, login)
    yield logins
    with warehouse.connect() as admin:
        for role in (APP, READER_ROLE):
            set_password(admin, role, state.secrets[role])


def test_the_roles_get_the_passwords_of_their_connections(connections: dict[str, Login]) -> None:
    assert tasks.migrate() == []  # the test's warehouse is up to date

    for login in connections.values():
        login.connect().close()
    with connect(MARKET) as connection:
        assert connection.execute("select current_user").fetchone() == (APP,)


@pytest.mark.usefixtures("connections")
def test_what_was_missing_is_applied_and_told(warehouse: Login, caplog: pytest.LogCaptureFixture) -> None:
    with warehouse.connect() as admin:
        admin.execute(f"drop schema {', '.join(SCHEMAS)} cascade".encode())

    with caplog.at_level(logging.INFO, logger="include.warehouse.tasks"):
        assert tasks.migrate() == HEAD

    assert f"Applied: {', '.join(HEAD)}" in caplog.messages


def test_the_readers_connection_is_optional(
    connections: dict[str, Login], state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{READER.upper()}")

    with caplog.at_level(logging.INFO, logger="include.warehouse.tasks"):
        tasks.migrate()

    replace(connections[READER], password=state.secrets[READER_ROLE]).connect().close()
    assert f"No connection {READER}: the password of {READER_ROLE} stays as it is" in caplog.messages


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("conn_id", [ADMIN, MARKET, DAILY_OPERATIONS])
def test_the_other_connections_are_not(conn_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")

    with pytest.raises(AirflowNotFoundException, match=conn_id):
        tasks.migrate()


REFUSED: list[tuple[str, Callable[[Login], Login], str]] = [
    (MARKET, lambda login: replace(login, host="another.host"), f"{MARKET} has host 'another.host', {ADMIN} has"),
    (DAILY_OPERATIONS, lambda login: replace(login, port=1), f"{DAILY_OPERATIONS} has port 1, {ADMIN} has"),
    (READER, lambda login: replace(login, dbname="other"), f"{READER} has schema 'other', {ADMIN} has"),
    (
        MARKET,
        lambda login: replace(login, user="postgres"),
        f"{MARKET} logs in as 'postgres': it must be the role {APP}",
    ),
    (READER, lambda login: replace(login, user=APP), f"{READER} logs in as '{APP}': it must be the role {READER_ROLE}"),
    (DAILY_OPERATIONS, lambda login: replace(login, password="another secret"), f"another password for {APP}"),
    (MARKET, lambda login: replace(login, password=""), f"{MARKET} has no password: {APP} logs in with one"),
]


@pytest.mark.parametrize(("conn_id", "changed", "message"), REFUSED)
def test_connections_that_do_not_fit_together_are_refused(
    connections: dict[str, Login],
    monkeypatch: pytest.MonkeyPatch,
    conn_id: str,
    changed: Callable[[Login], Login],
    message: str,
) -> None:
    give(monkeypatch, conn_id, changed(connections[conn_id]))
    monkeypatch.setattr(module, "migrate", lambda *_: pytest.fail("it went on"))

    with pytest.raises(AirflowFailException) as raised:
        tasks.migrate()

    assert message in str(raised.value)
    assert [secret for secret in (*SECRETS, "another secret") if secret in str(raised.value)] == []


@pytest.mark.usefixtures("connections")
def test_a_connection_is_one_transaction(warehouse: Login) -> None:
    tasks.migrate()
    insert = "insert into market_staging.transformed_market_data (batch_id) values (gen_random_uuid())"

    with pytest.raises(psycopg.errors.DivisionByZero), connect(MARKET) as failing:
        failing.execute(f"{insert}; select 1 / 0")
    with connect(MARKET) as working:
        working.execute(insert)
    assert failing.closed
    assert working.closed

    with warehouse.connect() as admin:
        count = admin.execute("select count(*) from market_staging.transformed_market_data").fetchone()
    assert count == (1,)


@pytest.mark.usefixtures("connections")
def test_a_wrong_password_is_not_told(connections: dict[str, Login], monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, ADMIN, replace(connections[ADMIN], password="a wrong secret"))

    with pytest.raises(Exception, match="password authentication failed") as raised:
        tasks.migrate()

    assert "a wrong secret" not in str(raised.value)
    assert isinstance(raised.value.__cause__ or raised.value, psycopg.OperationalError)


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the rollback its connections."""
    for conn_id in (MARKET, DAILY_OPERATIONS):
        give(monkeypatch, conn_id, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))


def asked(day: str | None, name: str = MARKET_DATA) -> dict[str, str | None]:
    return {"object": name, "day": day}


@pytest.mark.usefixtures("connected")
def test_a_market_day_goes_back_to_its_former_batch_once_however_often_it_is_tried(
    app: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = publish_new(app, 1.0), publish_new(app, 2.0)

    for _ in range(2):
        with caplog.at_level(logging.INFO, logger="include.warehouse.tasks"):
            assert tasks.roll_back(run("a rollback"), asked("2023-08-01")) == {
                "object": "market.transformed_market_data",
                "day": "2023-08-01",
                "batch_id": str(first),
                "rows": 2,
            }

    assert {volume for _, _, volume in published(app)} == {1.0}
    assert [line.run for line in registered(app)] == ["run 1", "run 2", "a rollback"]
    told = f"Readers of market.transformed_market_data see batch {first} of 2023-08-01 again"
    assert caplog.messages == [told, told]


@pytest.mark.usefixtures("connected")
def test_the_views_go_back_together(app: psycopg.Connection[Any]) -> None:
    batches = {date(2023, 8, day): uuid4() for day in (1, 2)}
    for day, batch_id in batches.items():
        app.execute(
            "insert into daily_operations_snapshots.items_to_order (batch_id, loaded_at, inventory_date) "
            "values (%s, now(), %s)",
            [batch_id, day],
        )
        publish_views(app, batch_id, day, run(f"run of {day}"), keep=2)
    app.commit()

    assert tasks.roll_back(run("a rollback"), asked(None, "daily_operations")) == {
        "object": "daily_operations",
        "day": "2023-08-01",
        "batch_id": str(batches[date(2023, 8, 1)]),
        "rows": 1,
    }

    assert app.execute("select inventory_date from daily_operations.items_to_order").fetchall() == [(date(2023, 8, 1),)]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (asked(None), "day is empty: give the day of market.transformed_market_data that is to be restored"),
        (asked(""), "day is empty"),
        (asked("20230801"), "day is '20230801': give a date as YYYY-MM-DD"),
        (asked("2023-08-01"), "no earlier publication of 2023-08-01 to go back to"),
        (asked("2023-07-31"), "no earlier publication of 2023-07-31 to go back to"),
        (asked(None, "daily_operations"), "views of daily_operations have no earlier publication to go back to"),
        (asked("2023-08-01", "daily_operations"), "daily_operations have no earlier publication of 2023-08-01 to go"),
    ],
)
def test_a_rollback_to_nothing_fails_at_once(
    app: psycopg.Connection[Any], given: dict[str, str | None], message: str
) -> None:
    publish_new(app, 1.0)
    before = (published(app), registered(app))

    with pytest.raises(AirflowFailException, match=message):
        tasks.roll_back(run("a rollback"), given)

    assert (published(app), registered(app)) == before


@pytest.mark.usefixtures("connected")
def test_a_rollback_keeps_as_many_publications_as_the_setting_says(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    never_published = stage(app, batch(0.0))
    first, second = (publish_new(app, volume) for volume in (1.0, 2.0))
    assert staged(app) == {never_published, first, second}
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", "2")

    tasks.roll_back(run("a rollback"), asked("2023-08-01"))

    assert staged(app) == {first, second}
