"""What tasks of every dataset do, and those of the DAGs publication_rollback and warehouse_migrations."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.errors import PermanentError
from include.pipeline import tasks
from include.pipeline.batch import Batch
from include.warehouse import migrate as module
from include.warehouse.connections import ADMIN, READER, connect
from include.warehouse.roles import APP, set_password
from include.warehouse.roles import READER as READER_ROLE
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.migrations import applied
from tests.toy import READINGS, ROLLUPS, TOYS, view_batches
from tests.toy.batches import (
    DAY,
    as_batch,
    publish_new,
    published,
    registered,
    run,
    stage,
    staged,
    with_value,
)

pytestmark = pytest.mark.usefixtures("toys")

SECRETS = ("a secret of the app", "a secret of the reader")
OF_READINGS, OF_ROLLUPS = READINGS.connection, ROLLUPS.connection


@pytest.fixture
def connections(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Login]]:
    """Return connections that fit together, with other passwords; restore those of the roles at the end."""
    app = warehouse.as_role(APP, SECRETS[0], warehouse.dbname)
    reader = warehouse.as_role(READER_ROLE, SECRETS[1], warehouse.dbname)
    logins = {ADMIN: warehouse, **{dataset.connection: app for dataset in TOYS}, READER: reader}
    for conn_id, login in logins.items():
        give(monkeypatch, conn_id, login)
    yield logins
    with warehouse.connect() as admin:
        for role in (APP, READER_ROLE):
            set_password(admin, role, state.secrets[role])


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the tasks logged, without what others did."""
    return [record.getMessage() for record in caplog.records if record.name == tasks.__name__]


def test_the_roles_get_the_passwords_of_their_connections(connections: dict[str, Login]) -> None:
    assert tasks.migrate() == []  # the test's warehouse is up to date

    for login in connections.values():
        login.connect().close()
    with connect(OF_READINGS) as connection:
        assert connection.execute("select current_user").fetchone() == (APP,)


@pytest.mark.usefixtures("connections")
def test_what_was_missing_is_applied_and_logged(warehouse: Login, caplog: pytest.LogCaptureFixture) -> None:
    schemas = ["warehouse", "quality", *(name for toy in TOYS for name in (toy.name, toy.staging_schema))]
    with warehouse.connect() as admin:
        admin.execute(f"drop schema {', '.join(schemas)} cascade".encode())
    missing = applied(TOYS, module._MIGRATIONS / "versions")

    with caplog.at_level(logging.INFO, logger="include.pipeline.tasks"):
        assert tasks.migrate() == missing
        assert tasks.migrate() == []

    assert logged(caplog) == [
        f"Applied: {', '.join(missing)}",
        "Applied: nothing, the warehouse was up to date",
    ]


