import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from include.datasets import DATASETS
from include.warehouse.roles import READER
from local import demo, sources
from local.__main__ import FAILED, REFUSED
from local.database import WAREHOUSE
from local.login import ensure_database, ensure_role
from local.platform import Platform
from local.postgres import embedded
from local.processes import MARK, running
from local.sources import Source
from local.state import ROOT, LocalError, Refused, State
from scripts.airflow_api import Dag, RunState, TaskState
from tests.local.running import command, main
from tests.toy import READINGS, ROLLUPS, TOYS

SUNDAY = "2023-08-06"
EMPTY_DAY = date(2022, 8, 1)


class Recorded(Source):
    """A stand-in without data for one day, whose real service needs a key."""

    def check(self, day: date | None, live: bool) -> None:
        if live:
            raise Refused("API=live needs a key.")
        if day == EMPTY_DAY:
            raise Refused(f"Nothing is recorded for {day}.")

    def params(self, day: date) -> dict[str, object]:
        return {"day": day.isoformat()}


@pytest.fixture
def stand_in(toys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the toy table have a stand-in; the toy views have none."""
    monkeypatch.setattr(sources, "sources", lambda _: {READINGS.name: Recorded()})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--date", "nonsense"], "DATE=nonsense: write a day as YYYY-MM-DD"),
        (["demo", "--date", "2023-13-01"], "DATE=2023-13-01"),
        (["demo", "--date", SUNDAY], f"Nothing to load: {SUNDAY} is a Sunday. Choose another DATE."),
        (["demo", "--date", f"{EMPTY_DAY}"], f"Nothing is recorded for {EMPTY_DAY}."),
        (["demo", "--api", "live"], "API=live needs a key."),
        (["up", "--api", "live"], "API=live needs a key."),
        (["demo", "--api", "nonsense"], "API=nonsense: write API=replay"),
        (["up", "--api", "nonsense"], "API=nonsense: write API=replay"),
        (["sql", " "], "make sql Q="),
        (["sql", "--as", "postgres", "select 1"], "ROLE=postgres: write ROLE=reader"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_refused_before_anything_starts(
    stand_in: None,
    own_state: State,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(monkeypatch, own_state, *arguments) == REFUSED
    assert message in capsys.readouterr().err
    assert not own_state.folder.exists()


@pytest.mark.parametrize("arguments", [["demo"], ["up"]], ids=" ".join)
def test_without_any_dataset_one_sentence_says_what_is_missing(
    own_state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr("include.datasets.DATASETS", ())
    assert main(monkeypatch, own_state, *arguments) == REFUSED
    assert capsys.readouterr().err == (
        "No dataset is declared, so there is nothing to start: `make dataset NAME=fx_rates` adds one.\n"
    )
    assert not own_state.folder.exists()


def test_without_any_stand_in_the_demo_says_so(
    toys: None, own_state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, own_state, "demo") == REFUSED
    assert "No dataset has a stand-in for its source" in capsys.readouterr().err
    assert not own_state.folder.exists()


def test_down_with_nothing_running_says_so(own_state: State) -> None:
    with command(own_state, "down") as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "Nothing was running.\n")


def test_sql_without_a_warehouse_says_how_to_create_one(own_state: State) -> None:
    with command(own_state, "sql", "select 1") as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "There is no warehouse yet: `make demo` creates it.\n")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a copy of what the commands need, with a declaration that cannot work."""
    for folder in ("include", "local", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "include" / "datasets" / "__init__.py").open("a") as file:
        file.write("from include.dataset import InvalidDeclaration\n")
        file.write('raise InvalidDeclaration("include/datasets/x/dataset.py: publishes is empty.")\n')
    return tmp_path


def test_a_declaration_that_cannot_work_is_reported_in_one_line(own_state: State, broken: Path) -> None:
    with command(own_state, "demo", cwd=broken) as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (FAILED, "include/datasets/x/dataset.py: publishes is empty.\n")
    assert not own_state.folder.exists()


def test_down_and_sql_need_neither_the_datasets_nor_their_stand_ins(own_state: State, broken: Path) -> None:
    shutil.rmtree(broken / "include" / "datasets")
    shutil.rmtree(broken / "local" / "sources")
    for arguments in (["down"], ["sql", "select 1"]):
        with command(own_state, *arguments, cwd=broken) as process:
            output, _ = process.communicate(timeout=60)
        assert output.splitlines() in (
            ["Nothing was running."],
            ["There is no warehouse yet: `make demo` creates it."],
        )


def test_the_platform_knows_datasets_by_their_declarations_only() -> None:
    """Whatever is imported beyond the declarations is imported by a stand-in."""
    script = """
import sys
import include.datasets
declared = set(sys.modules)
import local.__main__, local.demo, local.platform
tenants = ("include.datasets.", "local.sources.")
print(*(name for name in sys.modules if name.startswith(tenants) and name not in declared))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_warehouse_of_the_first_version_needs_make_clean(
    stand_in: None, own_state: State, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with embedded(own_state) as server:
        ensure_database(server, WAREHOUSE, owner=server.user)
        warehouse = server.as_role(server.user, server.password, WAREHOUSE)
        ensure_role(server, server.as_role(READER, own_state.secrets[READER], WAREHOUSE))
        with warehouse.connect() as connection:
            connection.execute("grant connect on database warehouse to public")  # the first version did not revoke it
            connection.execute("create schema warehouse")
            connection.execute("create table warehouse.alembic_version (version_num text)")

    for name in ("demo", "up"):
        assert main(monkeypatch, own_state, name) == FAILED
        printed = capfd.readouterr()
        assert "cannot be upgraded: run `make clean`" in printed.err
        assert "Traceback" not in printed.err + printed.out
    assert main(monkeypatch, own_state, "sql", "select 'still there'") == 0
    assert "still there" in capfd.readouterr().out
    assert main(monkeypatch, own_state, "down") == 0
    assert capfd.readouterr().out == "Nothing was running.\n"


class FakeAirflow:
    """Has DAGs; a run of one stays in its first task."""

    def __init__(self, **tags: set[str]) -> None:
        self._tags = tags

    def dags(self) -> list[Dag]:
        return [Dag(dag_id, f"{dag_id}.py", frozenset(tags), None) for dag_id, tags in self._tags.items()]

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        return "a run"

    def run(self, dag_id: str, run_id: str) -> RunState:
        return RunState(dag_id, run_id, "running", None)

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        return [TaskState("start", "running", 1)]


def fake_platform(processes: object = (), **tags: set[str]) -> Platform:
    return cast(Platform, SimpleNamespace(airflow=FakeAirflow(**tags), processes=processes))


def test_the_demo_runs_the_dags_that_have_the_name_of_a_dataset_with_a_stand_in_as_a_tag(stand_in: None) -> None:
    console = Console(record=True, width=120)
    dags = {
        "two": {READINGS.name, "x"},
        "one": {READINGS.name},
        "of_views": {ROLLUPS.name},
        "other": {"x"},
    }
    found = demo.confs(fake_platform(**dags), console, sources.sources(TOYS), demo.DAY)
    assert list(found.items()) == [("one", {"day": f"{demo.DAY}"}), ("two", {"day": f"{demo.DAY}"})]
    assert f"{ROLLUPS.name} is left out: it has no stand-in in local/sources" in console.export_text()


def test_a_demo_without_any_dag_to_run_says_why(stand_in: None) -> None:
    console = Console(record=True, width=120)
    with pytest.raises(LocalError, match="There is no DAG to run"):
        demo.confs(fake_platform(other={"x"}), console, sources.sources(TOYS), demo.DAY)
    assert f"{READINGS.name} is left out: no DAG has its name as a tag" in console.export_text()


def test_a_process_that_dies_ends_the_demo_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "scheduler.log"
    script = "import os; print('because', flush=True); os.kill(os.getpid(), 9)"
    with running([sys.executable, "-c", script], {MARK: str(tmp_path)}, log) as process:
        process.wait()
        with pytest.raises(LocalError, match=r"(?s)The scheduler was ended by SIGKILL.*scheduler\.log.*because"):
            demo.run_dags(fake_platform({log: process}), Console(width=120), {"one": {}})


def test_a_stand_in_that_is_not_defined_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / READINGS.name).mkdir()
    (tmp_path / READINGS.name / "__init__.py").write_text("")
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(sources, "__path__", [str(tmp_path)])
    with pytest.raises(LocalError, match=rf"local/sources/{READINGS.name}/__init__\.py must define SOURCE"):
        sources.sources(TOYS)


def test_every_stand_in_is_that_of_a_dataset() -> None:
    folders = {path.parent.name for path in (ROOT / "local" / "sources").glob("*/__init__.py")}
    assert folders == sources.sources(DATASETS).keys()
