"""The register of publications, `warehouse.publication`: which batch readers see of each object, and saw before.

An object is a table or view with its schema. In scope `day` each day of it has a publication of its own; in scope
`object` all of it shows one publication. Every function runs in the transaction of its caller, who publishes.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid5

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.errors import PermanentError
from include.warehouse import queries
from include.warehouse.columns import identifier


class Run(NamedTuple):
    """The Airflow run that publishes."""

    dag_id: str
    run_id: str


@dataclass(frozen=True)
class Publication:
    """One row of the register."""

    id: int
    day: date
    batch_id: UUID
    dag_id: str
    run_id: str

    @property
    def run(self) -> Run:
        """The run that published it."""
        return Run(self.dag_id, self.run_id)


def unpublished(connection: psycopg.Connection[Any], batch_id: UUID) -> UUID:
    """Return the batch_id, or, when it was published already, another that is derived from it.

    A run that is cleared and run again writes a batch of its own: what was published is never written again.
    """
    published = "select exists (select 1 from warehouse.publication where batch_id = %s)"
    while connection.execute(published, [batch_id]).fetchone() == (True,):
        batch_id = UUID(bytes=batch_id.bytes[:4] + uuid5(batch_id, "again").bytes[4:])  # the day stays at its beginning
    return batch_id


def lock(connection: psycopg.Connection[Any], name: str) -> None:
    """Take the lock of this name, and hold it until the transaction ends; wait while another session holds it.

    Whoever inserts a name that another transaction has inserted waits until that one ends, even if it has deleted the
    name again, so a lock leaves no row. An advisory lock would do the same, but everybody who can log in can take one.
    """
    connection.execute("insert into warehouse.lock (name) values (%s)", [name])
    connection.execute("delete from warehouse.lock where name = %s", [name])


def claim_batch(connection: psycopg.Connection[Any], staging_table: str, batch_id: UUID) -> None:
    """Let only this transaction write a batch of a staging table. Raises PermanentError when it was published."""
    try:
        connection.execute("select warehouse.claim_batch(%s, %s)", [staging_table, batch_id])
    except psycopg.errors.RaiseException as error:
        raise PermanentError(error.diag.message_primary) from error


def lock_batch(connection: psycopg.Connection[Any], staging_table: str, batch_id: UUID) -> None:
    """Wait until nobody writes a batch of a staging table; the SQL function claim_batch takes the same lock."""
    lock(connection, f"{staging_table}/{batch_id}")


def current(connection: psycopg.Connection[Any], name: str, day: date | None = None) -> Publication | None:
    """Return what readers see of an object, or of its day; None when nothing was published yet."""
    return _one(connection, "warehouse/current_publication", name, day)


def restorable(connection: psycopg.Connection[Any], name: str, day: date | None, run: Run) -> Publication | None:
    """Return the publication that a rollback of an object restores; None when there is none.

    It is the last one of another batch (and, if given, of that day) before the one that readers see. A run that
    has rolled the object back already, and is retried, gets what it restored.
    """
    latest = current(connection, name, day)
    if latest and latest.run == run:
        return latest
    return _one(connection, "warehouse/previous_publication", name, day)


def register(
    connection: psycopg.Connection[Any],
    name: str,
    scope: Literal["day", "object"],
    day: date,
    batch_id: UUID,
    run: Run,
    restores: int | None = None,
    changes: dict[str, Any] | None = None,
) -> None:
    """Make a batch what readers see of an object; `restores` is the publication that a rollback restores.

    `changes` says how the rows differ from those that readers saw of the day before, as day_changes.sql returns it.

    A batch that they see already is not registered again, so a retry adds no row.
    """
    latest = current(connection, name, day)
    if latest and (latest.batch_id, latest.day) == (batch_id, day):
        return
    with psycopg.ClientCursor(connection) as cursor:  # several statements with bound values in one file
        cursor.execute(
            queries.read("warehouse/register_publication"),
            {
                "object": name,
                "scope": scope,
                "day": day,
                "batch_id": batch_id,
                "restores": restores,
                "changes": changes and Jsonb(changes),
                **run._asdict(),
            },
        )


def remove_old_batches(
    connection: psycopg.Connection[Any],
    staging_table: str,
    name: str,
    keep: int,
    day: date,
    day_column: str | None = None,
) -> None:
    """Remove from a staging table the batches that are older than an object's last `keep` published ones.

    If the object's scope is `day`, `day_column` holds the batch's day, and only that day is looked at.
    """
    of_the_day = sql.SQL("{} = %(day)s").format(sql.Identifier(day_column)) if day_column else sql.SQL("true")
    connection.execute(
        sql.SQL(queries.read("warehouse/remove_old_batches")).format(
            staging_table=identifier(staging_table), of_the_day=of_the_day
        ),
        {"object": name, "day": day, "keep": keep},
    )


def _one(connection: psycopg.Connection[Any], query: str, name: str, day: date | None) -> Publication | None:
    with connection.cursor(row_factory=class_row(Publication)) as cursor:
        return cursor.execute(queries.read(query), {"object": name, "day": day}).fetchone()
