"""The register of publications, `warehouse.publication`: which batch readers see of each object, and saw before.

An object is a table or view with its schema. In scope `day` each day of it is published for itself, in scope
`object` all of it shows one publication. Every function runs in the transaction of its caller, who publishes.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid5

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from include.errors import PermanentError
from include.warehouse import queries


class Run(NamedTuple):
    """The Airflow run that publishes."""

    dag_id: str
    run_id: str


@dataclass(frozen=True)
class Publication:
    """One line of the register."""

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
    """Give the batch_id, or, when it was published already, another that follows from it.

    A run that is cleared and run again writes a batch of its own: what was published is never written again.
    """
    published = "select exists (select 1 from warehouse.publication where batch_id = %s)"
    while connection.execute(published, [batch_id]).fetchone() == (True,):
        batch_id = uuid5(batch_id, "again")
    return batch_id


def lock(connection: psycopg.Connection[Any], name: str) -> None:
    """Wait until nobody else publishes what is so named, and let nobody until this transaction ends."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def claim_batch(connection: psycopg.Connection[Any], staged: str, batch_id: UUID) -> None:
    """Let only this transaction write a batch of the table `staged`. Raises PermanentError when it was published."""
    try:
        connection.execute("select warehouse.claim_batch(%s, %s)", [staged, batch_id])
    except psycopg.errors.RaiseException as error:
        raise PermanentError(error.diag.message_primary) from error


def lock_batch(connection: psycopg.Connection[Any], staged: str, batch_id: UUID) -> None:
    """Wait until nobody writes a batch of the table `staged` any more; the SQL function claim_batch takes this lock."""
    lock(connection, f"{staged}/{batch_id}")


def current(connection: psycopg.Connection[Any], name: str, day: date | None = None) -> Publication | None:
    """Give what readers see of an object, or of its day; None when nothing was published yet."""
    return _one(connection, "warehouse/current_publication", name, day)


def to_go_back_to(connection: psycopg.Connection[Any], name: str, day: date | None, run: Run) -> Publication | None:
    """Give the publication that a rollback of an object restores; None when there is none.

    It is the last one of another batch (and, if given, of that day) before the one that readers see. A run that
    has rolled the object back already, whose retry this is, gets what it restored.
    """
    shown = current(connection, name, day)
    if shown and shown.run == run:
        return shown
    return _one(connection, "warehouse/previous_publication", name, day)


def register(
    connection: psycopg.Connection[Any],
    name: str,
    scope: Literal["day", "object"],
    day: date,
    batch_id: UUID,
    run: Run,
    restores: int | None = None,
) -> None:
    """Make a batch what readers see of an object; `restores` is the publication that a rollback goes back to.

    A batch that is what they see already is not registered again, so a retry adds no line.
    """
    shown = current(connection, name, day)
    if shown and (shown.batch_id, shown.day) == (batch_id, day):
        return
    with psycopg.ClientCursor(connection) as cursor:  # several statements with bound values in one file
        cursor.execute(
            queries.read("warehouse/register_publication"),
            {"object": name, "scope": scope, "day": day, "batch_id": batch_id, "restores": restores, **run._asdict()},
        )


def remove_old_batches(
    connection: psycopg.Connection[Any],
    staged: str,
    name: str,
    keep: int,
    day: date,
    day_column: str | None = None,
) -> None:
    """Remove from the table `staged` what is older than an object's last `keep` published batches, and not of them.

    Where the object's scope is `day`, `day_column` holds the batch's day, and only that day is looked at.
    """
    of_the_day = sql.SQL("{} = %(day)s").format(sql.Identifier(day_column)) if day_column else sql.SQL("true")
    connection.execute(
        sql.SQL(queries.read("warehouse/remove_old_batches")).format(
            batches=sql.Identifier(*staged.split(".")), of_the_day=of_the_day
        ),
        {"object": name, "day": day, "keep": keep},
    )


def _one(connection: psycopg.Connection[Any], query: str, name: str, day: date | None) -> Publication | None:
    with connection.cursor(row_factory=class_row(Publication)) as cursor:
        return cursor.execute(queries.read(query), {"object": name, "day": day}).fetchone()
