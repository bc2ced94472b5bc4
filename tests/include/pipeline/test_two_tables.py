"""A dataset with two tables: a day of both is loaded, published and rolled back together."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pandas
import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.dataset import Dataset, Table
from include.errors import PermanentError
from include.pipeline import load, tasks
from include.pipeline.batch import Batch, open_batch
from include.pipeline.publish import publish_batch, roll_back_batch
from include.warehouse.migrate import migrate
from include.warehouse.roles import APP, READER
from local.login import Login
from local.state import State
from tests.conftest import fresh_warehouse
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import await_blocked, kill_midway
from tests.include.warehouse.migrations import write
from tests.toy import READINGS
from tests.toy.batches import KEEP, run

DAY, OTHER_DAY = date(2023, 8, 1), date(2023, 7, 31)
ORDERS = Table("orders", key=("day", "number"), day="day")
LINES = Table("lines", key=("ordered_on", "number", "item"), day="ordered_on")
SHOP = replace(READINGS, name="shop", title="Shop", connection="postgres_shop_conn", publishes=(ORDERS, LINES))
TABLES = """\
CREATE TABLE shop.orders (day date, number integer, customer text NOT NULL, PRIMARY KEY (day, number));
CREATE TABLE shop.lines (
    ordered_on date,
    number integer,
    item text,
    pieces integer NOT NULL,
    PRIMARY KEY (ordered_on, number, item)
);
"""


@pytest.fixture(scope="module")
def shop(postgres: Login, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Login, Dataset]]:
    """Return a warehouse with the dataset, and its declaration."""
    dataset = replace(SHOP, folder=tmp_path_factory.mktemp("datasets") / "shop")
    write(dataset.folder / "migrations", "0001_shop", TABLES)
    with fresh_warehouse(postgres) as login:
        assert migrate(login.connect, {}, [dataset]) == ["shop/0001"]
        yield login, dataset


@pytest.fixture
def database(shop: tuple[Login, Dataset]) -> Login:
    """Return the warehouse with the dataset, without a row."""
    login, _ = shop
    with login.connect() as admin:
        admin.execute(
            "truncate shop.orders, shop.lines, shop_staging.orders, shop_staging.lines, warehouse.publication"
        )
    return login


@pytest.fixture
def dataset(shop: tuple[Login, Dataset]) -> Dataset:
    return shop[1]


@pytest.fixture
def connection(database: Login, state: State) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the DAGs do."""
    with as_app(database, state).connect() as connection:
        yield connection


def as_app(database: Login, state: State) -> Login:
    return database.as_role(APP, state.secrets[APP], database.dbname)


def stage(connection: psycopg.Connection[Any], mark: int, day: date = DAY, *, orders: int = 1, lines: int = 2) -> UUID:
    """Commit rows that bear a mark to both staging tables, under a batch_id of their own."""
    batch_id = uuid4()
    connection.execute(
        "insert into shop_staging.orders select %s, now(), %s, n, %s from generate_series(1, %s) as n",
        [batch_id, day, str(mark), orders],
    )
    connection.execute(
        "insert into shop_staging.lines select %s, now(), %s, 1, 'item ' || n, %s from generate_series(1, %s) as n",
        [batch_id, day, mark, lines],
    )
    connection.commit()
    return batch_id


def publish(
    connection: psycopg.Connection[Any], dataset: Dataset, mark: int, day: date = DAY, *, keep: int = KEEP
) -> UUID:
    batch_id = stage(connection, mark, day)
    publish_batch(connection, dataset, batch_id, day, run(f"run {mark}"), keep=keep)
    connection.commit()
    return batch_id


def visible(connection: psycopg.Connection[Any]) -> list[tuple[date, list[int], list[int]]]:
    """Return the marks of the published orders, and of the lines, of each day."""
    return connection.execute(
        "select coalesce(day, ordered_on), coalesce(customers, '{}'), coalesce(pieces, '{}') from "
        "(select day, array_agg(customer::int) as customers from shop.orders group by day) as orders full join "
        "(select ordered_on, array_agg(pieces) as pieces from shop.lines group by ordered_on) as lines "
        "on day = ordered_on order by 1"
    ).fetchall()


def history(connection: psycopg.Connection[Any], table: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select day, batch_id, run_id, is_current from warehouse.publication where object = %s and scope = 'day' "
        "order by id",
        [f"shop.{table}"],
    ).fetchall()


