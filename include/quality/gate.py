"""The gate: a Great Expectations checkpoint run on exactly one batch.

Suites, validation definitions and checkpoints are the files of great_expectations/; which batch they see is
written into a private copy of that folder, made for one run and thrown away.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Literal
from uuid import UUID

import psycopg
from sqlalchemy import URL

from include.errors import PermanentError
from include.warehouse.passfile import write_passfile

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent.parent / "great_expectations"
_RESULT_FORMAT = {"result_format": "COMPLETE", "partial_unexpected_count": 10}
SAMPLE = 10  # bad rows told in the log for one expectation
_ONE_AT_A_TIME = Lock()  # GX keeps its context and its YAML parser in globals, which threads would share


@dataclass(frozen=True)
class Failure:
    """One expectation that the batch did not meet."""

    expectation: str
    severity: str
    observed: str
    rows: list[object]

    def __str__(self) -> str:
        rows = "".join(f"\n    {_row(row)}" for row in self.rows)
        return f"{self.severity}: {self.expectation}: observed {self.observed}{rows}"


@dataclass(frozen=True)
class Outcome:
    """What a gate found."""

    checkpoint: str
    passed: int
    failures: list[Failure]

    @property
    def verdict(self) -> Literal["passed", "warned", "failed"]:
        """`failed` closes the door; `warned` lets the batch through and says why it was noted."""
        if any(failure.severity == "critical" for failure in self.failures):
            return "failed"
        return "warned" if self.failures else "passed"

    def summary(self) -> dict[str, Any]:
        """Give what a validate task pushes, but for the report's address."""
        return {
            "checkpoint": self.checkpoint,
            "verdict": self.verdict,
            "passed": self.passed,
            "failed": len(self.failures),
        }

    def told(self, severity: str) -> str:
        """Give the failures of one severity, as text with up to ten bad rows each."""
        return "\n".join(str(failure) for failure in self.failures if failure.severity == severity)

    def log(self, subject: str) -> None:
        """Tell the verdict and every failure in the log."""
        counted = f"{self.passed} of {self.passed + len(self.failures)} expectations"
        log.info("Gate %s %s for %s: %s met", self.checkpoint, self.verdict, subject, counted)
        for failure in self.failures:
            log.log(logging.ERROR if failure.severity == "critical" else logging.WARNING, "%s", failure)


@contextmanager
def gate(
    connection: psycopg.Connection[Any],
    checkpoint: str,
    batch_id: UUID,
    day: date,
    parameters: Mapping[str, object],
    *,
    batches: Mapping[str, str] | None = None,
    project: Path = PROJECT,
) -> Iterator[tuple[Outcome, Path]]:
    """Run a checkpoint on one batch; gives its outcome and the folder of its Data Docs pages.

    `connection` says which warehouse, as whom; `parameters` fill each `$PARAMETER` of the suites. `batches` names
    the table that holds the batch for each suite of a checkpoint that has no file. The folder is there as long as
    the context is. Raises PermanentError when a suite is missing.
    """
    import great_expectations

    with _private_copy(connection, batch_id, day, project) as folder:
        with _ONE_AT_A_TIME:
            context = great_expectations.get_context(mode="file", context_root_dir=folder)
            if batches:
                _add_checkpoint(context, checkpoint, batch_id, batches)
            result = context.checkpoints.get(checkpoint).run(expectation_parameters=dict(parameters))
            outcome = _outcome(checkpoint, result)
            context.build_data_docs()
        yield outcome, folder / "uncommitted" / "report"


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


def _outcome(checkpoint: str, result: Any) -> Outcome:
    passed = 0
    failures = []
    for run in result.run_results.values():
        if not run.results:
            raise PermanentError(
                f"Checkpoint {checkpoint} checked nothing by suite {run.suite_name}: "
                "a gate without expectations stays shut."
            )
        whose = "" if run.suite_name == checkpoint else f"{run.suite_name}: "
        passed += sum(each.success for each in run.results)
        failures += [_failure(each, whose) for each in run.results if not each.success]
    return Outcome(checkpoint, passed, failures)


def _failure(result: Any, whose: str) -> Failure:
    config = result.expectation_config
    raised = _exception(result.exception_info or {})
    found = result.result or {}
    rows = (
        (found.get("details") or {}).get("unexpected_rows")
        or found.get("unexpected_index_list")
        or found.get("partial_unexpected_list")
        or []
    )
    observed = found.get("observed_value", found.get("unexpected_count"))
    return Failure(
        expectation=f"{whose}{config.description or config.type}",
        # GX reports an expectation that could not be evaluated as a mere failure: unknown is not good enough.
        severity="critical" if raised else str(config.severity.value),
        observed=f"an error: {raised}" if raised else str(observed),
        rows=list(rows)[:SAMPLE],
    )


def _exception(info: Mapping[str, Any]) -> str | None:
    """Give the message of an expectation that raised; GX tells it flat or by metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _row(row: object) -> str:
    if isinstance(row, Mapping):
        return ", ".join(f"{column}={value}" for column, value in row.items())
    return str(row)
