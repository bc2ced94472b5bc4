"""Every expectation of the market suite, one by one: a row, or a batch, that it alone catches."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from math import inf, nan
from typing import Any

import psycopg
import pytest

from include.quality.outcome import Finding, Outcome
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.conftest import fresh_warehouse
from tests.datasets.market.batches import GOOD, STAGING, TICKERS, Row, check, expectations, row, stage

COLUMNS = "the batch has exactly the columns of its table, in order"
UNIQUE = "one row per day and ticker"
PRICES = "prices are between 0.000001 and 10,000,000 US dollars"
USUAL_PRICES = "prices are usual: between 0.0001 and 1,000,000 US dollars"
ORDER = "high is the highest and low the lowest of the four prices"
VOLUME = "volume is between 0 and 1,000,000,000,000 shares"
USUAL_VOLUME = "volume is usual: at most 20,000,000,000 shares"
CHANGE = "change is close minus open"
NAMES = "tickers look like tickers"
DATE = "every row is of the run's date"
REQUESTED = "every ticker that was asked for is there"
MOVED = "at most 1 % of the prices moved by more than 25 % between open and close"

AAPL, _ = GOOD
FIGURES = ("open_price", "high_price", "low_price", "close_price", "change", "volume")


@dataclass(frozen=True)
class BadRow:
    """A row that only one expectation catches. No other row has its ticker."""

    caught_by: str
    row: Row
    severity: str = "critical"
    copies: int = 1

    def __str__(self) -> str:
        return f"{self.caught_by}: {self.row['ticker']}"


@dataclass(frozen=True)
class BadBatch:
    """A batch that only one expectation catches."""

    caught_by: str
    what: str
    rows: list[Row]
    severity: str = "critical"

    def __str__(self) -> str:
        return f"{self.caught_by}: {self.what}"


# All of these are checked in one batch, since each gate takes half a second.
ROWS = [
    BadRow("market_date is never empty", row("NO.DATE", market_date=None)),
    BadRow("ticker is never empty", row(None)),
    *(BadRow(f"{figure} is never empty", row(f"NO.{figure[:3].upper()}", **{figure: None})) for figure in FIGURES),
    BadRow(UNIQUE, row("TWICE"), copies=2),
    BadRow(PRICES, row("ZERO", low_price=0.0)),
    BadRow(PRICES, row("NEGATIVE", low_price=-195.28)),
    BadRow(PRICES, row("INFINITE", high_price=inf)),
    BadRow(PRICES, row("MINUS.INFINITE", low_price=-inf)),
    BadRow(PRICES, row("NOT.A.NUMBER", high_price=nan)),
    BadRow(PRICES, row("DENORMAL", low_price=5e-324)),
    BadRow(PRICES, row("HUGE", high_price=1e308)),
    BadRow(USUAL_PRICES, row("TINY", low_price=0.00009), severity="warning"),
    BadRow(USUAL_PRICES, row("LARGE", high_price=1_000_001.0), severity="warning"),
    BadRow(ORDER, row("HIGH.BELOW.OPEN", high_price=196.23)),
    BadRow(ORDER, row("LOW.ABOVE.CLOSE", low_price=195.61)),
    BadRow(ORDER, row("EXCHANGED", high_price=195.28, low_price=196.73)),
    BadRow(VOLUME, row("NEGATIVE.VOLUME", volume=-1.0)),
    BadRow(VOLUME, row("INFINITE.VOLUME", volume=inf)),
    BadRow(VOLUME, row("NO.NUMBER", volume=nan)),
    BadRow(VOLUME, row("HUGE.VOLUME", volume=1e308)),
    BadRow(USUAL_VOLUME, row("LARGE.VOLUME", volume=20_000_000_001.0), severity="warning"),
    BadRow(CHANGE, row("OPEN.LESS.CLOSE", change=196.235 - 195.605)),
    BadRow(CHANGE, row("ROUNDED", change=-0.6)),
    BadRow(NAMES, row("1DIGIT")),
    BadRow(NAMES, row("LINEFEED\n")),
    BadRow(NAMES, row("")),
    BadRow(NAMES, row("A" * 16)),
    BadRow(DATE, row("THE.DAY.BEFORE", market_date=date(2023, 7, 31))),
    BadRow(MOVED, row("UP", close_price=245.3, high_price=246.0, change=245.3 - 196.235), severity="warning"),
    BadRow(MOVED, row("DOWN", close_price=147.1, low_price=147.1, change=147.1 - 196.235), severity="warning"),
]
BATCHES = [
    BadBatch(REQUESTED, "one absent", [AAPL]),
    BadBatch(REQUESTED, "another case", [AAPL, row("amzn")]),
    BadBatch(REQUESTED, "no row at all", []),
]
OURS = {COLUMNS, *(bad.caught_by for bad in ROWS), *(bad.caught_by for bad in BATCHES)}

YOURS: list[BadBatch] = []
"""A batch for each expectation that you add. What is above may fail your expectation, too."""


@pytest.fixture(scope="module")
def app(postgres: Login, state: State) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the DAGs do to one warehouse for all of these batches, which do not see each other."""
    with (
        fresh_warehouse(postgres) as warehouse,
        warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection,
    ):
        yield connection


