"""The refresh tasks as the DAG has them: Airflow's own operator, run against a real warehouse."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk.definitions.param import process_params
from include.daily_operations.publish import publish_views
from include.daily_operations.tasks import Batch
from include.daily_operations.views import FOLDER, SNAPSHOTS
from tests.include.daily_operations.resort import DAY, GOOD, VIEWS, as_app, fill

from include.warehouse.connections import DAILY_OPERATIONS
from include.warehouse.register import Run
from include.warehouse.roles import READER
from local.login import Login
from local.state import ROOT, State
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import await_blocked, await_gone, terminate

ADMISSION, ORDERS, SELLERS, LABOR = VIEWS
OTHER_DAY = date(2023, 8, 2)


@pytest.fixture(scope="module")
def dag() -> Any:
    path = ROOT / "dags" / "daily_operations_view_update.py"
    return DagBag(dag_folder=path).dags[path.stem]


@pytest.fixture
def database(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Give the good day's warehouse, with the connection that the tasks use."""
    with warehouse.connect() as admin:
        fill(admin, **GOOD)
    give(monkeypatch, DAILY_OPERATIONS, as_app(warehouse, state))
    return warehouse


@pytest.fixture
def admin(database: Login) -> Iterator[psycopg.Connection[Any]]:
    with database.connect(autocommit=True) as connection:
        yield connection


def task(
    dag: Any, view: str, batch_id: UUID, day: date = DAY, conf: dict[str, str] | None = None
) -> SQLExecuteQueryOperator:
    """Give a refresh task as a run has it: rendered, with what its start task pushed."""
    operator = cast(SQLExecuteQueryOperator, dag.get_task(f"refresh_{view}").prepare_for_execution())
    batch = Batch(as_of=day.isoformat(), batch_id=str(batch_id), views=VIEWS)
    ti = SimpleNamespace(xcom_pull=lambda task_ids, **_: {"start": batch}[task_ids])
    params = process_params(dag, operator, cast(Any, {"conf": conf or {}}), suppress_exception=False)
    operator.render_template_fields(cast(Any, {"dag": dag, "params": params, "ti": ti}))
    return operator


def execute(operator: SQLExecuteQueryOperator) -> None:
    operator.execute({})  # type: ignore[no-untyped-call]  # Airflow's own, without annotations


def run(dag: Any, view: str, batch_id: UUID, day: date = DAY) -> None:
    execute(task(dag, view, batch_id, day))


def snapshots(connection: psycopg.Connection[Any], view: str) -> list[tuple[Any, ...]]:
    """Give batch_id and the view's columns of all snapshots of it."""
    found = connection.execute(f"select * from {SNAPSHOTS}.{view}".encode()).fetchall()
    return sorted((row[0], *row[2:]) for row in found)


def test_each_refresh_keeps_what_its_query_gives_under_the_batch_of_the_run(
    dag: Any, admin: psycopg.Connection[Any]
) -> None:
    batch_id = uuid4()
    for view in VIEWS:
        run(dag, view, batch_id)

    assert {view: [row[1:] for row in snapshots(admin, view)] for view in VIEWS} == {
        ADMISSION: [(DAY, "Gate", 5, 191), (DAY, "Lift", 0, 0), (DAY, "Pier", 4, 200)],
        ORDERS: [(DAY, "Coffee", 5), (DAY, "Lemonade", 0)],
        SELLERS: [(DAY, "Kiosk", "Coffee", 1), (DAY, "Kiosk", "Lemonade", 1), (DAY, "Lodge", "Coffee", 1)],
        LABOR: [("Ada", 15.5, 310, 230.5), ("Ben", 4, 80, 60), ("Cy", 0, 0, 0)],
    }
    for view in VIEWS:
        keys = admin.execute(f"select distinct batch_id, loaded_at <= now() from {SNAPSHOTS}.{view}".encode())
        assert keys.fetchall() == [(batch_id, True)]


