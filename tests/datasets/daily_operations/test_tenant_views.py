"""The views as their users know them, and their refresh by the tasks of the DAG."""

from datetime import date
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.param import process_params

from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from include.pipeline.batch import Batch
from include.pipeline.refresh import RefreshOperator
from include.warehouse.roles import APP, READER
from local.login import Login
from local.state import State
from tests.dags.dags import dags
from tests.datasets.daily_operations.resort import (
    ADMISSION,
    DAY,
    GOOD,
    LABOR,
    ORDERS,
    SELLERS,
    VIEWS,
    as_app,
    fill,
    staging_table,
    view,
)
from tests.include.warehouse.airflow_connections import give

COLUMNS = {
    ADMISSION: [
        ("admission_date", "date"),
        ("entrance_name", "text"),
        ("total_quantity_sold", "bigint"),
        ("total_gross_revenue", "numeric"),
    ],
    ORDERS: [("inventory_date", "date"), ("item_name", "text"), ("quantity_on_hand", "integer")],
    SELLERS: [
        ("sales_date", "date"),
        ("location_name", "text"),
        ("item_name", "text"),
        ("quantity_rank", "bigint"),
    ],
    LABOR: [
        ("employee_name", "text"),
        ("ytd_hours_worked", "numeric"),
        ("ytd_pre_tax_earnings", "numeric"),
        ("ytd_post_tax_earnings", "numeric"),
    ],
}
REFRESHED = {
    ADMISSION: [(DAY, "Gate", 5, 191), (DAY, "Lift", 0, 0), (DAY, "Pier", 4, 200)],
    ORDERS: [(DAY, "Coffee", 5), (DAY, "Lemonade", 0)],
    SELLERS: [(DAY, "Kiosk", "Coffee", 1), (DAY, "Kiosk", "Lemonade", 1), (DAY, "Lodge", "Coffee", 1)],
    LABOR: [("Ada", 15.5, 310, 230.5), ("Ben", 4, 80, 60), ("Cy", 0, 0, 0)],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_columns_that_its_users_know(app: psycopg.Connection[Any], name: str) -> None:
    columns = app.execute(
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        [DAILY_OPERATIONS.published_name(view(name))],
    ).fetchall()

    assert columns == COLUMNS[name]


@pytest.fixture(scope="module")
def dag() -> DAG:
    return dags()["daily_operations_view_update"]


def task(dag: DAG, name: str, batch: Batch) -> RefreshOperator:
    """Return a refresh task as a run has it: rendered, with the batch that its start task pushed."""
    operator = cast(RefreshOperator, dag.get_task(f"refresh_{name}").prepare_for_execution())
    ti = SimpleNamespace(xcom_pull=lambda task_ids, **_: {"start": batch}[task_ids])
    params = process_params(cast(Any, dag), operator, {}, suppress_exception=False)
    operator.render_template_fields(cast(Any, {"dag": dag, "params": params, "ti": ti}))
    return operator


def batch_of(day: date) -> Batch:
    return Batch(
        dataset=DAILY_OPERATIONS.name,
        day=day.isoformat(),
        batch_id=str(uuid4()),
        publishes=DAILY_OPERATIONS.published_names,
        params={},
    )


def test_each_task_stages_what_its_query_returns_under_the_batch_of_the_run(
    dag: DAG, app: psycopg.Connection[Any], warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.connect() as admin:
        fill(admin, **GOOD)
    give(monkeypatch, DAILY_OPERATIONS.connection, as_app(warehouse, state))
    batch = batch_of(DAY)

    for name in VIEWS:
        task(dag, name, batch).execute({})  # type: ignore[no-untyped-call]  # Airflow's own, without annotations

    for name in VIEWS:
        found = app.execute(f"select * from {staging_table(name)}".encode()).fetchall()
        assert {str(row[0]) for row in found} == {batch["batch_id"]}
        assert sorted(row[2:] for row in found) == REFRESHED[name]


@pytest.mark.parametrize("name", VIEWS)
def test_a_runs_values_are_bound_to_the_query_in_the_file_of_the_view(dag: DAG, name: str) -> None:
    batch = batch_of(DAY)

    operator = task(dag, name, batch)

    statement = "\n".join(operator.sql)
    assert operator.parameters == {"as_of": batch["day"], "batch_id": batch["batch_id"]}
    assert f"INSERT INTO {staging_table(name)}" in statement
    assert DAILY_OPERATIONS.query_path(view(name)).read_text().strip() in statement
    assert [value for value in (batch["day"], batch["batch_id"], "{{", "{%") if value in statement] == []


@pytest.mark.parametrize("role", [APP, READER])
@pytest.mark.parametrize("source", GOOD)
def test_nobody_but_the_source_systems_writes_a_source_table(
    warehouse: Login, state: State, role: str, source: str
) -> None:
    table = f"{DAILY_OPERATIONS.name}.{source}"
    statements = [
        f"insert into {table} default values",
        f"delete from {table}",
        f"truncate {table}",
        f"alter table {table} add column mine int",
        f"drop table {table}",
        *([f"select from {table}"] if role == READER else []),
    ]
    with warehouse.as_role(role, state.secrets[role], warehouse.dbname).connect() as connection:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
            connection.rollback()
