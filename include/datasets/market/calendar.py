"""When the New York Stock Exchange trades.

The source is the XNYS calendar of the package exchange-calendars: sessions from 2000 to one year from
today, with holidays, special closings and early closes. The market API cannot be used for this: it lists
coming holidays only, and its answer for a holiday is the same as for an unknown ticker.
"""

from datetime import date, datetime
from functools import cache
from typing import Any

import exchange_calendars
import pandas as pd

from include.errors import PermanentError


@cache
def _xnys() -> Any:
    return exchange_calendars.get_calendar("XNYS", start="2000-01-01")


def closed_reason(day: date) -> str | None:
    """Return why XNYS has no session on `day` (a New York date), or None when it has one.

    The names of holidays come from the calendar. Raises PermanentError for a day that the calendar does not cover.
    """
    calendar = _xnys()
    _check_covered(day)
    moment = pd.Timestamp(day)
    if moment in calendar.closes.index:
        return None
    if day.weekday() >= 5:
        return f"XNYS is closed on {day:%A} {day}"
    names = calendar.regular_holidays.holidays(moment, moment, return_name=True)
    return f"XNYS is closed on {day} ({names.iloc[0] if len(names) else 'special closing'})"


def last_completed_session(at: datetime) -> date:
    """Return the New York date of the last XNYS session that closed at or before `at`. Early closes are considered.

    Raises ValueError when `at` has no time zone, and PermanentError when the calendar does not cover it.
    """
    if at.utcoffset() is None:
        raise ValueError(f"{at} has no time zone, so it cannot be compared with the time of a close")
    calendar = _xnys()
    _check_covered(at.astimezone(calendar.tz).date())
    completed = calendar.closes.searchsorted(pd.Timestamp(at), side="right")
    if completed == 0:  # the first session is open, or has not started
        raise PermanentError(f"no XNYS session had closed at {at}: {_covered()}")
    session: date = calendar.closes.index[completed - 1].date()
    return session


def check_completed(day: date, at: datetime) -> None:
    """Check that every XNYS session up to and including `day` (a New York date) has closed at `at`.

    Today passes when it has no session; `closed_reason` returns the reason. Raises PermanentError when the
    session of `day` has not closed yet, with the session to use instead, and when `day` is before the
    calendar's first session. Raises ValueError when `at` has no time zone.
    """
    completed = last_completed_session(at)
    if day <= completed:
        _check_covered(day)
        return
    today = at.astimezone(_xnys().tz).date()
    if day > today or closed_reason(day) is None:
        raise PermanentError(
            f"XNYS has not closed on {day} yet (asked at {at:%Y-%m-%d %H:%M %Z}), so there is no daily "
            f"summary: use {completed}, the last completed session"
        )


def _check_covered(day: date) -> None:
    calendar = _xnys()
    if not calendar.first_session.date() <= day <= calendar.last_session.date():
        raise PermanentError(f"{day} is outside the XNYS calendar: {_covered()}")


def _covered() -> str:
    calendar = _xnys()
    return f"it covers {calendar.first_session.date()} to {calendar.last_session.date()}"
