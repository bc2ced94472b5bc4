"""The run after a deploy, against a real Airflow: what scripts/smoke_run.py and the client of a deploy rely on."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import requests
from rich.console import Console

from local.platform import Platform, platform
from local.processes import free_port
from local.state import ROOT, State
from scripts import smoke_run
from scripts.airflow_api import AirflowApi
from tests.local.conftest import BAD_DAY, bad_prices

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MARKET = "market_etl__taskflow_api"


@pytest.fixture(scope="module")
def running() -> Iterator[Platform]:
    with TemporaryDirectory(prefix="airlock smoke ") as folder:
        Path(folder).chmod(0o755)
        prices = bad_prices(Path(folder))
        state = State(Path(folder) / "state")
        with platform(
            state, Console(width=120), api="replay", api_key="", schedule=False, port=free_port(), prices=prices
        ) as started:
            yield started


@pytest.fixture
def airflow(running: Platform) -> AirflowApi:
    """Give a client with a token, as on Astro, for the address as Astro would write it."""
    token = requests.get(f"{running.ui}/auth/token", timeout=10).json()["access_token"]
    return smoke_run.client(f"{running.ui}/api/v2?orgId=org", token)


def test_a_token_that_airflow_did_not_give_is_refused_at_once(running: Platform) -> None:
    with pytest.raises(smoke_run.SmokeFailed, match="Airflow refused the token"):
        smoke_run.reach(smoke_run.client(running.ui, "of another deployment"))


def test_a_paused_dag_is_run_told_and_paused_again(
    airflow: AirflowApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    smoke_run.reach(airflow)
    airflow.pause(MARKET, True)
    console = Console(record=True, width=120)
    smoke_run.run(airflow, console, MARKET, {"market_date": "2023-08-01"})
    assert airflow.paused(MARKET)
    text = console.export_text()
    assert f"{MARKET}.publish_market_data: success" in text
    assert re.search(rf"{MARKET} │ 2023-08-01 │ success │ 8 of 8 │ +[\d.]+ │ +2 │ +18 of 18", text)
    assert re.search(rf"{re.escape(airflow.url)}/dags/{MARKET}/runs/smoke__\S+", text)
    assert "| 18 of 18 |" in (tmp_path / "summary.md").read_text()


def test_a_dag_that_was_let_run_stays_so(airflow: AirflowApi) -> None:
    airflow.pause("warehouse_migrations", False)
    smoke_run.run(airflow, Console(width=120), "warehouse_migrations")
    assert not airflow.paused("warehouse_migrations")


def test_a_closed_gate_fails_with_its_task_and_the_end_of_its_log(airflow: AirflowApi) -> None:
    console = Console(record=True, width=120)
    # One bad row of one: more than is set aside.
    with pytest.raises(smoke_run.SmokeFailed, match=rf"{MARKET}.validate_market_data\. http://127"):
        smoke_run.run(airflow, console, MARKET, {"market_date": BAD_DAY, "tickers": ["AMZN"]})
    text = console.export_text()
    assert f"{MARKET}.validate_market_data failed:" in text
    assert "  | " in text


def test_a_run_that_takes_too_long_is_not_waited_for(airflow: AirflowApi) -> None:
    airflow.pause(MARKET, True)
    with pytest.raises(smoke_run.SmokeFailed, match=rf"these runs have not ended: {MARKET}"):
        smoke_run.run(airflow, Console(width=120), MARKET, {"market_date": "2023-08-01"}, seconds=0)
    assert airflow.paused(MARKET)
    airflow.pause(MARKET, False)


def test_a_trigger_that_is_repeated_starts_one_run(airflow: AirflowApi) -> None:
    for _ in range(2):
        assert airflow.trigger("warehouse_migrations", run_id="smoke__once") == "smoke__once"


def test_airflow_tells_the_files_that_it_has_read(airflow: AirflowApi) -> None:
    known = airflow.dags_by_file()
    files = list((ROOT / "dags").glob("*.py"))
    assert sorted(known) == sorted(path.name for path in files)
    for path in files:
        assert airflow.source(known[path.name]).strip() == path.read_text().strip()


def test_what_is_deployed_is_remembered_and_forgotten(airflow: AirflowApi) -> None:
    assert airflow.variable("airlock_deployed_commit") is None
    for value in ("0123abc", "", "4567def"):
        airflow.set_variable("airlock_deployed_commit", value)
        assert airflow.variable("airlock_deployed_commit") == value
