"""Rows that are quarantined instead of failing their batch: which, how many at most, and how they return."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from math import inf, nan
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pandas
import psycopg
import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.dataset import Dataset, Table, always_open, next_day_at
from include.errors import PermanentError
from include.pipeline import tasks
from include.pipeline.batch import Batch
from include.pipeline.load import load
from include.pipeline.publish import publish_batch
from include.pipeline.validate import validate
from include.quality import quarantine, results
from include.quality.gate import gate
from include.quality.outcome import Finding, GateClosed, Outcome, Validation
from include.warehouse.register import Run
from include.warehouse.roles import APP
from include.warehouse.staging import ensure_schemas, ensure_staging
from local.login import Login
from local.state import State
from tests.include.quality.suites import (
    BUSIEST,
    TOTALS,
    as_rollups_batch,
    expectations,
    rule,
    stage_rollups,
    write_suite,
)
from tests.include.quality.test_outcome import finding
from tests.include.quality.test_outcome import outcome as outcome_of
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import kill_midway
from tests.toy import READINGS, ROLLUPS, TOYS
from tests.toy.batches import (
    DAY,
    GOOD,
    PUBLISHED,
    SENSORS,
    STAGING,
    Row,
    TaskInstance,
    as_batch,
    check,
    publish,
    row,
    stage,
)

pytestmark = pytest.mark.usefixtures("toys")

App = psycopg.Connection[Any]

RUN = Run("a_dag", "a run")
LIMIT = "value is at most 1000"
NEGATIVE, HUGE = "SELECT * FROM {batch} WHERE value < 0", "SELECT * FROM {batch} WHERE abs(value) > 1e9"


def many(count: int, *bad: int) -> list[Row]:
    """Return so many rows; those whose numbers are given break the rule of the toys' suite that quarantines."""
    rows = [row(f"T{number:05}") for number in range(count)]
    for number in bad:
        rows[number] = row(f"T{number:05}", 2000.0)
    return rows


def values(*figures: float) -> list[Row]:
    """Return rows of these values."""
    return [row(f"T{number}", value) for number, value in enumerate(figures)]


def broken(query: str, name: str = "the rule", severity: str = "critical", suite: str = "measured") -> Finding:
    """Return a rule that quarantines, as a gate returns it that found rows by its query."""
    return finding(severity, "failed", name, suite, row_rule=query)


def set_aside(app: App, batch_id: UUID, *rules: Finding, share: float = 0.5) -> Outcome:
    """Quarantine the rows that broke rules, as after a gate; commits."""
    rows = len(staged(app, batch_id))
    outcome = outcome_of(Validation("measured", STAGING, rows, list(rules), max_share=share))
    outcome = quarantine.set_aside(app, outcome, batch_id, DAY, RUN)
    app.commit()
    return outcome


Judge = Callable[..., Outcome]


@pytest.fixture
def judge(app: App, project: Path) -> Judge:
    """Run the gate with a suite of the test's own on a batch, quarantine what may be, and store it; commits."""

    def judge(batch_id: UUID, *rules: Mapping[str, Any], share: float | None = 0.5) -> Outcome:
        write_suite(project, "measured", *rules, **({} if share is None else {"quarantine_max_share": share}))
        outcome = gate(app, READINGS, batch_id, DAY)
        outcome = quarantine.set_aside(app, outcome, batch_id, DAY, RUN)
        results.store(app, outcome, DAY, batch_id, RUN, days_kept=100_000)
        app.commit()
        return outcome

    return judge


def staged(app: App, batch_id: UUID, table: str = STAGING) -> list[dict[str, Any]]:
    """Return a batch's rows as they are staged now, as jsonb."""
    found = app.execute(
        f"select to_jsonb(staged.*) from {table} as staged where batch_id = %s order by to_jsonb(staged.*)".encode(),
        [batch_id],
    ).fetchall()
    return [each for (each,) in found]


def quarantined(app: App, batch_id: UUID) -> list[tuple[dict[str, Any], list[str]]]:
    """Return what is in the quarantine of a batch: the rows, and the rules that they broke."""
    return app.execute(
        "select row_data, rules from quality.quarantine where batch_id = %s order by row_data", [batch_id]
    ).fetchall()


