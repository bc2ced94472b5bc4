"""Rows set aside instead of failing their batch: which, how many at most, and how they come back."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date
from math import inf, nan
from pathlib import Path
from shutil import copytree
from typing import Any
from uuid import UUID, uuid4

import pandas
import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from include.market import tasks as market
from include.market.params import MARKET_COLUMNS
from include.market.tasks import Batch

from include.errors import PermanentError
from include.quality import quarantine
from include.quality.gate import PROJECT, gate
from include.quality.outcome import Outcome, Validation
from include.warehouse.connections import MARKET
from include.warehouse.register import Run
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.quality.batches import ASKED, DAY, GOOD, STAGED, Row, TaskInstance, check, row, stage
from tests.include.quality.test_outcome import finding
from tests.include.quality.test_outcome import outcome as outcome_of
from tests.include.warehouse.airflow_connections import give
from tests.include.warehouse.concurrency import kill_midway
from tests.include.warehouse.publications import publish

App = psycopg.Connection[Any]

RUN = Run("market_etl__traditional", "a run")
ORDER = "high is the highest and low the lowest of the four prices"
TABLE = {"rules": STAGED}
NEGATIVE, HUGE = "SELECT * FROM {batch} WHERE volume < 0", "SELECT * FROM {batch} WHERE abs(volume) > 1e9"


def many(count: int, *bad: int) -> list[Row]:
    """Give so many rows, those whose numbers are given with a high below the low."""
    rows = [row(f"T{number:05}") for number in range(count)]
    for number in bad:
        rows[number] = row(f"T{number:05}", high_price=195.0)
    return rows


def volumes(*figures: float) -> list[Row]:
    """Give rows that are told from others by their volume."""
    return [row(f"T{number}", volume=volume) for number, volume in enumerate(figures)]


def rule(
    query: str, name: str | None = "the rule", *, quarantines: bool = True, severity: str = "critical"
) -> dict[str, Any]:
    return {
        "type": "unexpected_rows_expectation",
        "kwargs": {"unexpected_rows_query": query},
        "meta": {"quarantine": True} if quarantines else {},
        "severity": severity,
        **({"description": name} if name is not None else {}),
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a copy of the GX project that a test may change."""
    return Path(copytree(PROJECT, tmp_path / "project"))


Judge = Callable[..., Outcome]


@pytest.fixture
def judge(app: App, project: Path) -> Judge:
    """Run the gate with rules of the test's own on a batch, and set aside what may be; commits."""

    def judge(batch_id: UUID, *rules: Mapping[str, Any], share: float | None = 0.5) -> Outcome:
        suite = {"name": "rules", "expectations": rules, "meta": {"quarantine_max_share": share} if share else {}}
        (project / "expectations" / "rules.json").write_text(json.dumps(suite))
        outcome = gate(app, "rules", batch_id, DAY, TABLE, project=project)
        outcome = quarantine.set_aside(app, outcome, batch_id, DAY, RUN)
        app.commit()
        return outcome

    return judge


def staged(app: App, batch_id: UUID) -> list[dict[str, Any]]:
    """Give a batch's rows as they are staged now, as jsonb."""
    found = app.execute(
        "select to_jsonb(staged) from market_staging.transformed_market_data as staged "
        "where batch_id = %s order by to_jsonb(staged)",
        [batch_id],
    ).fetchall()
    return [each for (each,) in found]


def set_aside(app: App, batch_id: UUID) -> list[tuple[dict[str, Any], list[str]]]:
    """Give what is in the quarantine of a batch: the rows, and the rules that they broke."""
    return app.execute(
        "select row_data, rules from quality.quarantine where batch_id = %s order by row_data", [batch_id]
    ).fetchall()


