import json
from collections.abc import Sequence
from datetime import date

import pandas
import pytest

from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.flatten import FLAT_COLUMNS, Answer, flatten
from local.sources.market.whole_market import api_rows, whole_market

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
        ("{}", "status", "missing"),
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
        (json.dumps(AAPL)[:-1] + ', "close": 999}', "'close'", "there more than once (195.605, 999)"),
        (json.dumps(AAPL)[:-1] + ', "\\u0063lose": 999}', "'close'", "there more than once (195.605, 999)"),
        (json.dumps(AAPL)[:-1] + ', "status": "OK"}', "'status'", "there more than once ('OK', 'OK')"),
        (json.dumps(AAPL)[:-1] + ', "symbol": "AAPL"}', "'symbol'", "there more than once"),
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
    with pytest.raises(MarketDataInvalid, match=r"open is None, .*; volume is True, "):
        flatten([answer(open=None, volume=True)], DAY)


def test_no_answers_are_refused() -> None:
    with pytest.raises(MarketDataInvalid, match="2023-08-01"):
        flatten([], DAY)


# The whole market in one answer.

END = 1690920000000  # the end of the session in ms since 1970
BAR = {
    "T": "AAPL",
    "o": 196.235,
    "h": 196.73,
    "l": 195.28,
    "c": 195.605,
    "v": 35281426.5,
    "vw": 196.1,
    "n": 1,
    "t": END,
}
MARKET = {"status": "OK", "queryCount": 2, "resultsCount": 2, "adjusted": True, "request_id": "1"}
OTHER = BAR | {"T": "KIMpL", "v": 7}


def market(*bars: object, **changed: object) -> str:
    return json.dumps(MARKET | {"results": bars, "resultsCount": len(bars)} | changed)


def whole(body: str, tickers: Sequence[str] = ()) -> pandas.DataFrame:
    return flatten([{"ticker": None, "body": body}], DAY, tickers)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(MARKET | {"results": [BAR, OTHER]}, separators=(",", ":")),
        json.dumps(MARKET | {"results": [BAR, OTHER]}),
        json.dumps(MARKET | {"results": [BAR, OTHER]}, indent=1).replace('":', '" :'),
        json.dumps(MARKET | {"results": [BAR, OTHER]}).replace("KIMpL", "KIM\\u0070L"),
    ],
    ids=["compact", "spaces", "many spaces", "escapes"],
)
def test_the_whole_market_becomes_a_row_per_ticker_however_it_is_written(body: str) -> None:
    frame = whole(body)
    assert tuple(frame.columns) == FLAT_COLUMNS
    assert frame.values.tolist() == [
        [DAY, "AAPL", 196.235, 196.73, 195.28, 195.605, 35281426.5],
        [DAY, "KIMpL", 196.235, 196.73, 195.28, 195.605, 7.0],
    ]
    assert (frame.dtypes[["open_price", "volume"]] == "float64").all()


def test_of_the_whole_market_only_the_tickers_that_were_asked_for_are_kept() -> None:
    assert whole(market(BAR, OTHER), ["KIMpL", "GOOG"])["ticker"].tolist() == ["KIMpL"]


def test_an_answer_that_is_plainly_right_is_not_looked_at_value_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way is many times slower."""
    monkeypatch.setattr("include.datasets.market.flatten._market_checked", None)
    assert len(whole(market(BAR, OTHER))) == 2


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("", "body is ''"),
        (market(BAR, OTHER)[:-20], "body is "),
        (json.dumps([BAR]), "body is "),
        (market(BAR, status="DELAYED"), "status is 'DELAYED', not 'OK'"),
        (json.dumps({"results": [BAR], "resultsCount": 1}), "status is missing"),
        (json.dumps({"status": "OK", "resultsCount": 0}), "results is missing or empty, and XNYS was open"),
        (market(), "results is missing or empty"),
        (market(BAR, resultsCount=2), "resultsCount is 2, and the answer has 1 results"),
        (market(BAR, resultsCount=True), "resultsCount is True"),
        (market(BAR, resultsCount=None), "resultsCount is None"),
        (market(BAR, [BAR]), "results is "),
        (market(BAR, results="many"), "results is 'many', not a list"),
        *(
            (market(OTHER, {name: value for name, value in BAR.items() if name != field}), f"{field} is missing")
            for field in "ohlcv"
        ),
        (market(OTHER, BAR | {"T": ""}), "'': T is ''"),
        (market(OTHER, BAR | {"T": None}), "None: T is None"),
        (market(OTHER, BAR | {"T": "\ud800"}), "T is '\\ud800'"),
        (market(OTHER, BAR | {"T": "A\0"}), "T is 'A\\x00'"),
        (market(OTHER, BAR | {"o": "196"}), "'AAPL': o is '196', not a finite number"),
        (market(OTHER, BAR | {"h": True}), "'AAPL': h is True"),
        (market(OTHER, BAR | {"l": None}), "'AAPL': l is None"),
        (market(OTHER, BAR | {"c": float("nan")}), "'AAPL': c is nan"),
        (market(OTHER, BAR | {"v": "HERE"}).replace('"HERE"', "1e999"), "'AAPL': v is inf"),
        (market(OTHER, BAR | {"v": 10**400}), "'AAPL': v is 1000"),
        (market(OTHER, BAR | {"t": END + 86_400_000}), "'AAPL': t is 1691006400000, which is not a time of 2023-08-01"),
        (market(OTHER, BAR | {"t": END / 1000}), "'AAPL': t is 1690920000.0"),
        (market(OTHER, BAR)[:-3] + ', "c": 999}]}', "'c' is there more than once"),
        (market(OTHER, BAR)[:-3] + ', "\\u0063": 999}]}', "'c' is there more than once"),
        (market(OTHER, BAR)[:-3] + ', "T": "GOOG"}]}', "'T' is there more than once"),
        (market(BAR)[:-1] + ', "results": []}', "'results' is there more than once"),
    ],
)
def test_a_whole_market_that_is_not_right_is_refused_with_ticker_date_and_field(body: str, wrong: str) -> None:
    with pytest.raises(MarketDataInvalid) as refusal:
        whole(body)
    message = str(refusal.value)
    assert message.startswith("whole market on 2023-08-01: ")
    assert wrong in message
    assert len(message) < 1000


def test_a_message_about_many_wrong_rows_names_the_first_ones() -> None:
    bars = [BAR | {"T": f"T{number:03}", "o": None} for number in range(500)]
    with pytest.raises(MarketDataInvalid, match=r"'T000': o is None.*; and 495 more") as refusal:
        whole(market(*bars))
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("size", [1, 3000])
def test_both_ways_to_read_a_whole_market_find_the_same(size: int) -> None:
    body = market(*api_rows(whole_market(DAY, size), END))
    pandas.testing.assert_frame_equal(whole(body), whole(body.replace('"T"', '"\\u0054"')))
