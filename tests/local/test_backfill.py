"""What `make backfill` refuses before anything is started."""

from datetime import date

import pytest

from local import backfill
from local.sources import Source
from local.state import Refused
from tests.toy import READINGS, ROLLUPS

SOURCES = {READINGS.name: Source(), ROLLUPS.name: Source()}


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("first", "last", "name", "message"),
    [
        ("", "2023-08-02", "", "FROM is missing: make backfill FROM="),
        ("2023-08-01", "", "", "TO is missing"),
        ("20230801", "2023-08-02", "", "FROM is '20230801': give a date as YYYY-MM-DD"),
        ("2023-08-02", "2023-08-01", "", "FROM=2023-08-02 is after TO=2023-08-01"),
        ("2023-08-01", "2023-08-02", "rollups", "NAME=rollups: a backfill needs a dataset with tables .*: readings."),
        ("2023-08-01", "2023-08-02", "nonesuch", "NAME=nonesuch: a backfill needs a dataset with tables"),
    ],
)
def test_what_cannot_be_loaded_is_refused(first: str, last: str, name: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        backfill.choose(SOURCES, False, first, last, name)


@pytest.mark.usefixtures("toys")
def test_a_day_that_the_stand_in_does_not_have_is_refused_unless_it_is_closed() -> None:
    class OnlyMonday(Source):
        def check(self, day: date | None, live: bool) -> None:
            if day != date(2023, 7, 31):
                raise Refused(f"no data for {day}")

    sunday, monday, tuesday = "2023-07-30", "2023-07-31", "2023-08-01"
    wanted = backfill.choose({READINGS.name: OnlyMonday()}, False, sunday, monday, "")
    assert wanted.days == [date(2023, 7, 30), date(2023, 7, 31)]
    with pytest.raises(Refused, match="no data for 2023-08-01"):
        backfill.choose({READINGS.name: OnlyMonday()}, False, monday, tuesday, READINGS.name)