def test_the_readers_connection_is_optional(
    connections: dict[str, Login], state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{READER.upper()}")

    with caplog.at_level(logging.INFO, logger="include.pipeline.tasks"):
        tasks.migrate()

    replace(connections[READER], password=state.secrets[READER_ROLE]).connect().close()
    assert f"No connection {READER}: the password of {READER_ROLE} stays as it is" in caplog.messages


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("conn_id", [ADMIN, *(dataset.connection for dataset in TOYS)])
def test_every_other_connection_is_required(conn_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")

    with pytest.raises(AirflowNotFoundException, match=conn_id):
        tasks.migrate()


REFUSED: list[tuple[str, Callable[[Login], Login], str]] = [
    (
        OF_READINGS,
        lambda login: replace(login, host="another.host"),
        f"{OF_READINGS} has host 'another.host', {ADMIN} has",
    ),
    (OF_ROLLUPS, lambda login: replace(login, port=1), f"{OF_ROLLUPS} has port 1, {ADMIN} has"),
    (READER, lambda login: replace(login, dbname="other"), f"{READER} has schema 'other', {ADMIN} has"),
    (
        OF_READINGS,
        lambda login: replace(login, user="postgres"),
        f"{OF_READINGS} logs in as 'postgres': it must be the role {APP}",
    ),
    (READER, lambda login: replace(login, user=APP), f"{READER} logs in as '{APP}': it must be the role {READER_ROLE}"),
    (OF_ROLLUPS, lambda login: replace(login, password="another secret"), f"another password for {APP}"),
    (OF_READINGS, lambda login: replace(login, password=""), f"{OF_READINGS} has no password: {APP} logs in with one"),
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
    insert = "insert into readings_staging.measured (batch_id) values (gen_random_uuid())"

    with pytest.raises(psycopg.errors.DivisionByZero), connect(OF_READINGS) as failing:
        failing.execute(f"{insert}; select 1 / 0")
    with connect(OF_READINGS) as working:
        working.execute(insert)
    assert failing.closed
    assert working.closed

    with warehouse.connect() as admin:
        count = admin.execute("select count(*) from readings_staging.measured").fetchone()
    assert count == (1,)


def test_no_error_contains_a_wrong_password(connections: dict[str, Login], monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, ADMIN, replace(connections[ADMIN], password="a wrong secret"))

    with pytest.raises(Exception, match="password authentication failed") as raised:
        tasks.migrate()

    assert "a wrong secret" not in str(raised.value)
    assert isinstance(raised.value.__cause__ or raised.value, psycopg.OperationalError)


@pytest.fixture
def reports(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Connect the toys, and return the folder of the reports."""
    for dataset in TOYS:
        give(monkeypatch, dataset.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))
    return tmp_path / "reports"


def views_batch(batch_id: UUID, day: str = "2023-08-01") -> Batch:
    return Batch(dataset=ROLLUPS.name, day=day, batch_id=str(batch_id), publishes=ROLLUPS.published_names, params={})


def test_a_tables_batch_is_published_once_however_often_its_task_runs(
    app: psycopg.Connection[Any], reports: Path
) -> None:
    batch_id = stage(app, with_value(1.0))

    for _ in range(2):
        assert tasks.publish(READINGS, as_batch(batch_id), run("a run"), OutletEventAccessors()) == {
            "object": "readings.measured",
            "day": "2023-08-01",
            "batch_id": str(batch_id),
            "rows": 2,
        }

    assert {value for _, _, value in published(app)} == {1.0}
    assert [(line.batch_id, line.run) for line in registered(app)] == [(batch_id, "a run")]
    assert list(reports.rglob("*.html")) != []


def test_all_views_are_published_together_once_however_often_the_task_runs(
    app: psycopg.Connection[Any], reports: Path
) -> None:
    batch_id = view_batches.stage(app, DAY, 1)

    for _ in range(2):
        assert tasks.publish(ROLLUPS, views_batch(batch_id), run("a run"), OutletEventAccessors()) == {
            "object": "rollups",
            "day": "2023-08-01",
            "batch_id": str(batch_id),
            "rows": view_batches.ROWS * len(ROLLUPS.publishes),
        }

    assert view_batches.visible(app) == view_batches.everywhere(1)
    lines = app.execute("select object, day, batch_id, dag_id, run_id from warehouse.publication order by id")
    assert lines.fetchall() == [(name, DAY, batch_id, "a_dag", "a run") for name in ROLLUPS.published_names]
    assert list(reports.rglob("*.html")) != []


@pytest.mark.usefixtures("reports")
def test_a_day_that_became_older_while_the_run_went_on_is_not_published(app: psycopg.Connection[Any]) -> None:
    batch = views_batch(view_batches.stage(app, DAY, 2))
    view_batches.publish(app, view_batches.DAYS[1], 1)

    with pytest.raises(PermanentError, match="set the param allow_older"):
        tasks.publish(ROLLUPS, batch, run("a run"), OutletEventAccessors())
    assert view_batches.visible(app) == view_batches.everywhere(1)
    app.rollback()

    tasks.publish(ROLLUPS, batch, run("a run"), OutletEventAccessors(), allow_older=True)
    assert view_batches.visible(app) == view_batches.everywhere(2)


@pytest.mark.usefixtures("reports")
def test_a_batch_that_was_never_staged_is_not_published(app: psycopg.Connection[Any]) -> None:
    publish_new(app, 1.0)

    with pytest.raises(PermanentError, match=r"^Batch .* is not in staging .*: run the day again"):
        tasks.publish(READINGS, as_batch(uuid4()), run("a run"), OutletEventAccessors())

    assert {value for _, _, value in published(app)} == {1.0}


@pytest.mark.usefixtures("reports")
def test_a_view_that_was_added_meanwhile_is_not_published_unchecked(app: psycopg.Connection[Any]) -> None:
    batch = views_batch(view_batches.stage(app, DAY, 1))
    batch["publishes"] = ROLLUPS.published_names[1:]

    with pytest.raises(
        PermanentError, match=r"publishes rollups\.busiest, rollups\.totals now: clear the run from its "
    ):
        tasks.publish(ROLLUPS, batch, run("a run"), OutletEventAccessors())

    assert view_batches.visible(app) == view_batches.everywhere(0)


@pytest.mark.usefixtures("reports")
def test_as_many_publications_are_kept_as_the_setting_says(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", "2")

    for mark in (1, 2, 3):
        tasks.publish(
            ROLLUPS, views_batch(view_batches.stage(app, DAY, mark)), run(f"run {mark}"), OutletEventAccessors()
        )

    assert view_batches.kept(app) == [{2, 3}] * len(ROLLUPS.publishes)


def asked(day: str | None, name: str = READINGS.label) -> dict[str, str | None]:
    return {"object": name, "day": day}


def test_a_day_of_a_table_is_rolled_back_once_however_often_the_task_runs(
    app: psycopg.Connection[Any], reports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = publish_new(app, 1.0), publish_new(app, 2.0)

    for _ in range(2):
        with caplog.at_level(logging.INFO, logger="include.pipeline.tasks"):
            assert tasks.roll_back(run("a rollback"), asked("2023-08-01"), OutletEventAccessors()) == {
                "object": "readings.measured",
                "day": "2023-08-01",
                "batch_id": str(first),
                "rows": 2,
            }

    assert {value for _, _, value in published(app)} == {1.0}
    assert [line.run for line in registered(app)] == ["run 1", "run 2", "a rollback"]
    assert logged(caplog) == [f"Readers of readings.measured see batch {first} of 2023-08-01 again"] * 2
    assert list(reports.rglob("*.html")) != []


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize("day", [None, "", "2023-08-01"])
def test_the_views_are_rolled_back_together(app: psycopg.Connection[Any], day: str | None) -> None:
    first, _ = (view_batches.publish(app, view_batches.DAYS[number], number + 1) for number in (0, 1))

    assert tasks.roll_back(run("a rollback"), asked(day, "rollups"), OutletEventAccessors()) == {
        "object": "rollups",
        "day": "2023-08-01",
        "batch_id": str(first),
        "rows": view_batches.ROWS * len(ROLLUPS.publishes),
    }

    assert view_batches.visible(app) == view_batches.everywhere(1)


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize(
    ("params", "message"),
    [
        (asked(None), r"^day is empty: give the day of readings\.measured that is to be restored\.$"),
        (asked(""), "^day is empty"),
        (asked("20230801"), "^day is '20230801': give a date as YYYY-MM-DD"),
        (asked("2023-08-01"), r"^readings\.measured has no earlier publication of 2023-08-01 to go back to\.$"),
        (asked("2023-07-31"), "no earlier publication of 2023-07-31 to go back to"),
        (asked(None, "rollups"), r"^rollups has no earlier publication to go back to\.$"),
        (asked("2023-08-01", "rollups"), "^rollups has no earlier publication of 2023-08-01 to go back to"),
        (asked("2023-08-01", "readings"), r"^object is 'readings': give one of readings\.measured, rollups\.$"),
        (asked("2023-08-01", "rollups.totals"), r"^object is 'rollups\.totals': give one of"),
        (asked("2023-08-01", ""), "^object is '': give one of"),
    ],
)
def test_a_rollback_to_nothing_fails_at_once(
    app: psycopg.Connection[Any], params: dict[str, str | None], message: str
) -> None:
    publish_new(app, 1.0)
    before = (published(app), registered(app))

    with pytest.raises(AirflowFailException, match=message):
        tasks.roll_back(run("a rollback"), params, OutletEventAccessors())

    assert (published(app), registered(app)) == before


@pytest.mark.usefixtures("reports")
def test_a_rollback_keeps_as_many_publications_as_the_setting_says(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    never_published = stage(app, with_value(0.0))
    first, second = (publish_new(app, value) for value in (1.0, 2.0))
    assert staged(app) == {never_published, first, second}
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", "2")

    tasks.roll_back(run("a rollback"), asked("2023-08-01"), OutletEventAccessors())

    assert staged(app) == {first, second}