def our_failures(outcome: Outcome) -> list[Finding]:
    """Return what failed, apart from expectations that were added."""
    return [finding for finding in outcome.failures if finding.expectation in OURS]


@pytest.fixture(scope="module")
def caught(app: psycopg.Connection[Any]) -> dict[str | None, set[tuple[str, str]]]:
    """Return for each ticker, of the good rows and the bad ones in one batch, which expectations it fails."""
    outcome = check(app, stage(app, [*GOOD, *(bad.row for bad in ROWS for _ in range(bad.copies))]))
    found: dict[str | None, set[tuple[str, str]]] = defaultdict(set)
    for finding in our_failures(outcome):
        for sampled in finding.sample:
            found[sampled["ticker"]].add((finding.expectation, finding.severity))
    return found


@pytest.mark.parametrize("bad", ROWS, ids=str)
def test_one_expectation_alone_catches_the_row(caught: dict[Any, set[tuple[str, str]]], bad: BadRow) -> None:
    assert caught[bad.row["ticker"]] == {(bad.caught_by, bad.severity)}


def test_good_rows_beside_bad_ones_fail_nothing(caught: dict[Any, set[tuple[str, str]]]) -> None:
    assert [ticker for ticker in TICKERS if ticker in caught] == []


@pytest.mark.parametrize("bad", [*BATCHES, *YOURS], ids=str)
def test_one_expectation_alone_catches_the_batch(app: psycopg.Connection[Any], bad: BadBatch) -> None:
    outcome = check(app, stage(app, bad.rows))

    found = our_failures(outcome) if bad in BATCHES else outcome.failures
    assert [(each.expectation, each.severity) for each in found] == [(bad.caught_by, bad.severity)]
    assert outcome.verdict == ("failed" if bad.severity == "critical" else "warned")


def test_other_columns_than_the_tables_are_caught(warehouse: Login, state: State) -> None:
    for change in ("add column extra int", "drop column extra, drop column loaded_at"):
        with warehouse.connect() as admin:
            admin.execute(f"alter table {STAGING} {change}".encode())
        with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
            outcome = check(connection, stage(connection, GOOD))

        assert [(each.expectation, each.severity) for each in our_failures(outcome)] == [(COLUMNS, "critical")], change


def test_every_expectation_has_a_batch_that_it_alone_catches() -> None:
    names = expectations()
    assert len(names) == len(set(names)), "give each expectation a description of its own: reports and alerts show it"
    missing = [name for name in names if name not in OURS | {bad.caught_by for bad in YOURS}]
    assert missing == [], f"add to YOURS in this file a BadBatch that only this expectation catches: {missing}"


def test_no_figure_that_is_not_a_finite_number_passes(
    app: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.quality.gate.SAMPLE", 1000)  # keep all bad rows
    values = {"NAN": nan, "INF": inf, "MINUS.INF": -inf}
    bad = {f"{figure[:4]}.{name}": (figure, value) for figure in FIGURES for name, value in values.items()}
    rows = [row(ticker, **{figure: value}) for ticker, (figure, value) in bad.items()]

    outcome = check(app, stage(app, [*GOOD, *rows]))

    critical = [finding for finding in outcome.failures if finding.severity == "critical"]
    stopped = {sampled["ticker"] for finding in critical for sampled in finding.sample}
    assert stopped >= set(bad)


def test_a_good_batch_passes(app: psycopg.Connection[Any]) -> None:
    outcome = check(app, stage(app, GOOD))

    assert (outcome.verdict, outcome.failures) == ("passed", [])
    assert [finding.expectation for finding in outcome.findings] == expectations()


@pytest.mark.parametrize(("moved", "verdict"), [(1, "passed"), (2, "warned")])
def test_a_whole_market_may_have_a_few_prices_that_move_much(
    app: psycopg.Connection[Any], moved: int, verdict: str
) -> None:
    up = {"close_price": 290.0, "high_price": 290.0, "change": 290.0 - 196.235}
    market = [row(f"T{number}", **(up if number < moved else {})) for number in range(100)]

    outcome = check(app, stage(app, market), [])

    assert {each.expectation for each in our_failures(outcome)} == (set() if verdict == "passed" else {MOVED})


def test_a_few_bad_rows_of_a_whole_market_are_quarantined(app: psycopg.Connection[Any]) -> None:
    bad = [row("ZERO", low_price=0.0), row("LESS", volume=-1.0), row("CROSSED", high_price=1.0)]
    market = [*bad, *(row(f"T{number}") for number in range(100))]

    outcome = check(app, stage(app, market), [])

    assert {each.expectation for each in our_failures(outcome) if each.row_rule} == {PRICES, VOLUME, ORDER}
    assert all(each.row_rule for each in our_failures(outcome))


def test_a_batch_at_every_limit_passes(app: psycopg.Connection[Any]) -> None:
    limits = [
        row("A", open_price=100.0, low_price=100.0, close_price=125.0, high_price=125.0, change=25.0),
        row("Brk.A", open_price=1e-4, low_price=1e-4, close_price=1e-4, high_price=1e6, change=0.0),
        row("ABCDEFGHIJKLMN9", volume=0.0, change=195.605 - 196.235 + 9e-7),
        row("MUCH", volume=2e10),
    ]

    outcome = check(app, stage(app, limits), [str(each["ticker"]) for each in limits])

    assert our_failures(outcome) == []
