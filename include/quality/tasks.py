"""What every validate task does with a batch."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

import psycopg

from include.errors import PermanentError
from include.quality import report
from include.quality.gate import gate
from include.settings import settings


def pass_gate(
    ti: Any,
    connection: psycopg.Connection[Any],
    checkpoint: str,
    batch_id: UUID,
    day: date,
    parameters: Mapping[str, object],
    *,
    subject: str,
    batches: Mapping[str, str] | None = None,
) -> None:
    """Run the gate on a batch, put its report where people find it, and push the outcome as the task's XCom.

    The arguments are the gate's; `subject` names the batch in the log. Raises PermanentError when the gate closed.
    """
    with gate(connection, checkpoint, batch_id, day, parameters, batches=batches) as (outcome, site):
        page = report.publish(site, settings().report_root, f"{checkpoint}/{day}/{batch_id}")
    # Pushed, not returned: a run whose gate closed shows its outcome, too.
    ti.xcom_push(key="return_value", value={**outcome.summary(), "report": page})
    outcome.log(subject)
    if outcome.verdict == "failed":
        raise PermanentError(
            f"The gate closed: nothing of batch {batch_id} is published, readers see what they saw.\n"
            f"{outcome.told('critical')}"
        )