def names(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [each["ticker"] for each in rows]


def in_both(app: App, batch_id: UUID) -> tuple[list[str], list[str]]:
    """Give the tickers that are staged, and those in the quarantine."""
    return names(staged(app, batch_id)), names(each for each, _ in set_aside(app, batch_id))


# What is set aside


def test_exactly_the_bad_rows_of_a_large_batch_are_set_aside_and_the_others_published(app: App) -> None:
    bad = [f"T{number:05}" for number in (0, 4321, 9999)]
    batch_id = stage(app, many(10_000, 0, 4321, 9999))
    before = {each["ticker"]: each for each in staged(app, batch_id)}

    outcome = quarantine.set_aside(app, check(app, batch_id, ["T00000", "T00001"]), batch_id, DAY, RUN)
    app.commit()

    [validation] = outcome.validations
    assert (outcome.verdict, outcome.quarantined, validation.rows) == ("quarantined", 3, 10_000)
    assert (validation.verdict, validation.highest_severity) == ("quarantined", "critical")
    assert [(each.expectation, each.verdict, each.observed) for each in outcome.failures] == [
        (ORDER, "quarantined", "3")
    ]
    assert outcome.told("critical") == ""
    assert set_aside(app, batch_id) == [(before[ticker], [ORDER]) for ticker in bad]
    lines = app.execute(
        "select distinct checkpoint, asset, day, batch_id, dag_id, run_id, quarantined_at <= now(), repaired, "
        "returned_in from quality.quarantine"
    ).fetchall()
    assert lines == [("market", STAGED, DAY, batch_id, *RUN, True, None, None)]
    left = {ticker: each for ticker, each in before.items() if ticker not in bad}
    assert {each["ticker"]: each for each in staged(app, batch_id)} == left
    assert publish(app, batch_id) == 9_997
    assert app.execute("select count(*) from market.transformed_market_data").fetchone() == (9_997,)
    assert (
        app.execute("select ticker from market.transformed_market_data where ticker = any(%s)", [bad]).fetchall() == []
    )


def test_other_batches_of_the_day_keep_their_bad_rows(app: App, judge: Judge) -> None:
    first, second = stage(app, volumes(-1, 1, 2)), stage(app, volumes(-1, 1, 2))

    assert judge(second, rule(NEGATIVE)).verdict == "quarantined"

    assert in_both(app, first) == (["T0", "T1", "T2"], [])
    assert in_both(app, second) == (["T1", "T2"], ["T0"])


def test_a_row_that_breaks_two_rules_is_set_aside_once_with_both(app: App, judge: Judge) -> None:
    batch_id = stage(app, volumes(-2e9, -1, 3e9, 1, 2, 3, 4, 5))

    outcome = judge(batch_id, rule(NEGATIVE, "not negative"), rule(HUGE, "not huge"), rule(NEGATIVE, "again"))

    assert (outcome.verdict, outcome.quarantined) == ("quarantined", 3)
    assert [(each["ticker"], sorted(rules)) for each, rules in set_aside(app, batch_id)] == [
        ("T0", ["again", "not huge", "not negative"]),
        ("T1", ["again", "not negative"]),
        ("T2", ["not huge"]),
    ]
    assert len(staged(app, batch_id)) == 5


def test_of_rows_that_are_exact_duplicates_each_is_set_aside(app: App, judge: Judge) -> None:
    bad, good = row("BAD", volume=-1.0), row("GOOD")
    batch_id = stage(app, [bad, bad, bad, good, good, good])

    outcome = judge(batch_id, rule(NEGATIVE))

    assert (outcome.verdict, outcome.quarantined) == ("quarantined", 3)
    assert in_both(app, batch_id) == (["GOOD"] * 3, ["BAD"] * 3)


def test_rules_that_nobody_described_each_set_their_rows_aside(app: App, judge: Judge) -> None:
    batch_id = stage(app, volumes(-1, 3e9, 1, 2, 3, 4))

    outcome = judge(batch_id, rule(NEGATIVE, None), rule(HUGE, None))

    assert (outcome.verdict, outcome.quarantined) == ("quarantined", 2)
    assert in_both(app, batch_id)[1] == ["T0", "T1"]


def test_a_warning_that_quarantines_sets_its_rows_aside_beside_one_that_does_not(app: App, judge: Judge) -> None:
    batch_id = stage(app, volumes(-1, 3e9, 1, 2))

    outcome = judge(
        batch_id,
        rule(NEGATIVE, "not negative", severity="warning"),
        rule(HUGE, "not huge", quarantines=False, severity="warning"),
    )

    assert (outcome.verdict, outcome.quarantined, outcome.passed) == ("quarantined", 1, 0)
    assert [(each.expectation, each.severity, each.verdict) for each in outcome.failures] == [
        ("not negative", "warning", "quarantined"),
        ("not huge", "warning", "failed"),
    ]
    assert in_both(app, batch_id) == (["T1", "T2", "T3"], ["T0"])


def test_a_rule_that_is_met_sets_nothing_aside(app: App, judge: Judge) -> None:
    batch_id = stage(app, volumes(1, 2))

    outcome = judge(batch_id, rule(NEGATIVE))

    assert (outcome.verdict, outcome.quarantined, outcome.failures) == ("passed", 0, [])
    assert in_both(app, batch_id) == (["T0", "T1"], [])


FIGURES = ("open_price", "high_price", "low_price", "close_price", "change", "volume")
AWKWARD = [
    (0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 2.0**53 + 2, 1 / 3),
    (nan, inf, -inf, 1e22, 123456789.123456789, 2.5e-8),
    (None, None, 0.0, None, 1e-7, 1e15),
]


@pytest.mark.parametrize("figures", AWKWARD, ids=["exact", "not finite", "empty"])
def test_a_row_is_kept_and_comes_back_as_it_was_to_the_bit(
    app: App, judge: Judge, figures: tuple[float | None, ...]
) -> None:
    ticker = "it's \"50 %\" {of} \\N \n\t é 🚀 '; drop table quality.quarantine; --"
    bad = row(ticker, **dict(zip(FIGURES, figures, strict=True)), market_date=date.max)
    batch_id = stage(app, [bad, *volumes(1, 2, 3)])
    before = as_it_is(app, batch_id, ticker)
    wanted = "SELECT * FROM {batch} WHERE ticker LIKE 'it''s%'"

    assert judge(batch_id, rule(wanted)).verdict == "quarantined"
    [(kept, _)] = set_aside(app, batch_id)
    assert kept["ticker"] == ticker
    assert len(staged(app, batch_id)) == 3

    quarantine.put_back(app, [STAGED], batch_id)
    app.commit()
    assert set_aside(app, batch_id) == []
    after = as_it_is(app, batch_id, ticker)
    assert after[2:] == before[2:] or figures == AWKWARD[1]  # NaN is not itself
    assert bits(after) == bits(before)


def as_it_is(app: App, batch_id: UUID, ticker: str) -> tuple[Any, ...]:
    [found] = app.execute(
        f"select market_date, ticker, {', '.join(FIGURES)}, loaded_at "
        "from market_staging.transformed_market_data where batch_id = %s and ticker = %s",
        [batch_id, ticker],
    ).fetchall()
    return tuple(found)


def bits(values: tuple[Any, ...]) -> list[object]:
    return [struct.pack("d", each) if isinstance(each, float) else each for each in values]


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
def test_the_sessions_time_zone_changes_no_row(app: App, judge: Judge, zone: str) -> None:
    batch_id = stage(app, volumes(-1, 1, 2))
    before = as_it_is(app, batch_id, "T0")

    app.execute(f"set timezone = '{zone}'".encode())
    assert judge(batch_id, rule(NEGATIVE)).verdict == "quarantined"
    app.execute("set timezone = 'UTC'")
    quarantine.put_back(app, [STAGED], batch_id)

    assert as_it_is(app, batch_id, "T0") == before


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
        (None, 1000, 1, "failed"),
    ],
)
def test_as_many_rows_may_go_as_the_suite_says_and_not_one_more(
    app: App, judge: Judge, share: float | None, rows: int, bad: int, verdict: str
) -> None:
    batch_id = stage(app, volumes(*[-1.0] * bad, *[1.0] * (rows - bad)))

    outcome = judge(batch_id, rule(NEGATIVE, severity="warning"), share=share)

    assert outcome.verdict == verdict
    gone = bad if verdict == "quarantined" else 0
    assert (outcome.quarantined, len(set_aside(app, batch_id)), len(staged(app, batch_id))) == (gone, gone, rows - gone)
    [failure] = outcome.failures
    # A warning that lets nothing be published is one no longer.
    wanted = ("warning", "quarantined") if verdict == "quarantined" else ("critical", "failed")
    assert (failure.severity, failure.verdict) == wanted
    assert ("the rule" in outcome.told("critical")) == (verdict == "failed")


