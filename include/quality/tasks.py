"""What every validate task does with a batch."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import psycopg

from include.quality import history, quarantine, report
from include.quality.gate import gate
from include.quality.outcome import GateClosed
from include.settings import settings
from include.warehouse.register import Run


def pass_gate(
    ti: Any,
    connection: psycopg.Connection[Any],
    checkpoint: str,
    batch_id: UUID,
    day: date,
    batches: Mapping[str, str],
    parameters: Mapping[str, object] | None = None,
    *,
    subject: str,
) -> None:
    """Run the gate on a batch, quarantine what may be, store what was found, and push it as the task's XCom.

    The arguments are the gate's; `subject` names the batch in the log. What was found is stored whatever it is,
    and a failure to store it fails the task; a report that cannot be written is a warning. Raises GateClosed
    when the gate closed.
    """
    run = Run(ti.dag_id, ti.run_id)
    quarantine.put_back(connection, batches.values(), batch_id)
    connection.commit()  # the gate looks from a connection of its own
    with TemporaryDirectory(prefix="airlock-docs-") as docs:
        data_docs = Path(docs) if settings().data_docs else None
        outcome = gate(connection, checkpoint, batch_id, day, batches, parameters, data_docs=data_docs)
        if data_docs:
            report.copy_data_docs(data_docs, settings().report_root, f"data_docs/{checkpoint}/{day}/{batch_id}")
    outcome = quarantine.set_aside(connection, outcome, batch_id, day, run)
    stored = history.store(connection, outcome, day, batch_id, run, days_kept=settings().quality_days_kept)
    connection.commit()
    page = report.publish(connection, checkpoint, stored, settings().report_root)
    # Pushed, not returned: a run whose gate closed shows its outcome, too.
    ti.xcom_push(key="return_value", value={**outcome.summary(), "report": page})
    outcome.log(subject)
    if outcome.verdict == "failed":
        raise GateClosed(
            f"The gate closed: nothing of batch {batch_id} is published, readers see what they saw.\n"
            f"{outcome.told('critical')}",
            outcome,
            day,
            page,
        )
