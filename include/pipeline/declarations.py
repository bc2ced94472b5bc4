"""Whether what the datasets declare is there: suites and queries, each of them belonging to something."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from include.dataset import Dataset, InvalidDeclaration, View, suite_name
from include.quality import gate

# Comments and quoted texts of a query, in which a semicolon does no harm.
_TEXT = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)


def check_declarations(datasets: Iterable[Dataset], project: Path | None = None) -> None:
    """Check declarations against the files of the project; the migrations check them against the warehouse.

    Raises InvalidDeclaration, which says what to change, for a table or view without a suite, a suite that nothing
    uses or that has another name inside, a folder of another name, and a query that is not declared or is not one
    SELECT.
    """
    datasets = tuple(datasets)
    suites = (project or gate.PROJECT) / "expectations"
    used = {suite_name(each): f"{dataset.name}.{each.name}" for dataset in datasets for each in dataset.publishes}
    files = {path.stem: path for path in sorted(suites.glob("*.json"))}
    for suite, owner in used.items():
        if suite not in files:
            raise InvalidDeclaration(
                f"{owner} has no suite: write great_expectations/expectations/{suite}.json, or correct the name of its "
                "suite in dataset.py; nothing is published unchecked."
            )
    for suite, path in files.items():
        where = f"great_expectations/expectations/{path.name}"
        if suite not in used:
            raise InvalidDeclaration(
                f"{where} is the suite of nothing that is declared: name it in a dataset.py in include/datasets, or "
                "remove it."
            )
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise InvalidDeclaration(f"{where} is not JSON: {error}.") from None
        name = content.get("name") if isinstance(content, dict) else None
        if name != suite:
            raise InvalidDeclaration(f'{where} has the name {name!r} inside: write "name": "{suite}".')
    for dataset in datasets:
        if dataset.folder.name != dataset.schema or not dataset.folder.is_dir():
            raise InvalidDeclaration(
                f"{dataset.name} has the folder {dataset.folder}: it must be include/datasets/{dataset.schema}."
            )
        _check_queries(dataset)


def _check_queries(dataset: Dataset) -> None:
    declared = {view.name: dataset.query_path(view) for view in dataset.publishes if isinstance(view, View)}
    where = f"include/datasets/{dataset.folder.name}"
    for name, path in declared.items():
        if not path.exists():
            raise InvalidDeclaration(f"{where}/{name}.sql does not exist: write the query of the view {name} there.")
        code = _TEXT.sub(" ", path.read_text())
        if ";" in code or code.upper().split(maxsplit=1)[:1] not in (["SELECT"], ["WITH"]):
            raise InvalidDeclaration(f"{where}/{path.name}: write one SELECT, without a semicolon.")
    for path in sorted(dataset.folder.glob("*.sql")):
        if path.stem not in declared:
            raise InvalidDeclaration(
                f'{where}/{path.name} is not declared: add View("{path.stem}", key=(...)) to {where}/dataset.py, or '
                "remove it."
            )
