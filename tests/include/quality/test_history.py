"""What gates found, as rows: all of it, whatever it is, and for as long as it is wanted."""

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
from airflow.sdk.exceptions import AirflowFailException
from include.daily_operations import tasks as views
from include.daily_operations.views import SNAPSHOTS
from include.market import tasks as market
from include.market.tasks import Batch
from psycopg.rows import dict_row

from include.quality import history
from include.quality.outcome import Finding, Outcome
from include.warehouse.connections import DAILY_OPERATIONS, MARKET
from include.warehouse.register import Run
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.include.daily_operations import resort
from tests.include.quality.batches import ASKED, DAY, GOOD, STAGED, TaskInstance, check, row, stage
from tests.include.quality.test_outcome import finding, outcome, validation
from tests.include.warehouse.airflow_connections import give

App = psycopg.Connection[Any]

RUN = Run("market_etl__traditional", "a run")
FOREVER = 100_000  # days
# What the columns hold is not what the fields are called.
NAMES = {"column": "column_name"}


@pytest.fixture
def connected(warehouse: Login, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for connection in (MARKET, DAILY_OPERATIONS):
        give(monkeypatch, connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path / "reports"))


def rows(app: App, table: str) -> list[dict[str, Any]]:
    key = "id" if table == "validation" else "validation_id, position"
    with app.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from quality.{table} order by {key}".encode()).fetchall()


def store(app: App, found: Outcome, *, day: date = DAY, batch_id: UUID | None = None, days_kept: int = FOREVER) -> Any:
    """Store and commit, so that what is stored later is stored at another time."""
    ids = history.store(app, found, day, batch_id or uuid4(), RUN, days_kept=days_kept)
    app.commit()
    return ids


def stored(app: App, *findings: Finding) -> list[dict[str, Any]]:
    """Store findings; gives the rows that they became."""
    store(app, outcome(validation(*findings)))
    return rows(app, "expectation_result")


def test_every_column_is_what_the_gate_found(app: App) -> None:
    bad = [row("BAD", volume=-7.0), row("1BAD"), row("AAPL", volume=None)]
    batch_id = stage(app, [*GOOD, *bad, row("MOVED", close_price=500.0, high_price=500.0, change=500.0 - 196.235)])
    found = check(app, batch_id)
    [of_suite] = found.validations

    [id_] = store(app, found, batch_id=batch_id)

    assert rows(app, "validation") == [
        {
            "id": id_,
            "checkpoint": "market",
            "suite": "market",
            "asset": STAGED,
            "day": DAY,
            "batch_id": batch_id,
            "dag_id": RUN.dag_id,
            "run_id": RUN.run_id,
            "started_at": found.started_at,
            "seconds": found.seconds,
            "verdict": "failed",
            "highest_severity": "critical",
            "rows_checked": 6,
            "rows_quarantined": 0,
        }
    ]
    results = rows(app, "expectation_result")
    assert [each["position"] for each in results] == list(range(18))
    for result, each in zip(results, of_suite.findings, strict=True):
        for column in ("expectation", "type", "column", "severity", "verdict", "observed", "observed_number"):
            assert result[NAMES.get(column, column)] == getattr(each, column), (column, each.expectation)
        assert (result["checked"], result["unexpected"]) == (each.checked, each.unexpected)
        # As JSON says it: dates and keys are texts, lists are lists.
        assert result["arguments"] == json.loads(json.dumps(dict(each.arguments), default=str))
        assert result["sample"] == json.loads(json.dumps(each.sample, default=str))
    by_name = {each["expectation"]: each for each in results}
    assert len([each for each in results if each["verdict"] == "failed"]) == 5
    empty = by_name["volume is never empty"]
    assert (empty["column_name"], empty["observed_number"], empty["checked"], empty["unexpected"]) == (
        "volume",
        1,
        6,
        1,
    )
    assert empty["sample"] == [{"market_date": "2023-08-01", "ticker": "AAPL", "volume": None}]
    negative = by_name["volume is finite and not negative"]
    assert (negative["observed"], negative["sample"][0]["ticker"]) == ("1", "BAD")
    assert "unexpected_rows_query" in negative["arguments"]
    assert by_name["the price moved by at most 25 % between open and close"]["severity"] == "warning"
    dates = by_name["every row is of the run's date"]
    assert (dates["verdict"], dates["arguments"]["value_set"]) == ("passed", ["2023-08-01"])
    assert by_name["one row a day and ticker"]["unexpected"] == 2


