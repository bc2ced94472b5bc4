"""A batch: what one run loads or refreshes, for which day, and the key under which its rows are staged."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, TypedDict
from uuid import UUID, uuid5

from include.dataset import Dataset
from include.errors import NothingToDo, PermanentError
from include.params import parse_day
from include.pipeline import publish
from include.warehouse import register
from include.warehouse.columns import check_staging
from include.warehouse.connections import connect

log = logging.getLogger(__name__)

_BATCHES = UUID("6f1b1d0e-5d0c-4a8e-9a37-0c3a5d2f7b61")


class Batch(TypedDict):
    """What the `start` task of every dataset pushes, and the tasks after it take."""

    dataset: str
    day: str
    """YYYY-MM-DD."""
    batch_id: str
    publishes: list[str]
    """The tables or views of the dataset when the run started."""
    params: dict[str, Any]
    """What else was asked for, by the dataset's own names."""


def batch_id(dag_run: Any, dataset: str, day: date) -> UUID:
    """Return the key of the batch that a DAG run writes for a dataset: the same on every retry, else another.

    It begins with the day, so that a staging table of years needs no more than a small index: see
    create_staging_table.sql.
    """
    run = uuid5(_BATCHES, f"{dataset}/{dag_run.dag_id}/{dag_run.run_id}")
    return UUID(bytes=day.toordinal().to_bytes(4) + run.bytes[4:])


def batch_day(dag_run: Any, param: str, value: str | None, otherwise: Callable[[datetime], date]) -> date:
    """Return the day that a run is for: its param, else its data interval's start, else `otherwise(run_after)`.

    In UTC. Raises PermanentError when the value of the param is not a date.
    """
    if asked := parse_day(param, value):
        return asked
    if dag_run.data_interval_start:
        start: datetime = dag_run.data_interval_start
        return start.astimezone(UTC).date()
    return otherwise(dag_run.run_after)


def open_batch(
    dataset: Dataset, dag_run: Any, day: date, params: Mapping[str, Any] | None = None, *, allow_older: bool = False
) -> Batch:
    """Return the batch of a run, after checking that it can be written.

    `params` are what else the run was asked for; the dataset's suites can refer to them. Raises NothingToDo when the
    dataset has no data for that day. Raises PermanentError for a day in the future, when the columns of a query or
    table do not fit the staging table, and when views would go back to an older day without `allow_older`.
    """
    if day > datetime.now(UTC).date():
        raise PermanentError(f"The day is {day}, which is in the future: give today or a day before.")
    if reason := dataset.closed_reason(day):
        raise NothingToDo(f"Nothing to load: {reason}.")
    with connect(dataset.connection) as connection:
        check_staging(connection, dataset)
        if not allow_older:
            publish.refuse_older(connection, dataset, day)
        key = register.unpublished(connection, batch_id(dag_run, dataset.name, day))
    log.info("Batch %s of %s for %s", key, dataset.name, day)
    return Batch(
        dataset=dataset.name,
        day=day.isoformat(),
        batch_id=str(key),
        publishes=dataset.published_names,
        params=dict(params or {}),
    )


def key_of(dataset: Dataset, batch: Batch) -> tuple[UUID, date]:
    """Return the batch_id and the day of a batch.

    Raises PermanentError when the dataset publishes other tables or views than when the run started.
    """
    if batch["publishes"] != dataset.published_names:
        raise PermanentError(
            f"The run began with {', '.join(batch['publishes'])}, and {dataset.name} publishes "
            f"{', '.join(dataset.published_names)} now: clear the run from its start task on."
        )
    return UUID(batch["batch_id"]), date.fromisoformat(batch["day"])
