import json
from datetime import date

import pytest

from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.flatten import Answer, flatten

DAY = date(2023, 8, 1)
AAPL = {
    "status": "OK",
    "from": "2023-08-01",
    "symbol": "AAPL",
    "open": 196.235,
    "high": 196.73,
    "low": 195.28,
    "close": 195.605,
    "volume": 35281426.0,
    "afterHours": 195.3,
    "preMarket": 196.35,
}


def answer(**changed: object) -> Answer:
    return {"ticker": "AAPL", "body": json.dumps(AAPL | changed)}


def without(field: str) -> str:
    return json.dumps({name: value for name, value in AAPL.items() if name != field})


def literal(field: str, text: str) -> str:
    """Return the body with `text` in place of a value, whether that is JSON or not."""
    return json.dumps(AAPL | {field: "HERE"}).replace('"HERE"', text)


def test_an_answer_becomes_a_row_with_its_exact_figures() -> None:
    amzn = AAPL | {"symbol": "AMZN", "open": 133.55, "volume": 0.1 + 0.2}
    frame = flatten([answer(), {"ticker": "AMZN", "body": json.dumps(amzn)}], DAY)
    assert list(frame.columns) == [
        "market_date",
        "ticker",
        "open_price",
        "high_price",
        "low_price",
        "close_price",
        "volume",
    ]
    assert frame.values.tolist() == [
        [DAY, "AAPL", 196.235, 196.73, 195.28, 195.605, 35281426.0],
        [DAY, "AMZN", 133.55, 196.73, 195.28, 195.605, 0.30000000000000004],
    ]
    assert all(type(day) is date for day in frame["market_date"])


def test_whole_numbers_become_floats() -> None:
    frame = flatten([answer(open=196, volume=35281426)], DAY)
    assert (frame.dtypes[["open_price", "volume"]] == "float64").all()


def test_a_wrong_value_that_a_column_can_represent_is_left_to_the_gate() -> None:
    frame = flatten([answer(open=-1.0, high=1.0, low=2.0), answer()], DAY)
    assert frame["ticker"].tolist() == ["AAPL", "AAPL"]
    assert frame.loc[0, "open_price"] == -1.0


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ("", "body", "''"),
        ("<html>Bad gateway</html>", "body", "<html>Bad gateway</html>"),
        (json.dumps(AAPL)[:50], "body", "status"),
        ("[" * 100_000, "body", "[[["),
        (json.dumps([AAPL]), "body", "AAPL"),
        ("null", "body", "None"),
        ("{}", "from", "missing"),
        (without("status"), "status", "missing"),
        ('{"status":"ERROR","error":"Try again later"}', "status", "'ERROR', not 'OK' ('Try again later')"),
        (without("from"), "from", "missing"),
        (without("symbol"), "symbol", "missing"),
        (without("open"), "open", "missing"),
        (without("high"), "high", "missing"),
        (without("low"), "low", "missing"),
        (without("close"), "close", "missing"),
        (without("volume"), "volume", "missing"),
        (literal("low", "null"), "low", "None"),
        (literal("close", '"195.605"'), "close", "'195.605'"),
        (literal("volume", "true"), "volume", "True"),
        (literal("open", "{}"), "open", "{}"),
        (literal("open", "NaN"), "open", "nan"),
        (literal("high", "Infinity"), "high", "inf"),
        (literal("low", "-Infinity"), "low", "-inf"),
        (literal("close", "1e400"), "close", "inf"),
        (literal("volume", "1" * 400), "volume", "1111"),
        (literal("volume", "1" * 5000), "body", "OK"),
        (literal("symbol", "null"), "symbol", "None"),
        (literal("symbol", '"AMZN"'), "symbol", "'AMZN'"),
        (literal("symbol", '"aapl"'), "symbol", "'aapl'"),
        (literal("from", '"2023-08-02"'), "from", "'2023-08-02'"),
        (literal("from", "20230801"), "from", "20230801"),
        (literal("status", '"DELAYED"'), "status", "'DELAYED'"),
        (literal("status", f'"{"E" * 100_000}"'), "status", "'EEE"),
    ],
)
def test_an_answer_that_is_not_a_summary_is_refused_with_its_wrong_field(body: str, field: str, value: str) -> None:
    with pytest.raises(MarketDataInvalid) as refusal:
        flatten([{"ticker": "AAPL", "body": body}], DAY)
    message = str(refusal.value)
    assert message.startswith("daily summary of AAPL on 2023-08-01: ")
    assert f" {field} is " in message
    assert value in message
    assert len(message) < 400


def test_one_bad_answer_makes_all_of_them_refused() -> None:
    with pytest.raises(MarketDataInvalid, match="AMZN on 2023-08-01: body is"):
        flatten([answer(), {"ticker": "AMZN", "body": ""}], DAY)


def test_one_message_has_all_errors_of_an_answer() -> None:
    with pytest.raises(MarketDataInvalid, match=r"open is None: .*; volume is True: "):
        flatten([answer(open=None, volume=True)], DAY)


def test_no_answers_are_refused() -> None:
    with pytest.raises(MarketDataInvalid, match="2023-08-01"):
        flatten([], DAY)
