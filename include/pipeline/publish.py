"""Publishing a validated batch: it becomes what readers see. And rolling back: they see an earlier batch again."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.dataset import Dataset, Table
from include.errors import PermanentError
from include.warehouse import queries, register
from include.warehouse.columns import identifier, staging_columns
from include.warehouse.register import Publication, Run


def refuse_older(connection: psycopg.Connection[Any], dataset: Dataset, day: date) -> None:
    """Raise PermanentError when the dataset's views show a later day than this one."""
    if not dataset.views:
        return
    latest = max(
        (found.day for name in dataset.published_names if (found := register.current(connection, name))), default=day
    )
    if day < latest:
        raise PermanentError(
            f"The views of {dataset.name} show {latest}: to publish the older {day}, set the param allow_older."
        )


def publish_batch(
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    batch_id: UUID,
    day: date,
    run: Run,
    *,
    keep: int,
    allow_older: bool = False,
) -> int:
    """Let readers see a staged batch, and register it; returns the number of rows that they see of it.

    Of a table, the batch replaces its day; views switch to the batch, all together. Runs in the caller's transaction,
    which changes no schema: readers are not blocked, and see the state before or after. The last `keep` published
    batches (per day of a table, or of the views) stay in the staging table, for a rollback. Raises PermanentError
    when there is no such batch, and when views show a later day, unless `allow_older`.
    """
    _lock(connection, dataset, day)
    if not allow_older:
        refuse_older(connection, dataset, day)
    return _publish(connection, dataset, batch_id, day, run, keep, restores={})


def roll_back_batch(
    connection: psycopg.Connection[Any], dataset: Dataset, day: date | None, run: Run, *, keep: int
) -> tuple[date, UUID, int]:
    """Let readers see the batch again that they saw before; returns its day, the batch and its row count.

    Of tables, `day` says which day is restored. Views go back to the batch before, or with `day` to the last one of
    that day. Runs in the caller's transaction; again for the same run it changes nothing. Raises PermanentError when
    there is no such publication of all tables or views, or its batch is no longer kept.
    """
    if not dataset.views and not day:
        raise PermanentError(f"day is empty: give the day of {dataset.label} that is to be restored.")
    _lock(connection, dataset, day)
    found = {name: register.restorable(connection, name, day, run) for name in dataset.published_names}
    earlier = {name: publication for name, publication in found.items() if publication}
    of_day = f" of {day}" if day else ""
    if not earlier:
        raise PermanentError(f"{dataset.label} has no earlier publication{of_day} to go back to.")
    batches = {(publication.day, publication.batch_id) for publication in earlier.values()}
    if len(batches) > 1 or len(earlier) < len(found):
        kind, param = ("views", ", with allow_older") if dataset.views else ("tables", "")
        raise PermanentError(
            f"{dataset.label} has no earlier publication{of_day} of all its {kind}: {_days(found)}. Run its DAG for "
            f"the day that you want{param}."
        )
    ((earlier_day, batch_id),) = batches
    restores = {name: publication.id for name, publication in earlier.items()}
    return earlier_day, batch_id, _publish(connection, dataset, batch_id, earlier_day, run, keep, restores)


def _days(found: Mapping[str, Publication | None]) -> str:
    return ", ".join(f"{name}: {publication.day if publication else 'never'}" for name, publication in found.items())


def _lock(connection: psycopg.Connection[Any], dataset: Dataset, day: date | None) -> None:
    # Two that replace one day at once would collide on the key. Views have one state, whatever the day.
    register.lock(connection, dataset.name if dataset.views else f"{dataset.name}/{day}")


def _publish(
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    batch_id: UUID,
    day: date,
    run: Run,
    keep: int,
    restores: Mapping[str, int],
) -> int:
    rows = 0
    for each in dataset.publishes:
        name, staging_table = dataset.published_name(each), dataset.staging_name(each)
        register.lock_batch(connection, staging_table, batch_id)
        if isinstance(each, Table):
            count, changes = _replace_day(connection, dataset, each, batch_id, day)
            rows += count
            register.register(connection, name, "day", day, batch_id, run, restores.get(name), changes)
            register.remove_old_batches(connection, staging_table, name, keep, day, day_column=each.day)
        else:
            statement = sql.SQL("select count(*) from {} where batch_id = %s").format(identifier(staging_table))
            rows += connection.execute(statement, [batch_id]).fetchall()[0][0]
            register.register(connection, name, "object", day, batch_id, run, restores.get(name))
            register.remove_old_batches(connection, staging_table, name, keep, day)
    if not rows:  # in none of them: the batch is not staged, and the caller rolls back
        raise PermanentError(
            f"Batch {batch_id} of {day} is not in staging (the last {keep} published batches are kept): run the day "
            "again."
        )
    return rows


def _replace_day(
    connection: psycopg.Connection[Any], dataset: Dataset, table: Table, batch_id: UUID, day: date
) -> tuple[int, dict[str, Any] | None]:
    """Return the number of rows, and how they differ from those of a day that was published before."""
    columns = staging_columns(connection, dataset, table) or []
    names = {
        "published": identifier(dataset.published_name(table)),
        "staging": identifier(dataset.staging_name(table)),
        "day_column": sql.Identifier(table.day),
        "column_names": sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
        "key": sql.SQL(", ").join(map(sql.Identifier, table.key)),
    }
    values, changes = {"batch_id": batch_id, "day": day}, None
    if register.current(connection, dataset.published_name(table), day):
        compare = sql.SQL(queries.read("pipeline/day_changes")).format(**names)
        [(changes,)] = connection.execute(compare, values).fetchall()
    statement = sql.SQL(queries.read("pipeline/replace_day")).format(**names)
    # Several statements with bound values in one text need client-side binding.
    try:
        with psycopg.ClientCursor(connection) as cursor:
            cursor.execute(statement, values)
            while cursor.nextset():
                pass
            return cursor.rowcount, changes
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        # Without its detail, which quotes a row of the data: this text goes into alerts.
        raise PermanentError(
            f"{dataset.published_name(table)} refused batch {batch_id}: {error.diag.message_primary}. Nothing is "
            "published. Add an expectation to the suite, so that the gate finds such rows."
        ) from None