def test_the_share_is_of_all_rules_together(app: App, judge: Judge) -> None:
    batch_id = stage(app, volumes(-1, 3e9, 1, 2))

    assert judge(batch_id, rule(NEGATIVE, "a"), rule(HUGE, "b"), share=0.25).verdict == "failed"
    assert in_both(app, batch_id)[1] == []
    assert judge(batch_id, rule(NEGATIVE, "a"), rule(HUGE, "b"), share=0.5).verdict == "quarantined"


@pytest.mark.parametrize(
    "other",
    [
        rule(HUGE, "the other", quarantines=False),
        rule("SELECT nonesuch FROM {batch}", "the other", quarantines=False, severity="warning"),
        rule("SELECT nonesuch FROM {batch}", "the other"),
    ],
    ids=["not met", "an error", "an error of a quarantine rule"],
)
def test_nothing_is_set_aside_when_another_expectation_closes_the_gate(
    app: App, judge: Judge, other: dict[str, Any]
) -> None:
    batch_id = stage(app, volumes(-1, 3e9, 1, 2))

    outcome = judge(batch_id, rule(NEGATIVE), other)

    assert (outcome.verdict, outcome.quarantined) == ("failed", 0)
    assert sorted((each.expectation, each.severity, each.verdict) for each in outcome.failures) == [
        ("the other", "critical", "failed"),
        ("the rule", "critical", "failed"),
    ]
    assert in_both(app, batch_id) == (["T0", "T1", "T2", "T3"], [])


