"""The pages as HTML. Everything that the tables hold is text to them: escaped, wrapped, and cut where it is long."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg

from include.quality.outcome import SEVERITIES
from include.quality.report import cards, charts, data, words
from include.quality.report.cards import Card
from include.quality.report.data import Run, Trend, Validation

_BOOKKEEPING = {"batch_id", "loaded_at"}  # of staged rows: no news beside the batch that the page is about


class Table(NamedTuple):
    """Rows as a page shows them."""

    head: list[str]
    rows: list[list[object]]


def pages(
    connection: psycopg.Connection[Any], checkpoint: str, validation_ids: Sequence[int], now: datetime
) -> dict[str, str]:
    """Give the texts of the pages that a run changes by their paths: its own first, and those that list it."""
    run = data.run(connection, validation_ids)
    [card] = [each for each in cards.all_datasets(connection) if each.name == checkpoint]
    own = _run_page(connection, run, title=card.title, now=now, up="../../")
    return {run_path(run): own, **lists(connection, checkpoint, now)}


def lists(connection: psycopg.Connection[Any], checkpoint: str, now: datetime) -> dict[str, str]:
    """Give the texts of the home page and, once the dataset was validated, of its page by their paths."""
    all_cards = [cards.card(connection, each, now) for each in cards.all_datasets(connection)]
    [card] = [each for each in all_cards if each.dataset.name == checkpoint]
    written = {"index.html": _render("home", cards=all_cards, now=now, up="")}
    if card.latest:
        written[f"{folder(checkpoint)}/index.html"] = _dataset_page(connection, card=card, now=now, up="../")
    return written


def folder(name: str) -> str:
    """Give a name as a folder's: the same text in a URL and on a disk, and never a path of its own."""
    safe = quote(name, safe="").replace("%", "=").replace(".", "=2E") or "="
    return safe if len(safe) <= 100 else f"{safe[:80]}={sha256(name.encode()).hexdigest()[:16]}"


def run_path(run: Run) -> str:
    """Give the path of a run's page under the root."""
    return f"{folder(run.first.checkpoint)}/{run.first.day}/{run.first.id}.html"


def table(rows: Sequence[Any], column: str, order: Sequence[str]) -> Table:
    """Give rows, which are mappings or lone values of a column, as a table with its columns in order."""
    mappings = [row if isinstance(row, Mapping) else {column: row} for row in rows]
    found = {name for row in mappings for name in row}
    found = found - _BOOKKEEPING or found
    head = [name for name in dict.fromkeys(order) if name in found]
    head += sorted(found.difference(head))
    return Table(head, [[row.get(name) for name in head] for row in mappings])


def _run_page(connection: psycopg.Connection[Any], run: Run, **values: Any) -> str:
    results = data.results(connection, [run])
    found = [(validation, each) for validation in run.validations for each in results.get(validation.id, [])]
    missed = [each for each in found if each[1].verdict != "passed"]
    missed.sort(key=lambda each: (each[1].verdict != "failed", -SEVERITIES.index(each[1].severity)))
    quarantined = data.quarantined(connection, run)
    order = data.columns(connection, run)
    return _render(
        "run",
        run=run,
        found=found,
        missed=missed,
        quarantined=quarantined,
        table=lambda rows, column="value": table(rows, column, order),
        airflow_url=_airflow_url(run.first),
        **values,
    )


def _dataset_page(connection: psycopg.Connection[Any], card: Card, **values: Any) -> str:
    runs = data.latest_runs(connection, card.dataset.name)
    return _render(
        "dataset",
        card=card,
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
    """Draw `rows` or `seconds` of runs; where these are few, at the right, so that a bar is always as wide."""
    shown = [*[None] * (data.RUNS - len(runs)), *runs]
    values = [getattr(run, what) if run else 0 for run in shown]
    marks = [
        (run.verdict, f"{words.weekday(run.first.day)}: {words.number(value)} {what}") if run else None
        for run, value in zip(shown, values, strict=True)
    ]
    return charts.bars([data.finite(value) for value in values], marks, f"{what} by run")


def _trend(trend: Trend, runs: Sequence[Run]) -> str:
    """Draw a trend, where it has no numbers that of met (0) or not (1)."""
    numbers = any(each.value is not None for each in trend.asked)
    values = [(each.value if numbers else float(each.verdict != "passed")) if each else None for each in trend.results]
    marks = [
        (words.state(each), f"{words.weekday(run.first.day)}: {words.observed(each) or 'not met'}")
        if each and each.verdict != "passed"
        else None
        for run, each in zip(runs, trend.results, strict=True)
    ]
    bounds = [[each.bound(name) if each else None for each in trend.results] for name in ("min_value", "max_value")]
    return charts.line(values, bounds, marks, words.observed_since(trend), from_zero=trend.latest.counts or not numbers)


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
    filters = (words.cell, words.moment, words.number, words.observed, words.observed_since, words.state)
    environment.filters |= {each.__name__: each for each in (*filters, words.wanted, words.weekday, folder)}
    environment.globals |= {"STATES": words.STATES, "run_path": run_path, "bars": _bars, "trend_line": _trend}
    return environment
