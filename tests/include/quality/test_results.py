"""What gates found, as rows: every value has its place, and rows are removed after the time that they are kept."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from include.pipeline.validate import validate
from include.quality import results
from include.quality.outcome import Finding, GateClosed, Outcome
from include.warehouse.register import Run
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.quality.suites import as_rollups_batch, expectations, stage_rollups
from tests.include.quality.test_outcome import finding, outcome, validation
from tests.include.warehouse.airflow_connections import give
from tests.toy import READINGS, ROLLUPS, TOYS
from tests.toy.batches import DAY, GOOD, SENSORS, STAGING, TaskInstance, as_batch, check, row, stage

pytestmark = pytest.mark.usefixtures("toys")

App = psycopg.Connection[Any]

RUN = Run("a_dag", "a run")
ALWAYS = 100_000  # days
# Columns that have another name than the field of a finding.
NAMES = {"column": "column_name"}


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set the connections of the toy datasets, and a folder for the test's reports."""
    for dataset in TOYS:
        give(monkeypatch, dataset.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))


def rows(app: App, table: str) -> list[dict[str, Any]]:
    key = "id" if table == "validation" else "validation_id, position"
    with app.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from quality.{table} order by {key}".encode()).fetchall()


def store(
    app: App, found: Outcome, *, day: date = DAY, batch_id: UUID | None = None, days_kept: int = ALWAYS
) -> list[int]:
    """Store and commit, so that what is stored later is stored at another time."""
    ids = results.store(app, found, day, batch_id or uuid4(), RUN, days_kept=days_kept)
    app.commit()
    return ids


def stored(app: App, *findings: Finding) -> list[dict[str, Any]]:
    """Store findings; returns their rows."""
    store(app, outcome(validation(*findings)))
    return rows(app, "expectation_result")


def test_every_column_is_what_the_gate_found(app: App) -> None:
    bad = [row("negative", -7.0), row("empty", None), row("twice"), row("twice"), row("high", 600.0)]
    batch_id = stage(app, [*GOOD, *bad])
    found = check(app, batch_id)
    [of_suite] = found.validations

    [id_] = store(app, found, batch_id=batch_id)

    assert rows(app, "validation") == [
        {
            "id": id_,
            "checkpoint": "readings",
            "suite": "measured",
            "staging_table": STAGING,
            "day": DAY,
            "batch_id": batch_id,
            "dag_id": RUN.dag_id,
            "run_id": RUN.run_id,
            "started_at": found.started_at,
            "seconds": found.seconds,
            "verdict": "failed",
            "highest_severity": "critical",
            "rows_checked": 7,
            "rows_quarantined": 0,
        }
    ]
    stored = rows(app, "expectation_result")
    suite = expectations("measured")
    assert [each["position"] for each in stored] == list(range(len(suite)))
    assert [each["expectation"] for each in stored] == [each["description"] for each in suite]
    for result, each in zip(stored, of_suite.findings, strict=True):
        for column in ("expectation", "type", "column", "severity", "verdict", "observed", "observed_number"):
            assert result[NAMES.get(column, column)] == getattr(each, column), (column, each.expectation)
        assert (result["checked"], result["unexpected"]) == (each.checked, each.unexpected)
        # As JSON has it: dates and keys are texts, lists are lists.
        assert result["arguments"] == json.loads(json.dumps(dict(each.arguments), default=str))
        assert result["sample"] == json.loads(json.dumps(each.sample, default=str))
    by_name = {each["expectation"]: each for each in stored}
    assert {name for name, each in by_name.items() if each["verdict"] == "failed"} == {
        "value is never empty",
        "one row per day and sensor",
        "value is not negative",
        "value is seldom above 500",
    }
    empty = by_name["value is never empty"]
    assert (empty["column_name"], empty["observed_number"], empty["checked"], empty["unexpected"]) == ("value", 1, 7, 1)
    assert empty["sample"] == [{"day": "2023-08-01", "sensor": "empty", "value": None}]
    negative = by_name["value is not negative"]
    assert (negative["observed"], negative["unexpected"], negative["checked"]) == ("1", 1, None)
    assert [each["sensor"] for each in negative["sample"]] == ["negative"]
    assert negative["arguments"] == {"unexpected_rows_query": "SELECT * FROM {batch} WHERE value < 0"}
    assert by_name["value is seldom above 500"]["severity"] == "warning"
    of_day = by_name["every row is of the run's day"]
    assert (of_day["verdict"], of_day["arguments"]["unexpected_rows_query"]) == (
        "passed",
        "SELECT * FROM {batch} WHERE day <> DATE '2023-08-01'",
    )
    assert by_name["every sensor that was asked for is there"]["arguments"]["value_set"] == list(SENSORS)
    assert by_name["one row per day and sensor"]["unexpected"] == 2


