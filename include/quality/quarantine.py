"""The quarantine: rows that broke a rule marked `quarantine` are kept out of a batch, and the others go on.

Such a rule is an UnexpectedRowsExpectation whose query returns whole rows of the batch. A suite's meta says by
`quarantine_max_share` which share of a batch may be kept out before the gate closes after all.
"""

import logging
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from include.dataset import Dataset, Table, View
from include.errors import PermanentError
from include.quality.outcome import Outcome, Validation
from include.warehouse import queries
from include.warehouse.columns import identifier, staging_columns
from include.warehouse.register import Run, claim_batch

log = logging.getLogger(__name__)


class _TooMany(Exception):
    """More rows than may be quarantined, or rows that the batch does not have."""


def put_back(connection: psycopg.Connection[Any], dataset: Dataset, batch_id: UUID) -> None:
    """Return to a batch what an earlier try of its validation kept out, so that the next one judges all of it again.

    A batch that was loaded again since has its rows already: they only leave the quarantine. A row that somebody
    repaired stays there, for the next run. Runs in the caller's transaction. Raises PermanentError when the batch was
    published meanwhile.
    """
    for each in dataset.publishes:
        table = dataset.staging_name(each)
        if not connection.execute(
            "select 1 from quality.quarantine where batch_id = %s and staging_table = %s limit 1", [batch_id, table]
        ).fetchone():
            continue
        claim_batch(connection, table, batch_id)
        statement = sql.SQL(queries.read("quality/put_back")).format(table=identifier(table))
        connection.execute(statement, {"batch_id": batch_id, "staging_table": table})


def load_repaired(connection: psycopg.Connection[Any], dataset: Dataset, batch_id: UUID, day: date) -> None:
    """Put rows of a day that were repaired in the quarantine into a batch, in place of what the source says again.

    A row is replaced when its key is that of the row that was quarantined. Runs in the caller's transaction. Raises
    PermanentError when the batch was published meanwhile.
    """
    for each in dataset.publishes:
        table = dataset.staging_name(each)
        values = {"batch_id": batch_id, "staging_table": table, "day": day}
        if not connection.execute(
            "select 1 from quality.quarantine "
            "where staging_table = %(staging_table)s and day = %(day)s and repaired is not null limit 1",
            values,
        ).fetchone():
            continue
        claim_batch(connection, table, batch_id)
        try:
            [(repairs, replaced, used)] = connection.execute(
                _load_repaired(connection, dataset, each), values
            ).fetchall()
        except psycopg.DataError as error:
            raise PermanentError(
                f"A repaired row of {table} of {day} has a value that its column cannot hold: "
                f"{error.diag.message_primary}. Correct it in quality.quarantine, then clear this task."
            ) from None
        if replaced > used and isinstance(each, View):  # of a table, the primary key would refuse such rows
            raise PermanentError(
                f"{table} has several rows with the key ({', '.join(each.key)}) of one repaired row, so it cannot be "
                f"replaced: declare a key that identifies a row of {dataset.published_name(each)}."
            )
        log.info("%s of %s repaired rows of %s replaced what the source says", used, repairs, table)


def _load_repaired(connection: psycopg.Connection[Any], dataset: Dataset, each: Table | View) -> sql.Composed:
    columns = [column.name for column in staging_columns(connection, dataset, each) or []]
    original = {column: sql.Identifier(f"original {column}") for column in each.key}
    return sql.SQL(queries.read("quality/load_repaired")).format(
        table=identifier(dataset.staging_name(each)),
        original_key=sql.SQL(", ").join(sql.Identifier("original", column) for column in each.key),
        originals=sql.SQL(", ").join(
            sql.SQL("{} as {}").format(sql.Identifier("original", column), name) for column, name in original.items()
        ),
        assignments=sql.SQL(", ").join(
            sql.SQL("{0} = repaired.{0}").format(sql.Identifier(column)) for column in columns
        ),
        same_row=sql.SQL(" and ").join(
            sql.SQL("{} is not distinct from repaired.{}").format(sql.Identifier("staged", column), name)
            for column, name in original.items()
        ),
    )


def set_aside(connection: psycopg.Connection[Any], outcome: Outcome, batch_id: UUID, day: date, run: Run) -> Outcome:
    """Move the rows that broke a quarantine rule out of the batch; returns the outcome with that done.

    Nothing is moved when another expectation closes the gate anyway, or when the rows are more than the suite's
    share: then these rules close it. Runs in the caller's transaction.
    """
    if any(
        finding.verdict == "failed" and finding.severity == "critical" and not finding.row_rule
        for finding in outcome.findings
    ):
        return outcome
    # Begins the caller's transaction. Without one, the block below would commit a transaction of its own.
    connection.execute("select 1")
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
    claim_batch(connection, validation.staging_table, batch_id)
    table = identifier(validation.staging_table)
    failing = [(rule.expectation, _query(rule.row_rule or "", table, batch_id, connection)) for rule in rules]
    broken = sql.SQL(" union all ").join(
        sql.SQL("select to_jsonb(failing.*) as row_data, {} as rule from ({}) as failing").format(name, query)
        for name, query in failing
    )
    moved = connection.execute(
        sql.SQL(queries.read("quality/set_aside")).format(
            broken=broken,
            table=table,
            batch_id=batch_id,
            checkpoint=checkpoint,
            staging_table=validation.staging_table,
            day=day,
            dag_id=run.dag_id,
            run_id=run.run_id,
        )
    ).rowcount
    # No row at all: Great Expectations found some, so the query does not return rows of the batch.
    if not 0 < moved <= Decimal(str(validation.max_share)) * validation.rows:
        raise _TooMany
    for _, query in failing:  # a rule that returns other than whole rows moves none
        if connection.execute(sql.SQL("select 1 from ({}) as left_over limit 1").format(query)).fetchone():
            raise _TooMany
    findings = [
        replace(finding, verdict="quarantined") if finding.row_rule else finding for finding in validation.findings
    ]
    return replace(validation, findings=findings, quarantined=moved)


def _query(rule: str, table: sql.Identifier, batch_id: UUID, connection: psycopg.Connection[Any]) -> sql.SQL:
    """Return a rule's query as Great Expectations runs it: a join names its batch itself, and {{ stands for {."""
    # GX's own test of what is a join, so that both see the same: its version is pinned.
    from great_expectations.expectations.metrics.query_metric_provider import _query_has_join_clause

    alias = "" if _query_has_join_clause(rule) else " as subselect"
    batch = sql.SQL("(select * from {} where batch_id = {})").format(table, batch_id)
    return sql.SQL(rule.format(batch=f"{batch.as_string(connection)}{alias}"))


def _closed(validation: Validation) -> Validation:
    findings = [
        replace(finding, severity="critical") if finding.row_rule else finding for finding in validation.findings
    ]
    return replace(validation, findings=findings)
