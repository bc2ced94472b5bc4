from datetime import date

import pytest

from include.errors import PermanentError
from include.market.params import parse_market_date, parse_tickers


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_date_is_left_to_the_schedule(nothing: str | None) -> None:
    assert parse_market_date(nothing) is None


def test_a_date_is_read() -> None:
    assert parse_market_date("2023-08-01") == date(2023, 8, 1)


@pytest.mark.parametrize(
    "other",
    ["20230801", "2023-W31-2", "2023-8-1", "2023-02-29", "01/08/2023", "2023-08-01T00:00:00", " ", 20230801],
)
def test_any_other_form_is_refused_with_the_wanted_one(other: str) -> None:
    with pytest.raises(PermanentError, match="YYYY-MM-DD") as refusal:
        parse_market_date(other)
    assert repr(other) in str(refusal.value)


def test_tickers_keep_their_order_and_case() -> None:
    assert parse_tickers(["KIMpL", "KIMPL", "BRK.A", "AAPL"]) == ["KIMpL", "KIMPL", "BRK.A", "AAPL"]


@pytest.mark.parametrize(
    ("tickers", "offender"),
    [
        (["AAPL", "../v2"], "'../v2'"),
        (["AAPL", "AMZN\n"], r"'AMZN\n'"),
        (["AAPL", ""], "''"),
        (["AAPL", 7], "7"),
        (["AAPL", ["AMZN"]], "['AMZN']"),
        (["AAPL", "A" * 16], "A" * 16),
        (["AAPL", "AMZN", "AAPL"], "'AAPL' twice"),
        ([], "[]"),
        ("AAPL", "'AAPL'"),
        (None, "None"),
    ],
)
def test_other_tickers_are_refused_by_name(tickers: object, offender: str) -> None:
    with pytest.raises(PermanentError) as refusal:
        parse_tickers(tickers)
    assert offender in str(refusal.value)


def test_a_message_stays_short_whatever_was_given() -> None:
    with pytest.raises(PermanentError) as refusal:
        parse_tickers(["A" * 100_000])
    assert len(str(refusal.value)) < 250