def test_a_retry_replaces_the_batch_and_no_other(dag: Any, admin: psycopg.Connection[Any]) -> None:
    first, second = sorted([uuid4(), uuid4()])
    for view in VIEWS:
        run(dag, view, first)
        run(dag, view, second)
    before = {view: snapshots(admin, view) for view in VIEWS}
    assert [view for view in VIEWS if {row[0] for row in before[view]} != {first, second}] == []
    # What the source holds by the time of the retry is what counts.
    admin.execute("update daily_operations.guest_attendance set entrance_name = upper(entrance_name)")
    for table in ("inventory", "item_sales"):
        admin.execute(f"update daily_operations.{table} set item_name = upper(item_name)".encode())
    admin.execute("update daily_operations.labor set employee_name = upper(employee_name)")

    for view in VIEWS:
        run(dag, view, second)

    for view in VIEWS:
        after = snapshots(admin, view)
        of_first = [row for row in before[view] if row[0] == first]
        assert [row for row in after if row[0] == first] == of_first
        assert len(after) == len(before[view])
        assert {row[1:] for row in after if row[0] == second}.isdisjoint(row[1:] for row in of_first)


# Fires at the second row: the first is inserted by then.
GATE = f"""
create function public.wait() returns trigger language plpgsql as
$$ begin perform pg_advisory_xact_lock(7); return new; end $$;
create trigger wait before insert on {SNAPSHOTS}.{ORDERS} for each row when (new.item_name = 'Lemonade')
execute function public.wait()
"""


@pytest.mark.parametrize("killed", ["the process", "the session"])
def test_a_refresh_that_ends_midway_leaves_what_was_there(
    dag: Any, database: Login, admin: psycopg.Connection[Any], killed: str
) -> None:
    batch_id = uuid4()
    run(dag, ORDERS, batch_id)
    before = snapshots(admin, ORDERS)
    admin.execute("update daily_operations.inventory set quantity_on_hand = 77")
    admin.execute(GATE.encode())
    process = get_context("fork").Process(target=run, args=(dag, ORDERS, batch_id))

    with database.connect() as gatekeeper:
        gatekeeper.execute("select pg_advisory_xact_lock(7)")
        process.start()
        await_blocked(database)
        waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        [(pid,)] = admin.execute(waiting.encode()).fetchall()
        if killed == "the process":
            process.kill()
        else:
            terminate(admin=database, pid=pid)
        process.join()
    await_gone(database, pid)

    assert process.exitcode != 0
    assert snapshots(admin, ORDERS) == before
    run(dag, ORDERS, batch_id)  # nothing of the dead is in the way
    assert snapshots(admin, ORDERS) == [(*row[:3], 77) for row in before]


def test_two_tries_at_once_leave_one(dag: Any, database: Login, admin: psycopg.Connection[Any]) -> None:
    """As when Airflow takes a worker for dead that is not."""
    batch_id = uuid4()
    admin.execute(GATE.encode())
    fork = get_context("fork")
    processes = [fork.Process(target=run, args=(dag, ORDERS, batch_id)) for _ in range(2)]

    with database.connect() as gatekeeper:
        gatekeeper.execute("select pg_advisory_xact_lock(7)")
        for process in processes:
            process.start()
        await_blocked(database, sessions=2)
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    assert snapshots(admin, ORDERS) == [(batch_id, DAY, "Coffee", 5), (batch_id, DAY, "Lemonade", 0)]