def test_what_was_quarantined_is_stored_as_that(app: App) -> None:
    found = outcome(
        validation(finding("critical", "quarantined", "a", unexpected=3, observed="3"), finding(), quarantined=3),
        validation(finding("warning", "failed", "b", suite="other"), suite="other"),
    )

    ids = store(app, found)

    assert [
        (each["id"], each["suite"], each["verdict"], each["highest_severity"], each["rows_quarantined"])
        for each in rows(app, "validation")
    ] == [(ids[0], "market", "quarantined", "critical", 3), (ids[1], "other", "warned", "warning", 0)]
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
def test_any_value_has_its_place(app: App, value: object, kept: object) -> None:
    [result] = stored(app, finding(sample=[{"value": value}, value], arguments={"value": value, "list": [value]}))

    assert result["sample"] == [{"value": kept}, kept]
    assert result["arguments"] == {"value": kept, "list": [kept]}


def test_texts_are_stored_without_nul_and_cut_where_they_are_long(app: App) -> None:
    [result] = stored(app, finding(name="a\0🚀" + LONG, observed="b\0" + LONG))

    assert result["expectation"] == "a\N{REPLACEMENT CHARACTER}🚀" + LONG[:9_997] + "…"
    assert result["observed"] == "b\N{REPLACEMENT CHARACTER}" + LONG[:9_998] + "…"


def test_a_value_of_the_batch_that_is_no_number_is_stored_as_the_gate_saw_it(app: App) -> None:
    batch_id = stage(app, [*GOOD, row("NAN", volume=nan), row("INF", volume=inf), row("🚀'; --" + LONG)])

    store(app, check(app, batch_id), batch_id=batch_id)

    by_name = {each["expectation"]: each for each in rows(app, "expectation_result")}
    volumes = {each["ticker"]: each["volume"] for each in by_name["volume is finite and not negative"]["sample"]}
    assert volumes == {"NAN": "nan", "INF": "inf"}
    [named] = by_name["tickers look like tickers"]["sample"]
    assert named["ticker"] == ("🚀'; --" + LONG)[:10_000] + "…"


def test_figures_that_no_trend_can_show_are_stored_without_one(app: App) -> None:
    seen = [result["observed_number"] for result in stored(app, finding(observed_number=None), finding())]

    assert seen == [None, 1.0]


# Whatever comes of the task


def batch_of(app: App, *rows: Any) -> Batch:
    return Batch(market_date=DAY.isoformat(), tickers=list(ASKED), batch_id=str(stage(app, rows)))


@pytest.mark.usefixtures("connected")
def test_results_are_stored_before_a_closed_gate_fails_its_task(app: App) -> None:
    batch = batch_of(app, row("AAPL", volume=-7.0), row("AMZN"))

    with pytest.raises(AirflowFailException):
        market.validate_market_data(batch, TaskInstance(run_id="this run"))

    [line] = rows(app, "validation")
    assert (line["verdict"], line["highest_severity"], line["run_id"]) == ("failed", "critical", "this run")
    assert str(line["batch_id"]) == batch["batch_id"]
    failed = [each for each in rows(app, "expectation_result") if each["verdict"] == "failed"]
    assert [each["expectation"] for each in failed] == ["volume is finite and not negative"]


