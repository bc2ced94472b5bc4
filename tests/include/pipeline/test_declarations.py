"""Declarations and the files of the project: each belongs to something, or a sentence says what to change."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from include.dataset import InvalidDeclaration, Table
from include.datasets import DATASETS
from include.pipeline.declarations import check_declarations
from include.quality import gate
from tests.toy import READINGS, ROLLUPS, SUITES


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    """Return the folder of the toys' suites, which a test may change."""
    return Path(shutil.copytree(SUITES, tmp_path / "project" / "expectations"))


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """Return the folder of the toy with views, which a test may change."""
    return Path(shutil.copytree(ROLLUPS.folder, tmp_path / "rollups"))


def check(suites: Path, queries: Path) -> None:
    check_declarations((READINGS, replace(ROLLUPS, folder=queries)), suites.parent)


def test_complete_declarations_are_accepted(suites: Path, queries: Path) -> None:
    check(suites, queries)


def test_the_datasets_of_this_project_are_complete() -> None:
    check_declarations(DATASETS)


SUITE_EDITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no suite": (
        lambda suites: (suites / "totals.json").unlink(),
        "rollups.totals has no suite: write great_expectations/expectations/totals.json, or correct the name of its "
        "suite in dataset.py; nothing is published unchecked.",
    ),
    "a suite of nothing": (
        lambda suites: shutil.copy(suites / "totals.json", suites / "total.json"),
        "great_expectations/expectations/total.json is the suite of nothing that is declared: name it in a dataset.py "
        "in include/datasets, or remove it.",
    ),
    "another name inside": (
        lambda suites: (suites / "totals.json").write_text(json.dumps({"name": "total", "expectations": []})),
        'great_expectations/expectations/totals.json has the name \'total\' inside: write "name": "totals".',
    ),
    "no name inside": (
        lambda suites: (suites / "totals.json").write_text('{"expectations": []}'),
        'great_expectations/expectations/totals.json has the name None inside: write "name": "totals".',
    ),
    "a list": (
        lambda suites: (suites / "totals.json").write_text('["totals"]'),
        'great_expectations/expectations/totals.json has the name None inside: write "name": "totals".',
    ),
    "no JSON": (
        lambda suites: (suites / "totals.json").write_text('{\n"name" "totals"}'),
        "great_expectations/expectations/totals.json is not JSON: Expecting ':' delimiter: line 2 column 8 (char 9).",
    ),
}


@pytest.mark.parametrize("kind", SUITE_EDITS)
def test_suites_that_do_not_fit_the_declarations_are_refused(suites: Path, queries: Path, kind: str) -> None:
    edit, message = SUITE_EDITS[kind]
    edit(suites)

    with pytest.raises(InvalidDeclaration) as refused:
        check(suites, queries)

    assert str(refused.value) == message


def test_a_suite_under_another_name_is_found(suites: Path, queries: Path) -> None:
    renamed = replace(READINGS, publishes=(replace(cast(Table, READINGS.publishes[0]), suite="sensors"),))
    suite = json.loads((suites / "measured.json").read_text())
    (suites / "sensors.json").write_text(json.dumps({**suite, "name": "sensors"}))
    (suites / "measured.json").unlink()

    check_declarations((renamed, replace(ROLLUPS, folder=queries)), suites.parent)


def test_the_suites_of_the_project_are_checked_unless_others_are_given(
    suites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PROJECT", suites.parent)

    check_declarations([READINGS, ROLLUPS])

    with pytest.raises(InvalidDeclaration, match=r"(busiest|totals)\.json is the suite of nothing"):
        check_declarations([READINGS])


@pytest.mark.parametrize("name", ["rollup", "nonesuch"])
def test_a_folder_that_is_missing_or_has_another_name_is_refused(suites: Path, queries: Path, name: str) -> None:
    (queries.parent / "rollup").mkdir()
    dataset = replace(ROLLUPS, name="nonesuch", folder=queries.parent / name)

    with pytest.raises(InvalidDeclaration) as refused:
        check_declarations((READINGS, dataset), suites.parent)

    assert str(refused.value) == f"nonesuch has the folder {dataset.folder}: it must be include/datasets/nonesuch."


def test_a_query_that_is_missing_is_named(suites: Path, queries: Path) -> None:
    (queries / "totals.sql").unlink()

    with pytest.raises(InvalidDeclaration) as refused:
        check(suites, queries)

    assert str(refused.value) == (
        "include/datasets/rollups/totals.sql does not exist: write the query of the view totals there."
    )


def test_a_query_that_is_not_declared_is_named(suites: Path, queries: Path) -> None:
    (queries / "average.sql").write_text("SELECT 1 AS one")

    with pytest.raises(InvalidDeclaration) as refused:
        check(suites, queries)

    assert str(refused.value) == (
        'include/datasets/rollups/average.sql is not declared: add View("average", key=(...)) to '
        "include/datasets/rollups/dataset.py, or remove it."
    )


def test_a_query_in_the_folder_of_a_dataset_with_tables_is_named(suites: Path, queries: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(READINGS.folder, tmp_path / "readings"))
    (folder / "measured.sql").write_text("SELECT 1 AS one")

    with pytest.raises(InvalidDeclaration, match=r"^include/datasets/readings/measured\.sql is not declared"):
        check_declarations((replace(READINGS, folder=folder), replace(ROLLUPS, folder=queries)), suites.parent)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 AS one;",
        "SELECT 1 AS one; SELECT 2 AS two",
        "CREATE TABLE one (a int)",
        "DELETE FROM rollups.source",
        "selekt 1",
        "",
        "-- SELECT 1",
        "/* SELECT\n1 */",
    ],
)
def test_a_query_that_is_not_one_select_is_refused(suites: Path, queries: Path, text: str) -> None:
    (queries / "totals.sql").write_text(text)

    with pytest.raises(InvalidDeclaration) as refused:
        check(suites, queries)

    assert str(refused.value) == "include/datasets/rollups/totals.sql: write one SELECT, without a semicolon."


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 AS one",
        "\n  select 1 as one\n",
        "-- What it returns; and why.\n/* More\n; of it. */\nWITH one AS (SELECT 1 AS one) SELECT * FROM one",
        "SELECT string_agg(sensor, '; ') || 'it''s; ' AS sensors FROM rollups.source",
    ],
)
def test_every_single_select_is_accepted(suites: Path, queries: Path, text: str) -> None:
    (queries / "totals.sql").write_text(text)

    check(suites, queries)
