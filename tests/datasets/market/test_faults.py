"""Faults of the market API: what each does to a run, and to what readers see. `make test-faults` prints them."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
import requests
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.datasets.market import tasks
from include.datasets.market.dataset import MARKET
from include.errors import AirlockError
from include.http_client import HttpClient
from include.warehouse.roles import APP
from local.login import Login
from local.sources.market import SOURCE
from local.sources.market.faults import FAULTS
from local.sources.market.prices import REPLAY_KEY
from local.state import State
from tests.datasets.market.batches import DAY, GOOD, PUBLISHED, TICKERS, as_batch, stage
from tests.datasets.market.test_tasks import run
from tests.faults.catalogue import Outcome, record
from tests.include.warehouse.airflow_connections import give
from tests.toy.batches import TaskInstance

pytestmark = pytest.mark.faults

# What the message says of a fault that stays; after those of the first list, a later try may succeed.
RETRIED = {
    "outage": "answered 503: Service unavailable",
    "outage with Retry-After": "answered 503: Back soon",
    "too early": "answered 425",
    "rate limit": "answered 429",
    "cut": "cannot be reached, try again later",
    "cut JSON": "the body ends too early",
    "empty": "the body ends too early",
    "slow": "the answer was not complete after",
}
FINAL = {
    "unknown key": "answered 401: Unknown API Key: check POLYGON_API_KEY",
    "half a surrogate pair": "answered 401: bad .* thing",
    "not entitled": "the plan behind POLYGON_API_KEY does not cover this date",
    "redirect": "elsewhere.example.*not followed: check POLYGON_BASE_URL",
    "HTML": "body is '<html>",
    "not UTF-8": "the body is not UTF-8",
    "NUL": "the body has a NUL character",
    "too large": "the body is larger than|the answer has more than",
    "the key in the body": "the body repeats POLYGON_API_KEY",
    "a name twice": "'status' is there more than once",
    "status of a delay": "status is 'DELAYED', not 'OK'",
    "no figure": "close is missing|c is missing",
    "a text for a figure": "is '195.605', not a finite number",
    "NaN": "is nan, not a finite number",
    "an endless figure": "is inf, not a finite number",
    "a negative price": "The gate closed",
    "an implausible price": "The gate closed",
    "high below low": "The gate closed",
}


@pytest.fixture(scope="module")
def replay(state: State, postgres: Login) -> Iterator[dict[str, str]]:
    """Run the replay; returns the environment of its clients."""
    with SOURCE.running(state, postgres, live=False) as started:
        yield dict(started.env)


@pytest.fixture
def published(
    app: psycopg.Connection[Any], warehouse: Login, state: State, replay: dict[str, str],
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """Let readers see a day, whose rows have figures that the replay does not have."""
    give(monkeypatch, MARKET.connection, warehouse.as_role(APP, state.secrets[APP], warehouse.dbname))
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", str(tmp_path_factory.mktemp("reports")))
    # Of a service that stays slow or limits the rate, the client is patient for minutes.
    monkeypatch.setattr("include.http_client.REQUEST_SECONDS", 2)
    monkeypatch.setitem(HttpClient.__init__.__kwdefaults__ or {}, "rate_limit_patience", 3.0)
    for name, value in replay.items():
        monkeypatch.setenv(name, value)
    tasks.publish_market_data(as_batch(stage(app, GOOD)), run(), OutletEventAccessors())


def ask_for(replay: dict[str, str], fault: str, times: int) -> None:
    url = f"{replay['POLYGON_BASE_URL']}/faults/{quote(fault)}?times={times}"
    requests.post(url, headers={"Authorization": f"Bearer {REPLAY_KEY}"}, timeout=30).raise_for_status()


def load_day() -> None:
    """Run the tasks of a day as the DAG does."""
    batch = as_batch(uuid4())
    rows = tasks.transform_market_data(batch, tasks.flatten_market_data(batch, tasks.extract_market_data(batch)))
    tasks.load_market_data(batch, rows)
    tasks.validate_market_data(batch, TaskInstance())
    tasks.publish_market_data(batch, run(), OutletEventAccessors())


def seen(app: psycopg.Connection[Any]) -> str:
    """Return which rows readers see of the day: those of before, those of the replay, or anything else."""
    rows = app.execute(
        f"select ticker, open_price from {PUBLISHED} where market_date = '{DAY}' order by 1".encode()
    ).fetchall()
    app.commit()
    if rows == [(each["ticker"], each["open_price"]) for each in GOOD]:
        return "as before"
    return "new" if [ticker for ticker, _ in rows] == sorted(TICKERS) else f"broken: {rows}"


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_leaves_the_day_as_it_was_and_says_what_is_wrong(
    app: psycopg.Connection[Any], replay: dict[str, str], fault: str
) -> None:
    ask_for(replay, fault, times=1000)
    started = time.monotonic()
    with pytest.raises(
        AirlockError if fault in RETRIED else AirflowFailException, match=(RETRIED | FINAL)[fault]
    ) as raised:
        load_day()
    seconds = time.monotonic() - started
    ask_for(replay, fault, times=0)

    what = "tried again later" if fault in RETRIED else "failed at once"
    record(Outcome(fault, what, f"the day is {seen(app)}", seconds))
    assert REPLAY_KEY not in str(raised.value)
    assert seen(app) == "as before"


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("fault", [fault for fault in RETRIED if fault not in ("rate limit", "slow")])
def test_a_fault_that_passes_is_waited_for(app: psycopg.Connection[Any], replay: dict[str, str], fault: str) -> None:
    ask_for(replay, fault, times=1)
    started = time.monotonic()
    load_day()

    record(Outcome(f"{fault}, once", "published", f"the day is {seen(app)}", time.monotonic() - started))
    assert seen(app) == "new"


def test_every_fault_has_an_outcome() -> None:
    assert set(RETRIED) | set(FINAL) == set(FAULTS)