def names(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(each["sensor"] for each in rows)


def in_both(app: App, batch_id: UUID) -> tuple[list[str], list[str]]:
    """Return the sensors that are staged, and those in the quarantine."""
    return names(staged(app, batch_id)), names(each for each, _ in quarantined(app, batch_id))


def put_back(app: App, batch_id: UUID, dataset: Dataset = READINGS) -> None:
    quarantine.put_back(app, dataset, batch_id)
    app.commit()


# What is quarantined


def test_exactly_the_bad_rows_of_a_large_batch_are_quarantined_and_the_others_published(app: App) -> None:
    bad = [f"T{number:05}" for number in (0, 4321, 9999)]
    batch_id = stage(app, many(10_000, 0, 4321, 9999))
    before = {each["sensor"]: each for each in staged(app, batch_id)}

    outcome = quarantine.set_aside(app, check(app, batch_id, ["T00000", "T00001"]), batch_id, DAY, RUN)
    app.commit()

    [validation] = outcome.validations
    assert (outcome.verdict, outcome.quarantined, validation.rows) == ("quarantined", 3, 10_000)
    assert (validation.verdict, validation.highest_severity) == ("quarantined", "critical")
    assert [(each.expectation, each.verdict, each.observed) for each in outcome.failures] == [
        (LIMIT, "quarantined", "3")
    ]
    assert outcome.describe("critical") == ""
    assert quarantined(app, batch_id) == [(before[sensor], [LIMIT]) for sensor in bad]
    lines = app.execute(
        "select distinct checkpoint, staging_table, day, batch_id, dag_id, run_id, quarantined_at <= now(), repaired, "
        "returned_in from quality.quarantine"
    ).fetchall()
    assert lines == [("readings", STAGING, DAY, batch_id, *RUN, True, None, None)]
    left = {sensor: each for sensor, each in before.items() if sensor not in bad}
    assert {each["sensor"]: each for each in staged(app, batch_id)} == left
    assert publish(app, batch_id) == 9_997
    counts = f"select count(*), count(*) filter (where sensor = any(%s)) from {PUBLISHED}"
    assert app.execute(counts.encode(), [bad]).fetchone() == (9_997, 0)


def test_other_batches_of_the_day_keep_their_bad_rows(app: App) -> None:
    first, second = stage(app, values(-1, 1, 2)), stage(app, values(-1, 1, 2))

    assert set_aside(app, second, broken(NEGATIVE)).verdict == "quarantined"

    assert in_both(app, first) == (["T0", "T1", "T2"], [])
    assert in_both(app, second) == (["T1", "T2"], ["T0"])


def test_a_row_that_breaks_two_rules_is_quarantined_once_with_both(app: App) -> None:
    batch_id = stage(app, values(-2e9, -1, 3e9, 1, 2, 3, 4, 5))

    rules = (broken(NEGATIVE, "not negative"), broken(HUGE, "not huge"), broken(NEGATIVE, "again"))
    outcome = set_aside(app, batch_id, *rules)

    assert (outcome.verdict, outcome.quarantined) == ("quarantined", 3)
    assert [(each["sensor"], sorted(rules)) for each, rules in quarantined(app, batch_id)] == [
        ("T0", ["again", "not huge", "not negative"]),
        ("T1", ["again", "not negative"]),
        ("T2", ["not huge"]),
    ]
    assert len(staged(app, batch_id)) == 5


def test_of_rows_that_are_exact_duplicates_each_is_quarantined(app: App) -> None:
    bad, good = row("BAD", -1.0), row("GOOD")
    batch_id = stage(app, [bad, bad, bad, good, good, good])

    outcome = set_aside(app, batch_id, broken(NEGATIVE))

    assert (outcome.verdict, outcome.quarantined) == ("quarantined", 3)
    assert in_both(app, batch_id) == (["GOOD"] * 3, ["BAD"] * 3)


def test_rules_without_a_description_quarantine_their_rows(app: App, judge: Judge) -> None:
    batch_id = stage(app, values(-1, 3e9, 1, 2, 3, 4))

    outcome = judge(batch_id, *(rule(query, None, quarantines=True) for query in (NEGATIVE, HUGE)))

    assert (outcome.verdict, outcome.quarantined) == ("quarantined", 2)
    assert in_both(app, batch_id)[1] == ["T0", "T1"]


def test_a_warning_that_quarantines_does_so_beside_one_that_does_not(app: App, judge: Judge) -> None:
    batch_id = stage(app, values(-1, 3e9, 1, 2))

    outcome = judge(
        batch_id,
        rule(NEGATIVE, "not negative", quarantines=True, severity="warning"),
        rule(HUGE, "not huge", severity="warning"),
    )

    assert (outcome.verdict, outcome.quarantined, outcome.passed) == ("quarantined", 1, 0)
    assert [(each.expectation, each.severity, each.verdict) for each in outcome.failures] == [
        ("not negative", "warning", "quarantined"),
        ("not huge", "warning", "failed"),
    ]
    assert in_both(app, batch_id) == (["T1", "T2", "T3"], ["T0"])


def test_a_rule_that_passed_quarantines_nothing(app: App, judge: Judge) -> None:
    batch_id = stage(app, values(1, 2))

    outcome = judge(batch_id, rule(NEGATIVE, quarantines=True))

    assert (outcome.verdict, outcome.quarantined, outcome.failures) == ("passed", 0, [])
    assert in_both(app, batch_id) == (["T0", "T1"], [])


FIGURES = (
    *(0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 2.0**53 + 2, 1 / 3),
    *(nan, inf, -inf, 1e22, 123456789.123456789, 2.5e-8),
    *(None, 0.0, 1e-7, 1e15),
)


def test_rows_are_kept_and_return_as_they_were_to_the_last_bit(app: App) -> None:
    awkward = "it's \"50 %\" {of} \\N \n\t é 🚀 '; drop table quality.quarantine; --"
    bad = [row(f"{awkward}{number:02}", figure, date.max) for number, figure in enumerate(FIGURES)]
    batch_id = stage(app, [*bad, *values(1, 2, 3)])
    before = as_bits(app, batch_id)

    assert set_aside(app, batch_id, broken("SELECT * FROM {batch} WHERE sensor LIKE 'it''s%'"), share=1).quarantined
    assert names(each for each, _ in quarantined(app, batch_id)) == [each["sensor"] for each in bad]
    assert names(staged(app, batch_id)) == ["T0", "T1", "T2"]

    put_back(app, batch_id)
    assert quarantined(app, batch_id) == []
    assert as_bits(app, batch_id) == before


def as_bits(app: App, batch_id: UUID) -> list[tuple[object, ...]]:
    """Return the rows of a batch; numbers as their bits, since NaN does not equal itself."""
    found = app.execute(
        f"select day, sensor, loaded_at, value from {STAGING} where batch_id = %s order by sensor".encode(), [batch_id]
    )
    return [(*each, value if value is None else struct.pack("d", value)) for *each, value in found]


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
def test_the_time_zone_of_the_session_changes_no_row(app: App, zone: str) -> None:
    batch_id = stage(app, values(-1, 1, 2))
    before = as_bits(app, batch_id)

    app.execute(f"set timezone = '{zone}'".encode())
    assert set_aside(app, batch_id, broken(NEGATIVE)).verdict == "quarantined"
    app.execute("set timezone = 'UTC'")
    put_back(app, batch_id)

    assert as_bits(app, batch_id) == before


# What closes the gate


@pytest.mark.parametrize(
    ("share", "rows", "bad", "verdict"),
    [
        (0.05, 20, 1, "quarantined"),
        (0.05, 20, 2, "failed"),
        (0.05, 19, 1, "failed"),
        (0.05, 100, 5, "quarantined"),
        (0.29, 100, 29, "quarantined"),  # 0.29 * 100 is less than 29 in binary
        (0.29, 100, 30, "failed"),
        (1, 2, 1, "quarantined"),
        (1, 2, 2, "quarantined"),
        (0, 1000, 1, "failed"),
    ],
)
def test_as_many_rows_are_quarantined_as_the_suite_allows_and_not_one_more(
    app: App, share: float, rows: int, bad: int, verdict: str
) -> None:
    batch_id = stage(app, values(*[-1.0] * bad, *[1.0] * (rows - bad)))

    outcome = set_aside(app, batch_id, broken(NEGATIVE, severity="warning"), share=share)

    assert outcome.verdict == verdict
    gone = bad if verdict == "quarantined" else 0
    counts = (outcome.quarantined, len(quarantined(app, batch_id)), len(staged(app, batch_id)))
    assert counts == (gone, gone, rows - gone)
    [failure] = outcome.failures
    # A warning that closes the gate is critical.
    wanted = ("warning", "quarantined") if verdict == "quarantined" else ("critical", "failed")
    assert (failure.severity, failure.verdict) == wanted
    assert ("the rule" in outcome.describe("critical")) == (verdict == "failed")


def test_the_share_is_the_suites_and_nothing_when_the_suite_does_not_give_one(app: App, judge: Judge) -> None:
    batch_id = stage(app, values(-1, 1, 2, 3))

    for share, verdict in ((None, "failed"), (0.2, "failed"), (0.25, "quarantined")):
        assert judge(batch_id, rule(NEGATIVE, quarantines=True), share=share).verdict == verdict


def test_the_share_is_for_all_rules_together(app: App) -> None:
    batch_id = stage(app, values(-1, 3e9, 1, 2))
    rules = (broken(NEGATIVE, "a"), broken(HUGE, "b"))

    assert set_aside(app, batch_id, *rules, share=0.25).verdict == "failed"
    assert in_both(app, batch_id)[1] == []
    assert set_aside(app, batch_id, *rules, share=0.5).verdict == "quarantined"


@pytest.mark.parametrize(
    "other",
    [
        rule(HUGE, "the other"),
        rule("SELECT nonesuch FROM {batch}", "the other", severity="warning"),
        rule("SELECT nonesuch FROM {batch}", "the other", quarantines=True),
    ],
    ids=["failed", "an error", "an error of a quarantine rule"],
)
def test_nothing_is_quarantined_when_another_expectation_closes_the_gate(
    app: App, judge: Judge, other: dict[str, Any]
) -> None:
    batch_id = stage(app, values(-1, 3e9, 1, 2))

    outcome = judge(batch_id, rule(NEGATIVE, quarantines=True), other)

    assert (outcome.verdict, outcome.quarantined) == ("failed", 0)
    assert [(each.expectation, each.severity, each.verdict) for each in outcome.failures] == [
        ("the rule", "critical", "failed"),
        ("the other", "critical", "failed"),
    ]
    assert in_both(app, batch_id) == (["T0", "T1", "T2", "T3"], [])


@pytest.mark.parametrize(
    "query",
    [
        "SELECT sensor FROM {batch} WHERE value < 0",
        "SELECT *, 1 AS extra FROM {batch} WHERE value < 0",
        "SELECT batch_id, loaded_at, day, sensor FROM {batch} WHERE value < 0",
        "SELECT count(*) FROM {batch} WHERE value < 0 HAVING count(*) > 0",
        "SELECT 1",
        # After the row of the lowest value is gone, another one is below the average.
        "SELECT * FROM {batch} WHERE value < (SELECT avg(value) FROM {batch})",
    ],
)
@pytest.mark.parametrize("others", [(), (broken(HUGE, "b"),)], ids=["alone", "beside another rule"])
def test_a_rule_that_returns_other_than_whole_rows_closes_the_gate(
    app: App, query: str, others: tuple[Finding, ...]
) -> None:
    batch_id = stage(app, values(-1, 1, 2, 3, 3e9))

    outcome = set_aside(app, batch_id, broken(query), *others)

    assert (outcome.verdict, outcome.quarantined) == ("failed", 0)
    assert in_both(app, batch_id) == (["T0", "T1", "T2", "T3", "T4"], [])


def test_a_rule_whose_rows_are_not_found_again_closes_the_gate(app: App, judge: Judge) -> None:
    """Its rows would be published, though the gate found them: here what it returns depends on the session."""
    batch_id = stage(app, values(1, 2, 3))
    read_only = "pg_current_xact_id_if_assigned() IS NULL"  # as the gate is, and setting rows aside is not

    outcome = judge(batch_id, rule(f"SELECT * FROM {{batch}} WHERE {read_only}", quarantines=True), share=1)

    [failure] = outcome.failures
    assert (failure.observed, failure.verdict, failure.severity) == ("3", "failed", "critical")
    assert (outcome.verdict, outcome.quarantined) == ("failed", 0)
    assert in_both(app, batch_id) == (["T0", "T1", "T2"], [])


def test_a_batch_that_was_published_is_never_changed(app: App) -> None:
    batch_id = stage(app, values(-1, 1, 2))
    publish(app, batch_id)

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is"):
        set_aside(app, batch_id, broken(NEGATIVE))

    app.rollback()
    assert in_both(app, batch_id) == (["T0", "T1", "T2"], [])


def test_rows_that_were_quarantined_do_not_return_to_a_batch_that_was_published(app: App) -> None:
    batch_id = stage(app, values(-1, 1, 2))
    set_aside(app, batch_id, broken(NEGATIVE))
    publish(app, batch_id)

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is"):
        put_back(app, batch_id)

    app.rollback()
    assert in_both(app, batch_id) == (["T1", "T2"], ["T0"])


# Rules as people write them


def test_the_name_of_a_rule_is_only_text(app: App, judge: Judge) -> None:
    written = [
        "'; DROP TABLE quality.quarantine; --",
        'it is "100 %" %s %(name)s {} {batch} {0} \\ $1 $$ é 🚀 :name',
        "line\nfeed",
        '{curly,"braces"} NULL',
        "x" * 5_000,
    ]
    batch_id = stage(app, values(-1, 1, 2))

    outcome = judge(batch_id, *(rule(NEGATIVE, name, quarantines=True) for name in written))

    assert outcome.verdict == "quarantined"
    [(_, rules)] = quarantined(app, batch_id)
    assert sorted(rules) == sorted(written)


# The sensor of the one row that a query returns, and the query. A brace is doubled, as Great Expectations wants it.
QUERIES = {
    "percent": (
        "per cent",
        "SELECT * FROM {batch} WHERE sensor LIKE 'per%' AND sensor NOT LIKE '%s' AND value::int % 7 = 1",
    ),
    "braces": ("aab", "SELECT * FROM {batch} WHERE sensor ~ '^a{{2}}b$'"),
    "an array": ("array", "SELECT * FROM {batch} WHERE sensor = any('{{array,T9}}')"),
    "a JSON literal": (
        "json",
        """SELECT * FROM {batch} WHERE ('{{"on":true,"is":"json"}}'::jsonb ->> 'is') = sensor""",
    ),
    "the word batch in braces": ("{batch}", "SELECT * FROM {batch} WHERE sensor = '{{batch}}'"),
    "a group of a regular expression": ("beta", "SELECT * FROM {batch} WHERE sensor ~ '^(?:beta|gamma)$'"),
    "casts": ("7", "SELECT * FROM {batch} WHERE value::text::numeric = 7::bigint"),
    "a backslash and a colon": ("C\\:x", "SELECT * FROM {batch} WHERE sensor = 'C\\:x'"),
    "two backslashes and a colon": ("C\\\\:x", "SELECT * FROM {batch} WHERE sensor = 'C\\\\:x'"),
    "colons": ("a:b::c :d ::", "SELECT * FROM {batch} WHERE sensor = 'a:b::c :d ::'"),
    "a comment": ("comment", "SELECT * FROM {batch} -- see :name, 10:30\nWHERE sensor = 'comment' /* :name */"),
    "a dollar": ("$dollar", "SELECT * FROM {batch} WHERE sensor = $q$$dollar$q$"),
    "a semicolon": ("semicolon", "SELECT * FROM {batch} WHERE sensor = 'semicolon' ORDER BY value;\n"),
    "with": ("with", "WITH these AS (SELECT * FROM {batch}) SELECT * FROM these WHERE sensor = 'with'"),
    # Without a join, Great Expectations gives the batch an alias.
    "the word join in a literal": ("join us", "SELECT subselect.* FROM {batch} WHERE subselect.sensor = 'join us'"),
    "the word join in a comment": (
        "comment 2",
        "SELECT subselect.* FROM {batch} /* no join */ WHERE subselect.sensor = 'comment 2'",
    ),
    "a join": (
        "inner",
        "SELECT one.* FROM {batch} AS one INNER JOIN {batch} AS other ON one.sensor = other.sensor"
        " WHERE other.sensor = 'inner'",
    ),
    "a join in lower case": (
        "outer",
        "select one.* from {batch} as one left join {batch} as other on one.sensor = other.sensor || 'x'"
        " where other.sensor is null and one.sensor = 'outer'",
    ),
    "the batch twice": (
        "twice",
        "SELECT * FROM {batch} WHERE value = (SELECT min(value) FROM {batch}) AND value < 0",
    ),
    "the day": (
        "today",
        "SELECT * FROM {batch} WHERE batch_id = '{batch_id}' AND day = DATE '{day}' AND sensor = 'today'",
    ),
}
SPECIAL_VALUES = {"twice": -1.0, "7": 7.0}


def test_great_expectations_and_the_quarantine_see_the_same_rows_and_the_text_is_stored_as_written(
    app: App, judge: Judge
) -> None:
    sensors = [sensor for sensor, _ in QUERIES.values()]
    bad = [row(sensor, SPECIAL_VALUES.get(sensor, 1.0)) for sensor in sensors]
    batch_id = stage(app, [*bad, *GOOD])

    outcome = judge(batch_id, *(rule(query, name, quarantines=True) for name, (_, query) in QUERIES.items()), share=1)

    assert {each.expectation: (each.verdict, each.observed, names(each.sample)) for each in outcome.findings} == {
        name: ("quarantined", "1", [sensor]) for name, (sensor, _) in QUERIES.items()
    }
    assert {name: each["sensor"] for each, rules in quarantined(app, batch_id) for name in rules} == {
        name: sensor for name, (sensor, _) in QUERIES.items()
    }
    assert names(staged(app, batch_id)) == sorted(SENSORS)
    written = {name: query.rstrip("; \n") for name, (_, query) in QUERIES.items()}
    written["the day"] = written["the day"].format(batch="{batch}", batch_id=batch_id, day=DAY)
    stored = app.execute("select expectation, arguments ->> 'unexpected_rows_query' from quality.expectation_result")
    assert dict(stored.fetchall()) == written


# Several tables


def test_each_suite_quarantines_rows_of_its_own_table_or_none_does(app: App) -> None:
    batch_id = stage_rollups(app, [("north", 30), ("south", 20), ("east", 10)])
    of_busiest = broken("SELECT * FROM {batch} WHERE amount > 20", suite="busiest")
    of_totals = broken("SELECT * FROM {batch} WHERE total > 20", suite="totals")
    few = Validation("busiest", BUSIEST, 3, [of_busiest], max_share=0.5)
    too_many, not_too_many = (Validation("totals", TOTALS, 1, [of_totals], max_share=share) for share in (0.5, 1))
    before = staged(app, batch_id, BUSIEST), staged(app, batch_id, TOTALS)

    closed = quarantine.set_aside(app, outcome_of(few, too_many), batch_id, DAY, RUN)
    assert (closed.verdict, closed.quarantined) == ("failed", 0)
    assert [each.severity for each in closed.failures] == ["critical", "critical"]
    assert quarantined(app, batch_id) == []

    outcome = quarantine.set_aside(app, outcome_of(few, not_too_many), batch_id, DAY, RUN)
    assert (outcome.verdict, [each.quarantined for each in outcome.validations]) == ("quarantined", [1, 1])
    kept = app.execute(
        "select staging_table, row_data -> 'sensor', row_data -> 'total' from quality.quarantine order by staging_table"
    )
    assert kept.fetchall() == [(BUSIEST, "north", None), (TOTALS, None, 60)]
    assert (names(staged(app, batch_id, BUSIEST)), staged(app, batch_id, TOTALS)) == (["east", "south"], [])

    put_back(app, batch_id, ROLLUPS)
    assert quarantined(app, batch_id) == []
    assert (staged(app, batch_id, BUSIEST), staged(app, batch_id, TOTALS)) == before


AWKWARD = Dataset(
    name="awkward",
    title="Awkward columns",
    owner="tests",
    connection="postgres_awkward_conn",
    publishes=(Table("wide", key=("day", "id", "original"), day="day"),),
    closed_reason=always_open,
    due=next_day_at(10),
    folder=Path("awkward"),
)
# Names that the platform's own statements use as well, and types that JSON does not have.
AWKWARD_COLUMNS = {
    "day": "date",
    "id": "bigint",
    "original": "text",
    "staged": "boolean",
    "failing": "boolean",
    "left_over": "integer[]",
    "repaired": "jsonb",
    "row_data": "numeric(30, 20)",
    "rules": "text[]",
    "rule": "time",
    "kept_out": "bytea",
    "offender": "interval",
    "quarantined_at": "timestamptz",
    '"a ""column"" {} é"': "numeric",
}
AWKWARD_ROW = (
    "date '2023-08-01', 9007199254740993, 'o', true, false, '{1,NULL}'::integer[], '{\"a\": [1]}'::jsonb, 1 / 3.0, "
    "array['a', 'b,\"c'], time '09:30', '\\xdeadbeef'::bytea, interval '1 day 2 hours', now(), 10.10"
)


@pytest.fixture
def awkward(app: App, warehouse: Login) -> UUID:
    """Return the key of a batch of two rows in a table whose columns are named as awkwardly as possible."""
    batch_id = uuid4()
    columns = ", ".join(f"{name} {type_}" for name, type_ in AWKWARD_COLUMNS.items())
    with warehouse.connect() as admin:
        ensure_schemas(admin, AWKWARD)
        admin.execute(f"create table awkward.wide ({columns}, primary key (day, id, original))".encode())
        ensure_staging(admin, AWKWARD)
        for each in (AWKWARD_ROW, AWKWARD_ROW.replace("'o', true", "'p', false")):
            admin.execute(f"insert into awkward_staging.wide select '{batch_id}', now(), {each}".encode())
    return batch_id


def test_rows_of_any_columns_are_quarantined_return_and_are_repaired(app: App, awkward: UUID) -> None:
    table, columns = AWKWARD.staging_name(AWKWARD.publishes[0]), ", ".join(AWKWARD_COLUMNS)
    found = outcome_of(Validation("wide", table, 2, [broken("SELECT * FROM {batch} WHERE staged")], max_share=0.5))
    before = staged(app, awkward, table)

    assert quarantine.set_aside(app, found, awkward, DAY, RUN).quarantined == 1
    app.commit()
    assert [each["original"] for each in staged(app, awkward, table)] == ["p"]
    put_back(app, awkward, AWKWARD)
    assert staged(app, awkward, table) == before

    again = uuid4()
    copy = f"insert into {table} select %s, loaded_at, {columns} from {table} where batch_id = %s"
    app.execute(copy.encode(), [again, awkward])
    quarantine.set_aside(app, found, awkward, DAY, RUN)
    repair(app, {'a "column" {} é': 11.5, "id": 7}, original="o")
    quarantine.load_repaired(app, AWKWARD, again, DAY)
    wanted = [{**each, "batch_id": str(again)} for each in before]
    assert [each for each in staged(app, again, table) if each["original"] == "p"] == [
        each for each in wanted if each["original"] == "p"
    ]
    assert [each for each in staged(app, again, table) if each["original"] == "o"] == [
        {**each, 'a "column" {} é': 11.5, "id": 7} for each in wanted if each["original"] == "o"
    ]


# The validation is tried again


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set the connections of the toy datasets, and a folder for the test's reports."""
    for dataset in TOYS:
        give(monkeypatch, dataset.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))


