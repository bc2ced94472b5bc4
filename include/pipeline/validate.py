"""Validating a batch: the gate, the quarantine, and what is stored and reported of both."""

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import psycopg

from include.dataset import Dataset
from include.pipeline.batch import Batch, key_of
from include.quality import quarantine, report, results
from include.quality.gate import gate
from include.quality.outcome import GateClosed, Outcome
from include.settings import settings
from include.warehouse.columns import check_staging
from include.warehouse.connections import connect
from include.warehouse.register import Run


def validate(dataset: Dataset, batch: Batch, ti: Any) -> None:
    """Run the gate on a batch; pushes its outcome as the task's XCom. Raises GateClosed when the gate closed."""
    batch_id, day = key_of(dataset, batch)
    with connect(dataset.connection) as connection:
        check_staging(connection, dataset)  # a deploy since the start may have changed a query or a table
        validate_batch(connection, dataset, batch_id, day, batch["params"], ti)


def validate_batch(
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    batch_id: UUID,
    day: date,
    parameters: dict[str, Any],
    ti: Any,
) -> None:
    """Run the gate on a batch, quarantine what may be, store what was found, and push it as the task's XCom.

    Repaired rows of the day are put into the batch first. What was found is stored whatever the verdict, and a
    failure to store it fails the task; a report that cannot be written is a warning. Raises GateClosed when the gate
    closed.
    """
    quarantine.put_back(connection, dataset, batch_id)
    quarantine.load_repaired(connection, dataset, batch_id, day)
    connection.commit()  # the gate looks from a connection of its own
    with TemporaryDirectory(prefix="airlock-docs-") as docs:
        data_docs = Path(docs) if settings().data_docs else None
        outcome = gate(connection, dataset, batch_id, day, parameters, data_docs=data_docs)
        if data_docs:
            report.copy_data_docs(data_docs, settings().report_root, f"data_docs/{dataset.name}/{day}/{batch_id}")
    outcome = quarantine.set_aside(connection, outcome, batch_id, day, Run(ti.dag_id, ti.run_id))
    conclude(connection, dataset, outcome, batch_id, day, ti)


def conclude(
    connection: psycopg.Connection[Any], dataset: Dataset, outcome: Outcome, batch_id: UUID, day: date, ti: Any
) -> None:
    """Store what a gate found, write its page, and push it as the task's XCom; raises GateClosed when it closes."""
    run = Run(ti.dag_id, ti.run_id)
    stored = results.store(connection, outcome, day, batch_id, run, days_kept=settings().quality_days_kept)
    connection.commit()
    page = report.publish(connection, dataset.name, stored, settings().report_root)
    # Pushed, not returned: a run whose gate closed shows its outcome as well.
    ti.xcom_push(key="return_value", value={**outcome.summary(), "report": page})
    outcome.log(f"{dataset.name} of {day}")
    if outcome.verdict == "failed":
        raise GateClosed(
            f"The gate closed: nothing of batch {batch_id} is published, readers see what they saw.\n"
            f"{outcome.describe('critical')}",
            outcome,
            day,
            page,
        )