def test_rows_that_were_quarantined_are_stored_as_such(app: App) -> None:
    found = outcome(
        validation(finding("critical", "quarantined", "a", unexpected=3, observed="3"), finding(), quarantined=3),
        validation(finding("warning", "failed", "b", suite="other"), suite="other"),
    )

    ids = store(app, found)

    assert [
        (each["id"], each["suite"], each["verdict"], each["highest_severity"], each["rows_quarantined"])
        for each in rows(app, "validation")
    ] == [(ids[0], "measured", "quarantined", "critical", 3), (ids[1], "other", "warned", "warning", 0)]
    assert [
        (each["validation_id"], each["position"], each["expectation"], each["verdict"], each["severity"])
        for each in rows(app, "expectation_result")
    ] == [
        (ids[0], 0, "a", "quarantined", "critical"),
        (ids[0], 1, "one", "passed", "critical"),
        (ids[1], 0, "b", "failed", "warning"),
    ]


LONG = "long " * 2_000 + "and longer"  # 10,010 characters
CUT = LONG[:10_000] + "…"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (nan, "nan"),
        (inf, "inf"),
        (-inf, "-inf"),
        (Decimal("1.10"), "1.10"),
        (Decimal("NaN"), "NaN"),
        (date(2023, 8, 1), "2023-08-01"),
        (datetime(2023, 8, 1, 9, tzinfo=UTC), "2023-08-01 09:00:00+00:00"),
        (UUID(int=7), str(UUID(int=7))),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("🚀 é \\u0000 \\ ' \" %s {} </script>", "🚀 é \\u0000 \\ ' \" %s {} </script>"),
        (LONG, CUT),
        (b"\x00\xff", "b'\\x00\\xff'"),
        (None, None),
        (True, True),
        (2**70, 2**70),
        (0.1 + 0.2, 0.1 + 0.2),
        (5e-324, 5e-324),
        ((1, (2.5, nan)), [1, [2.5, "nan"]]),
        ({"a\0": {"b": inf}, 5: date(2023, 8, 1)}, {"a\N{REPLACEMENT CHARACTER}": {"b": "inf"}, "5": "2023-08-01"}),
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:20]!a}",
)
def test_a_value_of_any_type_is_stored(app: App, value: object, kept: object) -> None:
    [result] = stored(app, finding(sample=[{"value": value}, value], arguments={"value": value, "list": [value]}))

    assert result["sample"] == [{"value": kept}, kept]
    assert result["arguments"] == {"value": kept, "list": [kept]}


def test_texts_are_stored_without_nul_and_cut_when_they_are_long(app: App) -> None:
    [result] = stored(app, finding(name="a\0🚀" + LONG, observed="b\0" + LONG))

    assert result["expectation"] == "a\N{REPLACEMENT CHARACTER}🚀" + LONG[:9_997] + "…"
    assert result["observed"] == "b\N{REPLACEMENT CHARACTER}" + LONG[:9_998] + "…"


def test_bad_rows_with_values_that_json_does_not_have_are_stored(app: App) -> None:
    sensor = "🚀'; --" + LONG
    batch_id = stage(app, [*GOOD, row("nan", nan), row("inf", inf), row(sensor, 2000.0)])

    store(app, check(app, batch_id), batch_id=batch_id)

    by_name = {each["expectation"]: each for each in rows(app, "expectation_result")}
    sample = {each["sensor"]: each["value"] for each in by_name["value is at most 1000"]["sample"]}
    assert sample == {"nan": "nan", "inf": "inf", sensor[:10_000] + "…": 2000.0}


def test_an_observation_that_is_no_number_is_stored_without_one(app: App) -> None:
    numbers = [result["observed_number"] for result in stored(app, finding(observed_number=None), finding())]

    assert numbers == [None, 1.0]


# Whatever the verdict


@pytest.mark.usefixtures("connected")
def test_results_are_stored_before_a_closed_gate_fails_its_task(app: App) -> None:
    batch = as_batch(stage(app, [row(SENSORS[0], -7.0), row(SENSORS[1])]))

    with pytest.raises(GateClosed):
        validate(READINGS, batch, TaskInstance(run_id="this run"))

    [line] = rows(app, "validation")
    assert (line["verdict"], line["highest_severity"], line["run_id"]) == ("failed", "critical", "this run")
    assert str(line["batch_id"]) == batch["batch_id"]
    failed = [each for each in rows(app, "expectation_result") if each["verdict"] == "failed"]
    assert [each["expectation"] for each in failed] == ["value is not negative"]