def kept(connection: psycopg.Connection[Any]) -> list[set[int]]:
    return [
        {mark for (mark,) in connection.execute(query)}
        for query in ("select customer::int from shop_staging.orders", "select pieces from shop_staging.lines")
    ]


def both(mark: int) -> tuple[date, list[int], list[int]]:
    return (DAY, [mark], [mark, mark])


def test_a_day_of_both_tables_is_published_in_one_transaction(
    connection: psycopg.Connection[Any], dataset: Dataset, database: Login, state: State
) -> None:
    publish(connection, dataset, 1)
    batch_id = stage(connection, 2)

    reader = database.as_role(READER, state.secrets[READER], database.dbname)
    with reader.connect(autocommit=True, options="-c statement_timeout=5s") as observer:
        assert publish_batch(connection, dataset, batch_id, DAY, run("run 2"), keep=KEEP) == 3
        assert visible(observer) == [both(1)]
        connection.commit()
        assert visible(observer) == [both(2)]

    for table in ("orders", "lines"):
        assert [(day, name, current) for day, _, name, current in history(connection, table)] == [
            (DAY, "run 1", False),
            (DAY, "run 2", True),
        ]


def test_each_table_is_replaced_by_its_own_day_column(connection: psycopg.Connection[Any], dataset: Dataset) -> None:
    publish(connection, dataset, 1, OTHER_DAY)
    publish(connection, dataset, 2)

    publish(connection, dataset, 3)

    assert visible(connection) == [(OTHER_DAY, [1], [1, 1]), both(3)]


@pytest.mark.parametrize("flaw", ["orders", "lines"])
def test_what_one_table_forbids_leaves_both_as_they_were(
    connection: psycopg.Connection[Any], dataset: Dataset, flaw: str
) -> None:
    publish(connection, dataset, 1)
    before = [history(connection, table) for table in ("orders", "lines")]
    batch_id = stage(connection, 2)
    connection.execute(
        f"insert into shop_staging.{flaw} select * from shop_staging.{flaw} where batch_id = %s limit 1".encode(),
        [batch_id],
    )
    connection.commit()

    with pytest.raises(PermanentError, match=f"shop.{flaw} refused batch {batch_id}: duplicate key value"):
        publish_batch(connection, dataset, batch_id, DAY, run("run 2"), keep=KEEP)

    connection.rollback()
    assert visible(connection) == [both(1)]
    assert [history(connection, table) for table in ("orders", "lines")] == before


def test_a_table_that_rightly_has_no_rows_is_published_with_the_other(
    connection: psycopg.Connection[Any], dataset: Dataset
) -> None:
    publish(connection, dataset, 1)
    batch_id = stage(connection, 2, lines=0)

    assert publish_batch(connection, dataset, batch_id, DAY, run("run 2"), keep=KEEP) == 1

    assert visible(connection) == [(DAY, [2], [])]


def test_a_batch_that_neither_table_has_replaces_nothing(connection: psycopg.Connection[Any], dataset: Dataset) -> None:
    publish(connection, dataset, 1)

    with pytest.raises(PermanentError, match="is not in staging"):
        publish_batch(connection, dataset, uuid4(), DAY, run("run 2"), keep=KEEP)

    connection.rollback()
    assert visible(connection) == [both(1)]


def test_both_tables_are_rolled_back_together(connection: psycopg.Connection[Any], dataset: Dataset) -> None:
    first, _ = publish(connection, dataset, 1), publish(connection, dataset, 2)

    assert roll_back_batch(connection, dataset, DAY, run("a rollback"), keep=KEEP) == (DAY, first, 3)
    assert roll_back_batch(connection, dataset, DAY, run("a rollback"), keep=KEEP) == (DAY, first, 3)  # a retry

    assert visible(connection) == [both(1)]
    for table in ("orders", "lines"):
        assert [(name, current) for *_, name, current in history(connection, table)] == [
            ("run 1", False),
            ("run 2", False),
            ("a rollback", True),
        ]


def test_a_rollback_restores_a_table_without_rows(connection: psycopg.Connection[Any], dataset: Dataset) -> None:
    batch_id = stage(connection, 1, lines=0)
    publish_batch(connection, dataset, batch_id, DAY, run("run 1"), keep=KEEP)
    publish(connection, dataset, 2)

    roll_back_batch(connection, dataset, DAY, run("a rollback"), keep=KEEP)

    assert visible(connection) == [(DAY, [1], [])]


