"""The Snowflake target, with the real hook and connector, against a server that stands in for Snowflake."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.dataset import Dataset, Table, always_open, next_day_at
from include.datasets.analytics.dataset import ANALYTICS, TABLES
from include.datasets.analytics.targets import SNOWFLAKE, snowflake, target
from include.datasets.analytics.targets import warehouse as postgres
from include.errors import AirlockError, PermanentError
from include.lake import export
from include.lake.export import Source
from include.lake.storage import Manifest
from include.pipeline.assets import asset
from include.pipeline.batch import Batch
from include.quality.outcome import GateClosed
from include.warehouse import register
from include.warehouse.register import Run
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import await_blocked
from tests.toy.batches import TaskInstance

RUN: Any = SimpleNamespace(dag_id="a_dag", run_id="a run")
DAY, NEXT = date(2023, 8, 1), date(2023, 8, 2)
SECRET = "a secret of Snowflake"
[SALES] = [each for each in ANALYTICS if each.label == "analytics.item_sales"]
GOOD = [
    ("Summit", "Cocoa", 3, Decimal("4.50")),
    ("Summit", "a \"large\" one\n'😀' \\N", 1, Decimal("12345678.90")),
    ("Valley", "", 0, Decimal("0.00")),
]
# Of each type that is exported: what is written into a column of it, and what must be read from Snowflake.
TYPES: dict[str, tuple[Any, Any]] = {
    "boolean": (True, True),
    "smallint": (-(2**15), -(2**15)),
    "integer": (2**31 - 1, 2**31 - 1),
    "bigint": (-(2**63), -(2**63)),
    "real": (0.5, 0.5),
    "double precision": (0.1, 0.1),
    "numeric(10, 2)": (Decimal("12345678.90"), Decimal("12345678.90")),
    "numeric(38, 10)": (Decimal("9" * 28 + ".0000000001"), Decimal("9" * 28 + ".0000000001")),
    "numeric(18, 0)": (Decimal("9" * 18), 10**18 - 1),  # with more digits, the stand-in for Snowflake reads 64 bits
    "numeric": (Decimal("1.000000000000000001"), Decimal("1.000000000000000001")),
    "date": (date(1, 1, 1), date(1, 1, 1)),
    "time": (time(23, 59, 59, 999999), time(23, 59, 59, 999999)),
    "timestamp": (datetime(2023, 8, 1, 23, 59, 59, 999999), datetime(2023, 8, 1, 23, 59, 59, 999999)),
    "timestamptz": ("2023-08-01T23:59:59.999999+05:30", datetime(2023, 8, 1, 18, 29, 59, 999999, tzinfo=UTC)),
    "text": ('a "quoted", line\n😀 \t \'', 'a "quoted", line\n😀 \t \''),
    "varchar(10)": ("", ""),
    "name": ("\\N", "\\N"),
    "char(3)": ("a", "a  "),
    "bytea": (b"\0\xff", b"\0\xff"),
    "uuid": (UUID(int=1), str(UUID(int=1))),
    "jsonb": ('{"a": [1, null]}', '{"a": [1, null]}'),
    "integer[]": ("{1,NULL,3}", "{1,NULL,3}"),
}

Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, Any]]:
    """Run the server that stands in for Snowflake."""
    fakesnow = pytest.importorskip(
        "fakesnow",
        reason="the group snowflake is not installed: docs/snowflake.md says how to run these",
    )
    with fakesnow.server() as arguments:
        yield arguments


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes Snowflake the target: an Airflow connection, with these as its extra fields."""

    def make(**extra: Any) -> None:
        fields = {"conn_type": "snowflake", "login": "airlock", "password": SECRET, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{SNOWFLAKE.upper()}", json.dumps(fields))

    return make


@pytest.fixture
def ask(server: dict[str, Any], connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Make the server the target, with an empty database; returns what executes a statement there."""
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

    names = ("account", "host", "port", "session_parameters")
    connection(database=f"TEST_{uuid4().hex.upper()}", **{name: server[name] for name in names})
    parameters = SnowflakeHook._get_conn_params
    more = {"protocol": "http", "network_timeout": 1, "login_timeout": 1}  # the hook knows no field for them
    monkeypatch.setattr(SnowflakeHook, "_get_conn_params", lambda hook: {**parameters(hook), **more})

    def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(SnowflakeHook(SNOWFLAKE).get_conn()) as connection, connection.cursor() as cursor:
            rows: list[tuple[Any, ...]] = cursor.execute(statement, values or None).fetchall()
            return rows

    execute("create schema analytics")
    execute("create schema analytics_staging")
    return execute


@pytest.fixture
def admin(
    warehouse: Login, state: State, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the warehouse as the admin; exports go to a folder."""
    give(monkeypatch, SALES.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    with warehouse.connect(autocommit=True) as connection:
        yield connection


def exported(
    admin: psycopg.Connection[Any],
    rows: list[tuple[Any, ...]],
    day: date = DAY,
    batch_id: str | None = None,
) -> Manifest:
    """Export these as the sales of a day, in place of those that the source had."""
    admin.execute("delete from daily_operations.item_sales where sales_date = %s", [day])
    with admin.cursor() as cursor:
        cursor.executemany(
            "insert into daily_operations.item_sales (sales_date, location_name, item_name, quantity_sold, unit_price) "
            "values (%s, %s, %s, %s, %s)",
            [(day, *row) for row in rows],
        )
    return run_export(admin, TABLES["item_sales"], SALES, day, batch_id)


def run_export(
    admin: psycopg.Connection[Any], source: Source, dataset: Dataset, day: date, batch_id: str | None = None
) -> Manifest:
    key = UUID(batch_id) if batch_id else uuid4()
    with admin.transaction():
        return export.export(admin, source, day, table=dataset.label, batch_id=key, run=Run("a_dag", "a run"))


def batch_of(manifest: Manifest, dataset: Dataset = SALES) -> Batch:
    return Batch(
        dataset=dataset.name,
        day=manifest.day,
        batch_id=manifest.batch_id,
        publishes=dataset.published_names,
        params={},
    )


def load(manifest: Manifest) -> int:
    return snowflake.load(SALES, batch_of(manifest), manifest)


def validate(manifest: Manifest) -> dict[str, Any]:
    task = TaskInstance()
    snowflake.validate(SALES, batch_of(manifest), manifest, task)
    pushed: dict[str, Any] = task.pushed["return_value"]
    return pushed


def publish(manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Publish an export; returns what the task returns, and what its event says."""
    events = OutletEventAccessors()
    result = snowflake.publish(SALES, batch_of(manifest), manifest, RUN, events)
    return result, events[asset(SALES.label)].extra


def whole_way(manifest: Manifest) -> None:
    load(manifest)
    validate(manifest)
    publish(manifest)


def seen(ask: Ask, day: date = DAY) -> list[tuple[Any, ...]]:
    """Return the rows of a day as a reader sees them, who quotes no names."""
    return ask(
        "select location_name, item_name, quantity_sold, unit_price from analytics.item_sales where sales_date = %s "
        "order by location_name, item_name",
        day,
    )


def staging_tables(ask: Ask) -> list[str]:
    found = ask("select table_name from information_schema.tables where table_schema = 'ANALYTICS_STAGING'")
    return [name for (name,) in found if name != "PUBLISHED"]


def staging(manifest: Manifest) -> str:
    return f"analytics_staging.item_sales_{manifest.batch_id.replace('-', '')}"


def verdicts(admin: psycopg.Connection[Any], manifest: Manifest) -> list[tuple[Any, ...]]:
    return admin.execute(
        "select verdict, rows_checked from quality.validation where batch_id = %s order by id", [manifest.batch_id]
    ).fetchall()


@pytest.mark.parametrize("place", ["s3", "folder"])
def test_an_export_is_staged_checked_and_published_with_every_value(
    admin: psycopg.Connection[Any], ask: Ask, place: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(place)
    manifest = exported(admin, GOOD)

    assert load(manifest) == 3
    assert ask("select table_name from information_schema.tables where table_schema = 'ANALYTICS'") == []
    assert not snowflake.holds(SALES, manifest)
    assert validate(manifest)["verdict"] == "passed"
    result, event = publish(manifest)

    assert sorted(seen(ask)) == sorted(GOOD)
    assert snowflake.holds(SALES, manifest)
    assert staging_tables(ask) == []
    identity = {"object": "analytics.item_sales", "day": str(DAY), "batch_id": manifest.batch_id, "rows": 3}
    assert result == identity
    assert event == {**identity, "verdict": "passed", "report": event["report"]}
    assert Path(event["report"].removeprefix("file://")).exists()
    assert verdicts(admin, manifest) == [("passed", 3)]


def test_every_step_can_run_again(admin: psycopg.Connection[Any], ask: Ask) -> None:
    manifest = exported(admin, GOOD)

    assert (load(manifest), load(manifest)) == (3, 3)
    assert validate(manifest)["verdict"] == validate(manifest)["verdict"] == "passed"
    first, _ = publish(manifest)
    before = ask("select * from analytics_staging.published")
    assert publish(manifest)[0] == first
    assert load(manifest) == 3  # the whole run again
    assert validate(manifest)["verdict"] == "passed"
    assert publish(manifest)[0] == first

    assert sorted(seen(ask)) == sorted(GOOD)
    assert ask("select * from analytics_staging.published") == before
    assert staging_tables(ask) == []


def test_another_day_stays(admin: psycopg.Connection[Any], ask: Ask) -> None:
    first, second = exported(admin, GOOD), exported(admin, GOOD[:1], NEXT)
    whole_way(first)
    whole_way(second)

    assert (len(seen(ask)), seen(ask, NEXT)) == (3, GOOD[:1])
    assert snowflake.holds(SALES, first)
    assert snowflake.holds(SALES, second)


@pytest.mark.parametrize("same", [True, False], ids=["of the same run", "of another run"])
def test_another_export_of_a_day_replaces_its_rows(admin: psycopg.Connection[Any], ask: Ask, same: bool) -> None:
    before = exported(admin, GOOD)
    whole_way(before)
    renamed = [("Summit", "Tea", *GOOD[0][2:]), *GOOD[1:]]  # no number differs
    after = exported(admin, renamed, batch_id=before.batch_id if same else None)
    assert not snowflake.holds(SALES, after)

    whole_way(after)

    assert sorted(seen(ask)) == sorted(renamed)
    assert (snowflake.holds(SALES, before), snowflake.holds(SALES, after)) == (False, True)


def test_rows_that_were_changed_in_snowflake_are_no_longer_those_of_the_export(
    admin: psycopg.Connection[Any], ask: Ask
) -> None:
    manifest = exported(admin, GOOD)
    whole_way(manifest)
    ask("update analytics.item_sales set quantity_sold = 4 where item_name = 'Cocoa'")

    assert not snowflake.holds(SALES, manifest)

    whole_way(manifest)
    assert sorted(seen(ask)) == sorted(GOOD)
    assert snowflake.holds(SALES, manifest)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("delete from {} where item_name = ''", "as many rows as the manifest: observed 2 instead of 3"),
        (
            "update {} set location_name = null where item_name = ''",
            "as many values of location_name as .* observed 2",
        ),
        (
            "update {} set unit_price = unit_price + 0.01 where item_name = ''",
            "the same sum of unit_price as ",
        ),
    ],
)
def test_the_gate_closes_when_the_staged_rows_differ_from_the_manifest(
    admin: psycopg.Connection[Any], ask: Ask, change: str, finding: str
) -> None:
    before = exported(admin, GOOD[:1])
    whole_way(before)
    manifest = exported(admin, GOOD)
    load(manifest)
    ask(change.format(staging(manifest)))

    with pytest.raises(GateClosed, match=finding):
        validate(manifest)

    assert verdicts(admin, manifest)[0][0] == "failed"
    assert seen(ask) == GOOD[:1]
    assert snowflake.holds(SALES, before)


def test_a_copy_that_finds_no_file_fails_and_the_next_one_succeeds(
    admin: psycopg.Connection[Any], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = exported(admin, GOOD)
    with monkeypatch.context() as lost:
        lost.setattr("fakesnow.server._write_bucket_file", lambda path, body: path)

        with pytest.raises(
            AirlockError, match=r"staged 0 rows of analytics\.item_sales of 2023-08-01.* has 3"
        ) as raised:
            load(manifest)

    assert not isinstance(raised.value, PermanentError)
    assert load(manifest) == 3


@pytest.mark.parametrize("killed_in", ["_figures", "_replace_day", "register.lock"])
def test_a_killed_publication_leaves_the_day_before_or_after_it_and_runs_again(
    admin: psycopg.Connection[Any], ask: Ask, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    before = exported(admin, GOOD[:1])
    whole_way(before)
    manifest = exported(admin, GOOD)
    load(manifest)
    validate(manifest)
    original = snowflake._replace_day

    def killed(*arguments: Any) -> None:
        if killed_in == "_replace_day":  # after its commit, and before the staging table is dropped
            original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(f"include.datasets.analytics.targets.snowflake.{killed_in}", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(manifest)

    committed = killed_in == "_replace_day"
    assert len(seen(ask)) == (3 if committed else 1)
    assert (snowflake.holds(SALES, before), snowflake.holds(SALES, manifest)) == (not committed, committed)
    assert publish(manifest)[0]["rows"] == 3
    assert sorted(seen(ask)) == sorted(GOOD)
    assert staging_tables(ask) == []


def test_who_publishes_a_day_waits_for_another_who_does(
    admin: psycopg.Connection[Any], ask: Ask, warehouse: Login
) -> None:
    manifest = exported(admin, GOOD)
    load(manifest)
    validate(manifest)

    with ThreadPoolExecutor() as pool, warehouse.connect() as other:
        register.lock(other, f"{SALES.name}/{DAY}")
        publication = pool.submit(publish, manifest)
        await_blocked(warehouse)
        assert not snowflake.holds(SALES, manifest)
        other.commit()
        assert publication.result()[0]["rows"] == 3

    assert sorted(seen(ask)) == sorted(GOOD)


def test_a_load_that_was_killed_on_its_way_starts_anew(admin: psycopg.Connection[Any], ask: Ask) -> None:
    manifest = exported(admin, GOOD)
    load(manifest)
    ask(f"delete from {staging(manifest)} where item_name = ''")  # as if it had stopped before the last row

    assert load(manifest) == 3
    assert validate(manifest)["verdict"] == "passed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("insert into {0} select * from {0} where item_name = 'Cocoa'", "would have 4 rows of 2023-08-01 .* has 3"),
        ("update {0} set quantity_sold = 7 where item_name = 'Cocoa'", "columns that differ: quantity_sold"),
    ],
)
def test_a_publication_that_would_differ_from_the_manifest_is_rolled_back(
    admin: psycopg.Connection[Any], ask: Ask, change: str, message: str
) -> None:
    before = exported(admin, GOOD[:1])
    whole_way(before)
    manifest = exported(admin, GOOD)
    load(manifest)
    validate(manifest)
    ask(change.format(staging(manifest)))

    with pytest.raises(PermanentError, match=message):
        publish(manifest)

    assert seen(ask) == GOOD[:1]
    assert snowflake.holds(SALES, before)
    assert not snowflake.holds(SALES, manifest)


def test_a_publication_without_its_staging_table_says_what_to_do(admin: psycopg.Connection[Any], ask: Ask) -> None:
    manifest = exported(admin, GOOD)

    with pytest.raises(
        PermanentError, match=r"analytics\.item_sales of 2023-08-01.*clear the run from its task load_to"
    ):
        publish(manifest)

    assert seen(ask) == []


def test_every_type_arrives_with_its_value_and_null_stays_apart_from_an_empty_text(
    admin: psycopg.Connection[Any], ask: Ask
) -> None:
    columns = ", ".join(f'"c{number}" {type_}' for number, type_ in enumerate(TYPES))
    admin.execute(f"create schema shop create table shop.everything (day date, id integer, {columns})")
    places = ", ".join(["%s"] * (len(TYPES) + 2))
    for number, values in enumerate(([value for value, _ in TYPES.values()], [None] * len(TYPES))):
        admin.execute(f"insert into shop.everything values ({places})", [DAY, number, *values])
    everything = Dataset(
        name="analytics_everything",
        title="Everything",
        owner="tests",
        connection=SALES.connection,
        publishes=(Table("everything", key=("day", "id"), day="day"),),
        closed_reason=always_open,
        due=next_day_at(10),
        folder=Path(__file__).parent,
        group="analytics",
    )
    manifest = run_export(admin, Source("shop.everything", "day", ("id",)), everything, DAY)

    snowflake.load(everything, batch_of(manifest, everything), manifest)
    snowflake.publish(everything, batch_of(manifest, everything), manifest, RUN, OutletEventAccessors())

    for number, (type_, (_, wanted)) in enumerate(TYPES.items()):
        [(found, null)] = ask(
            f"select one.c{number}, other.c{number} is null from analytics.everything as one "
            "join analytics.everything as other on one.id = 0 and other.id = 1"
        )
        assert (type_, found, null) == (type_, wanted, True)
    assert snowflake.holds(everything, manifest)


@pytest.mark.parametrize(
    ("type_", "arrow"),
    [("numeric(38, 38)", r"decimal128\(38, 38\)")],
)
def test_a_type_that_snowflake_cannot_hold_is_refused_by_its_column(
    admin: psycopg.Connection[Any], ask: Ask, type_: str, arrow: str
) -> None:
    admin.execute(f"create schema shop create table shop.precise (day date, price {type_})")
    admin.execute("insert into shop.precise values (%s, 0.5)", [DAY])
    manifest = run_export(admin, Source("shop.precise", "day", ("day",)), SALES, DAY)

    with pytest.raises(PermanentError, match=rf"item_sales\.price is {arrow} in the export of 2023-08-01.*37 digits"):
        load(manifest)


def test_what_snowflake_refuses_says_which_table_and_day_and_no_secret(
    admin: psycopg.Connection[Any], ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = exported(admin, GOOD)
    ask("drop schema analytics_staging")

    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(
            PermanentError, match=r"refused analytics\.item_sales of 2023-08-01: .*ANALYTICS_STAGING"
        ) as raised,
    ):
        load(manifest)

    assert SECRET not in f"{raised.value}{raised.value.__cause__}{caplog.text}"


def test_a_snowflake_that_cannot_be_reached_is_tried_again(
    admin: psycopg.Connection[Any], ask: Ask, connection: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    from snowflake.connector.errors import OperationalError

    manifest = exported(admin, GOOD)
    connection(account="nowhere", host="127.0.0.1", port=9, database="AIRLOCK")

    with caplog.at_level(logging.DEBUG), pytest.raises(OperationalError, match="Could not connect") as raised:
        load(manifest)

    assert SECRET not in f"{raised.value!r}{caplog.text}"


def test_without_the_provider_the_error_says_what_to_install(
    admin: psycopg.Connection[Any], connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = exported(admin, GOOD)
    connection(account="any")
    monkeypatch.setitem(sys.modules, "airflow.providers.snowflake.hooks.snowflake", None)

    with pytest.raises(PermanentError, match="add apache-airflow-providers-snowflake as docs/snowflake"):
        load(manifest)


def test_the_connection_makes_snowflake_the_target(
    connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert target() is postgres
    connection(account="any")
    assert target() is snowflake
