"""Add a dataset, or remove one: `python -m scripts.dataset add NAME | remove NAME`. The Makefile calls this.

What a dataset consists of is the same for each: folders of its name, the DAG files and helpers that import it, the
suites that it declares, and its entry in include/datasets/__init__.py. Datasets that share a folder are one here.
"""

import argparse
import ast
import keyword
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from include.dataset import PLATFORM_CONNECTIONS, Dataset, name_flaw, suite_name
from include.errors import AirlockError

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).parent / "dataset_template"
LIST = Path("include/datasets/__init__.py")
FOLDERS = ("include/datasets/{}", "local/sources/{}", "tests/datasets/{}", "benchmarks/{}")
# Tags of DAGs, what generated files call something else, and the datasets of tests.
_USED = (
    *("smoke", "taskflow", "traditional", "datasets", "day", "good"),
    *("readings", "rollups", "shares", "ledger", "shop"),
)
_IMPORT = re.compile(r"^from include\.datasets\.(\w+)\.dataset import (\w+)\n", re.MULTILINE)
_TUPLE = re.compile(r"(?<=^DATASETS: tuple\[Dataset, \.\.\.\] = )\(.*?\)", re.MULTILINE | re.DOTALL)


class Refused(Exception):
    """What was asked for cannot be done; the text says what to do instead."""


def add(name: str) -> list[Path]:
    """Write the files of a new dataset, and add it to DATASETS; returns the files.

    Raises Refused, before anything is written, for a name that cannot be used or that something has already.
    """
    if flaw := name_flaw(name):
        raise Refused(f"NAME={name}: {flaw}. For example: make dataset NAME=fx_rates")
    if keyword.iskeyword(name) or name in RESERVED_WORDS:
        raise Refused(f"NAME={name}: that is a reserved word of Python or SQL. Choose another name.")
    if name in _USED or f"postgres_{name}_conn" in PLATFORM_CONNECTIONS:
        raise Refused(f"NAME={name}: the platform uses that name already. Choose another name.")
    values = {
        "name": name,
        "constant": name.upper(),
        "title": " ".join(name.replace("_", " ").split()).capitalize(),
        "setting": f"{name.upper()}_BASE_URL",
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - it writes source code, with a name that was checked above
    )
    texts = {
        Path(file.removesuffix(".j2").replace("NAME", name)): environment.get_template(file).render(values)
        for file in environment.list_templates()
    }
    taken = [path for path in (*texts, *(Path(folder.format(name)) for folder in FOLDERS)) if (ROOT / path).exists()]
    if taken:
        raise Refused(f"NAME={name}: {taken[0]} exists already. Choose another name, or remove that dataset first.")
    texts[LIST] = _with(name, (ROOT / LIST).read_text())
    for path, text in texts.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
    return list(texts)


def parts(group: Sequence[Dataset]) -> list[Path]:
    """Return the folders and files that belong to the datasets of one folder and to nothing else.

    A DAG or helper that imports several belongs to the one that is listed last. Raises Refused when a later one needs
    these: it reads their tables, or a file of it imports them.
    """
    name = group[0].schema
    imports, constants = _listed((ROOT / LIST).read_text())
    order = sorted(imports, key=lambda each: constants.index(imports[each]))
    suites = [
        f"great_expectations/expectations/{suite_name(each)}.json" for dataset in group for each in dataset.publishes
    ]
    users = []
    for path in sorted((*(ROOT / "dags").glob("*.py"), *(ROOT / "include").glob("*.py"))):
        imported = [each for each in order if each in _imported_datasets(path.read_text())]
        if name in imported and imported[-1] != name:
            raise Refused(
                f"{path.relative_to(ROOT)} imports {' and '.join(imported)}: remove {imported[-1]} first, or take "
                f"{name} out of that file by hand."
            )
        if name in imported:
            users.append(path.relative_to(ROOT))
    found = [*(Path(folder.format(name)) for folder in FOLDERS), *users, *map(Path, suites)]
    return [path for path in found if (ROOT / path).exists()]


def _imported_datasets(source: str) -> set[str]:
    """Return the names of the datasets that a Python file imports, or imports something of."""
    modules = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    found = {module.split(".")[2] for module in modules if module.startswith("include.datasets.")}
    return found - {"DATASETS"}


def remove(group: Sequence[Dataset]) -> None:
    """Remove the files of the datasets of one folder, and their entry in DATASETS. The warehouse is left alone."""
    for path in parts(group):
        if (ROOT / path).is_dir():
            shutil.rmtree(ROOT / path)
        else:
            (ROOT / path).unlink()
    (ROOT / LIST).write_text(_without(group[0].schema, (ROOT / LIST).read_text()))


def drop_statements(group: Sequence[Dataset]) -> str:
    """Return the SQL that removes what the warehouse holds of the datasets of one folder."""
    schema, names = group[0].schema, ", ".join(f"'{dataset.name}'" for dataset in group)
    # A text for a person to run; the names in it were checked when the datasets were declared.
    return "\n".join(
        (
            f"DROP SCHEMA IF EXISTS {schema}, {group[0].staging_schema} CASCADE;",
            f"DROP TABLE IF EXISTS warehouse.migrations_{schema};",
            f"DELETE FROM warehouse.publication WHERE starts_with(object, '{schema}.');",  # noqa: S608
            f"DELETE FROM quality.validation WHERE checkpoint IN ({names});",  # noqa: S608
            f"DELETE FROM quality.quarantine WHERE checkpoint IN ({names});",  # noqa: S608
            f"DELETE FROM quality.incident WHERE subject IN ({names});",  # noqa: S608
        )
    )


def _with(name: str, text: str) -> str:
    """Return the text of the list of datasets with one more."""
    imports, constants = _listed(text)
    return _relisted(text, {**imports, name: name.upper()}, [*constants, name.upper()])


