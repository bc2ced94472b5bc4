"""Another view, by the three blocks of docs/extending.md: its query, its suite and its declaration."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.datasets.daily_operations.dataset import DAILY_OPERATIONS
from local import demo
from local.database import WAREHOUSE
from local.postgres import embedded
from local.state import ROOT, State
from tests.local.running import command, new_state, number_of_expectations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def example(language: str) -> str:
    """Return the block of that language in the section about views of docs/extending.md."""
    section = (ROOT / "docs" / "extending.md").read_text().split("\n## Add a view\n")[1].split("\n## ")[0]
    [block] = re.findall(rf"```{language}\n(.+?)```", section, re.DOTALL)
    return str(block)


QUERY, SUITE, DECLARATION = example("sql"), example("json"), example("python")
VIEW = json.loads(SUITE)["name"]


@pytest.fixture
def state() -> Iterator[State]:
    """Yield a state of the test's own."""
    with new_state() as state:
        yield state


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of what runs in the checkout, with the view."""
    for folder in ("dags", "great_expectations", "include", "local", "plugins", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    dataset = tmp_path / "include" / "datasets" / DAILY_OPERATIONS.name
    (dataset / f"{VIEW}.sql").write_text(QUERY)
    (tmp_path / "great_expectations" / "expectations" / f"{VIEW}.json").write_text(SUITE)
    declaration = dataset / "dataset.py"
    before, publishes, others = declaration.read_text().partition("    publishes=(\n")
    declaration.write_text(before + publishes + DECLARATION + others)
    return tmp_path


def test_a_query_a_suite_and_a_declaration_make_another_view(state: State, copy: Path) -> None:
    with command(state, "demo", cwd=copy) as process:
        text, _ = process.communicate(timeout=500)
    assert process.returncode == 0, text
    views = {each.name for each in DAILY_OPERATIONS.publishes} | {VIEW}
    assert set(re.findall(r"\.refresh_(\w+): success", text)) == views
    assert f"in {len(views)} objects" in text
    expectations = number_of_expectations(DAILY_OPERATIONS) + len(json.loads(SUITE)["expectations"])
    assert f"{expectations} of {expectations}" in text

    question = f"copy (select * from {DAILY_OPERATIONS.name}.{VIEW} order by ticket_price) to stdout"
    with command(state, "sql", question, cwd=copy) as process:
        answer, _ = process.communicate(timeout=60)
    with state.running(), embedded(state) as server, replace(server, dbname=WAREHOUSE).connect() as admin:
        wanted = admin.execute(
            "select admission_date::text, ticket_price::text, sum(quantity_sold)::text"
            " from daily_operations.guest_attendance where admission_date = %s group by 1, 2 order by ticket_price",
            [demo.DAY],
        ).fetchall()
    assert wanted
    assert [tuple(line.split("\t")) for line in answer.splitlines()] == wanted