def validated(batch: Batch, dataset: Dataset = READINGS) -> Any:
    """Validate a batch as its task does; returns what was pushed."""
    ti = TaskInstance()
    validate(dataset, batch, ti)
    return ti.pushed["return_value"]


def loaded(rows: list[Row], batch: Batch | None = None) -> Batch:
    """Load rows as a task does, of the sensors that they are of; returns the batch."""
    batch = batch or as_batch(uuid4(), sensors=[str(each["sensor"]) for each in rows])
    assert load(READINGS, batch, pandas.DataFrame(rows, columns=["day", "sensor", "value"])) == len(rows)
    return batch


DAG_RUN = type("DagRun", (), {"dag_id": RUN.dag_id, "run_id": RUN.run_id})()


@pytest.mark.usefixtures("connected")
def test_a_validation_that_is_tried_again_has_the_same_result_and_quarantines_nothing_twice(app: App) -> None:
    batch = loaded(many(40, 3, 17))
    batch_id = UUID(batch["batch_id"])

    first, found = validated(batch), (staged(app, batch_id), quarantined(app, batch_id))
    app.commit()
    again = validated(batch)

    assert (first["verdict"], first["passed"], first["failed"]) == ("quarantined", len(expectations("measured")) - 1, 1)
    assert again == {**first, "report": again["report"]}
    assert (staged(app, batch_id), quarantined(app, batch_id)) == found
    assert [len(each) for each in found] == [38, 2]
    stored = app.execute("select verdict, rows_checked, rows_quarantined from quality.validation").fetchall()
    assert stored == [("quarantined", 40, 2)] * 2
    app.commit()
    assert tasks.publish(READINGS, batch, DAG_RUN, OutletEventAccessors())["rows"] == 38


