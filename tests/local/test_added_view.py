"""A fifth view, by two files beside the others: a query, and a suite as short as the README's."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from local.database import WAREHOUSE
from local.postgres import embedded
from local.state import ROOT, State
from tests.local.conftest import command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

QUERY = """\
SELECT
    admission_date,
    ticket_price,
    sum(quantity_sold) AS guests
FROM daily_operations.guest_attendance
WHERE admission_date = %(as_of)s
GROUP BY admission_date, ticket_price
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of what runs in the checkout."""
    for folder in ("dags", "great_expectations", "include", "local", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_query_and_its_suite_make_a_fifth_view(own_state: State, copy: Path) -> None:
    example = re.search(r"```json\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example
    view = json.loads(example[1])["name"]
    (copy / "include" / "daily_operations" / f"{view}.sql").write_text(QUERY)
    (copy / "great_expectations" / "expectations" / f"{view}.json").write_text(example[1])

    with command(own_state, "demo", cwd=copy) as demo:
        text, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, text
    assert len(set(re.findall(r"\.(refresh_\w+): success", text))) == 5
    assert f"refresh_{view}: success" in text
    assert "in 5 views" in text
    assert "43 of 43" in text

    question = f"copy (select * from daily_operations.{view} order by ticket_price) to stdout"
    with command(own_state, "sql", question, cwd=copy) as sql:
        answer, _ = sql.communicate(timeout=60)
    with own_state.running(), embedded(own_state) as server, replace(server, dbname=WAREHOUSE).connect() as admin:
        wanted = admin.execute(
            "select '2023-08-01', ticket_price::text, sum(quantity_sold)::text from daily_operations.guest_attendance"
            " where admission_date = '2023-08-01' group by ticket_price order by ticket_price"
        ).fetchall()
    assert len(wanted) == 3
    assert [tuple(line.split("\t")) for line in answer.splitlines()] == wanted
