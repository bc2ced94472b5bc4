"""`make backfill` of the market: interrupted, repeated, killed; and what it leaves in Airflow's database."""

import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from local.platform import METADATA
from local.postgres import embedded
from local.state import State
from tests.datasets.market.batches import PUBLISHED
from tests.local.running import await_no_processes, command, new_state, read_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# Four sessions around a weekend and Independence Day.
DAYS = ("--from", "2023-06-30", "--to", "2023-07-06")
CLOSED = {"2023-07-01", "2023-07-02", "2023-07-04"}
WHOLE = {"TICKERS": "all", "REPLAY_MARKET_SIZE": "2000"}


@pytest.fixture(scope="module")
def state() -> Iterator[State]:
    """Yield the state of the platform."""
    with new_state() as state:
        yield state


def backfill(state: State, **env: str) -> tuple[int, str]:
    """Run a backfill to its end; returns its exit status and what it printed."""
    with command(state, "backfill", *DAYS, **env) as process:
        printed, _ = process.communicate()
    return process.returncode, printed


def outcomes(printed: str) -> dict[str, str]:
    """Return the outcome of each day in the table that was printed."""
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in printed.splitlines() if line.startswith("│")]
    return {day.split()[1]: outcome for day, outcome in rows}


def test_an_interrupted_backfill_goes_on_where_it_stopped(state: State) -> None:
    with command(state, "backfill", *DAYS, **WHOLE) as process:
        read_until(process, ": success")
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in printed

    status, printed = backfill(state, **WHOLE)

    assert status == 0, printed
    found = outcomes(printed)
    assert {day for day, outcome in found.items() if outcome == "skipped"} == CLOSED
    assert "XNYS is closed on 2023-07-04 (July 4th)" in printed
    assert {outcome for day, outcome in found.items() if day not in CLOSED} == {"published before", "published"}
    with embedded(state) as admin:
        with replace(admin, dbname="warehouse").connect() as connection:
            days = connection.execute(
                f"select market_date::text, count(*) from {PUBLISHED} group by 1 order by 1".encode()
            ).fetchall()
        with replace(admin, dbname=METADATA).connect() as connection:
            [(largest,)] = connection.execute("select max(pg_column_size(value)) from xcom").fetchall()
    assert days == [(day, 2000) for day, outcome in found.items() if outcome != "skipped"]
    assert largest < 70_000  # what is larger goes through the object storage


def test_a_backfill_that_was_killed_can_be_repeated_with_other_tickers(state: State) -> None:
    with command(state, "backfill", *DAYS, TICKERS="AAPL,AMZN") as process:
        read_until(process, ": success")
        process.kill()
        process.communicate()

    status, printed = backfill(state, TICKERS="AAPL,AMZN")

    assert status == 0, printed
    assert "failed" not in outcomes(printed).values()
    with embedded(state) as admin, replace(admin, dbname="warehouse").connect() as connection:
        counts = connection.execute(
            f"select distinct count(*) from {PUBLISHED} group by market_date".encode()
        ).fetchall()
    assert counts == [(2,)]
    await_no_processes(state)
