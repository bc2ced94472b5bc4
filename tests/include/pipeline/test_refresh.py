"""Refreshing a view as a DAG does: Airflow's own operator, run against a real warehouse."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.definitions.param import process_params

from include.dataset import View
from include.pipeline.batch import Batch
from include.pipeline.publish import publish_batch
from include.pipeline.refresh import REFRESH_PARAMETERS, RefreshOperator, refresh_statements
from include.warehouse.roles import APP, READER
from local.login import Login
from local.state import ROOT, State
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import await_blocked, await_gone, terminate
from tests.toy import ROLLUPS
from tests.toy.view_batches import KEEP, VIEWS
from tests.toy.view_batches import run as run_of

BUSIEST, TOTALS = VIEWS
DAY, OTHER_DAY = date(2023, 8, 1), date(2023, 8, 2)
SOURCE = "('2023-08-01', 'north', 20), ('2023-08-01', 'south', 5), ('2023-08-02', 'north', 100)"
BUSIEST_ROWS = [("north", 20), ("south", 5)]


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> DAG:
    """Return a DAG with a refresh task for each toy view, as the DAG of a dataset with views has them."""
    # Where the path of the toy's queries ends as that of a dataset in include/datasets.
    searched = tmp_path_factory.mktemp("include")
    (searched / "datasets").mkdir()
    (searched / "datasets" / ROLLUPS.folder.name).symlink_to(ROLLUPS.folder)
    with DAG(
        "toy_refresh",
        start_date=datetime(2023, 8, 1),
        schedule=None,
        template_searchpath=[str(ROOT / "include"), str(searched)],
        params={"as_of": Param(None, type=["null", "string"])},
    ) as dag:
        for view in ROLLUPS.publishes:
            RefreshOperator(
                task_id=f"refresh_{view.name}",
                conn_id=ROLLUPS.connection,
                sql=refresh_statements(ROLLUPS, cast(View, view)),
                parameters=REFRESH_PARAMETERS,
                do_xcom_push=False,
            )
    return dag


@pytest.fixture
def database(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return a warehouse with rows to refresh from, for which the tasks have their connection."""
    with warehouse.connect() as admin:
        admin.execute(f"insert into rollups.source values {SOURCE}".encode())
    give(monkeypatch, ROLLUPS.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    return warehouse


@pytest.fixture
def admin(database: Login) -> Iterator[psycopg.Connection[Any]]:
    with database.connect(autocommit=True) as connection:
        yield connection


def task(dag: Any, view: str, batch_id: UUID, day: date = DAY, conf: dict[str, str] | None = None) -> RefreshOperator:
    """Return a refresh task as a run has it: rendered, with the batch that its start task pushed."""
    operator = cast(RefreshOperator, dag.get_task(f"refresh_{view}").prepare_for_execution())
    batch = Batch(
        dataset=ROLLUPS.name,
        day=day.isoformat(),
        batch_id=str(batch_id),
        publishes=ROLLUPS.published_names,
        params={},
    )
    ti = SimpleNamespace(xcom_pull=lambda task_ids, **_: {"start": batch}[task_ids])
    params = process_params(dag, operator, conf, suppress_exception=False)
    operator.render_template_fields(cast(Any, {"dag": dag, "params": params, "ti": ti}))
    return operator


def execute(operator: RefreshOperator) -> None:
    operator.execute({})  # type: ignore[no-untyped-call]  # Airflow's own, without annotations


def run(dag: Any, view: str, batch_id: UUID, day: date = DAY) -> None:
    execute(task(dag, view, batch_id, day))


def staged(connection: psycopg.Connection[Any], view: str) -> list[tuple[Any, ...]]:
    """Return batch_id and the view's columns of all staged rows."""
    found = connection.execute(f"select * from {ROLLUPS.staging_schema}.{view}".encode()).fetchall()
    return sorted((row[0], *row[2:]) for row in found)


def test_a_refresh_stages_what_the_query_returns_under_the_batch_of_the_run(
    dag: DAG, admin: psycopg.Connection[Any]
) -> None:
    batch_id = uuid4()
    for view in VIEWS:
        run(dag, view, batch_id)

    assert staged(admin, BUSIEST) == [(batch_id, *row) for row in BUSIEST_ROWS]
    assert staged(admin, TOTALS) == [(batch_id, DAY, 25)]
    for view in VIEWS:
        loaded = admin.execute(f"select distinct loaded_at <= now() from {ROLLUPS.staging_schema}.{view}".encode())
        assert loaded.fetchall() == [(True,)]


def test_the_query_runs_for_the_day_of_the_batch(dag: DAG, admin: psycopg.Connection[Any]) -> None:
    batch_id = uuid4()
    run(dag, TOTALS, batch_id, OTHER_DAY)

    assert staged(admin, TOTALS) == [(batch_id, OTHER_DAY, 100)]


def test_a_retry_replaces_the_batch_and_no_other(dag: DAG, admin: psycopg.Connection[Any]) -> None:
    first, second = sorted([uuid4(), uuid4()])
    for view in VIEWS:
        run(dag, view, first)
        run(dag, view, second)
    before = {view: staged(admin, view) for view in VIEWS}
    # A retry stages what the source has by then.
    admin.execute("update rollups.source set sensor = upper(sensor), amount = amount + 1")

    for view in VIEWS:
        run(dag, view, second)

    for view in VIEWS:
        after = staged(admin, view)
        of_first = [row for row in before[view] if row[0] == first]
        assert [row for row in after if row[0] == first] == of_first
        assert len(after) == len(before[view])
        assert {row[1:] for row in after if row[0] == second}.isdisjoint(row[1:] for row in of_first)


# Waits at the second row: the first is inserted by then.
WAIT_AT_SECOND_ROW = f"""
create function public.wait() returns trigger language plpgsql as
$$ begin perform pg_advisory_xact_lock(7); return new; end $$;
create trigger wait before insert on {ROLLUPS.staging_schema}.{BUSIEST} for each row when (new.sensor = 'south')
execute function public.wait()
"""


@pytest.mark.parametrize("killed", ["the process", "the session"])
def test_a_refresh_that_ends_midway_leaves_what_was_there(
    dag: DAG, database: Login, admin: psycopg.Connection[Any], killed: str
) -> None:
    batch_id = uuid4()
    run(dag, BUSIEST, batch_id)
    before = staged(admin, BUSIEST)
    admin.execute("update rollups.source set amount = 77")
    admin.execute(WAIT_AT_SECOND_ROW.encode())
    process = get_context("fork").Process(target=run, args=(dag, BUSIEST, batch_id))

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
    assert staged(admin, BUSIEST) == before
    run(dag, BUSIEST, batch_id)  # no lock is left
    assert staged(admin, BUSIEST) == [(*row[:2], 77) for row in before]


def test_two_attempts_at_once_leave_one_batch(dag: DAG, database: Login, admin: psycopg.Connection[Any]) -> None:
    """As when Airflow takes a worker for dead that is not."""
    batch_id = uuid4()
    admin.execute(WAIT_AT_SECOND_ROW.encode())
    fork = get_context("fork")
    processes = [fork.Process(target=run, args=(dag, BUSIEST, batch_id)) for _ in range(2)]

    with database.connect() as gatekeeper:
        gatekeeper.execute("select pg_advisory_xact_lock(7)")
        for process in processes:
            process.start()
        await_blocked(database, sessions=2)
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    assert staged(admin, BUSIEST) == [(batch_id, *row) for row in BUSIEST_ROWS]


def test_what_is_published_while_an_earlier_attempt_refreshes_is_published_whole(
    dag: DAG, database: Login, app: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    batch_id = uuid4()
    for view in VIEWS:
        run(dag, view, batch_id)
    admin.execute("update rollups.source set amount = 77")
    admin.execute(WAIT_AT_SECOND_ROW.encode())
    earlier = get_context("fork").Process(target=run, args=(dag, BUSIEST, batch_id))

    with ThreadPoolExecutor(1) as executor:
        with database.connect() as gatekeeper:
            gatekeeper.execute("select pg_advisory_xact_lock(7)")
            earlier.start()
            await_blocked(database)
            published = executor.submit(publish_batch, app, ROLLUPS, batch_id, DAY, run_of("a run"), keep=KEEP)
            await_blocked(database, sessions=2)
        assert published.result() == 3
    app.commit()
    earlier.join()

    assert earlier.exitcode == 0
    visible = app.execute(f"select sensor, amount from {ROLLUPS.name}.{BUSIEST} order by 1".encode())
    assert visible.fetchall() == [("north", 77), ("south", 77)]


def refresh_and_publish(dag: DAG, app: psycopg.Connection[Any]) -> UUID:
    batch_id = uuid4()
    for view in VIEWS:
        run(dag, view, batch_id)
    publish_batch(app, ROLLUPS, batch_id, DAY, run_of("a run"), keep=KEEP)
    app.commit()
    return batch_id


def test_a_published_batch_is_not_refreshed(
    dag: DAG, app: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    batch_id = refresh_and_publish(dag, app)
    before = {view: staged(admin, view) for view in VIEWS}
    # Nor when readers see another one by now: a rollback may restore it.
    for statement in ("select 1", "update warehouse.publication set is_current = false"):
        admin.execute(statement.encode())
        for view in VIEWS:
            with pytest.raises(psycopg.errors.RaiseException) as refused:
                run(dag, view, batch_id, OTHER_DAY)
            assert refused.value.diag.message_primary == (
                f"Batch {batch_id} was published and stays as it is; clear the run from its start task on"
            )
            assert staged(admin, view) == before[view]


def test_a_view_that_was_published_without_rows_is_not_refreshed(
    dag: DAG, app: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute("update rollups.source set amount = 0")
    batch_id = refresh_and_publish(dag, app)
    admin.execute("update rollups.source set amount = 1")
    admin.execute(f"vacuum analyze {ROLLUPS.staging_schema}.{BUSIEST}".encode())  # as autovacuum does

    with pytest.raises(psycopg.errors.RaiseException, match="was published and stays as it is"):
        run(dag, BUSIEST, batch_id)

    assert admin.execute(f"select * from {ROLLUPS.name}.{BUSIEST}".encode()).fetchall() == []


@pytest.mark.parametrize("view", ROLLUPS.publishes, ids=VIEWS)
def test_a_runs_values_are_bound_and_never_part_of_the_statement(dag: DAG, view: View) -> None:
    batch_id = uuid4()

    operator = task(dag, view.name, batch_id)

    assert operator.parameters == {"as_of": DAY.isoformat(), "batch_id": str(batch_id)}
    statement = "\n".join(operator.sql)
    assert f"INSERT INTO {ROLLUPS.staging_name(view)}" in statement
    assert ROLLUPS.query_path(view).read_text().strip() in " ".join(operator.sql)
    assert [value for value in (DAY.isoformat(), str(batch_id), "{{", "{%") if value in statement] == []


@pytest.mark.parametrize("name", ["staging", "query", "view"])
def test_no_setting_of_a_run_leads_a_refresh_to_another_table(dag: DAG, name: str) -> None:
    batch_id = uuid4()
    conf = {name: "rollups_staging.totals", "as_of": OTHER_DAY.isoformat(), "batch_id": str(uuid4())}

    plain, configured = task(dag, BUSIEST, batch_id), task(dag, BUSIEST, batch_id, conf=conf)

    assert (configured.sql, configured.parameters) == (plain.sql, plain.parameters)


def test_a_day_that_contains_sql_is_refused(dag: DAG, admin: psycopg.Connection[Any]) -> None:
    operator = task(dag, BUSIEST, uuid4())
    operator.parameters = {"as_of": "2023-08-01' or true --", "batch_id": str(uuid4())}

    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        execute(operator)

    assert staged(admin, BUSIEST) == []


def test_readers_see_neither_staged_rows_nor_what_is_not_published(dag: DAG, database: Login, state: State) -> None:
    for view in VIEWS:
        run(dag, view, uuid4())

    with database.as_role(READER, state.secrets[READER], database.dbname).connect(autocommit=True) as reader:
        for view in VIEWS:
            assert reader.execute(f"select count(*) from {ROLLUPS.name}.{view}".encode()).fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"select count(*) from {ROLLUPS.staging_schema}.{view}".encode())
