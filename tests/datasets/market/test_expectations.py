"""Every expectation of the market suite, one by one: a batch that it alone catches."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from math import inf, nan
from typing import Any

import psycopg
import pytest

from include.quality.gate import PROJECT
from include.warehouse.roles import APP
from local.login import Login
from local.state import State
from tests.conftest import fresh_warehouse
from tests.include.quality.batches import GOOD, Row, check, row, stage

COLUMNS = "the batch has exactly the columns of its table, in order"
UNIQUE = "one row a day and ticker"
PRICES = "prices are positive and finite"
ORDER = "high is the highest and low the lowest of the four prices"
VOLUME = "volume is finite and not negative"
CHANGE = "change is close minus open"
NAMES = "tickers look like tickers"
DATE = "every row is of the run's date"
ASKED_FOR = "every ticker that was asked for is there"
MOVED = "the price moved by at most 25 % between open and close"

AAPL, AMZN = GOOD
FIGURES = ("open_price", "high_price", "low_price", "close_price", "change", "volume")


@dataclass(frozen=True)
class Mutation:
    """What is wrong with a batch, and who says so."""

    caught_by: str
    what: str
    rows: list[Row]


MUTATIONS = [
    Mutation("market_date is never empty", "null", [AMZN, row("AAPL", market_date=None)]),
    Mutation("ticker is never empty", "null", [*GOOD, row(None)]),
    *(Mutation(f"{figure} is never empty", "null", [AMZN, row("AAPL", **{figure: None})]) for figure in FIGURES),
    Mutation(UNIQUE, "twice the same", [*GOOD, AAPL]),
    Mutation(PRICES, "zero", [AMZN, row("AAPL", low_price=0.0)]),
    Mutation(PRICES, "negative", [AMZN, row("AAPL", low_price=-195.28)]),
    Mutation(PRICES, "infinite", [AMZN, row("AAPL", high_price=inf)]),
    Mutation(PRICES, "minus infinity", [AMZN, row("AAPL", low_price=-inf)]),
    Mutation(PRICES, "not a number", [AMZN, row("AAPL", high_price=nan)]),
    Mutation(ORDER, "high below open", [AMZN, row("AAPL", high_price=196.23)]),
    Mutation(ORDER, "low above close", [AMZN, row("AAPL", low_price=195.61)]),
    Mutation(ORDER, "high and low exchanged", [AMZN, row("AAPL", high_price=195.28, low_price=196.73)]),
    Mutation(VOLUME, "negative", [AMZN, row("AAPL", volume=-1.0)]),
    Mutation(VOLUME, "infinite", [AMZN, row("AAPL", volume=inf)]),
    Mutation(VOLUME, "not a number", [AMZN, row("AAPL", volume=nan)]),
    Mutation(CHANGE, "open minus close", [AMZN, row("AAPL", change=196.235 - 195.605)]),
    Mutation(CHANGE, "rounded", [AMZN, row("AAPL", change=-0.6)]),
    Mutation(NAMES, "begins with a digit", [*GOOD, row("1AAPL")]),
    Mutation(NAMES, "ends with a line feed", [*GOOD, row("AAPL\n")]),
    Mutation(NAMES, "empty", [*GOOD, row("")]),
    Mutation(NAMES, "16 characters", [*GOOD, row("A" * 16)]),
    Mutation(DATE, "the day before", [*GOOD, row("MSFT", market_date=date(2023, 7, 31))]),
    Mutation(ASKED_FOR, "one absent", [AAPL]),
    Mutation(ASKED_FOR, "another case", [AAPL, row("amzn")]),
    Mutation(ASKED_FOR, "no row at all", []),
    Mutation(MOVED, "up", [AMZN, row("AAPL", close_price=245.3, high_price=246.0, change=245.3 - 196.235)]),
    Mutation(MOVED, "down", [AMZN, row("AAPL", close_price=147.1, low_price=147.1, change=147.1 - 196.235)]),
]
CAUGHT = {COLUMNS, *(mutation.caught_by for mutation in MUTATIONS)}


@pytest.fixture(scope="module")
def app(postgres: Login, state: State) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the DAGs do to one warehouse for all of these batches: they do not meet."""
    with (
        fresh_warehouse(postgres) as warehouse,
        warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection,
    ):
        yield connection


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.caught_by}: {mutation.what}")
def test_one_expectation_alone_catches_it(app: psycopg.Connection[Any], mutation: Mutation) -> None:
    outcome = check(app, stage(app, mutation.rows))

    severity = "warning" if mutation.caught_by == MOVED else "critical"
    assert [(each.expectation, each.severity) for each in outcome.failures] == [(mutation.caught_by, severity)]
    assert outcome.verdict == ("warned" if severity == "warning" else "failed")


@pytest.mark.parametrize("change", ["add column extra int", "drop column loaded_at"])
def test_another_set_of_columns_is_caught(warehouse: Login, state: State, change: str) -> None:
    with warehouse.connect() as admin:
        admin.execute(f"alter table market_staging.transformed_market_data {change}".encode())

    with warehouse.as_role(APP, state.secrets[APP], warehouse.dbname).connect() as connection:
        outcome = check(connection, stage(connection, GOOD))

    assert [(each.expectation, each.severity) for each in outcome.failures] == [(COLUMNS, "critical")]


def test_every_expectation_has_a_batch_that_it_alone_catches() -> None:
    suite = json.loads((PROJECT / "expectations" / "market.json").read_text())
    names = [expectation["description"] for expectation in suite["expectations"]]

    assert len(names) == len(set(names))
    assert set(names) == CAUGHT


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_no_figure_gets_through_that_is_no_finite_number(app: psycopg.Connection[Any], value: float) -> None:
    tickers = {f"BAD.{figure.replace('_', '')}": figure for figure in FIGURES}
    batch_id = stage(app, [*GOOD, *(row(ticker, **{figure: value}) for ticker, figure in tickers.items())])

    outcome = check(app, batch_id)

    told = outcome.told("critical")
    assert [ticker for ticker in tickers if ticker not in told] == []


def test_a_good_batch_meets_all(app: psycopg.Connection[Any]) -> None:
    outcome = check(app, stage(app, GOOD))

    assert (outcome.verdict, outcome.failures) == ("passed", [])
    assert outcome.passed == len(CAUGHT)


def test_a_batch_at_every_limit_meets_all(app: psycopg.Connection[Any]) -> None:
    limits = [
        row("A", open_price=100.0, low_price=100.0, close_price=125.0, high_price=125.0, change=25.0),
        row("Brk.A", open_price=1e-6, low_price=1e-6, close_price=1e-6, high_price=1e-6, change=0.0),
        row("ABCDEFGHIJKLMN9", volume=0.0, change=195.605 - 196.235 + 9e-7),
    ]

    outcome = check(app, stage(app, limits), [str(each["ticker"]) for each in limits])

    assert (outcome.verdict, outcome.failures) == ("passed", [])