@pytest.mark.parametrize(
    "query",
    [
        "SELECT ticker FROM {batch} WHERE volume < 0",
        "SELECT *, 1 AS extra FROM {batch} WHERE volume < 0",
        "SELECT batch_id, market_date, ticker, open_price FROM {batch} WHERE volume < 0",
        "SELECT count(*) FROM {batch} WHERE volume < 0 HAVING count(*) > 0",
        "SELECT 1",
        # A row is left that the rule does not want either, once the worst one is gone.
        "SELECT * FROM {batch} WHERE volume < (SELECT avg(volume) FROM {batch})",
    ],
)
def test_a_rule_that_gives_other_than_the_rows_to_set_aside_closes_the_gate(app: App, judge: Judge, query: str) -> None:
    batch_id = stage(app, volumes(-1, 1, 2, 3, 4))

    outcome = judge(batch_id, rule(query), rule(HUGE, "b"))

    assert (outcome.verdict, outcome.quarantined) == ("failed", 0)
    assert in_both(app, batch_id) == (["T0", "T1", "T2", "T3", "T4"], [])


def test_a_batch_that_was_published_is_never_changed(app: App, judge: Judge) -> None:
    batch_id = stage(app, volumes(-1, 1, 2))
    publish(app, batch_id)

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is"):
        judge(batch_id, rule(NEGATIVE))

    app.rollback()
    assert in_both(app, batch_id) == (["T0", "T1", "T2"], [])


def test_what_is_kept_out_of_a_published_batch_stays_out(app: App, judge: Judge) -> None:
    batch_id = stage(app, volumes(-1, 1, 2))
    judge(batch_id, rule(NEGATIVE))
    publish(app, batch_id)

    with pytest.raises(PermanentError, match=f"Batch {batch_id} was published and stays as it is"):
        quarantine.put_back(app, [STAGED], batch_id)

    app.rollback()
    assert in_both(app, batch_id) == (["T1", "T2"], ["T0"])


