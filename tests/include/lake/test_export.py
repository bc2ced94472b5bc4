"""Exports: values of all types arrive as they are, and whatever fails, nobody reads half of a day."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pyarrow.parquet as pq
import pytest

from include.errors import PermanentError
from include.lake import checks, export, storage
from include.lake.export import Source
from include.lake.storage import Manifest
from include.warehouse.register import Run
from tests.object_storage import S3

DAY = date(2023, 8, 1)
NIGHT = datetime(2023, 8, 1, 23, 59, 59, 999999)
TABLE = "shop.orders"
# Of each type: what is written into a column of it, and what must be read from the Parquet file.
TYPES: dict[str, tuple[Any, Any]] = {
    "boolean": (True, True),
    "smallint": (-(2**15), -(2**15)),
    "integer": (2**31 - 1, 2**31 - 1),
    "bigint": (-(2**63), -(2**63)),
    "real": (0.5, 0.5),
    "double precision": (0.1, 0.1),
    "numeric(10, 2)": (Decimal("12345678.90"), Decimal("12345678.90")),
    "numeric(38, 0)": (Decimal("9" * 38), Decimal("9" * 38)),
    "numeric(50, 10)": (Decimal("1" * 40 + ".0000000001"), "1" * 40 + ".0000000001"),
    "numeric": (Decimal("1.000000000000000001"), Decimal("1.000000000000000001")),
    "date": (date(1, 1, 1), date(1, 1, 1)),
    "time": (time(23, 59, 59, 999999), time(23, 59, 59, 999999)),
    "timestamp": (NIGHT, NIGHT),
    "timestamptz": ("2023-08-01T23:59:59.999999+05:30", datetime(2023, 8, 1, 18, 29, 59, 999999, tzinfo=UTC)),
    "text": ('a "quoted", line\n😀 \\N \t', 'a "quoted", line\n😀 \\N \t'),
    "varchar(10)": ("", ""),
    "char(3)": ("a", "a  "),
    "bytea": (b"\0\xff", b"\0\xff"),
    "uuid": (UUID(int=1), str(UUID(int=1))),
    "jsonb": ('{"a": [1, null]}', '{"a": [1, null]}'),
    "interval": ("1 day 02:00:00", "1 day 02:00:00"),
    "inet": ("10.0.0.1/8", "10.0.0.1/8"),
    "integer[]": ("{1,NULL,3}", "{1,NULL,3}"),
    "int4range": ("[1,3)", "[1,3)"),
    "timetz": ("12:00:00+02", "12:00:00+02"),
}


@pytest.fixture
def admin(warehouse: Any) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the admin, in a transaction that is rolled back."""
    with warehouse.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("create schema shop")
        connection.execute("set local timezone = 'UTC'")
        yield connection


def orders(admin: psycopg.Connection[Any], rows: int, *, value: str = "number::numeric(10, 2)") -> Source:
    """Create a table with rows of the day."""
    admin.execute("drop table if exists shop.orders")
    admin.execute(
        f"create table shop.orders as select %s::date as day, number, {value} as price, 'text ' || number as name "
        "from generate_series(1, %s) as number",
        [DAY, rows],
    )
    return Source(TABLE, "day", ("day", "number"))


def run_export(admin: psycopg.Connection[Any], source: Source, batch_id: UUID | None = None) -> Manifest:
    return export.export(admin, source, DAY, table=TABLE, batch_id=batch_id or uuid4(), run=Run("a_dag", "a run"))


def rows_of(manifest: Manifest) -> list[dict[str, Any]]:
    return [row for batch in export.batches(manifest) for row in batch.to_pylist()]


