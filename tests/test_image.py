"""What enters the image: the DAGs and what their tasks need, and nothing else of the project."""

import posixpath
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from include.dataset import suite_name
from include.datasets import DATASETS
from include.quality import gate

# Files that git ignores: `git ls-files` does not list them, but the folder from which an image is built may have them.
SECRETS = (
    ".env",
    ".env.prod",
    "airflow_settings.yaml",
    "prod.tfvars",
    ".airlock/secrets.json",
    ".airlock/postgres/PG_VERSION",
    ".netrc",
    "id_ed25519",
    "terraform/environments/prod/terraform.tfstate",
    "dags/.env",
    "include/.env.local",
    "include/prod.env",
    "include/warehouse/server.key",
    "include/warehouse/server.pem",
    "include/secrets.json",
    "great_expectations/uncommitted/config_variables.yml",
)
LEFT_BEHIND = (
    ".git/config",
    ".venv/pyvenv.cfg",
    ".mypy_cache/3.11/cache.json",
    ".pytest_cache/README.md",
    ".ruff_cache/CACHEDIR.TAG",
    "airflow.db",
    "logs/scheduler/latest",
    "dags/__pycache__/a_dag.cpython-312.pyc",
    "include/datasets/a_dataset/__pycache__/tasks.cpython-312.pyc",
    "great_expectations/uncommitted/validations/1.json",
)
PRODUCTION = {"dags", "include", "plugins", "great_expectations", "packages.txt", "requirements.txt"}
"""What the image has of the top of the project; everything else there is for development."""


class DockerIgnore:
    """A .dockerignore as Docker reads it. The rules of a .gitignore are others, so its libraries cannot be used.

    A pattern starts at the root of the folder and covers everything below what it names; the last one that covers a
    path decides. As in moby/patternmatcher, without `[...]` and backslashes, for which it raises NotImplementedError.
    """

    def __init__(self, text: str) -> None:
        self._patterns: list[tuple[bool, re.Pattern[str]]] = []
        for line in text.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            included = line.strip().startswith("!")
            pattern = posixpath.normpath(line.strip().removeprefix("!").strip()).lstrip("/")
            if set(pattern) & set("[]\\"):
                raise NotImplementedError(f".dockerignore: {line}")
            self._patterns.append((included, self._compiled(pattern)))

    @staticmethod
    def _compiled(pattern: str) -> re.Pattern[str]:
        # Split into the wildcards, each with what it stands for, and the text between them.
        regex = ""
        for part in re.split(r"(\*\*/?|\*|\?)", pattern):
            if part in ("**", "**/"):
                regex += "(?:.*/)?" if part.endswith("/") else ".*"
            elif part in ("*", "?"):
                regex += "[^/]" + part.replace("?", "")
            else:
                regex += re.escape(part)
        return re.compile(regex, re.DOTALL)

    def lets_in(self, path: str) -> bool:
        """Return whether a path, relative to the folder, enters the image."""
        above = [path, *(str(parent) for parent in PurePosixPath(path).parents)][:-1]
        inside = True
        for included, pattern in self._patterns:
            if any(pattern.fullmatch(candidate) for candidate in above):
                inside = included
        return inside

    def kept(self, paths: Sequence[str]) -> set[str]:
        """Return the paths that enter the image."""
        return {path for path in paths if self.lets_in(path)}


@pytest.fixture(scope="module")
def root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dockerignore(root: Path) -> DockerIgnore:
    return DockerIgnore((root / ".dockerignore").read_text())


@pytest.fixture(scope="module")
def tree(root: Path) -> list[str]:
    """Return every file of the project that git has or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for path in listed.stdout.split("\0") if path and (root / path).exists()]


@pytest.mark.parametrize(
    ("patterns", "path", "inside"),
    [
        ("local", "local/demo.py", False),
        ("local", "include/local/demo.py", True),
        ("/local/", "local/demo.py", False),
        ("*.md", "docs/page.md", True),
        ("**/*.md", "docs/page.md", False),
        ("**/*.md", "README.md", False),
        ("docs/**", "docs/a/b.py", False),
        ("a?c", "abc", False),
        ("a?c", "a/c", True),
        ("*\n!dags", "dags/deep/file.py", True),
        ("*\n!dags", "dagsbag/file.py", False),
        ("!dags\n*", "dags/file.py", False),
        ("*\n!dags\ndags/", "dags/file.py", False),
        ("*\n!dags\n**/__pycache__", "dags/__pycache__/file.pyc", False),
        ("# dags", "dags/file.py", True),
    ],
)
def test_the_matcher_reads_patterns_as_docker_does(patterns: str, path: str, inside: bool) -> None:
    assert DockerIgnore(patterns).lets_in(path) is inside


def test_the_image_has_what_is_for_production_and_nothing_else(dockerignore: DockerIgnore, tree: list[str]) -> None:
    entered = {PurePosixPath(path).parts[0] for path in dockerignore.kept(tree)}
    assert entered == PRODUCTION, "see .dockerignore: it lists what may enter the image"


def test_nothing_for_production_is_left_out(dockerignore: DockerIgnore, tree: list[str]) -> None:
    wanted = {path for path in tree if PurePosixPath(path).parts[0] in PRODUCTION and not path.endswith(".md")}
    assert dockerignore.kept(tree) == wanted, ".dockerignore excludes a file that is in git: rename it, or let it in"


def test_what_a_dataset_declares_enters(dockerignore: DockerIgnore, root: Path) -> None:
    """Looked for on the disk: a rule of .gitignore must not hide a query or a suite either."""
    suites = [suite_name(each) for dataset in DATASETS for each in dataset.publishes]
    files = [
        *(path for dataset in DATASETS for path in dataset.folder.rglob("*") if path.suffix in (".py", ".sql")),
        *(gate.PROJECT / "expectations" / f"{suite}.json" for suite in suites),
    ]
    left_out = [path for file in files if not dockerignore.lets_in(path := file.relative_to(root).as_posix())]
    assert left_out == [], ".dockerignore keeps them out of the image"


@pytest.mark.parametrize("path", SECRETS + LEFT_BEHIND)
def test_secrets_and_what_running_leaves_behind_stay_out(dockerignore: DockerIgnore, path: str) -> None:
    assert not dockerignore.lets_in(path), f".dockerignore lets {path} into the image"


def test_the_astro_cli_can_leave_the_dags_out(root: Path, dockerignore: DockerIgnore) -> None:
    """To deploy DAGs apart from the image, it appends this line; it stops when the line is there already."""
    text = (root / ".dockerignore").read_text()
    assert "dags/" not in text.splitlines()
    assert dockerignore.lets_in("dags/a_dag.py")
    assert not DockerIgnore(f"{text}dags/\n").lets_in("dags/a_dag.py")
