"""Checks of terraform/ that need no apply: validity, the modules' own tests, the READMEs and checkov."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from local.postgres import PROGRAMS
from scripts import bootstrap
from tests.terraform.astro_double.running import AstroDouble
from tests.terraform.conftest import Terraform, copy_of_terraform

FOLDERS = sorted(
    path.parent.relative_to(bootstrap.ROOT / "terraform")
    for path in (bootstrap.ROOT / "terraform").glob("**/versions.tf")
    if path.parent != bootstrap.ROOT / "terraform"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_terraform(tmp_path_factory.mktemp("checkout"))


# A root module cannot have an ephemeral output, so `secrets` is validated only as part of the environments.
@pytest.mark.parametrize("folder", [each for each in FOLDERS if each.name != "secrets"], ids=str)
def test_folder_is_valid(folder: Path, checkout: Path, terraform: Terraform, astro: AstroDouble) -> None:
    terraform = terraform.within(astro.environment)
    here = f"-chdir={checkout / 'terraform' / folder}"

    terraform.run("terraform", here, "init", "-backend=false")
    terraform.run("terraform", here, "validate")


@pytest.mark.e2e
def test_modules_pass_their_own_tests(checkout: Path, terraform: Terraform, astro: AstroDouble) -> None:
    terraform = terraform.within(astro.environment)
    here = f"-chdir={checkout / 'terraform'}"

    terraform.run("terraform", here, "init")
    output = terraform.run("terraform", here, "test")

    assert re.search(r"\b[1-9]\d* passed, 0 failed", output)


@pytest.mark.parametrize("module", [each for each in FOLDERS if each.parts[0] == "modules"], ids=str)
def test_readme_lists_the_variables_and_outputs_of_a_module(module: Path) -> None:
    folder = bootstrap.ROOT / "terraform" / module
    declared = {
        (name, description.replace(r"\"", '"'))
        for kind in ("variables", "outputs")
        for name, description in re.findall(
            r'^(?:variable|output) "(\w+)" \{\n  description = "(.*)"$',
            (folder / f"{kind}.tf").read_text(),
            re.MULTILINE,
        )
    }
    documented = re.findall(r"^\| `(\w+)` \|(?: [^|]* \|)? ([^|]+) \|$", (folder / "README.md").read_text(), re.M)

    assert set(documented) == declared


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_environment_has_the_connections_that_the_datasets_declare(environment: str) -> None:
    """Apply the expression of main.tf to the datasets; test_environments.py shows that Terraform can evaluate it."""
    from include.datasets import DATASETS

    main = (bootstrap.ROOT / "terraform" / "environments" / environment / "main.tf").read_text()
    expression = re.search(r'regexall\((".*"), file\(', main)
    assert expression
    pattern = json.loads(expression[1])  # HCL and JSON have the same escapes here
    files = (bootstrap.ROOT / "include" / "datasets").glob("*/dataset.py")

    found = {connection for file in files for connection in re.findall(pattern, file.read_text())}

    assert found == {dataset.connection for dataset in DATASETS}


def test_database_has_the_postgres_version_of_make_demo() -> None:
    variables = (bootstrap.ROOT / "terraform" / "modules" / "database" / "variables.tf").read_text()
    declared = re.search(r'variable "engine_version".*?default\s+= "(\d+)"', variables, re.DOTALL)
    version = subprocess.run([PROGRAMS / "postgres", "--version"], capture_output=True, text=True, check=True).stdout

    assert declared
    assert f"(PostgreSQL) {declared[1]}." in version


def checkov(folder: Path) -> tuple[int, str]:
    """Run the checkov hook of .pre-commit-config.yaml."""
    homes = {"PREK_HOME": str(bootstrap.STATE / "cache" / "prek")}
    command = [sys.executable, "-m", "prek", "run", "checkov", "--hook-stage", "manual", "--all-files"]
    done = subprocess.run(command, cwd=folder, env={**homes, **os.environ}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.linters
def test_checkov_finds_nothing() -> None:
    status, output = checkov(bootstrap.ROOT)

    assert status == 0, output


@pytest.mark.linters
def test_checkov_finds_an_unencrypted_topic(tmp_path: Path) -> None:
    shutil.copy(bootstrap.ROOT / ".pre-commit-config.yaml", tmp_path)
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "main.tf").write_text('resource "aws_sns_topic" "open" {\n  name = "open"\n}\n')
    for command in (["git", "init", "--quiet"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)

    status, output = checkov(tmp_path)

    assert status != 0
    assert "CKV_AWS_26" in output


def test_all_folders_require_the_same_versions() -> None:
    required: dict[str, set[str]] = {}
    for folder in FOLDERS:
        text = (bootstrap.ROOT / "terraform" / folder / "versions.tf").read_text()
        for name, version in re.findall(r'(required_version|source) += "([^"]+)"', text):
            if name == "required_version":
                required.setdefault("terraform", set()).add(version)
            else:
                constraint = re.search(rf'source += "{version}"\s+version = "([^"]+)"', text)
                assert constraint, folder
                required.setdefault(version, set()).add(constraint[1])

    assert {name: len(versions) for name, versions in required.items()} == dict.fromkeys(required, 1)
    pinned = (bootstrap.ROOT / "terraform" / ".terraform-version").read_text().strip()
    assert Version(pinned) in SpecifierSet(required["terraform"].pop())
