"""Lint is defined once, for `make lint`, pre-commit and CI, and each of its tools finds what it is there for."""

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
    """A mistake, and how the file looks without it."""

    hook: str
    path: str
    bad: str
    said: str
    good: str

    def __str__(self) -> str:
        return f"{self.hook}-{self.said}"


# What a linter would find in this file, too, is put together here.
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
    Planted("sqlfluff", "include/sql/one.sql", SQL.replace("SELECT", "select"), "CP01", SQL),
    Planted("sqlfluff", "include/sql/one.sql", SQL.replace("WHERE", "WHERE WHERE"), "PRS", SQL),
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
        "self-hosted-runner",  # what only the auditor asks for
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
    """Give the hooks as pre-commit itself reads them; it refuses what it does not know."""
    config = load_config(ROOT / CONFIG)
    return [{**hook, "repo": repo["repo"]} for repo in config["repos"] for hook in repo["hooks"]]


@pytest.fixture
def environment() -> dict[str, str]:
    """Give the environment of `make lint`, with nothing of this machine's own git."""
    cache = ROOT / ".airlock" / "cache"
    homes = {"PREK_HOME": str(cache / "prek"), "PRE_COMMIT_HOME": str(cache / "pre-commit")}
    ours = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    author = {"GIT_AUTHOR_NAME": "one", "GIT_AUTHOR_EMAIL": "one@example.org"}
    committer = {"GIT_COMMITTER_NAME": "one", "GIT_COMMITTER_EMAIL": "one@example.org"}
    return {**homes, **ours, **author, **committer, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def clone(tmp_path: Path, environment: Mapping[str, str]) -> Path:
    """Make a repository with this one's settings, and nothing to find."""
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
    """Write a file into the clone and run one hook on it; gives the exit status and what was said."""
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
    # What is not installed by the hook comes from the project's environment, which uv.lock pins.
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
    assert {name: said for name, said in found.items() if not re.fullmatch(r"\{'==[0-9][\w.]*'\}", str(said))} == {}


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


def test_every_hook_was_seen_to_find_something(hooks: list[dict[str, Any]]) -> None:
    """A linter whose files or settings are wrong passes always."""
    elsewhere = {"terraform-fmt", "check-merge-conflict", "checkov"}  # in tests of their own, below or of terraform/
    assert {hook["id"] for hook in hooks} == {planted.hook for planted in MISTAKES} | elsewhere


@pytest.mark.linters
@pytest.mark.parametrize("planted", MISTAKES, ids=str)
def test_a_planted_mistake_is_found(planted: Planted, clone: Path, environment: dict[str, str]) -> None:
    failed, said = lint(planted.hook, planted.path, planted.bad, clone, environment)
    assert failed, said
    assert planted.said in said
    failed, said = lint(planted.hook, planted.path, planted.good, clone, environment)
    assert not failed, said


@pytest.mark.linters
def test_a_conflict_is_found_while_merging(clone: Path, environment: dict[str, str]) -> None:
    (clone / ".git" / "MERGE_HEAD").touch()
    (clone / ".git" / "MERGE_MSG").write_text("Merge branch one")
    failed, said = lint("check-merge-conflict", "notes.txt", "<" * 7 + " one\n", clone, environment)
    assert failed, said
    assert "Merge conflict string" in said
    assert lint("check-merge-conflict", "notes.txt", "one\n", clone, environment)[0] == 0


@pytest.mark.linters
def test_a_commit_is_refused_once_pre_commit_is_installed(
    hooks: list[dict[str, Any]], clone: Path, environment: dict[str, str]
) -> None:
    """With one hook: pre-commit takes minutes to install them all."""
    environment["SKIP"] = ",".join(hook["id"] for hook in hooks if hook["id"] != "end-of-file-fixer")
    assert run([sys.executable, "-m", "pre_commit", "install"], clone, environment).returncode == 0
    (clone / "notes.txt").write_text("one")
    for refused in (True, False):  # it was repaired
        run(["git", "add", "notes.txt"], clone, environment)
        done = run(["git", "commit", "--message", "one"], clone, environment)
        assert bool(done.returncode) is refused, done.stdout
        assert "WARNING" not in done.stdout, "pre-commit does not know a key that prek knows"


@pytest.mark.linters
@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_unformatted_terraform_is_found(clone: Path, environment: dict[str, str]) -> None:
    bad, good = "locals {\n  one=1\n}\n", "locals {\n  one = 1\n}\n"
    path = "terraform/modules/one/main.tf"
    failed, said = lint("terraform-fmt", path, bad, clone, environment)
    assert failed, said
    assert "+  one = 1" in said
    assert (clone / path).read_text() == bad
    assert lint("terraform-fmt", path, good, clone, environment)[0] == 0


@pytest.mark.linters
@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_without_terraform_only_ci_fails(ci: str, status: int, clone: Path, environment: dict[str, str]) -> None:
    """And both say it: a check that is left out in silence is taken for done."""
    (clone / "bin").mkdir()
    for name in ("git", "sh"):
        (clone / "bin" / name).symlink_to(str(shutil.which(name)))
    environment |= {"CI": ci, "PATH": str(clone / "bin")}
    done, said = lint("terraform-fmt", "terraform/main.tf", "locals {\n  one=1\n}\n", clone, environment)
    assert done == status, said
    assert "terraform is not installed" in said
