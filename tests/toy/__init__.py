"""Two datasets of the tests' own, on which the platform is tested: one with a table, one with views.

`readings` publishes a table, a day at a time: (day, sensor, value). `rollups` publishes two views of the table
`rollups.source`: (day, sensor, amount). Neither knows a real tenant, and no real tenant knows them.
"""

from datetime import date
from pathlib import Path

from include.dataset import Dataset, Table, View, always_open, next_day_at

FOLDER = Path(__file__).parent
SUITES = FOLDER / "suites"


def closed_on_sundays(day: date) -> str | None:
    return f"{day} is a Sunday" if day.weekday() == 6 else None


READINGS = Dataset(
    name="readings",
    title="Toy readings",
    owner="tests",
    connection="postgres_readings_conn",
    publishes=(Table("measured", key=("day", "sensor"), day="day"),),
    closed_reason=closed_on_sundays,
    due=next_day_at(10),
    folder=FOLDER / "readings",
)

ROLLUPS = Dataset(
    name="rollups",
    title="Toy rollups",
    owner="tests",
    connection="postgres_rollups_conn",
    publishes=(View("busiest", key=("sensor",)), View("totals", key=("day",))),
    closed_reason=always_open,
    due=next_day_at(13),
    folder=FOLDER / "rollups",
)

TOYS = (READINGS, ROLLUPS)
