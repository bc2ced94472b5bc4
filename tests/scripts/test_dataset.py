"""Datasets that are added and removed: their files, the list of datasets, and what is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include.datasets import DATASETS
from local.login import Login
from local.state import ROOT
from scripts import dataset as script
from scripts.dataset import LIST, Refused, add, parts, remove
from tests.toy import TOYS

COPIED = ("dags", "great_expectations", "include", "local", "scripts", "tests/datasets")
TOY_NAMES = [toy.name for toy in TOYS]
NEW = "made_by_a_test"  # no dataset of a user's is called this
GROUPS = {each.schema: [other for other in DATASETS if other.schema == each.schema] for each in DATASETS}
LAST = list(GROUPS.values())[-1]
NAMES = (NEW, "made_b10", "made_b9", "made_up_name_as_long_as_one_may_be______")


def files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder, by their paths."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what datasets consist of, on which the script works."""
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(script, "ROOT", tmp_path)
    return tmp_path


def declared(copy: Path) -> list[str]:
    """Return the names of the datasets that a copy declares, as another process sees them."""
    code = "from include.datasets import DATASETS; print(*(each.name for each in DATASETS))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True, text=True)
    return ran.stdout.split()


def test_a_dataset_that_is_added_and_removed_leaves_no_trace(copy: Path) -> None:
    before = files(copy)

    written = add(NEW)

    assert set(files(copy)) - set(before) == {path.as_posix() for path in written} - {LIST.as_posix()}
    assert declared(copy) == [*(each.name for each in DATASETS), NEW]
    code = "from include.datasets import DATASETS; from scripts.dataset import remove; remove(DATASETS[-1:])"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True)
    assert files(copy) == before


def test_datasets_are_listed_in_the_order_in_which_they_are_added_and_imported_as_ruff_sorts(copy: Path) -> None:
    for name in NAMES:
        add(name)

    assert declared(copy) == [*(each.name for each in DATASETS), *NAMES]
    imports = [line for line in (copy / LIST).read_text().splitlines() if line.startswith("from include.datasets.")]
    added = [line.split(".")[2] for line in imports if line.split(".")[2] in NAMES]
    assert added == ["made_b9", "made_b10", NEW, "made_up_name_as_long_as_one_may_be______"]


def test_a_dataset_is_removed_with_all_that_imports_it(copy: Path) -> None:
    left = list(GROUPS)
    for name, group in reversed(GROUPS.items()):
        listed = parts(group)

        remove(group)

        left.remove(name)
        assert [path for path in listed if (copy / path).exists()] == []
        named = f"include.datasets.{name}".encode()
        assert [path for path, text in files(copy).items() if named in text] == []
        assert declared(copy) == [each.name for kept in left for each in GROUPS[kept]]
        # The suites of the others belong to them, and none is left over.
        code = "from include.datasets import DATASETS; from include.pipeline import declarations as d"
        subprocess.run([sys.executable, "-c", f"{code}; d.check_declarations(DATASETS)"], cwd=copy, check=True)


def test_what_another_dataset_needs_is_not_removed_before_it(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(copy)
    needed = {table.partition(".")[0]: each.schema for each in DATASETS for table in each.reads}
    for name in GROUPS:
        reader = needed.get(name, name)
        if reader != name:
            assert run(monkeypatch, "remove", name) == 2
            assert f"{reader} reads {name}." in capsys.readouterr().err
    (copy / "dags" / "a_dag_of_both.py").write_text(
        "".join(f"from include.datasets.{name} import dataset\n" for name in GROUPS)
    )
    with pytest.raises(Refused, match=rf"dags/a_dag_of_both\.py imports .*: remove {LAST[0].schema} first"):
        parts(next(iter(GROUPS.values())))
    (copy / "dags" / "a_dag_of_both.py").unlink()
    assert files(copy) == before


def test_all_datasets_can_be_removed_and_another_be_added(copy: Path) -> None:
    for group in reversed(GROUPS.values()):
        remove(group)
    assert declared(copy) == []

    add(NEW)

    assert declared(copy) == [NEW]
    assert f"= ({NEW.upper()},)\n" in (copy / LIST).read_text()  # one line, as ruff formats it


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "use up to 40 lower-case letters"),
        ("Rates", "use up to 40 lower-case letters"),
        ("fx-rates", "use up to 40 lower-case letters"),
        ("../rates", "use up to 40 lower-case letters"),
        ("a" * 41, "use up to 40 lower-case letters"),
        ("warehouse", "a schema of the platform or of Postgres"),
        ("pg_rates", "a schema of the platform or of Postgres"),
        ("rates_staging", "a schema of the platform or of Postgres"),
        ("class", "a reserved word"),
        ("order", "a reserved word"),
        ("data_freshness", "dags/data_freshness.py exists already"),
        *((name, "the platform uses that name already") for name in ("admin", "reader", "smoke", "day", *TOY_NAMES)),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_before_anything_is_written(copy: Path, name: str, message: str) -> None:
    before = files(copy)

    with pytest.raises(Refused, match=message):
        add(name)

    assert files(copy) == before


def test_a_dataset_that_exists_is_not_overwritten(copy: Path) -> None:
    add(NEW)
    before = files(copy)

    with pytest.raises(Refused, match="exists already"):
        add(NEW)

    assert files(copy) == before


def run(monkeypatch: pytest.MonkeyPatch, *words: str, answer: str | None = None) -> int:
    """Run the script as make does, and answer what it asks; None ends the input instead."""

    def ask(_: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(sys, "argv", ["dataset", *words])
    monkeypatch.setattr("builtins.input", ask)
    return script.main()


@pytest.mark.parametrize("answer", [None, "", "n"], ids=["no input", "only return", "no"])
def test_nothing_is_removed_without_a_yes(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str | None
) -> None:
    monkeypatch.delenv("YES", raising=False)
    before = files(copy)

    assert run(monkeypatch, "remove", LAST[0].schema, answer=answer) == 2

    printed = capsys.readouterr()
    assert [path for path in parts(LAST) if f"  {path}\n" not in printed.out] == []
    assert "Nothing was removed" in printed.err
    assert files(copy) == before


@pytest.mark.parametrize(("answer", "yes"), [("y", ""), (None, "1")], ids=["asked", "YES=1"])
def test_a_removal_ends_with_the_statements_that_drop_what_the_warehouse_holds(
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    warehouse: Login,
    answer: str | None,
    yes: str,
) -> None:
    listed = parts(LAST)
    monkeypatch.setenv("YES", yes)

    assert run(monkeypatch, "remove", LAST[0].schema, answer=answer) == 0

    assert [path for path in listed if (copy / path).exists()] == []
    statements = "\n".join(line for line in capsys.readouterr().out.splitlines() if line.endswith(";"))
    with warehouse.connect() as admin:
        admin.execute(statements.encode())
        left = admin.execute(
            "select nspname from pg_namespace where nspname in (%s, %s)", [LAST[0].schema, LAST[0].staging_schema]
        ).fetchall()
    assert left == []


def test_a_dataset_that_is_not_there_is_not_removed(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(copy)

    assert run(monkeypatch, "remove", NEW) == 2

    assert f"NAME={NEW}: there is no such dataset. The datasets are: " in capsys.readouterr().err
    assert files(copy) == before
