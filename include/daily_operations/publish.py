"""Publishing the views: all of them show one batch, and all of them change at once."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.daily_operations.views import PUBLIC, public_name, snapshots_name, views
from include.errors import PermanentError
from include.warehouse import register
from include.warehouse.register import Run


def refuse_older(connection: psycopg.Connection[Any], day: date) -> None:
    """Raise PermanentError when the views show a later day than this one."""
    shown = [register.current(connection, public_name(view)) for view in views()]
    latest = max((publication.day for publication in shown if publication), default=day)
    if day < latest:
        raise PermanentError(
            f"The views of {PUBLIC} show {latest}: to publish the older {day}, set the param allow_older."
        )


def publish_views(
    connection: psycopg.Connection[Any],
    batch_id: UUID,
    day: date,
    run: Run,
    *,
    keep: int,
    allow_older: bool = False,
) -> int:
    """Let all views show a batch of snapshots, and register it; gives the number of rows that they show together.

    Runs in the caller's transaction and defines nothing: readers wait for nobody, and see the old batch or the new
    one. The last `keep` published batches stay, to go back to. Raises PermanentError when the views show a later
    day, unless `allow_older`, and when there are no snapshots of the batch.
    """
    register.lock(connection, PUBLIC)
    if not allow_older:
        refuse_older(connection, day)
    return _publish(connection, batch_id, day, run, keep, restores={})


def roll_back_views(
    connection: psycopg.Connection[Any], day: date | None, run: Run, *, keep: int
) -> tuple[date, UUID, int]:
    """Let all views show the batch again that they showed before (`day`: the last one of that day).

    Gives its day, the batch and its row count. Runs in the caller's transaction; again for the same run it changes
    nothing. Raises PermanentError when there is no such publication of all views, or it is no longer kept.
    """
    register.lock(connection, PUBLIC)
    found = {view: register.to_go_back_to(connection, public_name(view), day, run) for view in views()}
    earlier = {view: publication for view, publication in found.items() if publication}
    batches = {(publication.day, publication.batch_id) for publication in earlier.values()}
    of_day = f" of {day}" if day else ""
    if not batches:
        raise PermanentError(f"The views of {PUBLIC} have no earlier publication{of_day} to go back to.")
    if len(batches) > 1 or len(earlier) < len(found):
        raise PermanentError(
            f"The views of {PUBLIC} were not all published together{of_day} before: "
            + ", ".join(f"{view}: {publication.day if publication else 'never'}" for view, publication in found.items())
            + ". Run daily_operations_view_update for the day that you want, with allow_older."
        )
    ((earlier_day, batch_id),) = batches
    restores = {view: publication.id for view, publication in earlier.items()}
    return earlier_day, batch_id, _publish(connection, batch_id, earlier_day, run, keep, restores)


def _publish(
    connection: psycopg.Connection[Any],
    batch_id: UUID,
    day: date,
    run: Run,
    keep: int,
    restores: Mapping[str, int],
) -> int:
    rows = 0
    for view in views():
        snapshots = snapshots_name(view)
        register.lock_batch(connection, snapshots, batch_id)
        count = sql.SQL("select count(*) from {} where batch_id = %s").format(sql.Identifier(*snapshots.split(".")))
        rows += connection.execute(count, [batch_id]).fetchall()[0][0]
        register.register(connection, public_name(view), "object", day, batch_id, run, restores.get(view))
        register.remove_old_batches(connection, snapshots, public_name(view), keep, day)
    if not rows:
        raise PermanentError(
            f"There are no snapshots of batch {batch_id} of {day} (the last {keep} published ones are kept): "
            "run the day again."
        )
    return rows
