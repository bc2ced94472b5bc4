"""The quarantine: rows that broke a rule marked `quarantine` are kept out of a batch, and the others go on.

Such a rule is an UnexpectedRowsExpectation whose query gives whole rows of the batch. A suite's meta says by
`quarantine_max_share` which share of a batch may be kept out before the gate closes after all.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.quality.outcome import Outcome, Validation
from include.warehouse import queries
from include.warehouse.register import Run, claim_batch


class _TooMany(Exception):
    """More rows than may be quarantined, or rows that the batch does not have."""


def put_back(connection: psycopg.Connection[Any], tables: Iterable[str], batch_id: UUID) -> None:
    """Return to a batch what an earlier try of its validation kept out, so that the next judges all of it again.

    A batch that was loaded again since has its rows already: then they leave the quarantine only. A row that
    somebody repaired stays there, for the next load. Runs in the caller's transaction. Raises PermanentError when
    the batch was published meanwhile.
    """
    for table in tables:
        if not connection.execute(
            "select 1 from quality.quarantine where batch_id = %s and asset = %s limit 1", [batch_id, table]
        ).fetchone():
            continue
        claim_batch(connection, table, batch_id)
        put_back = sql.SQL(queries.read("quality/put_back")).format(table=sql.Identifier(*table.split(".")))
        connection.execute(put_back, {"batch_id": batch_id, "asset": table})


def set_aside(connection: psycopg.Connection[Any], outcome: Outcome, batch_id: UUID, day: date, run: Run) -> Outcome:
    """Move the rows that broke a quarantine rule out of the batch; gives the outcome with that done.

    Nothing is moved when another expectation closes the gate anyway, or when the rows are more than the suite's
    share: then these rules close it. Runs in the caller's transaction.
    """
    if any(
        finding.verdict == "failed" and finding.severity == "critical" and not finding.row_rule
        for finding in outcome.findings
    ):
        return outcome
    connection.execute("select 1")  # begins the caller's transaction: the block below would else commit one of its own
    try:
        with connection.transaction():
            validations = [
                _set_aside(connection, outcome.checkpoint, validation, batch_id, day, run)
                for validation in outcome.validations
            ]
    except _TooMany:
        validations = [_closed(validation) for validation in outcome.validations]
    return replace(outcome, validations=validations)


def _set_aside(
    connection: psycopg.Connection[Any], checkpoint: str, validation: Validation, batch_id: UUID, day: date, run: Run
) -> Validation:
    rules = [finding for finding in validation.findings if finding.row_rule]
    if not rules:
        return validation
    claim_batch(connection, validation.asset, batch_id)
    table = sql.Identifier(*validation.asset.split("."))
    offenders = [(rule.expectation, _query(rule.row_rule or "", table, batch_id, connection)) for rule in rules]
    broken = sql.SQL(" union all ").join(
        sql.SQL("select to_jsonb(offender) as row_data, {} as rule from ({}) as offender").format(name, query)
        for name, query in offenders
    )
    moved = connection.execute(
        sql.SQL(queries.read("quality/set_aside")).format(
            broken=broken,
            table=table,
            batch_id=batch_id,
            checkpoint=checkpoint,
            asset=validation.asset,
            day=day,
            dag_id=run.dag_id,
            run_id=run.run_id,
        )
    ).rowcount
    # None at all: the rule's query is not what Great Expectations made of it, which found some.
    if not 0 < moved <= Decimal(str(validation.max_share)) * validation.rows:
        raise _TooMany
    for _, query in offenders:  # a rule that gives other than whole rows moves none
        if connection.execute(sql.SQL("select 1 from ({}) as left_over limit 1").format(query)).fetchone():
            raise _TooMany
    findings = [
        replace(finding, verdict="quarantined") if finding.row_rule else finding for finding in validation.findings
    ]
    return replace(validation, findings=findings, quarantined=moved)


def _query(rule: str, table: sql.Identifier, batch_id: UUID, connection: psycopg.Connection[Any]) -> sql.SQL:
    """Give a rule's query as Great Expectations runs it: a join names its batch itself, and {{ stands for {."""
    alias = "" if re.search(r"\bjoin\b", rule, re.IGNORECASE) else " as subselect"
    batch = sql.SQL("(select * from {} where batch_id = {})").format(table, batch_id)
    return sql.SQL(rule.format(batch=f"{batch.as_string(connection)}{alias}"))


def _closed(validation: Validation) -> Validation:
    findings = [
        replace(finding, severity="critical") if finding.row_rule else finding for finding in validation.findings
    ]
    return replace(validation, findings=findings)
