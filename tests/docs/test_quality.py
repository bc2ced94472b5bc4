"""What docs/quality.md and docs/alerts.md say about tables and suites is true."""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from include.dataset import suite_name
from include.quality import gate, quarantine
from include.quality.outcome import Outcome
from include.warehouse.register import Run
from include.warehouse.roles import READER
from local.login import Login
from local.state import State
from tests.include.quality.report.filled import FAILED, finding, store, validation
from tests.toy import READINGS
from tests.toy.batches import DAY, STAGING, TABLE, Row, parameters, row, stage

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUALITY = (DOCS / "quality.md").read_text()
ALERTS = (DOCS / "alerts.md").read_text()

App = psycopg.Connection[Any]


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language in docs/quality.md."""
    return re.findall(rf"^```{language}\n(.*?)^```$", QUALITY, re.MULTILINE | re.DOTALL)


def documented_columns() -> dict[str, list[str]]:
    """Return the columns of the tables that docs/quality.md documents, in its order."""
    tables = re.findall(r"^`(quality\.\w+)`, one row per .*\n\n((?:\|.*\n)+)", QUALITY, re.MULTILINE)
    return {
        name: [column for line in lines.splitlines() for column in re.findall(r"`(\w+)`", line.split("|")[1])]
        for name, lines in tables
    }


@pytest.fixture
def reader(warehouse: Login, state: State) -> Login:
    """Return the login of people and dashboards to the test's warehouse."""
    return warehouse.as_role(READER, state.secrets[READER], warehouse.dbname)


def test_every_documented_query_returns_rows_to_a_reader(app: App, reader: Login) -> None:
    store(app, validation(finding(), FAILED), started_at=datetime.now(UTC) - timedelta(days=1))
    queries = [query for query in blocks("sql") if query.startswith("SELECT")]
    assert queries

    with reader.connect() as connection:
        for query in queries:
            assert connection.execute(query.encode()).fetchall(), query


def test_the_documented_query_of_incidents_runs(warehouse: Login, reader: Login) -> None:
    with warehouse.connect() as admin:
        admin.execute(
            "insert into quality.incident (subject, kind, day, message) values ('a', 'late', '2023-08-01', '')"
        )
    [query] = re.findall(r'^make sql Q="(.*)"$', ALERTS, re.MULTILINE)

    with reader.connect() as connection:
        assert connection.execute(query.encode()).fetchall()


def test_the_documented_repair_changes_the_value_of_a_row(app: App) -> None:
    [(id_,)] = app.execute(
        "insert into quality.quarantine (checkpoint, staging_table, day, batch_id, dag_id, run_id, row_data, rules) "
        "values (%s, %s, %s, gen_random_uuid(), 'd', 'r', %s, '{}') returning id",
        [READINGS.name, STAGING, DAY, Jsonb({"day": str(DAY), "sensor": "north", "value": -1.0})],
    ).fetchall()
    [update] = [statement for statement in blocks("sql") if statement.startswith("UPDATE")]

    app.execute(re.sub(r"WHERE id = \d+", f"WHERE id = {id_}", update).encode())

    [(repaired,)] = app.execute("select repaired from quality.quarantine").fetchall()
    assert repaired == {"day": str(DAY), "sensor": "north", "value": 131.2}


def test_the_documented_columns_are_those_of_the_tables(app: App) -> None:
    documented = documented_columns()
    assert documented

    for table, columns in documented.items():
        found = app.execute("select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", [table])
        assert sorted(columns) == sorted(name for (name,) in found), table


@pytest.fixture
def documented_gate(app: App, toys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a gate that checks rows of the toy table with the documented suite, and quarantines what may be."""
    [text] = blocks("json")
    for documented, toy in (('"fx_rates"', f'"{suite_name(TABLE)}"'), ('"item"', '"sensor"'), ("{items}", "{sensors}")):
        assert documented in text
        text = text.replace(documented, toy)
    shutil.copy(gate.PROJECT / "great_expectations.yml", tmp_path)
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / f"{suite_name(TABLE)}.json").write_text(text)
    monkeypatch.setattr(gate, "PROJECT", tmp_path)

    def judge(rows: list[Row], sensors: list[str]) -> Outcome:
        batch_id = stage(app, rows)
        outcome = gate.gate(app, READINGS, batch_id, DAY, parameters(sensors))
        return quarantine.set_aside(app, outcome, batch_id, DAY, Run("a dag", "a run"))

    return judge


def test_the_documented_suite_does_what_its_descriptions_say(documented_gate: Callable[..., Outcome]) -> None:
    sensors = [f"t{number}" for number in range(20)]
    values = {"t0": 0.0, "t1": 1001.0}

    lenient = documented_gate([row(sensor, values.get(sensor, 1.0)) for sensor in sensors], sensors)
    strict = documented_gate([row("t1", None), row("t2", day=DAY + timedelta(days=1))], ["t1", "t2", "t3"])

    assert (lenient.verdict, lenient.quarantined) == ("quarantined", 1)
    assert [each.expectation for each in lenient.failures] == ["value is positive", "value is seldom above 1000"]
    assert strict.verdict == "failed"
    assert {each.expectation: each.observed for each in strict.failures} == {
        "value is never empty": "1",
        "every row is of the run's day": "1",
        "every item that was asked for is there": "missing: t3",
    }