@pytest.mark.usefixtures("connected")
def test_a_validation_of_a_published_batch_changes_nothing(app: App) -> None:
    batch = loaded(many(40, 3, 17))
    validated(batch)
    tasks.publish(READINGS, batch, DAG_RUN, OutletEventAccessors())

    with pytest.raises(PermanentError, match="was published and stays as it is"):
        validated(batch)

    assert [len(each) for each in in_both(app, UUID(batch["batch_id"]))] == [38, 2]


@pytest.mark.usefixtures("connected")
def test_a_batch_that_is_loaded_again_has_none_of_its_rows_twice(app: App) -> None:
    """A run whose publish task failed, and that is cleared from its start on, has the same batch."""
    rows = many(40, 3, 17)
    batch = loaded(rows)
    validated(batch)

    loaded(rows, batch)
    again = validated(batch)

    assert again["verdict"] == "quarantined"
    assert [len(each) for each in in_both(app, UUID(batch["batch_id"]))] == [38, 2]


@pytest.mark.usefixtures("connected")
def test_a_batch_of_two_rows_is_too_small_for_a_quarantine_of_five_percent(app: App) -> None:
    batch = loaded([GOOD[0], row(SENSORS[1], 2000.0)])

    with pytest.raises(GateClosed, match=f"critical: measured: {LIMIT}: observed 1"):
        validated(batch)

    assert in_both(app, UUID(batch["batch_id"])) == (list(SENSORS), [])
    assert app.execute("select verdict, rows_quarantined from quality.validation").fetchall() == [("failed", 0)]


