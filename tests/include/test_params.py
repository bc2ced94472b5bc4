"""Days that people type into the form of a run."""

from datetime import date

import pytest

from include.errors import PermanentError
from include.params import parse_day


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_value_the_day_is_left_to_the_schedule(nothing: str | None) -> None:
    assert parse_day("as_of", nothing) is None


def test_a_date_is_read() -> None:
    assert parse_day("as_of", "2023-08-01") == date(2023, 8, 1)


@pytest.mark.parametrize(
    "other",
    ["20230801", "2023-W31-2", "2023-8-1", "2023-02-29", "01/08/2023", "2023-08-01T00:00:00", " ", 20230801],
)
def test_any_other_form_is_refused_with_the_one_to_use(other: str) -> None:
    with pytest.raises(PermanentError, match="YYYY-MM-DD") as refusal:
        parse_day("as_of", other)
    assert str(refusal.value).startswith(f"as_of is {other!r}")
