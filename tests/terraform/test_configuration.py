"""What can be known of terraform/ without applying it: it is valid, its guards hold, its scanner is content."""

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


# Alone, a module may not give an ephemeral password: secrets is validated as part of the environments.
@pytest.mark.parametrize("folder", [each for each in FOLDERS if each.name != "secrets"], ids=str)
def test_is_valid(folder: Path, checkout: Path, terraform: Terraform, astro: AstroDouble) -> None:
    terraform = terraform.within(astro.environment)
    here = f"-chdir={checkout / 'terraform' / folder}"

    terraform.run("terraform", here, "init", "-backend=false")
    terraform.run("terraform", here, "validate")


def test_modules_do_and_refuse_what_their_tests_say(checkout: Path, terraform: Terraform, astro: AstroDouble) -> None:
    terraform = terraform.within(astro.environment)
    here = f"-chdir={checkout / 'terraform'}"

    terraform.run("terraform", here, "init")
    said = terraform.run("terraform", here, "test")

    assert re.search(r"\b[1-9]\d* passed, 0 failed", said)


@pytest.mark.parametrize("module", [each for each in FOLDERS if each.parts[0] == "modules"], ids=str)
def test_a_module_says_what_goes_in_and_out(module: Path) -> None:
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
    told = re.findall(r"^\| `(\w+)` \|(?: [^|]* \|)? ([^|]+) \|$", (folder / "README.md").read_text(), re.M)

    assert set(told) == declared


def test_the_database_is_the_one_that_make_demo_runs() -> None:
    bound = (bootstrap.ROOT / "terraform" / "modules" / "database" / "variables.tf").read_text()
    declared = re.search(r'variable "engine_version".*?default\s+= "(\d+)"', bound, re.DOTALL)
    said = subprocess.run([PROGRAMS / "postgres", "--version"], capture_output=True, text=True, check=True).stdout

    assert declared
    assert f"(PostgreSQL) {declared[1]}." in said


def checkov(folder: Path) -> tuple[int, str]:
    """Run the hook that .pre-commit-config.yaml has for it, as `make lint` runs the others."""
    homes = {"PREK_HOME": str(bootstrap.STATE / "cache" / "prek")}
    command = [sys.executable, "-m", "prek", "run", "checkov", "--hook-stage", "manual", "--all-files"]
    done = subprocess.run(command, cwd=folder, env={**homes, **os.environ}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.linters
def test_checkov_finds_nothing() -> None:
    status, said = checkov(bootstrap.ROOT)

    assert status == 0, said


@pytest.mark.linters
def test_checkov_finds_what_is_wrong(tmp_path: Path) -> None:
    shutil.copy(bootstrap.ROOT / ".pre-commit-config.yaml", tmp_path)
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "main.tf").write_text('resource "aws_sns_topic" "open" {\n  name = "open"\n}\n')
    for command in (["git", "init", "--quiet"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)

    status, said = checkov(tmp_path)

    assert status != 0
    assert "CKV_AWS_26" in said


def test_every_folder_asks_for_the_same_versions() -> None:
    asked: dict[str, set[str]] = {}
    for folder in FOLDERS:
        text = (bootstrap.ROOT / "terraform" / folder / "versions.tf").read_text()
        for name, version in re.findall(r'(required_version|source) += "([^"]+)"', text):
            if name == "required_version":
                asked.setdefault("terraform", set()).add(version)
            else:
                bound = re.search(rf'source += "{version}"\s+version = "([^"]+)"', text)
                assert bound, folder
                asked.setdefault(version, set()).add(bound[1])

    assert {name: len(versions) for name, versions in asked.items()} == dict.fromkeys(asked, 1)
    wanted = (bootstrap.ROOT / "terraform" / ".terraform-version").read_text().strip()
    assert Version(wanted) in SpecifierSet(asked["terraform"].pop())