def _without(name: str, text: str) -> str:
    """Return the text of the list of datasets without one of them."""
    imports, constants = _listed(text)
    if name not in imports:
        raise Refused(
            f"{LIST} does not import {name} and list it as `make dataset` does: remove it there by hand first."
        )
    removed = imports.pop(name)
    return _relisted(text, imports, [each for each in constants if each != removed])


def _listed(text: str) -> tuple[dict[str, str], list[str]]:
    """Return what is listed in DATASETS, by the folder that it is imported from, and in its order."""
    listed = _TUPLE.search(text)
    if not listed:
        raise Refused(f"{LIST} has no `DATASETS: tuple[Dataset, ...] = (`: restore that line.")
    constants = re.findall(r"\*?\w+", listed[0])
    starred = {each.lstrip("*"): each for each in constants}
    imports = {name: starred[constant] for name, constant in _IMPORT.findall(text) if constant in starred}
    if unknown := set(constants) - set(imports.values()):
        raise Refused(
            f"{LIST}: DATASETS has {', '.join(sorted(unknown))}, which is no imported dataset: correct it first."
        )
    return imports, constants


def _relisted(text: str, imports: dict[str, str], constants: list[str]) -> str:
    def as_ruff_sorts(line: str) -> list[object]:  # numbers by their value
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", line)]

    lines = sorted(
        (f"from include.datasets.{name}.dataset import {constant.lstrip('*')}\n" for name, constant in imports.items()),
        key=as_ruff_sorts,
    )
    text, anchors = re.subn(
        r"(?m)^from include\.dataset import .*\n", lambda found: found[0] + "".join(lines), _IMPORT.sub("", text)
    )
    if anchors != 1:
        raise Refused(f"{LIST} has no line `from include.dataset import ...` before the imports: restore it.")
    if len(constants) > 1:
        listed = "(\n" + "".join(f"    {constant},\n" for constant in constants) + ")"
    else:  # as ruff formats it
        listed = f"({constants[0]},)" if constants else "()"
    return _TUPLE.sub(listed, text)


def _mentions(name: str) -> list[str]:
    """Return the other files of the project that name a dataset, for a person to look at."""
    word = re.compile(rf"(?<![a-z]){name}(?![a-z])")
    folders = ("README.md", "docs", "terraform", ".github", "airflow_settings.yaml.example", "pyproject.toml")
    files = [path for each in folders for path in (ROOT / each, *(ROOT / each).rglob("*")) if path.is_file()]
    return [
        str(path.relative_to(ROOT))
        for path in sorted(files)
        if path.suffix in (".md", ".tf", ".yml", ".yaml", ".example", ".toml") and word.search(path.read_text())
    ]


def _add(name: str) -> None:
    files = add(name)
    print(f"The dataset {name} is there, with {len(files)} files:")
    print("\n".join(f"  {path}" for path in files))
    folder = f"include/datasets/{name}"
    steps = (
        (f"{folder}/migrations/0001_{name}.sql", "your columns and their key"),
        (f"{folder}/dataset.py", "the same key and day; when a day is late, which days have no data"),
        (f"{folder}/client.py", "the address of your source"),
        (f"{folder}/transform.py", "from its answer to your columns"),
        (f"great_expectations/expectations/{name}.json", "what must hold before a batch is published"),
        (f"local/sources/{name}/", "recorded answers of your source, for make demo"),
        (f"tests/datasets/{name}/", "tests of all of it"),
        (f"dags/{name}.py", 'the schedule; and the tag "smoke", if each deploy is to run it'),
    )
    width = max(len(path) for path, _ in steps)
    print("\nIt runs as it is: make demo, make test-fast, make lint. Make it yours by editing, in this order:")
    print("\n".join(f"  {number}. {path:{width}}  {what}" for number, (path, what) in enumerate(steps, start=1)))
    print(
        "\nIf you ran it before you edit 1, `make clean` starts with an empty warehouse. On a deployment the dataset "
        f"connects\nas postgres_{name}_conn: Terraform creates it from the declaration; for the Astro CLI, add it to "
        "airflow_settings.yaml."
    )


def _remove(name: str, *, yes: bool) -> None:
    from include.datasets import DATASETS  # one that cannot be imported is reported by main, like other errors

    group = [each for each in DATASETS if each.schema == name]
    if not group:
        names = ", ".join(dict.fromkeys(each.schema for each in DATASETS)) or "none"
        raise Refused(f"NAME={name}: there is no such dataset. The datasets are: {names}.")
    for each in DATASETS:
        if each not in group and (read := [table for table in each.reads if table.startswith(f"{name}.")]):
            raise Refused(f"{each.schema} reads {', '.join(read)}: remove {each.schema} first.")
    _without(name, (ROOT / LIST).read_text())  # refuses before anything is asked or removed
    print(f"The dataset {name} consists of:")
    print("\n".join(f"  {path}" for path in parts(group)))
    print(f"  its two lines in {LIST}")
    if not yes:
        try:
            answer = input("Remove all of this? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise Refused("Nothing was removed. (YES=1 removes without asking.)")
    remove(group)
    print("Removed. What the warehouse holds is left alone; as the admin you can remove it with\n")
    print(drop_statements(group))
    if mentions := _mentions(name):
        print("\nThese files still mention it. They work without it; edit what you want to be different:")
        print("\n".join(f"  {path}" for path in mentions))


def main() -> int:
    """Add or remove a dataset; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("add", "remove"))
    parser.add_argument("name")
    arguments = parser.parse_args()
    try:
        if arguments.action == "add":
            _add(arguments.name)
        else:
            _remove(arguments.name, yes=os.environ.get("YES", "") not in ("", "0"))
    except (Refused, AirlockError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