@pytest.mark.usefixtures("connected")
def test_a_task_that_is_killed_while_it_quarantines_leaves_the_rows_where_they_were(
    app: App, warehouse: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = loaded(many(40, 3, 17))
    batch_id = UUID(batch["batch_id"])
    before = staged(app, batch_id)
    app.commit()

    def work(here: Callable[[int], None]) -> None:
        def killed(connection: App, outcome: Outcome, *_: object, **__: object) -> None:
            assert outcome.quarantined == 2
            here(connection.info.backend_pid)

        monkeypatch.setattr("include.quality.results.store", killed)
        validated(batch)

    kill_midway(warehouse, work)

    assert (staged(app, batch_id), quarantined(app, batch_id)) == (before, [])
    app.commit()
    assert validated(batch)["verdict"] == "quarantined"  # the killed one holds no lock any more


def test_rows_are_quarantined_only_when_the_caller_commits(app: App) -> None:
    batch_id = stage(app, values(-1, 1, 2))
    outcome = outcome_of(Validation("measured", STAGING, 3, [broken(NEGATIVE)], max_share=0.5))

    assert quarantine.set_aside(app, outcome, batch_id, DAY, RUN).quarantined == 1
    app.rollback()

    assert in_both(app, batch_id) == (["T0", "T1", "T2"], [])


def test_a_task_that_is_killed_while_it_puts_rows_back_leaves_them_where_they_were(
    app: App, warehouse: Login, state: State
) -> None:
    batch_id = stage(app, values(-1, 1, 2))
    set_aside(app, batch_id, broken(NEGATIVE))

    def work(here: Callable[[int], None]) -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            quarantine.put_back(connection, READINGS, batch_id)
            here(connection.info.backend_pid)

    kill_midway(warehouse, work)

    assert in_both(app, batch_id) == (["T1", "T2"], ["T0"])


@pytest.mark.usefixtures("connected")
def test_a_validation_that_is_killed_at_its_gate_is_completed_by_the_next_try(
    app: App, warehouse: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = loaded(many(40, 3, 17))
    validated(batch)

    def work(here: Callable[[int], None]) -> None:
        monkeypatch.setattr(
            "include.pipeline.validate.gate", lambda connection, *_, **__: here(connection.info.backend_pid)
        )
        validated(batch)

    kill_midway(warehouse, work)

    assert validated(batch)["verdict"] == "quarantined"
    assert [len(each) for each in in_both(app, UUID(batch["batch_id"]))] == [38, 2]


# Repair


def repair(app: App, changes: Mapping[str, object], **key: object) -> None:
    """Write how the latest quarantined row of a key should be, as docs/quality.md says; commits."""
    changed = app.execute(
        "update quality.quarantine set repaired = row_data || %s::jsonb "
        "where id = (select max(id) from quality.quarantine where row_data @> %s::jsonb)",
        [json.dumps(changes), json.dumps(key)],
    ).rowcount
    app.commit()
    assert changed == 1


def returned(app: App) -> list[tuple[str, UUID | None]]:
    """Return the sensors in the quarantine, and the batches that got their repaired rows."""
    found = app.execute("select row_data ->> 'sensor', returned_in from quality.quarantine order by id").fetchall()
    app.commit()
    return found


def load_repaired(app: App, batch_id: UUID, day: date = DAY, dataset: Dataset = READINGS) -> None:
    quarantine.load_repaired(app, dataset, batch_id, day)
    app.commit()


def staged_values(app: App, batch_id: UUID) -> dict[str, object]:
    return {each["sensor"]: each["value"] for each in staged(app, batch_id)}


@pytest.mark.usefixtures("connected")
def test_a_repaired_row_is_used_by_the_next_run_of_its_day_in_place_of_what_the_source_says(app: App) -> None:
    rows = many(40, 3, 17)
    first = loaded(rows)
    validated(first)
    tasks.publish(READINGS, first, DAG_RUN, OutletEventAccessors())
    repair(app, {"value": 131.2 + 65.5 + 0.1}, sensor="T00003")
    assert returned(app) == [("T00003", None), ("T00017", None)]
    bystander = stage(app, rows)  # another run of the day
    before = staged(app, bystander)
    app.commit()

    second = loaded(rows)
    assert validated(second)["verdict"] == "quarantined"
    assert staged(app, bystander) == before
    app.commit()
    assert returned(app) == [("T00003", UUID(second["batch_id"])), ("T00017", None), ("T00017", None)]
    assert tasks.publish(READINGS, second, DAG_RUN, OutletEventAccessors())["rows"] == 39

    published = app.execute(f"select day, sensor, value from {PUBLISHED} order by sensor".encode()).fetchall()
    wanted = {**{str(each["sensor"]): each["value"] for each in rows}, "T00003": 131.2 + 65.5 + 0.1}
    assert published == [(DAY, sensor, value) for sensor, value in sorted(wanted.items()) if sensor != "T00017"]


@pytest.mark.usefixtures("connected")
def test_a_row_that_is_repaired_wrongly_is_quarantined_again_and_its_latest_repair_counts(app: App) -> None:
    rows = many(40, 3)
    validated(loaded(rows))
    repair(app, {"value": 1999.0}, sensor="T00003")  # still above the limit

    second = loaded(rows)
    assert validated(second)["verdict"] == "quarantined"
    [(again, _)] = quarantined(app, UUID(second["batch_id"]))
    assert again["value"] == 1999.0
    assert returned(app) == [("T00003", UUID(second["batch_id"])), ("T00003", None)]

    repair(app, {"value": 999.0}, sensor="T00003")
    third = loaded(rows)

    assert validated(third)["verdict"] != "quarantined"
    assert returned(app) == [("T00003", UUID(second["batch_id"])), ("T00003", UUID(third["batch_id"]))]
    assert staged_values(app, UUID(third["batch_id"]))["T00003"] == 999.0
    app.commit()
    assert tasks.publish(READINGS, third, DAG_RUN, OutletEventAccessors())["rows"] == 40


def test_a_repair_is_of_its_day_and_of_a_key_that_is_loaded(app: App) -> None:
    set_aside(app, stage(app, values(-1, -2, 1, 2)), broken(NEGATIVE))
    repair(app, {"value": 10.0}, sensor="T0")
    repair(app, {"value": 20.0}, sensor="T1")
    without_t1 = stage(app, values(-1))
    other_day = stage(app, [row("T0", -1.0, date(2023, 8, 2)), row("T1", -2.0, date(2023, 8, 2))])
    mixed = stage(app, [row("T0", -1.0, date(2023, 8, 2)), row("T1", -2.0)])

    load_repaired(app, without_t1)
    assert staged_values(app, without_t1) == {"T0": 10.0}
    assert returned(app) == [("T0", without_t1), ("T1", None)]

    load_repaired(app, other_day, date(2023, 8, 2))
    assert staged_values(app, other_day) == {"T0": -1.0, "T1": -2.0}
    assert returned(app) == [("T0", without_t1), ("T1", None)]

    load_repaired(app, mixed)  # the whole key has to be the same
    assert staged_values(app, mixed) == {"T0": -1.0, "T1": 20.0}
    assert returned(app) == [("T0", without_t1), ("T1", mixed)]


def test_a_repair_may_change_the_key_and_is_still_found_by_the_key_that_the_source_says(app: App) -> None:
    set_aside(app, stage(app, values(-1, 1, 2)), broken(NEGATIVE))
    repair(app, {"sensor": "T0 north", "value": 10.0}, sensor="T0")
    batch_id = stage(app, [*values(-1, 1, 2), row("T0 north", 5.0)])
    before = {each["sensor"]: each["loaded_at"] for each in staged(app, batch_id)}

    load_repaired(app, batch_id)

    assert sorted((each["sensor"], each["value"]) for each in staged(app, batch_id)) == [
        ("T0 north", 5.0),
        ("T0 north", 10.0),
        ("T1", 1.0),
        ("T2", 2.0),
    ]
    assert {each["loaded_at"] for each in staged(app, batch_id)} == set(before.values())
    assert returned(app) == [("T0", batch_id)]


def test_of_two_repaired_rows_of_a_key_the_one_that_was_quarantined_last_is_used(app: App) -> None:
    batches = [stage(app, values(-1, 1, 2)) for _ in range(3)]
    for batch_id in batches[:2]:
        set_aside(app, batch_id, broken(NEGATIVE))
    repair(app, {"value": 20.0}, sensor="T0")
    app.execute("update quality.quarantine set repaired = row_data || '{\"value\": 10.0}' where repaired is null")

    load_repaired(app, batches[2])

    assert staged_values(app, batches[2]) == {"T0": 20.0, "T1": 1.0, "T2": 2.0}
    assert returned(app) == [("T0", None), ("T0", batches[2])]


def test_repaired_rows_are_not_loaded_into_a_batch_that_was_published(app: App) -> None:
    set_aside(app, stage(app, values(-1, 1, 2)), broken(NEGATIVE))
    repair(app, {"value": 10.0}, sensor="T0")
    batch_id = stage(app, values(-1, 1, 2))
    publish(app, batch_id)

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is"):
        load_repaired(app, batch_id)

    app.rollback()
    assert staged_values(app, batch_id) == {"T0": -1.0, "T1": 1.0, "T2": 2.0}
    assert returned(app) == [("T0", None)]


@pytest.mark.parametrize("repaired", ["null", '"text"', "[]"])
def test_a_repair_that_is_no_row_is_refused_when_it_is_written(app: App, repaired: str) -> None:
    set_aside(app, stage(app, values(-1, 1, 2)), broken(NEGATIVE))

    with pytest.raises(psycopg.errors.CheckViolation):
        app.execute("update quality.quarantine set repaired = %s::jsonb", [repaired])


def test_a_repair_with_a_value_of_another_type_is_not_loaded(app: App) -> None:
    set_aside(app, stage(app, values(-1, 1, 2)), broken(NEGATIVE))
    repair(app, {"value": "high"}, sensor="T0")
    batch_id = stage(app, values(-1, 1, 2))

    with pytest.raises(PermanentError, match=f'A repaired row of {STAGING} of {DAY} has a value .*"high"'):
        load_repaired(app, batch_id)

    app.rollback()
    assert returned(app) == [("T0", None)]
    assert staged_values(app, batch_id) == {"T0": -1.0, "T1": 1.0, "T2": 2.0}


@pytest.mark.parametrize(("repaired", "value"), [('{"value": 10.0}', 10.0), ('{"value": null}', None), ("{}", -1.0)])
def test_columns_that_a_repair_does_not_name_stay_as_they_were(app: App, repaired: str, value: float | None) -> None:
    set_aside(app, stage(app, values(-1, 1, 2)), broken(NEGATIVE))
    app.execute("update quality.quarantine set repaired = %s::jsonb", [repaired])
    batch_id = stage(app, values(-1, 1, 2))

    load_repaired(app, batch_id)

    assert staged_values(app, batch_id) == {"T0": value, "T1": 1.0, "T2": 2.0}
    assert {each["day"] for each in staged(app, batch_id)} == {DAY.isoformat()}


@pytest.mark.usefixtures("connected")
def test_a_run_that_is_cleared_from_its_start_after_a_repair_uses_the_repair(app: App) -> None:
    """Its publish task failed, for example: it has the same batch."""
    rows = many(40, 3)
    batch = loaded(rows)
    validated(batch)
    repair(app, {"value": 197.0}, sensor="T00003")

    loaded(rows, batch)

    assert validated(batch)["verdict"] == "passed"
    assert len(staged(app, UUID(batch["batch_id"]))) == 40
    app.commit()
    assert tasks.publish(READINGS, batch, DAG_RUN, OutletEventAccessors())["rows"] == 40


@pytest.mark.usefixtures("connected")
def test_a_repaired_row_of_a_view_is_used_by_the_next_refresh_of_its_day(app: App) -> None:
    source = [("north", 5000), ("south", 20)]
    first = as_rollups_batch(stage_rollups(app, source))
    assert validated(first, ROLLUPS)["verdict"] == "quarantined"
    repair(app, {"sensor": "north 2", "amount": 50}, sensor="north")
    bystander = stage_rollups(app, source)
    before = staged(app, bystander, BUSIEST)
    app.commit()

    second = as_rollups_batch(stage_rollups(app, source))
    assert validated(second, ROLLUPS)["verdict"] == "passed"

    assert returned(app) == [("north", UUID(second["batch_id"]))]
    assert staged(app, bystander, BUSIEST) == before
    app.commit()
    tasks.publish(ROLLUPS, second, DAG_RUN, OutletEventAccessors())
    seen = app.execute("select sensor, amount from rollups.busiest order by sensor").fetchall()
    assert seen == [("north 2", 50), ("south", 20)]
    assert app.execute("select day, total from rollups.totals").fetchall() == [(DAY, 5020)]


def test_a_repair_of_a_view_whose_key_names_several_rows_is_refused(app: App) -> None:
    source = [("north", 5000), ("south", 20)]
    found = Validation("busiest", BUSIEST, 2, [broken("SELECT * FROM {batch} WHERE amount > 1000")], max_share=1)
    quarantine.set_aside(app, outcome_of(found), stage_rollups(app, source), DAY, RUN)
    repair(app, {"amount": 50}, sensor="north")
    batch_id = stage_rollups(app, source)
    app.execute(f"insert into {BUSIEST} select * from {BUSIEST} where batch_id = %s".encode(), [batch_id])
    app.commit()

    with pytest.raises(PermanentError, match=f"{BUSIEST} has several rows with the key .sensor. of one repaired row"):
        load_repaired(app, batch_id, DAY, ROLLUPS)


def test_a_repair_of_a_view_is_of_its_day(app: App) -> None:
    source, next_day = [("north", 5000), ("south", 5000)], date(2023, 8, 2)
    found = Validation("busiest", BUSIEST, 2, [broken("SELECT * FROM {batch} WHERE amount > 1000")], max_share=1)
    for day, sensor in ((DAY, "north"), (next_day, "south")):
        quarantine.set_aside(app, outcome_of(found), stage_rollups(app, source), day, RUN)
        repair(app, {"amount": 50}, sensor=sensor)
    batch_id = stage_rollups(app, source)

    load_repaired(app, batch_id, next_day, ROLLUPS)

    assert {each["sensor"]: each["amount"] for each in staged(app, batch_id, BUSIEST)} == {"north": 5000, "south": 50}


def test_a_repaired_row_of_a_view_is_not_loaded_into_a_batch_that_was_published(app: App) -> None:
    source = [("north", 5000), ("south", 20)]
    found = Validation("busiest", BUSIEST, 2, [broken("SELECT * FROM {batch} WHERE amount > 1000")], max_share=0.5)
    quarantine.set_aside(app, outcome_of(found), stage_rollups(app, source), DAY, RUN)
    repair(app, {"amount": 50}, sensor="north")
    batch_id = stage_rollups(app, source)
    publish_batch(app, ROLLUPS, batch_id, DAY, RUN, keep=7)
    app.commit()

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is"):
        load_repaired(app, batch_id, DAY, ROLLUPS)

    app.rollback()
    assert {each["sensor"]: each["amount"] for each in staged(app, batch_id, BUSIEST)} == dict(source)
    assert returned(app) == [("north", None)]