@pytest.mark.usefixtures("connected")
def test_every_try_is_stored(app: App) -> None:
    batch = batch_of(app, *GOOD)

    for _ in range(2):
        market.validate_market_data(batch, TaskInstance())

    assert [(str(each["batch_id"]), each["verdict"]) for each in rows(app, "validation")] == [
        (batch["batch_id"], "passed")
    ] * 2
    assert len(rows(app, "expectation_result")) == 36


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("table", ["validation", "expectation_result"])
def test_results_that_cannot_be_stored_fail_the_task_and_leave_the_batch_as_it_was(
    app: App, warehouse: Login, table: str
) -> None:
    bad = row("T00", high_price=195.0)
    batch = batch_of(app, bad, *(row(f"T{number:02}") for number in range(1, 40)))
    batch["tickers"] = ["T00"]
    with warehouse.connect() as admin:
        admin.execute(f"revoke insert on quality.{table} from {APP}".encode())
    ti = TaskInstance()

    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # a retry may heal it
        market.validate_market_data(batch, ti)

    assert ti.pushed == {}
    assert rows(app, "validation") == []
    assert app.execute("select count(*) from quality.quarantine").fetchone() == (0,)
    staged = app.execute("select count(*) from market_staging.transformed_market_data").fetchone()
    assert staged == (40,)


@pytest.mark.usefixtures("connected")
def test_a_run_of_the_views_stores_a_validation_of_each(app: App, warehouse: Login) -> None:
    with warehouse.connect() as admin:
        resort.fill(admin, **{**resort.GOOD, "inventory": [(DAY, "Coffee", -5, True), (DAY, "Map", 3, False)]})
    batch_id = resort.refresh(app)
    batch = views.Batch(as_of=DAY.isoformat(), batch_id=str(batch_id), views=resort.VIEWS)

    with pytest.raises(AirflowFailException):
        views.validate_views(batch, TaskInstance("daily_operations_view_update"))

    stored = rows(app, "validation")
    assert [(each["suite"], each["asset"], each["verdict"], each["rows_checked"]) for each in stored] == [
        ("admission_by_entrance", f"{SNAPSHOTS}.admission_by_entrance", "passed", 3),
        ("items_to_order", f"{SNAPSHOTS}.items_to_order", "failed", 1),
        ("top_selling_items_by_location", f"{SNAPSHOTS}.top_selling_items_by_location", "passed", 3),
        ("ytd_labor_metrics", f"{SNAPSHOTS}.ytd_labor_metrics", "passed", 3),
    ]
    together = {(each["checkpoint"], each["batch_id"], each["started_at"], each["dag_id"]) for each in stored}
    assert [(name, batch, dag) for name, batch, _, dag in together] == [
        ("daily_operations", batch_id, "daily_operations_view_update")
    ]
    names = [(name, severity) for _, name, severity in resort.expectations()]
    results = rows(app, "expectation_result")
    assert sorted((each["expectation"], each["severity"]) for each in results) == sorted(names)
    assert [each["expectation"] for each in results if each["verdict"] != "passed"] == ["quantities are not negative"]


# How long


def test_only_what_is_older_than_it_is_kept_is_removed_and_its_results_with_it(app: App) -> None:
    now = datetime.now(UTC)
    for days in (61, 60.01, 59.99, 1):
        store(app, replace(outcome(validation(finding(name=str(days)))), started_at=now - timedelta(days=days)))
    app.execute(
        "insert into quality.quarantine (checkpoint, asset, day, batch_id, dag_id, run_id, quarantined_at, row_data, "
        "rules) values ('market', 'a', '2020-01-01', gen_random_uuid(), 'd', 'r', '2020-01-01', '{}', '{a}')"
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

    market.validate_market_data(batch_of(app, *GOOD), TaskInstance())
    assert len(rows(app, "validation")) == 3  # 500 days is longer than the default
    app.commit()

    monkeypatch.setenv("AIRLOCK_QUALITY_DAYS_KEPT", "200")
    market.validate_market_data(batch_of(app, *GOOD), TaskInstance())
    assert [(now - each["started_at"]).days for each in rows(app, "validation")] == [100, -1, -1]
