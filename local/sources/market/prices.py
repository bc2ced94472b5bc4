"""The recorded prices that the market API replay serves."""

import csv
from datetime import date
from pathlib import Path

DATA = Path(__file__).resolve().parent / "stocks_daily_2023.csv"
REPLAY_KEY = "airlock-replay"


def recorded_days() -> tuple[date, date]:
    """Return the first and the last session of the recorded prices."""
    with DATA.open(newline="", encoding="utf-8") as file:
        days = [row["market_date"] for row in csv.DictReader(file)]
    return date.fromisoformat(min(days)), date.fromisoformat(max(days))