def test_what_is_published_while_a_late_try_refreshes_is_published_whole(
    dag: Any, database: Login, app: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    batch_id = uuid4()
    for view in VIEWS:
        run(dag, view, batch_id)
    admin.execute("update daily_operations.inventory set quantity_on_hand = 77")
    admin.execute(GATE.encode())
    late = get_context("fork").Process(target=run, args=(dag, ORDERS, batch_id))

    with ThreadPoolExecutor(1) as executor:
        with database.connect() as gatekeeper:
            gatekeeper.execute("select pg_advisory_xact_lock(7)")
            late.start()
            await_blocked(database)
            publisher = Run("daily_operations_view_update", "a run")
            published = executor.submit(publish_views, app, batch_id, DAY, publisher, keep=7)
            await_blocked(database, sessions=2)
        assert published.result() == 11
    app.commit()
    late.join()

    assert late.exitcode == 0
    shown = app.execute(f"select item_name, quantity_on_hand from daily_operations.{ORDERS} order by 1".encode())
    assert shown.fetchall() == [("Coffee", 77), ("Lemonade", 77)]


def refresh_all_and_publish(dag: Any, app: psycopg.Connection[Any]) -> UUID:
    batch_id = uuid4()
    for view in VIEWS:
        run(dag, view, batch_id)
    publish_views(app, batch_id, DAY, Run("daily_operations_view_update", "a run"), keep=7)
    app.commit()
    return batch_id


def test_what_was_published_is_not_refreshed(
    dag: Any, app: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    batch_id = refresh_all_and_publish(dag, app)
    before = {view: snapshots(admin, view) for view in VIEWS}
    # Nor when readers see another one by now: a rollback may go back to it.
    for statement in ("select 1", "update warehouse.publication set is_current = false"):
        admin.execute(statement.encode())
        for view in VIEWS:
            with pytest.raises(psycopg.errors.RaiseException) as refused:
                run(dag, view, batch_id, OTHER_DAY)
            assert refused.value.diag.message_primary == (
                f"Batch {batch_id} was published and stays as it is; clear the run from its start task on"
            )
            assert snapshots(admin, view) == before[view]


def test_what_was_published_without_rows_is_not_refreshed(
    dag: Any, app: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute("update daily_operations.inventory set order_more = false")
    batch_id = refresh_all_and_publish(dag, app)
    admin.execute("update daily_operations.inventory set order_more = true")
    admin.execute(f"vacuum analyze {SNAPSHOTS}.{ORDERS}".encode())  # as autovacuum does

    with pytest.raises(psycopg.errors.RaiseException, match="was published and stays as it is"):
        run(dag, ORDERS, batch_id)

    assert admin.execute(f"select * from daily_operations.{ORDERS}".encode()).fetchall() == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_runs_values_are_bound_and_never_part_of_the_statement(dag: Any, view: str) -> None:
    batch_id = uuid4()

    operator = task(dag, view, batch_id)

    assert operator.parameters == {"as_of": DAY.isoformat(), "batch_id": str(batch_id), "views": VIEWS}
    statement = "\n".join(operator.sql)
    assert f"INSERT INTO {SNAPSHOTS}.{view}" in statement
    assert (FOLDER / f"{view}.sql").read_text().strip() in statement
    assert [value for value in (DAY.isoformat(), str(batch_id), "{{", "{%") if value in statement] == []


def test_no_setting_of_a_run_leads_a_refresh_to_another_view(dag: Any) -> None:
    statement = "\n".join(task(dag, VIEWS[0], uuid4(), conf={"view": VIEWS[1]}).sql)

    assert f"{SNAPSHOTS}.{VIEWS[0]}" in statement
    assert f"{SNAPSHOTS}.{VIEWS[1]}" not in statement


def test_a_day_that_is_sql_is_no_day(dag: Any, admin: psycopg.Connection[Any]) -> None:
    operator = task(dag, ORDERS, uuid4())
    operator.parameters = {"as_of": "2023-08-01' or true --", "batch_id": str(uuid4())}

    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        execute(operator)

    assert snapshots(admin, ORDERS) == []


def test_readers_see_neither_snapshots_nor_what_is_not_published(dag: Any, database: Login, state: State) -> None:
    for view in VIEWS:
        run(dag, view, uuid4())

    with database.as_role(READER, state.secrets[READER], database.dbname).connect(autocommit=True) as reader:
        for view in VIEWS:
            assert reader.execute(f"select count(*) from daily_operations.{view}".encode()).fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"select count(*) from {SNAPSHOTS}.{view}".encode())
