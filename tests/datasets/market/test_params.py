import pytest

from include.datasets.market.params import parse_tickers
from include.errors import PermanentError


def test_tickers_keep_their_order_and_case() -> None:
    assert parse_tickers(["KIMpL", "KIMPL", "BRK.A", "AAPL"]) == ["KIMpL", "KIMPL", "BRK.A", "AAPL"]


@pytest.mark.parametrize("tickers", ["all", ["all"]])
def test_all_stands_for_the_whole_market(tickers: object) -> None:
    assert parse_tickers(tickers) == []


@pytest.mark.parametrize(
    ("tickers", "wrong"),
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
        ("ALL", "'ALL'"),
        ("", "''"),
        (None, "None"),
    ],
)
def test_a_wrong_ticker_is_refused_and_named(tickers: object, wrong: str) -> None:
    with pytest.raises(PermanentError) as refusal:
        parse_tickers(tickers)
    assert wrong in str(refusal.value)


def test_a_message_about_a_long_value_is_short() -> None:
    with pytest.raises(PermanentError) as refusal:
        parse_tickers(["A" * 100_000])
    assert len(str(refusal.value)) < 250
