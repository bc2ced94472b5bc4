"""The gate: a Great Expectations checkpoint run on exactly one batch.

Suites, validation definitions and checkpoints are the files of great_expectations/; which batch they see is
written into a private copy of that folder, made for one run and thrown away.
"""

import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import URL

from include.errors import PermanentError
from include.quality.outcome import SAMPLE, Finding, Outcome, Validation
from include.warehouse.passfile import write_passfile

PROJECT = Path(__file__).resolve().parent.parent.parent / "great_expectations"
_RESULT_FORMAT = {"result_format": "COMPLETE", "partial_unexpected_count": SAMPLE}
_ONE_AT_A_TIME = Lock()  # GX keeps its context and its YAML parser in globals, which threads would share


def gate(
    connection: psycopg.Connection[Any],
    checkpoint: str,
    batch_id: UUID,
    day: date,
    batches: Mapping[str, str],
    parameters: Mapping[str, object] | None = None,
    *,
    project: Path = PROJECT,
    data_docs: Path | None = None,
) -> Outcome:
    """Run a checkpoint on one batch and give what it found.

    `connection` says which warehouse, as whom; `batches` names for each suite the table that holds the batch under
    its batch_id; `parameters` fill each `$PARAMETER` of the suites. A checkpoint that has no file runs the suites of
    `batches`. `data_docs` is a folder to which Great Expectations' own pages are written, too. Raises PermanentError
    when a suite is missing or empty.
    """
    import great_expectations

    started_at, clock = datetime.now(UTC), time.perf_counter()
    with _private_copy(connection, batch_id, day, project) as folder, _ONE_AT_A_TIME:
        context = great_expectations.get_context(mode="file", context_root_dir=folder)
        if checkpoint not in {each.name for each in context.checkpoints.all()}:
            _add_checkpoint(context, checkpoint, batch_id, batches)
        result = context.checkpoints.get(checkpoint).run(expectation_parameters=dict(parameters or {}))
        if data_docs:
            context.build_data_docs()
            shutil.copytree(folder / "uncommitted" / "report", data_docs, dirs_exist_ok=True)
        validations = [
            _validation(run, context.suites.get(run.suite_name), batches[run.suite_name], batch_id, connection)
            for run in result.run_results.values()
        ]
    return Outcome(checkpoint, started_at, time.perf_counter() - clock, validations)


@contextmanager
def _private_copy(connection: psycopg.Connection[Any], batch_id: UUID, day: date, project: Path) -> Iterator[Path]:
    with TemporaryDirectory(prefix="airlock-gate-") as temporary:  # only its owner may enter it
        folder = Path(temporary) / "great_expectations"
        shutil.copytree(project, folder, ignore=shutil.ignore_patterns("uncommitted"))
        for file in (folder / "great_expectations.yml", *(folder / "expectations").glob("*.json")):
            file.write_text(file.read_text().replace("{batch_id}", str(batch_id)).replace("{day}", str(day)))
        uncommitted = folder / "uncommitted"
        uncommitted.mkdir()
        password_file = uncommitted / "pgpass"
        write_passfile(password_file, connection.info.password)
        url = URL.create(
            "postgresql+psycopg",
            query={**connection.info.get_parameters(), "passfile": str(password_file)},
        ).render_as_string()  # percent-encoded: nothing in it means anything to YAML or to GX
        (uncommitted / "config_variables.yml").write_text(f"AIRLOCK_GATE_URL: '{url}'\n")
        yield folder


def _add_checkpoint(context: Any, name: str, batch_id: UUID, batches: Mapping[str, str]) -> None:
    """Make a checkpoint of suites and the tables that hold their batch: GX's files for it would say no more."""
    from great_expectations import Checkpoint, ValidationDefinition
    from great_expectations.exceptions import DataContextError

    warehouse = context.data_sources.get("warehouse")
    definitions = []
    for suite, table in batches.items():
        try:
            expectations = context.suites.get(suite)
        except DataContextError:
            raise PermanentError(
                f"{suite} has no suite: write great_expectations/expectations/{suite}.json; nothing passes unchecked."
            ) from None
        if not expectations.id:  # written by hand: GX validates only what it has given an id
            context.suites.delete(suite)
            expectations = context.suites.add(expectations)
        query = f"SELECT * FROM {table} WHERE batch_id = '{batch_id}'"  # noqa: S608 - a name of ours and a uuid
        asset = warehouse.add_query_asset(suite, query=query)
        data = asset.add_batch_definition_whole_table("batch")
        definition = ValidationDefinition(name=suite, data=data, suite=expectations)
        definitions.append(context.validation_definitions.add(definition))
    checkpoint = Checkpoint(name=name, validation_definitions=definitions, result_format=_RESULT_FORMAT)
    context.checkpoints.add(checkpoint)


def _rows(connection: psycopg.Connection[Any], table: str, batch_id: UUID) -> int:
    query = sql.SQL("select count(*) from {} where batch_id = %s").format(sql.Identifier(*table.split(".")))
    return int(connection.execute(query, [batch_id]).fetchall()[0][0])


def _validation(run: Any, suite: Any, asset: str, batch_id: UUID, connection: psycopg.Connection[Any]) -> Validation:
    if not run.results:
        raise PermanentError(f"Suite {suite.name} has no expectations: a gate that checks nothing stays shut.")
    return Validation(
        suite=suite.name,
        asset=asset,
        rows=_rows(connection, asset, batch_id),
        findings=[_finding(suite.name, each) for each in run.results],
        max_share=float((suite.meta or {}).get("quarantine_max_share", 0)),
    )


def _finding(suite: str, result: Any) -> Finding:
    config = result.expectation_config
    raised = _exception(result.exception_info or {})
    found = result.result or {}
    observed = found.get("observed_value", found.get("unexpected_count"))
    arguments = {name: value for name, value in config.kwargs.items() if name not in ("batch_id", "column")}
    quarantines = not result.success and not raised and bool((config.meta or {}).get("quarantine"))
    return Finding(
        suite=suite,
        expectation=config.description or config.type,
        type=config.type,
        column=config.kwargs.get("column"),
        arguments=arguments,
        # GX reports an expectation that could not be evaluated as a mere failure: unknown is not good enough.
        severity="critical" if raised else str(config.severity.value),
        verdict="passed" if result.success else "failed",
        observed=f"an error: {raised}" if raised else str(observed),
        observed_number=_number(observed),
        checked=found.get("element_count"),
        # Of rows found by a query, GX tells the number as what was observed.
        unexpected=observed
        if config.type == "unexpected_rows_expectation" and not raised
        else found.get("unexpected_count"),
        sample=_bad_rows(found)[:SAMPLE],
        row_rule=arguments.get("unexpected_rows_query") if quarantines else None,
    )


def _bad_rows(found: Mapping[str, Any]) -> list[Any]:
    return list(
        (found.get("details") or {}).get("unexpected_rows")
        or found.get("unexpected_index_list")
        or found.get("partial_unexpected_list")
        or []
    )


def _number(observed: object) -> float | None:
    """Give what was observed as a number that a trend can show."""
    if isinstance(observed, int | float | Decimal) and not isinstance(observed, bool) and math.isfinite(observed):
        return float(observed)
    return None


def _exception(info: Mapping[str, Any]) -> str | None:
    """Give the message of an expectation that raised; GX tells it flat or by metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None