# Rules as people write them


@pytest.mark.parametrize(
    "name",
    [
        "'; DROP TABLE quality.quarantine; --",
        'it is "100 %" %s %(name)s {} {batch} {0} \\ $1 $$ é 🚀',
        "line\nfeed",
        '{curly,"braces"} NULL',
        "x" * 5_000,
    ],
    ids=["sql", "signs", "lines", "array", "long"],
)
def test_the_name_of_a_rule_is_but_a_text(app: App, judge: Judge, name: str) -> None:
    batch_id = stage(app, volumes(-1, 1, 2))

    assert judge(batch_id, rule(NEGATIVE, name)).verdict == "quarantined"

    assert [rules for _, rules in set_aside(app, batch_id)] == [[name]]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM {batch} WHERE ticker LIKE 'T%' AND ticker LIKE '%s' OR volume::int % 7 = -1",
        "SELECT * FROM {batch} WHERE ticker ~ '^T{{1}}0$'",  # as Great Expectations wants a literal brace
        "SELECT * FROM {batch} WHERE ticker = any('{{T0,T9}}')",
        "SELECT * FROM {batch} WHERE volume < 0 ORDER BY volume;",
        "WITH these AS (SELECT * FROM {batch}) SELECT * FROM these WHERE volume < 0",
        "SELECT one.* FROM {batch} AS one INNER JOIN {batch} AS other ON one.ticker = other.ticker"
        " WHERE other.volume < 0",
        "SELECT * FROM {batch} WHERE volume = (SELECT min(volume) FROM {batch}) AND volume < 0",
        "SELECT * FROM {batch} WHERE batch_id = '{batch_id}' AND market_date = DATE '{day}' AND volume < 0",
    ],
    ids=["percent", "braces", "an array", "a semicolon", "with", "join", "twice", "the day"],
)
def test_a_rule_is_the_query_that_great_expectations_ran(app: App, judge: Judge, query: str) -> None:
    batch_id = stage(app, volumes(-1, 1, 2))

    outcome = judge(batch_id, rule(query))

    assert [(each.observed, each.verdict) for each in outcome.failures] == [("1", "quarantined")]
    assert (outcome.verdict, outcome.quarantined) == ("quarantined", 1)
    assert in_both(app, batch_id) == (["T1", "T2"], ["T0"])


# Several suites


AWKWARD_TABLE = 'market_staging."Or der {}"'


@pytest.fixture
def counted(app: App, warehouse: Login) -> UUID:
    """Stage a batch of prices, and under its key rows of another table, named as awkwardly as may be."""
    batch_id = stage(app, volumes(-1, 1, 2))
    columns = 'batch_id uuid, n int, "a ""column""" numeric, at date, loaded_at timestamptz'
    rows = f"select '{batch_id}', n, n / 3.0, null::date, now() from generate_series(1, 10) as n"
    with warehouse.connect() as admin:
        admin.execute(f"create table {AWKWARD_TABLE} ({columns})".encode())
        admin.execute(f"grant select, insert, delete on {AWKWARD_TABLE} to {APP}".encode())
        admin.execute(f"insert into {AWKWARD_TABLE} {rows}".encode())
    return batch_id


def test_each_suite_sets_aside_rows_of_its_own_table_or_none_does(app: App, counted: UUID) -> None:
    other = "market_staging.Or der {}"
    few = closed_by("counts", other, "SELECT * FROM {batch} WHERE n > 9", 0.5, 10)
    prices = closed_by("prices", STAGED, NEGATIVE, 0.5, 3)
    too_many = closed_by("prices", STAGED, NEGATIVE, 0.1, 3)

    closed = quarantine.set_aside(app, outcome_of(few, too_many), counted, DAY, RUN)
    assert (closed.verdict, closed.quarantined) == ("failed", 0)
    assert set_aside(app, counted) == []

    outcome = quarantine.set_aside(app, outcome_of(few, prices), counted, DAY, RUN)
    assert (outcome.verdict, [each.quarantined for each in outcome.validations]) == ("quarantined", [1, 1])
    kept = app.execute("select asset, row_data -> 'n', row_data -> 'ticker' from quality.quarantine order by asset")
    assert kept.fetchall() == [(other, 10, None), (STAGED, None, "T0")]

    quarantine.put_back(app, [other, STAGED], counted)
    assert set_aside(app, counted) == []
    total = f'select count(*), sum("a ""column""")::float from {AWKWARD_TABLE}'
    count = app.execute(total.encode()).fetchone()
    assert count == (10, pytest.approx(55 / 3))


