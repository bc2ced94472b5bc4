"""Which state an interrupted run gets. That Airflow accepts it is seen by test_up, with Airflow's own tables."""

from datetime import date, timedelta
from uuid import uuid4

import pytest

from include.warehouse import register
from include.warehouse.register import Run
from local.interrupted_runs import end_interrupted_runs
from local.login import Login

RUN = Run("a_dag", "a run")
TABLES = """
create table dag_run (dag_id text, run_id text, state text, queued_at timestamptz, end_date timestamptz,
    updated_at timestamptz);
create table task_instance (dag_id text, run_id text, task_id text, state text, start_date timestamptz,
    end_date timestamptz, duration float, updated_at timestamptz);
"""
BEFORE = {"start": "success", "publish": "running", "retried": "up_for_retry", "end": None}


@pytest.fixture
def metadata(warehouse: Login) -> Login:
    """Return a login to tables like Airflow's, with one run that is publishing and one that has ended."""
    with warehouse.connect() as connection:
        connection.execute(TABLES)
        for run_id, state in ((RUN.run_id, "running"), ("ended", "success")):
            connection.execute("insert into dag_run values (%s, %s, %s, now())", [RUN.dag_id, run_id, state])
        for task in BEFORE.items():
            connection.execute("insert into task_instance values (%s, %s, %s, %s)", [*RUN, *task])
    return warehouse


@pytest.mark.parametrize(
    ("publisher", "after", "end"),
    [
        (RUN, timedelta(seconds=1), "success"),
        (RUN, timedelta(hours=-1), "failed"),  # in its life before it was cleared
        (Run("another_dag", RUN.run_id), timedelta(seconds=1), "failed"),
        (Run(RUN.dag_id, "ended"), timedelta(seconds=1), "failed"),
    ],
)
def test_a_run_succeeded_if_it_published_and_else_failed(
    metadata: Login, publisher: Run, after: timedelta, end: str
) -> None:
    with metadata.connect() as connection:
        register.register(connection, "a.table", "day", date(2023, 8, 1), uuid4(), publisher)
        connection.execute("update warehouse.publication set published_at = now() + %s", [after])
    assert end_interrupted_runs(metadata, metadata) == {end: 1}
    with metadata.connect() as connection:
        runs = connection.execute("select run_id, state from dag_run where state <> 'success' or run_id <> 'ended'")
        assert runs.fetchall() == [(RUN.run_id, end)]
        tasks = dict(connection.execute("select task_id, state from task_instance").fetchall())
    assert tasks == {"start": "success", "publish": end, "retried": "skipped", "end": "skipped"}
    assert end_interrupted_runs(metadata, metadata) == {}
