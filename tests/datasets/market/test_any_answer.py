"""Answers that nobody thought of: each becomes exact rows, or is refused with a message that names what is wrong."""

import json
import math
from collections.abc import Iterator
from datetime import date
from typing import Any

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.datasets.market import flatten as module
from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.flatten import FLAT_COLUMNS, Answer, flatten
from include.datasets.market.params import MARKET_COLUMNS
from include.datasets.market.transform import transform

DAY = date(2023, 8, 1)
END = 1690920000000
FIGURES = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
TICKERS = st.from_regex(r"[A-Za-z][A-Za-z0-9.]{0,14}", fullmatch=True)
ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
BARS = st.fixed_dictionaries({"T": TICKERS, **dict.fromkeys("ohlcv", FIGURES), "t": st.just(END)})
MARKETS = st.lists(BARS, min_size=1, max_size=8)
CHECKED = settings(max_examples=100, deadline=None, database=None)


def body(bars: object, **changed: object) -> str:
    count = len(bars) if isinstance(bars, list) else 1
    return json.dumps({"status": "OK", "resultsCount": count, "results": bars} | changed, separators=(",", ":"))


@pytest.fixture(autouse=True, scope="module")
def _small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PART", 100)  # as many parts as a whole market has, with a few bars
        yield


def refused(answer: Answer) -> str | None:
    """Return the message with which an answer is refused, else None."""
    try:
        frame = flatten([answer], DAY)
    except MarketDataInvalid as error:
        return str(error)
    assert tuple(frame.columns) == FLAT_COLUMNS
    return None


@CHECKED
@given(MARKETS)
def test_figures_of_any_size_arrive_exactly(bars: list[dict[str, Any]]) -> None:
    frame = flatten([{"ticker": None, "body": body(bars)}], DAY)

    found = frame[list(FLAT_COLUMNS[1:])].values.tolist()
    assert found == [[bar["T"], *(float(bar[figure]) for figure in "ohlcv")] for bar in bars]


@CHECKED
@given(MARKETS)
def test_a_right_answer_takes_the_fast_way(bars: list[dict[str, Any]]) -> None:
    assert module._market_fast(body(bars), DAY) is not None


@settings(CHECKED, max_examples=500)
@given(MARKETS, st.data())
def test_a_damaged_answer_is_never_read_the_fast_way_unless_it_is_right(bars: list[dict[str, Any]], data: Any) -> None:
    text = body([bar | {"n": 1, "x": "},{"} for bar in bars] if data.draw(st.booleans()) else bars)
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    begin_of_copy, end_of_copy = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    put_in = data.draw(st.text(max_size=3) | st.just(text[begin_of_copy:end_of_copy]))
    damaged = text[:begin] + put_in + text[end:]

    fast = module._market_fast(damaged, DAY)
    if fast is not None:
        pandas.testing.assert_frame_equal(fast, module._market_checked(damaged, DAY))


@CHECKED
@given(MARKETS, st.sampled_from(["T", *"ohlcvt"]), ANYTHING)
def test_any_value_in_any_field_is_read_exactly_or_refused_by_its_name(
    bars: list[dict[str, Any]], field: str, value: Any
) -> None:
    changed = [*bars, {**bars[0], field: value}]
    message = refused({"ticker": None, "body": body(changed)})

    number = isinstance(value, int | float) and not isinstance(value, bool)
    if message is None:
        assert field != "T" or isinstance(value, str)
        assert field == "T" or (number and math.isfinite(float(value)))
    else:
        assert message.startswith(f"whole market on {DAY}: ")
        assert f"{field} is " in message
        assert len(message) < 1000


@CHECKED
@given(ANYTHING, st.sampled_from(["AAPL", None]))
def test_any_json_is_refused_with_a_short_message(found: Any, ticker: str | None) -> None:
    message = refused({"ticker": ticker, "body": json.dumps(found)})

    assert message
    assert str(DAY) in message
    assert len(message) < 600


@CHECKED
@given(st.text(), st.sampled_from(["AAPL", None]))
def test_any_text_is_refused_with_a_short_message(text: str, ticker: str | None) -> None:
    message = refused({"ticker": ticker, "body": text})

    assert message
    assert len(message) < 600


@CHECKED
@given(MARKETS)
def test_the_change_is_the_exact_difference_or_the_row_is_refused(bars: list[dict[str, Any]]) -> None:
    frame = flatten([{"ticker": None, "body": body(bars)}], DAY)
    differences = [float(bar["c"]) - float(bar["o"]) for bar in bars]
    if not all(map(math.isfinite, differences)):
        with pytest.raises(MarketDataInvalid, match="change is "):
            transform(frame, DAY, [])
        return
    rows = transform(frame, DAY, [])
    assert tuple(rows.columns) == MARKET_COLUMNS
    assert rows["change"].tolist() == differences
    pandas.testing.assert_frame_equal(rows[list(FLAT_COLUMNS)], frame)
