"""The source tables of daily operations, filled with sample data."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from local.login import Login
from local.sources import Source, Started
from local.sources.daily_operations import sample_data
from local.state import State


class SampleTables(Source):
    """Sample data in the source tables, with `live` as well: on a deployment, other systems fill them."""

    def params(self, day: date) -> dict[str, object]:
        """Return the params of the day, or of the last one with data; it may be older than the published one."""
        return {"as_of": min(day, sample_data.LAST).isoformat(), "allow_older": True}

    def note(self, live: bool) -> str:
        """Return which days the sample data has."""
        do = "pause its DAG, or fill the source tables" if live else "choose an as_of in between"
        return f"daily_operations: the sample data is from {sample_data.FIRST} to {sample_data.LAST}; {do}."

    @contextmanager
    def running(self, state: State, warehouse: Login, live: bool) -> Iterator[Started]:
        """Fill the source tables if they are empty."""
        with warehouse.connect() as admin:
            sample_data.load(admin)
        yield Started()


SOURCE = SampleTables()
