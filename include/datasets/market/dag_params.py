"""The params of both market DAGs: what the trigger form of the UI asks for."""

from airflow.sdk import Param

from include.datasets.market.params import ALL, TICKER_PATTERN

MARKET_PARAMS = {
    "market_date": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Session",
        description="A day on which XNYS traded. Empty: the run's data interval, else the last completed session.",
    ),
    "tickers": Param(
        ["AAPL", "AMZN"],
        type=["array", "string"],
        items={"type": "string", "pattern": TICKER_PATTERN},
        minItems=1,
        uniqueItems=True,
        pattern=f"^{ALL}$",
        title="Tickers",
        description=f"One per line, as the market API spells them (case-sensitive); {ALL} for the whole market.",
    ),
}