def test_every_type_arrives_with_its_value_and_null_stays_apart_from_an_empty_text(
    admin: psycopg.Connection[Any], folder: Path
) -> None:
    columns = ", ".join(f'"{name}" {name}' for name in TYPES)
    admin.execute(f"create table shop.everything (day date, id integer, {columns})")
    places = ", ".join(["%s"] * (len(TYPES) + 2))
    for number, values in enumerate(([value for value, _ in TYPES.values()], [None] * len(TYPES))):
        admin.execute(f"insert into shop.everything values ({places})", [DAY, number, *values])

    manifest = run_export(admin, Source("shop.everything", "day", ("id",)))

    first, second = rows_of(manifest)
    assert {name: first[name] for name in TYPES} == {name: wanted for name, (_, wanted) in TYPES.items()}
    assert {second[name] for name in TYPES} == {None}
    assert export.figures_of_query(admin, Source("shop.everything", "day", ("id",)).query(DAY), manifest) == (
        manifest.rows,
        manifest.figures,
    )


@pytest.mark.parametrize("place", ["s3", "folder"])
def test_the_manifest_describes_the_object_beside_it(
    admin: psycopg.Connection[Any], place: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(place)
    batch_id = uuid4()
    source = orders(admin, 50_000)  # several row groups

    manifest = run_export(admin, source, batch_id)

    assert storage.current(TABLE, DAY) == manifest
    with storage.reading(manifest) as file:
        content = file.read()
    assert (manifest.bytes, manifest.sha256) == (len(content), sha256(content).hexdigest())
    assert (manifest.rows, manifest.batch_id, manifest.dag_id, manifest.run_id) == (
        50_000, str(batch_id), "a_dag", "a run",
    )  # fmt: skip
    assert manifest.columns == {"day": "date32[day]", "number": "int32", "price": "decimal128(10, 2)", "name": "string"}
    assert manifest.figures["price"].sum == "1250025000"
    assert admin.execute(manifest.query.encode()).fetchall() == [tuple(row.values()) for row in rows_of(manifest)]


def test_a_rerun_replaces_the_day_and_leaves_one_object(admin: psycopg.Connection[Any], s3: S3) -> None:
    run_export(admin, orders(admin, 3))
    second = run_export(admin, orders(admin, 4))

    day = f"exports/shop/orders/{DAY}"
    assert s3.objects() == sorted([f"exports/{second.key}", f"{day}/manifest.json"])
    assert len(rows_of(second)) == 4
    again = run_export(admin, orders(admin, 5), UUID(second.batch_id))
    assert s3.objects() == sorted([f"exports/{again.key}", f"{day}/manifest.json"])
    assert len(rows_of(again)) == 5


def test_a_day_without_rows_writes_nothing(admin: psycopg.Connection[Any], s3: S3) -> None:
    assert run_export(admin, orders(admin, 0)).rows == 0
    assert s3.objects() == []
    assert storage.current(TABLE, DAY) is None


@pytest.mark.parametrize("place", ["s3", "folder"])
@pytest.mark.parametrize("before", [False, True], ids=["first", "rerun"])
def test_an_error_in_the_middle_leaves_the_export_before_and_no_other_object(
    admin: psycopg.Connection[Any], place: str, request: pytest.FixtureRequest, before: bool
) -> None:
    root = request.getfixturevalue(place)
    good = run_export(admin, orders(admin, 3)) if before else None
    # The division fails at row 30,000, when the first batch is written.
    source = orders(admin, 40_000)
    admin.execute("drop table shop.orders")
    admin.execute(
        "create view shop.orders as select '2023-08-01'::date as day, number, 1 / (30000 - number) as price "
        "from generate_series(1, 40000) as number"
    )

    with pytest.raises(psycopg.errors.DivisionByZero), admin.transaction():
        run_export(admin, source)

    assert storage.current(TABLE, DAY) == good
    keys = root.objects() if isinstance(root, S3) else [path.name for path in root.rglob("*") if path.is_file()]
    assert len(keys) == (2 if before else 0)


@pytest.mark.parametrize(("status", "after"), [(403, 0), (403, 1), (503, 1), (403, 2)])
def test_a_bucket_that_denies_writing_fails_the_export_and_the_next_one_succeeds(
    admin: psycopg.Connection[Any], s3: S3, status: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.lake.storage._PART", 5 << 20)
    source = orders(admin, 200_000, value="md5(number::text) || md5((number + 1)::text)")  # more than one part
    s3.fail(status, after=after)

    with pytest.raises(OSError):  # noqa: PT011 - s3fs raises PermissionError and others, each of which is one
        run_export(admin, source)

    assert s3.objects() == []
    assert storage.current(TABLE, DAY) is None
    s3.fail(0)
    assert run_export(admin, source).rows == 200_000


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        ("numeric", "1.0000000000000000001", r"shop\.orders\.price has a value that decimal128\(38, 18\) cannot hold"),
        ("numeric", "'NaN'", r"shop\.orders\.price has a value that decimal128"),
        ("date", "'infinity'", r"shop\.orders has a value that cannot be exported: .*Correct the row"),
        ("timestamp", "'0044-03-15 BC'", r"shop\.orders has a value that cannot be exported: .*Correct the row"),
    ],
)
def test_a_value_that_parquet_cannot_hold_is_refused_by_its_column(
    admin: psycopg.Connection[Any], folder: Path, type_: str, value: str, message: str
) -> None:
    source = orders(admin, 2, value=f"{value}::{type_}")

    with pytest.raises(PermanentError, match=message):
        run_export(admin, source)

    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_an_object_that_was_changed_or_removed_is_not_loaded(admin: psycopg.Connection[Any], folder: Path) -> None:
    manifest = run_export(admin, orders(admin, 3))
    [path] = folder.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(PermanentError, match=r"its checksum differs from the manifest's. Clear the run from"):
        export.figures_of_object(manifest)

    path.unlink()
    with pytest.raises(PermanentError, match="does not exist any more: clear the run from its start task on"):
        export.figures_of_object(manifest)


