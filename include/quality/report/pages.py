"""The pages as HTML. What the tables hold is escaped, wrapped, and cut if it is long."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import psycopg

from include.quality.outcome import SEVERITIES
from include.quality.report import charts, data, format
from include.quality.report.data import Run, Trend, Validation
from include.quality.report.overview import Overview, all_subjects, overview

_BATCH_COLUMNS = {"batch_id", "loaded_at"}  # the page is about one batch, so they say nothing new


class Table(NamedTuple):
    """Rows in the form that a page shows."""

    head: list[str]
    rows: list[list[object]]


def pages(
    connection: psycopg.Connection[Any], checkpoint: str, validation_ids: Sequence[int], now: datetime
) -> dict[str, str]:
    """Return the pages that a run changes, by their paths: its own first, then those that list it."""
    run = data.run(connection, validation_ids)
    [title] = [each.title for each in all_subjects(connection) if each.name == checkpoint]
    own = _run_page(connection, run, title=title, now=now, up="../../")
    return {run_path(run): own, **lists(connection, checkpoint, now)}


def published(connection: psycopg.Connection[Any], checkpoint: str, batch_id: UUID, now: datetime) -> dict[str, str]:
    """Return the pages that a publication changes, by their paths: that of the batch's run, and those that list it."""
    ids = data.latest_validations(connection, checkpoint, batch_id)
    return pages(connection, checkpoint, ids, now) if ids else lists(connection, checkpoint, now)


def lists(connection: psycopg.Connection[Any], checkpoint: str, now: datetime) -> dict[str, str]:
    """Return the home page and, once the dataset was validated, its page, by their paths."""
    overviews = [overview(connection, each, now) for each in all_subjects(connection)]
    [own] = [each for each in overviews if each.subject.name == checkpoint]
    texts = {"index.html": _render("home", overviews=overviews, now=now, up="")}
    if own.latest:
        texts[f"{folder(checkpoint)}/index.html"] = _dataset_page(connection, overview=own, now=now, up="../")
    return texts


def folder(name: str) -> str:
    """Return a name as that of a folder: the same text in a URL and on a disk, and never more than one folder."""
    safe = quote(name, safe="").replace("%", "=").replace(".", "=2E") or "="
    return safe if len(safe) <= 100 else f"{safe[:80]}={sha256(name.encode()).hexdigest()[:16]}"


def run_path(run: Run) -> str:
    """Return the path of a run's page below the root."""
    return f"{folder(run.first.checkpoint)}/{run.first.day}/{run.first.id}.html"


def table(rows: Sequence[Any], column: str, order: Sequence[str]) -> Table:
    """Return rows, which are mappings or single values of a column, as a table with its columns in order."""
    mappings = [row if isinstance(row, Mapping) else {column: row} for row in rows]
    found = {name for row in mappings for name in row}
    found = found - _BATCH_COLUMNS or found
    head = [name for name in dict.fromkeys(order) if name in found]
    head += sorted(found.difference(head))
    return Table(head, [[row.get(name) for name in head] for row in mappings])


def _run_page(connection: psycopg.Connection[Any], run: Run, **values: Any) -> str:
    results = data.results(connection, [run])
    found = [(validation, each) for validation in run.validations for each in results.get(validation.id, [])]
    failed = [each for each in found if each[1].verdict != "passed"]
    failed.sort(key=lambda each: (each[1].verdict != "failed", -SEVERITIES.index(each[1].severity)))
    quarantined = data.quarantined(connection, run)
    order = data.columns(connection, run)
    return _render(
        "run",
        run=run,
        found=found,
        failed=failed,
        quarantined=quarantined,
        changes=data.changes(connection, run),
        table=lambda rows, column="value": table(rows, column, order),
        airflow_url=_airflow_url(run.first),
        **values,
    )


def _dataset_page(connection: psycopg.Connection[Any], overview: Overview, **values: Any) -> str:
    runs = data.latest_runs(connection, overview.subject.name)
    return _render(
        "dataset",
        overview=overview,
        runs=runs,
        verdicts=Counter(run.verdict for run in runs),
        trends=data.trends(connection, runs),
        **values,
    )


def _airflow_url(run: Validation) -> str:
    from airflow.sdk.configuration import conf

    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/dags/{quote(run.dag_id, safe='')}/runs/{quote(run.run_id, safe='')}"


def _bars(runs: Sequence[Run | None], what: str) -> str:
    """Draw `rows` or `seconds` of runs, aligned to the right, so that all charts have bars of the same width."""
    padded = [*[None] * (data.RUNS - len(runs)), *runs]
    values = [getattr(run, what) if run else 0 for run in padded]
    marks = [
        (run.verdict, f"{format.weekday(run.first.day)}: {format.number(value)} {what}") if run else None
        for run, value in zip(padded, values, strict=True)
    ]
    return charts.bars([data.finite(value) for value in values], marks, f"{what} by run")


def _trend(trend: Trend, runs: Sequence[Run]) -> str:
    """Draw a trend; if it has no numbers, 0 for passed and 1 for failed."""
    numbers = any(each.value is not None for each in trend.known)
    values = [(each.value if numbers else float(each.verdict != "passed")) if each else None for each in trend.results]
    marks = [
        (format.state(each), f"{format.weekday(run.first.day)}: {format.observed(each) or 'failed'}")
        if each and each.verdict != "passed"
        else None
        for run, each in zip(runs, trend.results, strict=True)
    ]
    bounds = [[each.bound(name) if each else None for each in trend.results] for name in ("min_value", "max_value")]
    from_zero = trend.latest.counts or not numbers
    return charts.line(values, bounds, marks, format.observed_since(trend), from_zero=from_zero)


def _render(name: str, **values: Any) -> str:
    text: str = _environment().get_template(f"{name}.html.j2").render(**values)
    return text


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (format.cell, format.moment, format.number, format.observed, format.observed_since, format.state)
    environment.filters |= {each.__name__: each for each in (*filters, format.wanted, format.weekday, folder)}
    environment.globals |= {"STATES": format.STATES, "run_path": run_path, "bars": _bars, "trend_line": _trend}
    return environment
