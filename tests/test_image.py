"""What goes into the image: the DAGs and what their tasks need, and nothing else of this folder."""

import posixpath
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

# Not in git, so `git ls-files` does not name them, yet the folder that an image is built from may hold them.
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
    "dags/__pycache__/market_etl__traditional.cpython-312.pyc",
    "include/market/__pycache__/flatten.cpython-312.pyc",
    "great_expectations/uncommitted/validations/1.json",
)
NOT_FOR_PRODUCTION = (
    ".astro/config.yaml",
    ".ci/run",
    ".github/workflows/ci.yml",
    "benchmarks/load.py",
    "docs/quality.md",
    "local/demo.py",
    "scripts/airflow_api.py",
    "terraform/modules/astro/main.tf",
    "tests/conftest.py",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "uv.lock",
)
NEEDED = (
    "dags/market_etl__traditional.py",
    "dags/market_etl__taskflow_api.py",
    "include/market_etl__taskflow_api__helpers.py",
    "include/warehouse/rds-ca.crt",
    "include/sql/market/publish_day.sql",
    "include/warehouse/migrations/script.py.mako",
    "include/warehouse/migrations/versions/0001_roles_and_market.sql",
    "great_expectations/great_expectations.yml",
    "great_expectations/expectations/market.json",
    "plugins/data_quality.py",
    "packages.txt",
    "requirements.txt",
)
ROOMS = {"dags", "include", "plugins", "great_expectations", "packages.txt", "requirements.txt"}


class DockerIgnore:
    """Docker's reading of a .dockerignore; gitignore's rules differ, so its libraries do not serve.

    A pattern starts at the root of the folder, covers everything below what it names, and the last one that
    covers a path decides. As in moby/patternmatcher, less `[...]` and backslashes, which are refused.
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
        """Tell whether a path, relative to the folder, enters the image."""
        above = [path, *(str(parent) for parent in PurePosixPath(path).parents)][:-1]
        inside = True
        for included, pattern in self._patterns:
            if any(pattern.fullmatch(candidate) for candidate in above):
                inside = included
        return inside

    def kept(self, paths: Sequence[str]) -> set[str]:
        """Give those of some paths that enter the image."""
        return {path for path in paths if self.lets_in(path)}


@pytest.fixture(scope="module")
def root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dockerignore(root: Path) -> DockerIgnore:
    return DockerIgnore((root / ".dockerignore").read_text())


@pytest.fixture(scope="module")
def tree(root: Path) -> list[str]:
    """Every file of the project that git has or would take."""
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


def test_the_image_has_the_rooms_of_production_and_no_other(dockerignore: DockerIgnore, tree: list[str]) -> None:
    entered = {PurePosixPath(path).parts[0] for path in dockerignore.kept(tree)}
    assert entered - {"plugins"} == ROOMS - {"plugins"}, "see .dockerignore: it names what may enter the image"


def test_nothing_of_production_is_left_out(dockerignore: DockerIgnore, tree: list[str]) -> None:
    produced = {path for path in tree if PurePosixPath(path).parts[0] in ROOMS and not path.endswith(".md")}
    assert produced
    assert dockerignore.kept(tree) == produced, ".dockerignore keeps out what git holds: rename it or let it in"


@pytest.mark.parametrize("path", NEEDED)
def test_what_tasks_need_enters(dockerignore: DockerIgnore, path: str) -> None:
    assert dockerignore.lets_in(path), f".dockerignore keeps {path} out of the image"


@pytest.mark.parametrize("path", SECRETS + LEFT_BEHIND + NOT_FOR_PRODUCTION)
def test_secrets_leftovers_and_other_rooms_stay_out(dockerignore: DockerIgnore, path: str) -> None:
    assert not dockerignore.lets_in(path), f".dockerignore lets {path} into the image"


def test_the_astro_cli_can_leave_the_dags_out(root: Path) -> None:
    """A deployment that takes DAGs apart from the image appends this line, and refuses to find it there before."""
    text = (root / ".dockerignore").read_text()
    assert "dags/" not in text.splitlines()
    assert not DockerIgnore(f"{text}dags/\n").lets_in("dags/market_etl__traditional.py")