def test_a_manifest_that_is_none_is_refused() -> None:
    with pytest.raises(PermanentError, match=r"This is no manifest of an export: .*Run the export again"):
        Manifest.read({"table": 1})


def test_a_copy_that_differs_is_found_by_its_rows_its_values_or_its_sums(
    admin: psycopg.Connection[Any], folder: Path
) -> None:
    source = orders(admin, 3)
    manifest = run_export(admin, source)

    def failing(statement: str) -> list[str]:
        admin.execute(statement.encode())
        wanted = export.figures_of_query(admin, source.query(DAY), manifest)
        compared = checks.compare("original", "copy", TABLE, wanted, export.figures_of_object(manifest))
        failed = [each.expectation for each in compared.findings if each.verdict == "failed"]
        assert compared.verdict == ("failed" if failed else "passed")
        return failed

    assert failing("select 1") == []
    assert failing("update shop.orders set price = price + 0.01 where number = 2") == [
        "the copy has the same sum of price as the original"
    ]
    assert failing("update shop.orders set name = null where number = 2") == [
        "the copy has the same sum of price as the original",
        "the copy has as many values of name as the original",
    ]
    assert "the copy has as many rows as the original" in failing("delete from shop.orders where number = 3")


def test_what_was_published_moves_to_the_archive_and_an_interrupted_move_goes_on(
    admin: psycopg.Connection[Any], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = run_export(admin, orders(admin, 3))
    assert storage.exported_days(TABLE) == [f"{DAY}"]
    s3.client().copy_object(  # killed after the copy of the object
        Bucket=s3.bucket, CopySource=f"{s3.bucket}/exports/{manifest.key}", Key=f"archive/{manifest.key}"
    )

    storage.archive(manifest)

    day = f"archive/shop/orders/{DAY}"
    assert s3.objects() == sorted([f"archive/{manifest.key}", f"{day}/manifest.json"])
    assert storage.exported_days(TABLE) == []
    storage.archive(manifest)
    assert len(s3.objects()) == 2


def test_another_reader_finds_the_same(admin: psycopg.Connection[Any], folder: Path) -> None:
    manifest = run_export(admin, orders(admin, 3))
    [path] = folder.rglob("*.parquet")
    table = pq.read_table(path)
    assert table.column("name").to_pylist() == ["text 1", "text 2", "text 3"]
    assert [str(field.type) for field in table.schema] == list(manifest.columns.values())
