"""The gate: the Great Expectations checkpoint of a dataset, run on exactly one batch.

The suites are the files of great_expectations/expectations. Which batch they see, and for which day, is written into
a private copy of that folder, which is made for one run and removed afterwards.
"""

import json
import logging
import math
import re
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

from include.dataset import Dataset, suite_name
from include.errors import PermanentError
from include.quality.outcome import SAMPLE, Finding, Outcome, Validation
from include.warehouse.columns import identifier
from include.warehouse.session import another

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent.parent / "great_expectations"
_OBSERVED = 1000  # characters
_ONE_AT_A_TIME = Lock()  # GX keeps its context and its YAML parser in globals, which threads would share


def gate(
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    batch_id: UUID,
    day: date,
    parameters: Mapping[str, object] | None = None,
    *,
    data_docs: Path | None = None,
) -> Outcome:
    """Run the suites of a dataset on one batch and return what they found.

    `connection` says which warehouse, and as whom. In a suite, `{day}` and `{batch_id}` stand for the day (as
    YYYY-MM-DD) and the batch; a value that is nothing but `{name}` stands for the run's parameter of that name.
    `data_docs` is a folder to which Great Expectations' own pages are written as well. Raises PermanentError when a
    suite is missing or empty, or asks for a parameter that the run does not have.
    """
    import great_expectations

    started_at, clock = datetime.now(UTC), time.perf_counter()
    values = {**(parameters or {}), "day": str(day), "batch_id": str(batch_id)}
    with _private_copy(dataset, values) as folder, _ONE_AT_A_TIME:
        context = great_expectations.get_context(mode="file", context_root_dir=folder)
        _connect(context.data_sources.get("warehouse"), connection)
        result = _checkpoint(context, dataset, batch_id).run()
        if data_docs:
            _build_data_docs(context, folder, data_docs)
        staging_tables = {suite_name(each): dataset.staging_name(each) for each in dataset.publishes}
        validations = [
            _validation(run, context.suites.get(suite), staging_tables[suite], batch_id, connection)
            for run in result.run_results.values()
            for suite in [run.suite_name]
        ]
    return Outcome(dataset.name, started_at, time.perf_counter() - clock, validations)


def _connect(warehouse: Any, connection: psycopg.Connection[Any]) -> None:
    """Let GX use sessions like this one, instead of a connection of its own making."""
    from sqlalchemy import event

    for engine in (warehouse.get_engine(), warehouse.get_execution_engine().engine):  # it tries one and uses the other
        event.listen(engine, "do_connect", lambda *_: another(connection))


def _build_data_docs(context: Any, folder: Path, target: Path) -> None:
    try:
        context.build_data_docs()
        shutil.copytree(folder / "uncommitted" / "report", target, dirs_exist_ok=True)
    except Exception:  # as with the report, the verdict stands
        log.warning("Data Docs could not be made.", exc_info=True)


@contextmanager
def _private_copy(dataset: Dataset, values: Mapping[str, object]) -> Iterator[Path]:
    with TemporaryDirectory(prefix="airlock-gate-") as temporary:  # only its owner may enter it
        folder = Path(temporary) / "great_expectations"
        (folder / "expectations").mkdir(parents=True)
        shutil.copy(PROJECT / "great_expectations.yml", folder)
        for each in dataset.publishes:
            _copy_suite(suite_name(each), folder / "expectations", values)
        uncommitted = folder / "uncommitted"
        uncommitted.mkdir()
        (uncommitted / "config_variables.yml").write_text("AIRLOCK_GATE_URL: postgresql+psycopg://\n")
        yield folder


