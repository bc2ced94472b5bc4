import pytest

from local.state import State
from tests.local.conftest import command

REFUSED = 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--date", "nonsense"], "DATE=nonsense: write a day as YYYY-MM-DD"),
        (["demo", "--date", "2023-13-01"], "DATE=2023-13-01"),
        (["demo", "--date", "2023-07-04"], "XNYS is closed on 2023-07-04"),
        (["demo", "--date", "2023-08-05"], "XNYS is closed on Saturday 2023-08-05"),
        (["demo", "--date", "2022-08-02"], "The replay has prices from 2023-01-03 to 2023-09-21"),
        (["demo", "--date", "2100-08-02"], "has not closed on 2100-08-02"),
        (["demo", "--date", "1900-08-02"], "1900-08-02 is outside the XNYS calendar"),
        (["demo", "--api", "live"], "export POLYGON_API_KEY"),
        (["up", "--api", "live"], "export POLYGON_API_KEY"),
        (["demo", "--api", "nonsense"], "API=nonsense: write API=replay"),
        (["sql", " "], "make sql Q="),
        (["sql", "--as", "postgres", "select 1"], "ROLE=postgres: write ROLE=reader"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    own_state: State, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    with command(own_state, *arguments) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == REFUSED
    assert said in output
    assert "Traceback" not in output
    assert not own_state.folder.exists()


def test_down_with_nothing_running_says_so(own_state: State) -> None:
    with command(own_state, "down") as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "Nothing was running.\n")


def test_sql_without_a_warehouse_says_how_to_make_one(own_state: State) -> None:
    with command(own_state, "sql", "select 1") as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "There is no warehouse yet: `make demo` makes it.\n")
