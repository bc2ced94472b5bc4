from datetime import date
from decimal import Decimal
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.datasets.market.errors import MarketDataInvalid
from include.datasets.market.params import MARKET_COLUMNS
from include.datasets.market.transform import transform

DAY = date(2023, 8, 1)
ASKED = ["AAPL", "AMZN"]


def flat(**changed: object) -> Any:
    """Return a frame as flatten does, with two tickers; `changed` replaces values of the second row."""
    aapl = {
        "market_date": DAY,
        "ticker": "AAPL",
        "open_price": 196.235,
        "high_price": 196.73,
        "low_price": 195.28,
        "close_price": 195.605,
        "volume": 35281426.0,
    }
    return pd.DataFrame([aapl, aapl | {"ticker": "AMZN"} | changed])


def test_the_change_is_the_exact_difference_of_close_and_open() -> None:
    result = transform(flat(open_price=133.55, close_price=131.69), DAY, ASKED)
    assert tuple(result.columns) == MARKET_COLUMNS
    assert result["change"].tolist() == [195.605 - 196.235, 131.69 - 133.55]
    assert result["volume"].tolist() == [35281426.0, 35281426.0]


def test_the_input_is_not_changed() -> None:
    frame = flat(volume=7)
    before = frame.copy(deep=True)
    transform(frame, DAY, ASKED)
    pd.testing.assert_frame_equal(frame, before)


def test_a_frame_that_went_from_task_to_task_passes() -> None:
    # Airflow passes a frame from task to task as Parquet.
    file = BytesIO()
    pq.write_table(pa.Table.from_pandas(flat()), file)
    carried = pq.read_table(file).to_pandas()
    pd.testing.assert_frame_equal(transform(carried, DAY, ASKED), transform(flat(), DAY, ASKED))


def test_every_figure_is_a_float() -> None:
    result = transform(flat().astype({"volume": "int64", "open_price": "object"}), DAY, ASKED)
    assert (result.dtypes[list(MARKET_COLUMNS[2:])] == "float64").all()


def test_an_unknown_column_is_left_out() -> None:
    assert tuple(transform(flat(vwap=1.0), DAY, ASKED).columns) == MARKET_COLUMNS


def test_a_wrong_value_that_a_column_can_represent_is_left_to_the_gate() -> None:
    result = transform(flat(ticker="AAPL", low_price=-1.0), DAY, ASKED)  # AAPL twice, AMZN absent
    assert result["ticker"].tolist() == ["AAPL", "AAPL"]


@pytest.mark.parametrize("column", [name for name in MARKET_COLUMNS if name != "change"])
def test_a_missing_column_is_refused(column: str) -> None:
    with pytest.raises(MarketDataInvalid, match=f"AAPL.*AMZN.* on 2023-08-01: column {column} is missing"):
        transform(flat().drop(columns=column), DAY, ASKED)


@pytest.mark.parametrize("column", ["open_price", "high_price", "low_price", "close_price", "volume"])
@pytest.mark.parametrize(
    "value",
    [None, pd.NA, float("nan"), float("inf"), float("-inf"), 10**400, "195.605", True, Decimal(1)],
    ids=["null", "NA", "nan", "inf", "-inf", "huge integer", "text", "bool", "decimal"],
)
def test_a_figure_that_is_not_a_finite_number_is_refused(column: str, value: object) -> None:
    with pytest.raises(MarketDataInvalid, match=f"AMZN on 2023-08-01: {column} is "):
        transform(flat(**{column: value}), DAY, ASKED)


def test_a_change_beyond_the_largest_float_is_refused() -> None:
    with pytest.raises(MarketDataInvalid, match="AMZN on 2023-08-01: change is inf"):
        transform(flat(open_price=-1.7e308, close_price=1.7e308), DAY, ASKED)


@pytest.mark.parametrize("day", [date(2023, 8, 2), None, "2023-08-01", pd.Timestamp("2023-08-01")])
def test_a_row_of_another_day_is_refused(day: object) -> None:
    with pytest.raises(MarketDataInvalid, match=r"AMZN on 2023-08-01: market_date is "):
        transform(flat(market_date=day), DAY, ASKED)


@pytest.mark.parametrize("ticker", ["GOOG", "amzn", None, 7])
def test_a_row_of_a_ticker_that_was_not_asked_for_is_refused(ticker: object) -> None:
    with pytest.raises(MarketDataInvalid, match=r"2023-08-01: ticker is .*(GOOG|amzn|None|nan|7)"):
        transform(flat(ticker=ticker), DAY, ASKED)
