"""Lint is defined once, for `make lint`, pre-commit and CI, and each of its tools finds its kind of mistake."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from pre_commit.clientlib import load_config  # type: ignore[import-untyped]

from include.dataset import suite_name
from include.datasets import DATASETS

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ".pre-commit-config.yaml"

WORKFLOW = """\
name: Example
on: push
permissions: {}
concurrency:
  group: example-${{ github.ref }}
  cancel-in-progress: true
jobs:
  one:
    name: One
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions:
      contents: read
    steps:
      - name: Check out
        uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - name: Say
        run: echo "$HOME"
"""
DEPENDABOT = """\
version: 2
updates:
  - package-ecosystem: docker
    directory: /
    schedule: {interval: weekly}
    cooldown: {default-days: 7}
"""
ACTION = """\
name: Example
description: Says something.
runs:
  using: composite
  steps:
    - name: Say
      shell: bash
      run: echo "$HOME"
"""
SQL = """\
SELECT {columns}
FROM {table}
WHERE day = %(day)s AND object = '{{ view }}' AND batch_id = %s AND ticker = any(%(tickers)s::text[])
"""


@dataclass(frozen=True)
class Planted:
    """A mistake, and the file without it."""

    hook: str
    path: str
    bad: str
    message: str
    good: str

    def __str__(self) -> str:
        return f"{self.hook}-{self.message}"


# Texts that a linter would find in this file as well are joined from two parts.
MISTAKES = [
    Planted(
        "ruff-check",
        "dags/one.py",
        '"""One."""\n\nfrom airflow.models import Variable\n\nONE = Variable\n',
        "airflow3-suggested-update",
        '"""One."""\n\nfrom airflow.sdk import Variable\n\nONE = Variable\n',
    ),
    Planted("ruff-format", "dags/one.py", "one = {'a':1}\n", "files were modified", 'one = {"a": 1}\n'),
    Planted("end-of-file-fixer", "notes.txt", "one", "files were modified", "one\n"),
    Planted("trailing-whitespace", "notes.txt", "one \n", "files were modified", "one\n"),
    Planted("mypy", "dags/one.py", 'one: int = "1"\n', "Incompatible types", "one: int = 1\n"),
    Planted("sqlfluff", "include/one.sql", SQL.replace("SELECT", "select"), "CP01", SQL),
    Planted("sqlfluff", "include/one.sql", SQL.replace("WHERE", "WHERE WHERE"), "PRS", SQL),
    Planted("shellcheck", "one.sh", "#!/bin/sh\necho $1\n", "SC2086", '#!/bin/sh\necho "$1"\n'),
    Planted("hadolint", "Dockerfile", "FROM debian\n", "DL3006", (ROOT / "Dockerfile").read_text()),
    Planted("check-yaml", "one.yml", "a: [1\n", "expected ',' or ']'", "a: [1]\n"),
    Planted("yamllint", "one.yml", "a: 1\na: 2\n", "duplication of key", "a: 1\nb: 2\n"),
    Planted("check-json", "one.json", "{1}\n", "Failed to json decode", "{}\n"),
    Planted("check-toml", "one.toml", "a = \n", "Invalid value", "a = 1\n"),
    Planted("rumdl", "one.md", "# One\n\n### Three\n", "MD001", "# One\n\n## Two\n"),
    Planted("rumdl", "one.md", "# One\n\n[two](two.md)\n", "MD057", "# One\n\n[one](one.md)\n"),
    Planted("codespell", "one.md", "rec" + "ieve\n", "==> receive", "receive\n"),
    Planted(
        "workflow-schema",
        ".github/workflows/one.yml",
        WORKFLOW.replace("runs-on", "runs-at"),
        "runs-at",
        WORKFLOW,
    ),
    Planted("action-schema", ".github/actions/one/action.yml", ACTION.replace("steps", "stops"), "stops", ACTION),
    Planted(
        "dependabot-schema",
        ".github/dependabot.yml",
        DEPENDABOT.replace("weekly", "often"),
        "often",
        DEPENDABOT,
    ),
    Planted(
        "actionlint",
        ".github/workflows/one.yml",
        WORKFLOW.replace("${{ github.ref }}", "${{ github.reef }}"),
        '"reef" is not defined',
        WORKFLOW,
    ),
    Planted("actionlint", ".github/workflows/one.yml", WORKFLOW.replace('"$HOME"', "$HOME"), "SC2086", WORKFLOW),
    Planted(
        "zizmor",
        ".github/workflows/one.yml",
        re.sub("@[0-9a-f]{40} # ", "@", WORKFLOW),
        "unpinned-uses",
        WORKFLOW,
    ),
    Planted(
        "zizmor",
        ".github/workflows/one.yml",
        WORKFLOW.replace("ubuntu-24.04", "self-hosted"),
        "self-hosted-runner",  # only the persona auditor reports this
        WORKFLOW,
    ),
    Planted(
        "zizmor",
        ".github/dependabot.yml",
        DEPENDABOT.replace("    cooldown: {default-days: 7}\n", ""),
        "dependabot-cooldown",
        DEPENDABOT,
    ),
    Planted("gitleaks", "notes.txt", "id = AKI" + "AQ3ERHXV2MTYB7ZKN\n", "aws-access-token", "id = none\n"),
    Planted("gitleaks", "a folder/notes.txt", "id = AKI" + "AQ3ERHXV2MTYB7ZKN\n", "a folder/notes.txt", "id = none\n"),
    Planted("detect-private-key", "notes.txt", "-----BEGIN RSA PRIV" + "ATE KEY-----\n", "Private key found", "none\n"),
    Planted("check-added-large-files", "notes.txt", "one line\n" * 200_000, "exceeds 1000 KB", "one line\n"),
]


@pytest.fixture(scope="module")
def hooks() -> list[dict[str, Any]]:
    """Return the hooks as pre-commit itself reads them; it refuses keys that it does not know."""
    config = load_config(ROOT / CONFIG)
    return [{**hook, "repo": repo["repo"]} for repo in config["repos"] for hook in repo["hooks"]]


@pytest.fixture
def environment() -> dict[str, str]:
    """Return the environment of `make lint`, with nothing of this machine's own git."""
    cache = ROOT / ".airlock" / "cache"
    homes = {"PREK_HOME": str(cache / "prek"), "PRE_COMMIT_HOME": str(cache / "pre-commit")}
    ours = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    author = {"GIT_AUTHOR_NAME": "one", "GIT_AUTHOR_EMAIL": "one@example.org"}
    committer = {"GIT_COMMITTER_NAME": "one", "GIT_COMMITTER_EMAIL": "one@example.org"}
    return {**homes, **ours, **author, **committer, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def clone(tmp_path: Path, environment: Mapping[str, str]) -> Path:
    """Return a repository with the settings of this one, in which linters find nothing."""
    shutil.copy(ROOT / CONFIG, tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    for folder in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    for name in ("terraform_fmt.py", "infrastructure.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    run(["git", "init", "--quiet"], tmp_path, environment)
    run(["git", "add", CONFIG, "pyproject.toml"], tmp_path, environment)
    return tmp_path


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def lint(hook: str, path: str, text: str, clone: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Write a file into the clone and run one hook on it; returns the exit status and the output."""
    file = clone / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    run(["git", "add", path], clone, environment)
    done = run([sys.executable, "-m", "prek", "run", hook, "--files", path], clone, environment)
    return done.returncode, done.stdout


def pins(hooks: list[dict[str, Any]]) -> Iterator[Requirement]:
    for hook in hooks:
        yield from map(Requirement, hook["additional_dependencies"])


def test_every_hook_comes_from_the_package_index(hooks: list[dict[str, Any]]) -> None:
    """A hook from another repository would need that repository at every first run."""
    foreign = {hook["id"] for hook in hooks if hook["repo"] != "local"}
    # A tool that the hook does not install comes from the project's environment, which uv.lock pins.
    elsewhere = {
        hook["id"] for hook in hooks if hook["language"] != "python" and not hook["entry"].startswith(".venv/bin/")
    }
    empty = {hook["id"] for hook in hooks if (hook["language"] == "python") != bool(hook["additional_dependencies"])}
    assert not foreign | elsewhere | empty


def test_every_tool_is_pinned_exactly_and_to_one_version(hooks: list[dict[str, Any]]) -> None:
    found = defaultdict(set)
    for pin in pins(hooks):
        found[pin.name].add(str(pin.specifier))
    assert found
    assert {name: pin for name, pin in found.items() if not re.fullmatch(r"\{'==[0-9][\w.]*'\}", str(pin))} == {}


def test_the_runner_is_pinned_exactly_and_no_tool_has_two_versions(hooks: list[dict[str, Any]]) -> None:
    """What a hook installs for itself and what .venv has must not differ."""
    locked = {
        package["name"]: package["version"]
        for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        if "version" in package
    }
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    assert f"prek=={locked['prek']}" in dev
    assert [str(pin) for pin in pins(hooks) if locked.get(pin.name, "") not in ("", str(pin.specifier)[2:])] == []


def test_pre_commit_takes_the_file(environment: dict[str, str]) -> None:
    done = run([sys.executable, "-m", "pre_commit", "validate-config", CONFIG], ROOT, environment)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_hook_is_tested_with_a_mistake(hooks: list[dict[str, Any]]) -> None:
    """A linter with the wrong files or settings always passes."""
    # In tests of their own, below or of terraform/.
    elsewhere = {"terraform-fmt", "check-merge-conflict", "checkov", "import-linter", "datasets"}
    assert {hook["id"] for hook in hooks} == {planted.hook for planted in MISTAKES} | elsewhere


@pytest.mark.linters
@pytest.mark.parametrize("planted", MISTAKES, ids=str)
def test_a_planted_mistake_is_found(planted: Planted, clone: Path, environment: dict[str, str]) -> None:
    failed, output = lint(planted.hook, planted.path, planted.bad, clone, environment)
    assert failed, output
    assert planted.message in output
    failed, output = lint(planted.hook, planted.path, planted.good, clone, environment)
    assert not failed, output


@pytest.fixture
def project(clone: Path, environment: Mapping[str, str]) -> Path:
    """Return a repository with all packages and suites of this one."""
    folders = ("dags", "great_expectations", "include", "local", "scripts", "tests/datasets")
    for folder in folders:
        shutil.copytree(ROOT / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    run(["git", "add", *folders], clone, environment)
    return clone


@pytest.mark.linters
@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("include/quality/gate.py", "from include.pipeline import load"),
        ("include/warehouse/roles.py", "from include import datasets"),
        ("include/pipeline/load.py", "from local import state"),
        ("local/demo.py", "import tests.toy"),
        ("scripts/dag_runs.py", "import dags.data_freshness"),
    ],
)
def test_an_import_in_the_wrong_direction_is_found(
    project: Path, environment: dict[str, str], path: str, line: str
) -> None:
    text = (project / path).read_text()
    failed, output = lint("import-linter", path, f"{text}\n{line}\n", project, environment)
    assert failed, output
    assert "BROKEN" in output
    failed, output = lint("import-linter", path, text, project, environment)
    assert not failed, output


NO_SUCH_COLUMN = "no_such_column"


@pytest.mark.linters
@pytest.mark.parametrize(
    ("found", "replacement", "message"),
    [
        (
            r"key=\(",
            f'key=("{NO_SUCH_COLUMN}", ',
            f"key column '{NO_SUCH_COLUMN}', which does not exist",
        ),
        (r'name="(\w+)"', 'name="Bad Name"', "use up to 40 lower-case letters"),
        (r'connection="\w+"', 'connection=""', "connection is empty: fill it in"),
        (r"publishes=\(.*?\)\,\),", "publishes=(),", "publishes is empty: declare a Table or a View"),
    ],
)
def test_a_declaration_that_cannot_work_is_found(
    project: Path, environment: dict[str, str], found: str, replacement: str, message: str
) -> None:
    run([sys.executable, "-m", "scripts.dataset", "add", "made_by_a_test"], project, environment)
    path = "include/datasets/made_by_a_test/dataset.py"
    text = (project / path).read_text()
    changed = re.sub(found, replacement, text, count=1, flags=re.DOTALL)
    assert changed != text
    failed, output = lint("datasets", path, changed, project, environment)
    assert failed, output
    assert message in " ".join(output.split())
    failed, output = lint("datasets", path, text, project, environment)
    assert not failed, output


@pytest.mark.linters
def test_a_suite_without_a_table_and_a_table_without_a_suite_are_found(
    project: Path, environment: dict[str, str]
) -> None:
    path = "great_expectations/expectations/nobody_uses_this.json"
    failed, output = lint("datasets", path, '{"name": "nobody_uses_this", "expectations": []}\n', project, environment)
    assert failed, output
    assert f"{path} is the suite of nothing that is declared" in " ".join(output.split())
    (project / path).unlink()

    suite = suite_name(DATASETS[0].publishes[0])
    (project / "great_expectations" / "expectations" / f"{suite}.json").unlink()
    failed, output = lint("datasets", "include/one.py", "", project, environment)
    assert failed, output
    assert f"has no suite: write great_expectations/expectations/{suite}.json" in " ".join(output.split())


@pytest.mark.linters
def test_nothing_is_found_in_datasets_as_they_are_generated(project: Path, environment: dict[str, str]) -> None:
    names = ("made_by_a_test", "made_2", "made_up_name_as_long_as_one_may_be______")
    for name in names:
        run([sys.executable, "-m", "scripts.dataset", "add", name], project, environment)
    run(["git", "add", "--intent-to-add", "--all"], project, environment)
    files = run(["git", "diff", "--name-only"], project, environment).stdout.split()
    assert len(files) > len(names)
    for hook in ("ruff-check", "ruff-format", "sqlfluff", "codespell", "check-json", "end-of-file-fixer", "datasets"):
        done = run([sys.executable, "-m", "prek", "run", hook, "--files", *files], project, environment)
        assert done.returncode == 0, done.stdout


@pytest.mark.linters
def test_a_conflict_is_found_while_merging(clone: Path, environment: dict[str, str]) -> None:
    (clone / ".git" / "MERGE_HEAD").touch()
    (clone / ".git" / "MERGE_MSG").write_text("Merge branch one")
    failed, output = lint("check-merge-conflict", "notes.txt", "<" * 7 + " one\n", clone, environment)
    assert failed, output
    assert "Merge conflict string" in output
    assert lint("check-merge-conflict", "notes.txt", "one\n", clone, environment)[0] == 0


@pytest.mark.linters
def test_a_commit_is_refused_once_pre_commit_is_installed(
    hooks: list[dict[str, Any]], clone: Path, environment: dict[str, str]
) -> None:
    """With one hook: pre-commit takes minutes to install them all."""
    environment["SKIP"] = ",".join(hook["id"] for hook in hooks if hook["id"] != "end-of-file-fixer")
    assert run([sys.executable, "-m", "pre_commit", "install"], clone, environment).returncode == 0
    (clone / "notes.txt").write_text("one")
    for refused in (True, False):  # the hook repaired it
        run(["git", "add", "notes.txt"], clone, environment)
        done = run(["git", "commit", "--message", "one"], clone, environment)
        assert bool(done.returncode) is refused, done.stdout
        assert "WARNING" not in done.stdout, "pre-commit does not know a key that prek knows"


@pytest.mark.linters
@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_unformatted_terraform_is_found(clone: Path, environment: dict[str, str]) -> None:
    bad, good = "locals {\n  one=1\n}\n", "locals {\n  one = 1\n}\n"
    path = "terraform/modules/one/main.tf"
    failed, output = lint("terraform-fmt", path, bad, clone, environment)
    assert failed, output
    assert "+  one = 1" in output
    assert (clone / path).read_text() == bad
    assert lint("terraform-fmt", path, good, clone, environment)[0] == 0


@pytest.mark.linters
@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_without_terraform_only_ci_fails(ci: str, status: int, clone: Path, environment: dict[str, str]) -> None:
    """Both print it: a check that is skipped silently looks like one that passed."""
    (clone / "bin").mkdir()
    for name in ("git", "sh"):
        (clone / "bin" / name).symlink_to(str(shutil.which(name)))
    environment |= {"CI": ci, "PATH": str(clone / "bin")}
    done, output = lint("terraform-fmt", "terraform/main.tf", "locals {\n  one=1\n}\n", clone, environment)
    assert done == status, output
    assert "terraform is not installed" in output