@pytest.mark.usefixtures("connected")
def test_every_try_is_stored(app: App) -> None:
    batch = as_batch(stage(app, GOOD))

    for _ in range(2):
        validate(READINGS, batch, TaskInstance())

    assert [(str(each["batch_id"]), each["verdict"]) for each in rows(app, "validation")] == [
        (batch["batch_id"], "passed")
    ] * 2
    assert len(rows(app, "expectation_result")) == 2 * len(expectations("measured"))


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("table", ["validation", "expectation_result"])
def test_results_that_cannot_be_stored_fail_the_task_and_leave_the_batch_as_it_was(
    app: App, warehouse: Login, table: str
) -> None:
    batch_id = stage(app, [row("T00", 2000.0), *(row(f"T{number:02}") for number in range(1, 40))])
    with warehouse.connect() as admin:
        admin.execute(f"revoke insert on quality.{table} from {APP}".encode())
    ti = TaskInstance()

    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # a retry may heal it
        validate(READINGS, as_batch(batch_id, sensors=["T00"]), ti)

    assert ti.pushed == {}
    assert rows(app, "validation") == []
    assert app.execute("select count(*) from quality.quarantine").fetchone() == (0,)
    assert app.execute(f"select count(*) from {STAGING}".encode()).fetchone() == (40,)


@pytest.mark.usefixtures("connected")
def test_a_run_of_views_stores_a_validation_of_each(app: App) -> None:
    busiest = [(f"sensor {number}", 10) for number in range(4)]  # at most three are the busiest
    batch_id = stage_rollups(app, busiest)
    batch = as_rollups_batch(batch_id)

    with pytest.raises(GateClosed):
        validate(ROLLUPS, batch, TaskInstance("a_dag_of_views"))

    validations = rows(app, "validation")
    assert [(each["suite"], each["staging_table"], each["verdict"], each["rows_checked"]) for each in validations] == [
        ("busiest", "rollups_staging.busiest", "failed", 4),
        ("totals", "rollups_staging.totals", "passed", 1),
    ]
    together = {(each["checkpoint"], each["batch_id"], each["started_at"], each["dag_id"]) for each in validations}
    assert [(name, batch, dag) for name, batch, _, dag in together] == [("rollups", batch_id, "a_dag_of_views")]
    stored = rows(app, "expectation_result")
    wanted = [each for view in ROLLUPS.publishes for each in expectations(view.name)]
    assert [(each["expectation"], each["severity"]) for each in stored] == [
        (each["description"], each["severity"]) for each in wanted
    ]
    assert [each["expectation"] for each in stored if each["verdict"] != "passed"] == [
        "one to three sensors are the busiest"
    ]


# How long results are kept


def test_results_that_are_older_than_the_days_kept_are_removed_and_no_others(app: App) -> None:
    now = datetime.now(UTC)
    for days in (61, 60.01, 59.99, 1):
        store(app, replace(outcome(validation(finding(name=str(days)))), started_at=now - timedelta(days=days)))
    app.execute(
        "insert into quality.quarantine (checkpoint, staging_table, day, batch_id, dag_id, run_id, quarantined_at, "
        "row_data, rules) "
        "values ('readings', 'a', '2020-01-01', gen_random_uuid(), 'd', 'r', '2020-01-01', '{}', '{a}')"
    )
    app.commit()

    store(app, replace(outcome(validation(finding(name="new"))), started_at=now), days_kept=60)

    assert [each["expectation"] for each in rows(app, "expectation_result")] == ["59.99", "1", "new"]
    assert len(rows(app, "validation")) == 3
    assert app.execute("select count(*) from quality.quarantine").fetchone() == (1,)


@pytest.mark.usefixtures("connected")
def test_results_are_kept_as_long_as_the_setting_says(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    for days in (100, 300, 500):
        store(app, replace(outcome(validation(finding())), started_at=now - timedelta(days=days)))

    monkeypatch.delenv("AIRLOCK_QUALITY_DAYS_KEPT", raising=False)
    validate(READINGS, as_batch(stage(app, GOOD)), TaskInstance())
    assert len(rows(app, "validation")) == 3  # 500 days is longer than the default
    app.commit()

    monkeypatch.setenv("AIRLOCK_QUALITY_DAYS_KEPT", "200")
    validate(READINGS, as_batch(stage(app, GOOD)), TaskInstance())
    assert [(now - each["started_at"]).days for each in rows(app, "validation")] == [100, -1, -1]