def closed_by(suite: str, asset: str, query: str, share: float, rows: int) -> Validation:
    found = finding("critical", "failed", "a rule", suite, row_rule=query)
    return Validation(suite, asset, rows, [found], max_share=share)


# The validate task, tried again


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give the tasks their connection, and a folder for their reports."""
    give(monkeypatch, MARKET, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))


def batch_of(tickers: Iterable[str], batch_id: UUID | None = None) -> Batch:
    return Batch(market_date=DAY.isoformat(), tickers=list(tickers), batch_id=str(batch_id or uuid4()))


def validate(batch: Batch) -> Any:
    """Run the validate task; gives what it pushed."""
    ti = TaskInstance()
    market.validate_market_data(batch, ti)
    return ti.pushed["return_value"]


def load(rows: list[Row], batch: Batch | None = None) -> Batch:
    """Run the load task on rows of the tickers that they are of; gives the batch."""
    batch = batch or batch_of([str(each["ticker"]) for each in rows])
    assert market.load_market_data(batch, pandas.DataFrame(rows, columns=list(MARKET_COLUMNS))) == len(rows)
    return batch


DAG_RUN = type("DagRun", (), {"dag_id": RUN.dag_id, "run_id": RUN.run_id})()


@pytest.mark.usefixtures("connected")
def test_a_validation_that_is_tried_again_says_the_same_and_sets_nothing_aside_twice(app: App) -> None:
    batch = load(many(40, 3, 17))
    batch_id = UUID(batch["batch_id"])

    first, found = validate(batch), (staged(app, batch_id), set_aside(app, batch_id))
    app.commit()
    again = validate(batch)

    assert (first["verdict"], first["passed"], first["failed"]) == ("quarantined", 17, 1)
    assert again == {**first, "report": again["report"]}
    assert (staged(app, batch_id), set_aside(app, batch_id)) == found
    assert [len(each) for each in found] == [38, 2]
    stored = app.execute("select verdict, rows_checked, rows_quarantined from quality.validation").fetchall()
    assert stored == [("quarantined", 40, 2)] * 2
    app.commit()
    assert market.publish_market_data(batch, DAG_RUN)["rows"] == 38


@pytest.mark.usefixtures("connected")
def test_a_validation_of_a_published_batch_changes_nothing(app: App) -> None:
    batch = load(many(40, 3, 17))
    validate(batch)
    market.publish_market_data(batch, DAG_RUN)

    with pytest.raises(AirflowFailException, match="was published and stays as it is"):
        validate(batch)

    assert [len(each) for each in in_both(app, UUID(batch["batch_id"]))] == [38, 2]


@pytest.mark.usefixtures("connected")
def test_a_batch_that_is_loaded_again_has_none_of_its_rows_twice(app: App) -> None:
    """A run whose publish task failed, and that is cleared from its start on, has the same batch."""
    rows = many(40, 3, 17)
    batch = load(rows)
    validate(batch)

    load(rows, batch)
    again = validate(batch)

    assert again["verdict"] == "quarantined"
    assert [len(each) for each in in_both(app, UUID(batch["batch_id"]))] == [38, 2]


@pytest.mark.usefixtures("connected")
def test_a_batch_of_two_rows_is_too_small_for_a_quarantine(app: App) -> None:
    batch = load([GOOD[0], row("AMZN", high_price=195.0)])

    with pytest.raises(AirflowFailException, match=f"critical: market: {ORDER}: observed 1"):
        validate(batch)

    assert in_both(app, UUID(batch["batch_id"])) == (list(ASKED), [])
    assert app.execute("select verdict, rows_quarantined from quality.validation").fetchall() == [("failed", 0)]


@pytest.mark.usefixtures("connected")
def test_what_is_killed_while_it_sets_rows_aside_leaves_them_where_they_were(
    app: App, warehouse: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = load(many(40, 3, 17))
    batch_id = UUID(batch["batch_id"])
    before = staged(app, batch_id)
    app.commit()

    def work(here: Callable[[int], None]) -> None:
        def killed(connection: App, outcome: Outcome, *_: object, **__: object) -> None:
            assert outcome.quarantined == 2
            here(connection.info.backend_pid)

        monkeypatch.setattr("include.quality.history.store", killed)
        validate(batch)

    kill_midway(warehouse, work)

    assert (staged(app, batch_id), set_aside(app, batch_id)) == (before, [])
    app.commit()
    assert validate(batch)["verdict"] == "quarantined"  # nothing of the dead is in the way


def test_what_is_set_aside_is_so_only_when_the_caller_commits(app: App) -> None:
    batch_id = stage(app, many(40, 3, 17))
    outcome = check(app, batch_id, ["T00000"])
    app.commit()

    assert quarantine.set_aside(app, outcome, batch_id, DAY, RUN).quarantined == 2
    app.rollback()

    assert [len(each) for each in in_both(app, batch_id)] == [40, 0]


def test_what_is_killed_while_it_puts_rows_back_leaves_them_where_they_were(
    app: App, warehouse: Login, state: State
) -> None:
    batch_id = stage(app, many(40, 3, 17))
    quarantine.set_aside(app, check(app, batch_id, ["T00000"]), batch_id, DAY, RUN)
    app.commit()
    before = staged(app, batch_id), set_aside(app, batch_id)
    app.commit()

    def work(here: Callable[[int], None]) -> None:
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            quarantine.put_back(connection, [STAGED], batch_id)
            here(connection.info.backend_pid)

    kill_midway(warehouse, work)

    assert (staged(app, batch_id), set_aside(app, batch_id)) == before


@pytest.mark.usefixtures("connected")
def test_a_validation_that_is_killed_at_its_gate_is_healed_by_the_next_try(
    app: App, warehouse: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = load(many(40, 3, 17))
    validate(batch)

    def work(here: Callable[[int], None]) -> None:
        monkeypatch.setattr(
            "include.quality.tasks.gate", lambda connection, *_, **__: here(connection.info.backend_pid)
        )
        validate(batch)

    kill_midway(warehouse, work)

    assert validate(batch)["verdict"] == "quarantined"
    assert [len(each) for each in in_both(app, UUID(batch["batch_id"]))] == [38, 2]


# Repair


def repair(admin: Login, ticker: str, changes: dict[str, object]) -> None:
    """Write how the latest quarantined row of a ticker should be, as docs/quality.md says."""
    with admin.connect() as connection:
        changed = connection.execute(
            "update quality.quarantine set repaired = row_data || %s::jsonb "
            "where id = (select max(id) from quality.quarantine where row_data ->> 'ticker' = %s)",
            [json.dumps(changes), ticker],
        ).rowcount
    assert changed == 1


def returned(app: App) -> list[tuple[Any, ...]]:
    found = app.execute(
        "select row_data ->> 'ticker', returned_in::text from quality.quarantine order by id"
    ).fetchall()
    app.commit()
    return found


@pytest.mark.usefixtures("connected")
def test_a_repaired_row_is_loaded_by_the_next_run_of_its_day_in_the_place_of_the_apis(
    app: App, warehouse: Login
) -> None:
    rows = many(40, 3, 17)
    first = load(rows)
    validate(first)
    market.publish_market_data(first, DAG_RUN)
    repair(warehouse, "T00003", {"high_price": 131.2 + 65.5 + 0.1})
    assert returned(app) == [("T00003", None), ("T00017", None)]
    bystander = stage(app, rows)  # another run of the day
    before = staged(app, bystander)
    app.commit()

    second = load(rows)
    assert staged(app, bystander) == before
    assert returned(app) == [("T00003", second["batch_id"]), ("T00017", None)]
    assert validate(second)["verdict"] == "quarantined"
    assert market.publish_market_data(second, DAG_RUN)["rows"] == 39

    wanted = {**row("T00003"), "high_price": 131.2 + 65.5 + 0.1}
    found = app.execute("select * from market.transformed_market_data where ticker = 'T00003'").fetchall()
    assert found == [tuple(wanted.values())]
    others = app.execute(
        "select count(*), count(distinct (open_price, high_price, low_price, close_price, change, volume)) "
        "from market.transformed_market_data where ticker <> 'T00003'"
    ).fetchone()
    assert others == (38, 1)


@pytest.mark.usefixtures("connected")
def test_a_row_that_is_repaired_wrongly_is_quarantined_again_and_its_latest_repair_counts(
    app: App, warehouse: Login
) -> None:
    rows = many(40, 3)
    validate(load(rows))
    repair(warehouse, "T00003", {"high_price": 195.1})  # still below the open price

    second = load(rows)
    assert validate(second)["verdict"] == "quarantined"
    [(again, _)] = set_aside(app, UUID(second["batch_id"]))
    assert again["high_price"] == 195.1
    assert returned(app) == [("T00003", second["batch_id"]), ("T00003", None)]

    repair(warehouse, "T00003", {"high_price": 197.0})
    third = load(rows)

    assert validate(third)["verdict"] == "passed"
    assert returned(app) == [("T00003", second["batch_id"]), ("T00003", third["batch_id"])]
    app.commit()
    assert market.publish_market_data(third, DAG_RUN)["rows"] == 40


@pytest.mark.usefixtures("connected")
def test_a_repair_is_of_its_day_and_of_tickers_that_are_loaded(app: App, warehouse: Login) -> None:
    rows = many(40, 3, 17)
    validate(load(rows))
    repair(warehouse, "T00003", {"high_price": 197.0})
    repair(warehouse, "T00017", {"high_price": 198.0})

    load(rows[:10])
    assert [batch is not None for _, batch in returned(app)] == [True, False]

    other_day = [row("T00017", market_date=date(2023, 8, 2))]
    batch = Batch(market_date="2023-08-02", tickers=["T00017"], batch_id=str(uuid4()))
    load(other_day, batch)
    assert [each["high_price"] for each in staged(app, UUID(batch["batch_id"]))] == [196.73]
    assert [batch is not None for _, batch in returned(app)] == [True, False]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("repaired", ["null", '"text"', "[]", '{"ticker": "T00003", "high_price": "high"}', "{}"])
def test_what_is_no_repaired_row_is_never_loaded_as_one(app: App, warehouse: Login, repaired: str) -> None:
    rows = many(40, 3)
    validate(load(rows))
    with suppress(psycopg.errors.CheckViolation), warehouse.connect() as admin:
        admin.execute("update quality.quarantine set repaired = %s::jsonb", [repaired])
    batch = batch_of(str(each["ticker"]) for each in rows)

    with suppress(psycopg.Error):
        load(rows, batch)

    assert returned(app) == [("T00003", None)]
    assert len(staged(app, UUID(batch["batch_id"]))) in (0, 40)


@pytest.mark.usefixtures("connected")
def test_a_run_that_is_begun_again_after_a_repair_keeps_the_repair(app: App, warehouse: Login) -> None:
    """Its publish task failed, say: it is cleared from its start on, and has the same batch."""
    rows = many(40, 3)
    batch = load(rows)
    validate(batch)
    repair(warehouse, "T00003", {"high_price": 197.0})

    load(rows, batch)

    assert validate(batch)["verdict"] == "passed"
    assert len(staged(app, UUID(batch["batch_id"]))) == 40
    app.commit()
    assert market.publish_market_data(batch, DAG_RUN)["rows"] == 40