def test_a_table_that_was_added_later_keeps_the_other_from_going_back(
    connection: psycopg.Connection[Any], dataset: Dataset
) -> None:
    publish(connection, replace(dataset, publishes=(ORDERS,)), 1)
    publish(connection, dataset, 2)

    with pytest.raises(PermanentError) as refused:
        roll_back_batch(connection, dataset, DAY, run("a rollback"), keep=KEEP)

    assert str(refused.value) == (
        "shop has no earlier publication of 2023-08-01 of all its tables: shop.orders: 2023-08-01, shop.lines: never. "
        "Run its DAG for the day that you want."
    )
    connection.rollback()
    assert visible(connection) == [both(2)]


def test_the_last_published_batches_of_a_day_stay_in_both_staging_tables(
    connection: psycopg.Connection[Any], dataset: Dataset
) -> None:
    publish(connection, dataset, 9, OTHER_DAY)
    for mark in (1, 2, 3):
        publish(connection, dataset, mark, keep=2)

    assert kept(connection) == [{9, 2, 3}] * 2


@pytest.mark.parametrize("first", ["publisher", "rollback"])
def test_two_that_change_a_day_take_turns(
    connection: psycopg.Connection[Any], dataset: Dataset, database: Login, state: State, first: str
) -> None:
    for mark in (1, 2):
        publish(connection, dataset, mark)
    third = stage(connection, 3)

    def change(each: psycopg.Connection[Any], how: str) -> None:
        if how == "publisher":
            publish_batch(each, dataset, third, DAY, run("run 3"), keep=KEEP)
        else:
            roll_back_batch(each, dataset, DAY, run("a rollback"), keep=KEEP)

    def change_second() -> None:
        with as_app(database, state).connect() as other:
            change(other, "rollback" if first == "publisher" else "publisher")

    with ThreadPoolExecutor(1) as executor:
        change(connection, first)
        done = executor.submit(change_second)
        await_blocked(database)
        connection.commit()
        done.result()

    assert visible(connection) == [both(2 if first == "publisher" else 3)]


def test_a_publisher_that_is_killed_before_its_commit_leaves_both_tables(
    connection: psycopg.Connection[Any], dataset: Dataset, database: Login, state: State
) -> None:
    publish(connection, dataset, 1)
    second = stage(connection, 2)

    def publish_and_wait(wait_for_kill: Callable[[int], None]) -> None:
        with as_app(database, state).connect() as other:
            publish_batch(other, dataset, second, DAY, run("run 2"), keep=KEEP)
            wait_for_kill(other.info.backend_pid)

    kill_midway(database, publish_and_wait)

    assert visible(connection) == [both(1)]


def test_the_tasks_of_a_dataset_load_publish_and_roll_back_both_tables(
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    database: Login,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    give(monkeypatch, dataset.connection, as_app(database, state))
    monkeypatch.setattr("include.datasets.DATASETS", (dataset,))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path))

    def load_and_publish(mark: int) -> Batch:
        opened = open_batch(dataset, _DagRun(f"run {mark}"), DAY)
        orders = pandas.DataFrame([(DAY, 1, str(mark))], columns=["day", "number", "customer"])
        lines = pandas.DataFrame(
            [(DAY, 1, item, mark) for item in ("pen", "ink")], columns=["ordered_on", "number", "item", "pieces"]
        )
        with pytest.raises(PermanentError, match="shop has several tables: say in its load task which one"):
            load.load(dataset, opened, orders)
        assert load.load(dataset, opened, orders, ORDERS) == 1
        assert load.load(dataset, opened, lines, LINES) == 2
        assert tasks.publish(dataset, opened, _DagRun(f"run {mark}"), OutletEventAccessors()) == {
            "object": "shop",
            "day": "2023-08-01",
            "batch_id": opened["batch_id"],
            "rows": 3,
        }
        return opened

    first, _ = load_and_publish(1), load_and_publish(2)
    assert visible(connection) == [both(2)]
    connection.commit()

    for table in dataset.published_names:
        with pytest.raises(AirflowFailException, match=f"^object is '{table}': give one of shop"):
            tasks.roll_back(_DagRun("a rollback"), {"object": table, "day": "2023-08-01"}, OutletEventAccessors())
    rolled_back = tasks.roll_back(
        _DagRun("a rollback"), {"object": "shop", "day": "2023-08-01"}, OutletEventAccessors()
    )

    assert rolled_back == {"object": "shop", "day": "2023-08-01", "batch_id": first["batch_id"], "rows": 3}
    assert visible(connection) == [both(1)]


class _DagRun:
    """What a task reads of its run."""

    dag_id = "shop_dag"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