def _copy_suite(suite: str, folder: Path, values: Mapping[str, object]) -> None:
    try:
        text = (PROJECT / "expectations" / f"{suite}.json").read_text()
    except FileNotFoundError:
        raise PermanentError(
            f"{suite} has no suite: write great_expectations/expectations/{suite}.json; nothing passes unchecked."
        ) from None

    def filled(value: object) -> object:
        if isinstance(value, dict):
            return {
                name: _escaped(each) if name == "unexpected_rows_query" else each
                for name, each in ((name, filled(each)) for name, each in value.items())
            }
        if isinstance(value, list):
            return [filled(each) for each in value]
        if not isinstance(value, str):
            return value
        if (whole := re.fullmatch(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", value)) and whole[1] != "batch":
            if whole[1] not in values:
                raise PermanentError(
                    f"great_expectations/expectations/{suite}.json asks for {value}, and the run has no such "
                    f"parameter: use one of {', '.join(sorted(values))}."
                )
            return values[whole[1]]
        return value.replace("{batch_id}", str(values["batch_id"])).replace("{day}", str(values["day"]))

    (folder / f"{suite}.json").write_text(json.dumps(filled(json.loads(text))))


def _escaped(query: object) -> str:
    """Return a query in which no colon makes a parameter to SQLAlchemy, through which GX runs it."""
    return str(query).replace(":", "\\:")


def _unescaped(query: str) -> str:
    return query.replace("\\:", ":")


def _checkpoint(context: Any, dataset: Dataset, batch_id: UUID) -> Any:
    """Return a checkpoint of the dataset's name: each suite, on the batch in its staging table."""
    from great_expectations import Checkpoint, ValidationDefinition

    warehouse = context.data_sources.get("warehouse")
    definitions = []
    for each in dataset.publishes:
        suite = context.suites.get(suite_name(each))
        # Somebody wrote it without ids. GX validates only a suite with an id, and results name expectations by theirs.
        if not all([suite.id, *(each.id for each in suite.expectations)]):
            context.suites.delete(suite.name)
            suite = context.suites.add(suite)
        # A name of ours and a uuid. The check costs what the batch costs, not what the table does.
        query = f"SELECT * FROM {dataset.staging_name(each)} WHERE batch_id = '{batch_id}'"  # noqa: S608
        data = warehouse.add_query_asset(suite.name, query=query).add_batch_definition_whole_table("batch")
        definitions.append(
            context.validation_definitions.add(ValidationDefinition(name=suite.name, data=data, suite=suite))
        )
    result_format: dict[str, Any] = {"result_format": "COMPLETE", "partial_unexpected_count": SAMPLE}
    if len(dataset.publishes) == 1:  # GX takes one list of key columns for all suites of a checkpoint
        result_format["unexpected_index_column_names"] = list(dataset.publishes[0].key)
    return context.checkpoints.add(
        Checkpoint(name=dataset.name, validation_definitions=definitions, result_format=result_format)
    )


def _validation(
    run: Any, suite: Any, staging_table: str, batch_id: UUID, connection: psycopg.Connection[Any]
) -> Validation:
    if not run.results:
        raise PermanentError(f"Suite {suite.name} has no expectations: a gate that checks nothing stays closed.")
    count = sql.SQL("select count(*) from {} where batch_id = %s").format(identifier(staging_table))
    # GX returns the results grouped by column.
    places = {expectation.id: place for place, expectation in enumerate(suite.expectations)}
    results = sorted(run.results, key=lambda result: places[result.expectation_config.id])
    return Validation(
        suite=suite.name,
        staging_table=staging_table,
        rows=int(connection.execute(count, [batch_id]).fetchall()[0][0]),
        findings=[_finding(suite.name, each) for each in results],
        max_share=float((suite.meta or {}).get("quarantine_max_share", 0)),
    )


def _finding(suite: str, result: Any) -> Finding:
    config = result.expectation_config
    error = _exception(result.exception_info or {})
    found = result.result or {}
    observed = found.get("observed_value", found.get("unexpected_count"))
    if observed is None and (missing := found.get("partial_missing_list")):
        observed = f"missing: {', '.join(map(str, missing))}"
    arguments = {name: value for name, value in config.kwargs.items() if name not in ("batch_id", "column")}
    if "unexpected_rows_query" in arguments:
        arguments["unexpected_rows_query"] = _unescaped(arguments["unexpected_rows_query"])
    quarantines = not result.success and not error and bool((config.meta or {}).get("quarantine"))
    return Finding(
        suite=suite,
        expectation=config.description or config.type,
        type=config.type,
        column=config.kwargs.get("column"),
        arguments=arguments,
        # GX reports an expectation that could not be evaluated as an ordinary failure. It is not known to be met.
        severity="critical" if error else str(config.severity.value),
        verdict="passed" if result.success else "failed",
        # Cut: of a set of values, GX observes all that the batch has.
        observed=f"an error: {error}" if error else str(observed)[:_OBSERVED],
        observed_number=_number(observed),
        checked=found.get("element_count"),
        # For rows found by a query, GX returns their number as the observed value.
        unexpected=observed
        if config.type == "unexpected_rows_expectation" and not error
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
    """Return what was observed as a number that a trend can show."""
    if isinstance(observed, int | float | Decimal) and not isinstance(observed, bool) and math.isfinite(observed):
        return float(observed)
    return None


def _exception(info: Mapping[str, Any]) -> str | None:
    """Return the message of an expectation that raised; GX has it at the top level or by metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None
