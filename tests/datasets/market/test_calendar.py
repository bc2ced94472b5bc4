from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from include.datasets.market.calendar import check_completed, closed_reason, last_completed_session
from include.errors import PermanentError

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize("day", [date(2000, 1, 3), date(2023, 8, 1), date(2023, 11, 24)])
def test_a_session_has_no_reason_to_be_closed(day: date) -> None:
    assert closed_reason(day) is None


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (date(2023, 8, 5), "XNYS is closed on Saturday 2023-08-05"),
        (date(2023, 7, 4), "XNYS is closed on 2023-07-04 (July 4th)"),
        (date(2023, 1, 2), "XNYS is closed on 2023-01-02 (New Year's Day)"),  # observed on the Monday
        (date(2025, 1, 9), "XNYS is closed on 2025-01-09 (special closing)"),  # mourning for Jimmy Carter
    ],
)
def test_a_closed_day_has_a_reason(day: date, reason: str) -> None:
    assert closed_reason(day) == reason


@pytest.mark.parametrize("day", [date(1999, 12, 31), date(2100, 1, 4)])
def test_a_day_that_the_calendar_does_not_cover_is_refused(day: date) -> None:
    with pytest.raises(PermanentError, match=f"{day} is outside.* covers 2000-01-03 to "):
        closed_reason(day)


@pytest.mark.parametrize(
    ("at", "session"),
    [
        (datetime(2023, 8, 1, 15, 59, tzinfo=NEW_YORK), date(2023, 7, 31)),
        (datetime(2023, 8, 1, 16, 0, tzinfo=NEW_YORK), date(2023, 8, 1)),
        (datetime(2023, 8, 2, 1, 0, tzinfo=UTC), date(2023, 8, 1)),  # still the 1st in New York
        (datetime(2023, 1, 31, 20, 30, tzinfo=UTC), date(2023, 1, 30)),  # winter: closes at 21:00 UTC
        (datetime(2023, 7, 31, 20, 30, tzinfo=UTC), date(2023, 7, 31)),  # summer: closed at 20:00 UTC
        (datetime(2023, 11, 24, 13, 30, tzinfo=NEW_YORK), date(2023, 11, 24)),  # an early close, at 13:00
        (datetime(2023, 9, 4, 20, 0, tzinfo=NEW_YORK), date(2023, 9, 1)),  # Labor Day, after the weekend
    ],
)
def test_the_last_completed_session_is_the_one_that_has_closed(at: datetime, session: date) -> None:
    assert last_completed_session(at) == session


def test_a_time_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        last_completed_session(datetime(2023, 8, 1, 16, 0))


@pytest.mark.parametrize("year", [1999, 2100])
def test_a_time_that_the_calendar_does_not_cover_is_refused(year: int) -> None:
    with pytest.raises(PermanentError, match="covers 2000-01-03 to "):
        last_completed_session(datetime(year, 6, 1, tzinfo=UTC))


def test_before_the_first_close_there_is_no_completed_session() -> None:
    with pytest.raises(PermanentError, match="no XNYS session had closed"):
        last_completed_session(datetime(2000, 1, 3, 12, 0, tzinfo=NEW_YORK))


def test_a_day_is_completed_at_its_close() -> None:
    check_completed(date(2023, 8, 1), datetime(2023, 8, 1, 16, 0, tzinfo=NEW_YORK))


@pytest.mark.parametrize(
    "day",
    [date(2023, 8, 1), date(2023, 8, 2), date(2023, 8, 5), date(2100, 1, 4)],
    ids=["today", "tomorrow", "the next Saturday", "after the end of the calendar"],
)
def test_a_day_that_has_not_closed_is_refused_with_the_session_to_use(day: date) -> None:
    with pytest.raises(PermanentError, match=f"not closed on {day} yet.*use 2023-07-31"):
        check_completed(day, datetime(2023, 8, 1, 15, 59, tzinfo=NEW_YORK))


def test_a_day_without_a_session_passes() -> None:
    saturday = date(2023, 8, 5)
    check_completed(saturday, datetime(2023, 8, 5, 12, 0, tzinfo=NEW_YORK))
    assert closed_reason(saturday)


def test_tomorrow_starts_at_midnight_in_new_york() -> None:
    with pytest.raises(PermanentError, match=r"not closed on 2023-08-05 yet.*use 2023-08-04"):
        check_completed(date(2023, 8, 5), datetime(2023, 8, 5, 1, 0, tzinfo=UTC))  # Friday evening there


def test_a_day_before_the_calendar_is_refused() -> None:
    with pytest.raises(PermanentError, match="1999-12-31 is outside"):
        check_completed(date(1999, 12, 31), datetime(2023, 8, 1, 16, 0, tzinfo=NEW_YORK))
