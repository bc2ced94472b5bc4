"""`make up`, for real: scheduler, Postgres, stand-ins, gates. What a deploy relies on, and a kill -9 at the end."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import pytest
import requests
from psycopg import sql
from rich.console import Console

from include.dataset import Dataset, Table
from include.datasets import DATASETS
from include.warehouse.columns import identifier
from local import demo
from local.__main__ import UI_PORT
from local.database import WAREHOUSE
from local.platform import METADATA
from local.postgres import embedded
from local.processes import listening_socket, wait_until
from local.sources import sources
from local.state import ROOT, State
from scripts import smoke_run
from scripts.airflow_api import AirflowApi, RunState
from scripts.dag_runs import Result, table
from tests.local.running import (
    Up,
    a_run,
    command,
    is_alive,
    number_of_expectations,
    processes_of,
    read_until,
    up,
    words,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MIGRATIONS = "warehouse_migrations"


@pytest.fixture(scope="module")
def running(shared_state: State) -> Iterator[Up]:
    """Yield the platform, which `up` started while something else had the port of its UI."""
    with listening_socket(UI_PORT), up(shared_state) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(running: Up) -> AirflowApi:
    """Return a client with a token, as on Astro, for the address as Astro would write it."""
    ui = running.platform.ui
    token = requests.get(f"{ui}/auth/token", timeout=10).json()["access_token"]
    return smoke_run.client(f"{ui}/api/v2?orgId=org", token)


@dataclass(frozen=True)
class SmokeRun:
    """A run of a paused DAG, as after a deploy."""

    dataset: Dataset
    run: RunState
    printed: str
    summary: str
    """What the page of a GitHub job shows."""
    paused: bool
    """Whether the DAG was paused afterwards."""


@pytest.fixture(scope="module")
def smoke(running: Up, airflow: AirflowApi, tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """Run a paused DAG of a dataset."""
    name, dag_id, conf = a_run(running.platform)
    page = tmp_path_factory.mktemp("job") / "summary.md"
    console = Console(record=True, width=120)
    smoke_run.reach(airflow)
    airflow.pause(dag_id, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_STEP_SUMMARY", str(page))
        smoke_run.run(airflow, console, dag_id, conf)
    paused = airflow.paused(dag_id)
    airflow.pause(dag_id, False)
    text = console.export_text()
    link = re.search(rf"{re.escape(airflow.url)}/dags/{dag_id}/runs/(smoke__\S+)", text)
    assert link
    run = airflow.run(dag_id, unquote(link[1]))
    return SmokeRun(dataset_named(name), run, text, page.read_text(), paused)


def dataset_named(name: str) -> Dataset:
    [dataset] = [each for each in DATASETS if each.name == name]
    return dataset


def remove_a_row(running: Up, dataset: Dataset, result: Result) -> str:
    """Remove a row that readers see of a run; returns the name of its table or view."""
    assert result.published
    each = next(each for each in dataset.publishes if result.rows[dataset.published_name(each)])
    name = dataset.published_name(each)
    if isinstance(each, Table):
        where = (identifier(name), sql.Identifier(each.day), sql.Literal(result.published["day"]))
    else:
        staging_table = identifier(dataset.staging_name(each))
        where = (staging_table, sql.Identifier("batch_id"), sql.Literal(result.published["batch_id"]))
    delete = sql.SQL("delete from {0} where ctid = (select min(ctid) from {0} where {1} = {2})").format(*where)
    with running.platform.admin.connect() as connection:
        assert connection.execute(delete).rowcount == 1
    return name


def test_it_says_where_the_ui_is_and_which_days_the_stand_ins_have(running: Up) -> None:
    assert f"Airflow's UI: {running.platform.ui}" in running.printed
    assert re.search(
        rf"port {UI_PORT} is taken by .+: Airflow's UI gets port {urlsplit(running.platform.ui).port}", running.printed
    )
    assert requests.get(running.platform.ui, timeout=10).ok
    for source in sources(DATASETS).values():
        assert source.note(live=False) in running.printed


def test_the_table_of_the_demo_shows_what_airflow_says_and_readers_see(running: Up, smoke: SmokeRun) -> None:
    dataset, run = smoke.dataset, smoke.run
    [result] = demo.collect(running.platform, [run])
    assert result.ok
    assert result.gate
    assert result.published
    assert Path(result.gate["report"].removeprefix("file://")).is_file()
    assert result.gate["passed"] + result.gate["failed"] == number_of_expectations(dataset)
    assert result.rows.keys() == set(dataset.published_names)
    assert sum(result.rows.values()) == result.published["rows"]

    removed = remove_a_row(running, dataset, result)
    [again] = demo.collect(running.platform, [run])
    assert again.rows == {**result.rows, removed: result.rows[removed] - 1}

    console = Console(record=True, width=120)
    console.print(table([again]))
    [line] = [line.split("│") for line in console.export_text().splitlines() if run.dag_id in line]
    tasks = len(result.tasks)
    rows = f"{sum(again.rows.values())}"
    assert [cell.strip() for cell in line[1:8]] == [
        run.dag_id,
        result.published["day"],
        "success",
        f"{tasks} of {tasks}",
        f"{run.seconds:.1f}",
        rows if len(again.rows) == 1 else f"{rows} in {len(again.rows)} objects",
        f"{result.gate['passed']} of {number_of_expectations(dataset)}",
    ]


def test_the_migrations_dag_finds_its_warehouse_up_to_date(running: Up) -> None:
    [state] = demo.run_dags(running.platform, Console(width=120), {MIGRATIONS: {}})
    assert state.state == "success"
    assert running.platform.airflow.xcom(MIGRATIONS, state.run_id, "migrate") == []


def test_nothing_runs_by_itself_and_nothing_listens_beyond_loopback(running: Up, smoke: SmokeRun) -> None:
    runs = requests.get(f"{running.platform.ui}/api/v2/dags/~/dagRuns", timeout=10).json()["dag_runs"]
    assert {each["run_type"] for each in runs} == {"manual"}
    listening = set()
    for process in running.processes():
        with suppress(psutil.NoSuchProcess):
            sockets = process.net_connections("tcp")
            listening |= {socket.laddr.ip for socket in sockets if socket.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
    ids=str,
)
def test_a_page_on_the_internet_can_neither_start_a_run_nor_read_anything(running: Up, headers: dict[str, str]) -> None:
    _, dag_id, conf = a_run(running.platform)
    ui = running.platform.ui
    body = {"logical_date": None, "dag_run_id": f"of a page with {headers}", "conf": conf}
    answer = requests.post(f"{ui}/api/v2/dags/{dag_id}/dagRuns", json=body, headers=headers, timeout=10)
    assert (answer.status_code, "localhost or 127.0.0.1 only" in answer.text) == (403, True)
    for path in ("/", "/auth/token", "/data-quality/", "/execution/health", "/static/"):
        assert requests.get(ui + path, headers=headers, timeout=10).status_code == 403
    runs = requests.get(f"{ui}/api/v2/dags/{dag_id}/dagRuns", timeout=10).json()["dag_runs"]
    assert body["dag_run_id"] not in {run["dag_run_id"] for run in runs}


def test_no_secret_is_written_anywhere(running: Up, smoke: SmokeRun) -> None:
    folder = running.state.folder
    secrets = [value.encode() for value in running.state.secrets.values()]
    kept = {folder / "secrets.json", folder / "pgpass"}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in kept]
    assert any(path.suffix == ".html" for path in files)
    assert any(f"dag_id={smoke.run.dag_id}" in str(path) for path in files)
    leaks = [path for path in files if "data" not in path.relative_to(folder).parts]
    leaks = [path for path in leaks if any(secret in path.read_bytes() for secret in secrets)]
    assert leaks == []
    lines = [" ".join(words(process)).encode() for process in running.processes()]
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def test_only_the_owner_can_read_the_logs(running: Up, smoke: SmokeRun) -> None:
    logs = list(running.state.folder.rglob("*.log"))
    assert any(f"dag_id={smoke.run.dag_id}" in str(log) for log in logs)
    assert running.state.logs / "scheduler.log" in logs
    assert [log for log in logs if log.stat().st_mode & 0o077] == []


def test_a_second_platform_is_refused_and_queries_are_answered(running: Up) -> None:
    with command(running.state, "demo") as second:
        text, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"already running (process {running.process.pid})" in text
    with command(running.state, "sql", "select 'asked', current_user") as asked:
        answer, _ = asked.communicate(timeout=60)
    assert "airlock_reader" in answer


def test_a_token_that_airflow_did_not_give_is_refused_at_once(running: Up) -> None:
    with pytest.raises(smoke_run.SmokeFailed, match="Airflow refused the token"):
        smoke_run.reach(smoke_run.client(running.platform.ui, "of another deployment"))


def test_a_paused_dag_is_run_reported_and_paused_again(smoke: SmokeRun) -> None:
    dag_id = smoke.run.dag_id
    assert smoke.paused
    assert re.search(rf"{dag_id}\.publish_\w+: success", smoke.printed)
    tasks = len(re.findall(rf"{dag_id}\.\w+: success", smoke.printed))
    passed = rf"\d+ of {number_of_expectations(smoke.dataset)}"
    line = rf"{dag_id} │ [\d-]{{10}} │ success │ {tasks} of {tasks} │ +[\d.]+ │ +\d+ │ +{passed}"
    assert re.search(line, smoke.printed)
    assert re.search(rf"\| {passed} \|", smoke.summary)


def test_a_dag_that_was_not_paused_stays_so(airflow: AirflowApi) -> None:
    airflow.pause(MIGRATIONS, False)
    smoke_run.run(airflow, Console(width=120), MIGRATIONS)
    assert not airflow.paused(MIGRATIONS)


def test_a_run_that_takes_too_long_is_not_waited_for(airflow: AirflowApi) -> None:
    airflow.pause(MIGRATIONS, True)
    with pytest.raises(smoke_run.SmokeFailed, match=rf"these runs have not ended: {MIGRATIONS}"):
        smoke_run.run(airflow, Console(width=120), MIGRATIONS, seconds=0)
    assert airflow.paused(MIGRATIONS)
    airflow.pause(MIGRATIONS, False)


def test_a_trigger_that_is_repeated_starts_one_run(airflow: AirflowApi) -> None:
    for _ in range(2):
        assert airflow.trigger(MIGRATIONS, run_id="smoke__once") == "smoke__once"


def test_airflow_lists_the_files_that_it_has_read(airflow: AirflowApi) -> None:
    known = airflow.dags_by_file()
    files = list((ROOT / "dags").glob("*.py"))
    assert sorted(known) == sorted(path.name for path in files)
    for path in files:
        assert airflow.source(known[path.name]).strip() == path.read_text().strip()


def test_a_variable_is_set_and_changed(airflow: AirflowApi) -> None:
    assert airflow.variable("airlock_deployed_commit") is None
    for value in ("0123abc", "", "4567def"):
        airflow.set_variable("airlock_deployed_commit", value)
        assert airflow.variable("airlock_deployed_commit") == value


def test_a_kill_is_healed_by_the_next_demo(running: Up, smoke: SmokeRun) -> None:
    """The last test of the platform: it kills it, in the middle of a run."""
    name, dag_id, conf = a_run(running.platform)
    all_of_the_demo = demo.confs(running.platform, Console(), sources(DATASETS), demo.DAY)
    run_id = running.platform.airflow.trigger(dag_id, conf)

    def begun() -> bool:
        return any(task.state for task in running.platform.airflow.tasks(dag_id, run_id))

    wait_until(begun, "The run", {}, seconds=60)
    processes = running.processes()
    running.process.kill()
    running.process.wait()
    assert processes_of(running.state), "a kill -9 leaves its children: what the next run has to cope with"
    as_if_killed_before_it_said_that_it_published(running.state, smoke.run)

    misleading = {"http_proxy": "http://127.0.0.1:9", "AIRFLOW__CORE__EXECUTOR": "nonsense"}
    with command(running.state, "demo", **misleading) as healed:
        text = read_until(healed, "Postgres")
        assert not [process for process in processes if is_alive(process)]
        text += healed.communicate(timeout=500)[0]
    assert healed.returncode == 0, text
    assert "processes that an earlier run left behind, now stopped: " in text
    assert re.search("runs that were interrupted earlier, now marked failed: [1-9]", text)
    for each in all_of_the_demo:
        assert re.search(rf"{each} +│ [\d-]{{10}} │ success", text)
    for published in dataset_named(name).published_names:
        assert f'make sql Q="select * from {published}"' in text
    assert processes_of(running.state) == []
    assert states_and_publications(running.state, smoke.run.run_id, run_id) == {
        smoke.run.run_id: ("success", len(smoke.dataset.published_names)),
        run_id: ("failed", 0),
    }


def as_if_killed_before_it_said_that_it_published(state: State, run: RunState) -> None:
    """Let Airflow's metadata say that a run that has published is still publishing."""
    with embedded(state) as server, replace(server, dbname=METADATA).connect() as metadata:
        metadata.execute("update dag_run set state = 'running', end_date = null where run_id = %s", [run.run_id])
        metadata.execute(
            "update task_instance set state = case when task_id like 'publish%%' then 'running' end "
            "where run_id = %s and (task_id like 'publish%%' or task_id = 'end')",
            [run.run_id],
        )


def states_and_publications(state: State, *run_ids: str) -> dict[str, tuple[str, int]]:
    """Return the state of each run, which no task of it may contradict, and how many objects it published."""
    with embedded(state) as server:
        with replace(server, dbname=METADATA).connect() as metadata:
            states: dict[str, str] = dict(
                metadata.execute("select run_id, state from dag_run where run_id = any(%s)", [[*run_ids]]).fetchall()
            )
            tasks = metadata.execute(
                "select run_id, array_agg(distinct state) from task_instance where run_id = any(%s) group by run_id",
                [[*run_ids]],
            ).fetchall()
        with replace(server, dbname=WAREHOUSE).connect() as warehouse:
            register = warehouse.execute("select run_id from warehouse.publication").fetchall()
    for run_id, found in tasks:
        assert set(found) <= {"success", "skipped", states[run_id]}
    return {run_id: (states[run_id], register.count((run_id,))) for run_id in run_ids}
