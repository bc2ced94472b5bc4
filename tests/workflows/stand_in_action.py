"""A stand-in for an action: it records its name and inputs, and does what later steps need."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PLACE = json.loads((Path(__file__).parent / "place.json").read_text())
FOLDER = Path(PLACE["folder"])
INPUTS = {name: os.environ.get(f"INPUT_{name.upper().replace('-', '_')}", "") for name in PLACE["inputs"]}


def checkout() -> None:
    """Check out the commit in `ref`; without `ref`, act itself has done it."""
    subprocess.run(["git", "clone", "--quiet", PLACE["clone"], "."], check=True)  # noqa: S607
    subprocess.run(["git", "checkout", "--quiet", "--detach", INPUTS["ref"]], check=True)  # noqa: S607


def python(version: str) -> str:
    """Return the interpreter of a version, or an empty string if this machine has none; resolve pyenv's shims."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    for candidate in (shutil.which(f"python{version}"), *map(str, installed)):
        if candidate:
            code = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2])"
            output = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False).stdout
            if output.split()[1:] == [version]:
                return output.split()[0]
    return ""


def setup_python() -> None:
    """Put a Python of the version first on the PATH; if this machine has none, the one that runs the tests."""
    version = INPUTS["python-version"]
    found = python(version)
    shared = Path(PLACE["root"]) / ".venv"
    if os.environ.get("SHARE") or not found:
        # Use the environment of the checkout unchanged, with the interpreter that created it.
        found = str(Path(sys.executable).resolve())
        Path(".venv").symlink_to(shared)
        Path(".airlock").mkdir(exist_ok=True)
        for name in ("cache", "uv"):
            Path(".airlock", name).symlink_to(shared.parent / ".airlock" / name)
        print(f"stand-in: Python {version} is {found}, with the environment of the checkout")
    place = FOLDER / f"python-{version}"
    place.mkdir(exist_ok=True)
    link = place / "python3"
    link.unlink(missing_ok=True)
    link.symlink_to(found)
    add_path(place)


def credentials() -> None:
    """Replace the programs that use the credentials by stand-ins in the later steps."""
    add_path(FOLDER / "cloud")


def add_path(folder: Path) -> None:
    """Put a folder first on the PATH of later steps."""
    with Path(os.environ["GITHUB_PATH"]).open("a") as file:
        file.write(f"{folder}\n")


def upload() -> None:
    """Copy the files to the artifacts, like the action without hidden files."""
    source, target = Path(INPUTS["path"]), FOLDER / "artifacts" / INPUTS["name"]
    hidden = any(part.startswith(".") for part in source.parts)
    if hidden and INPUTS["include-hidden-files"] != "true":
        print("stand-in: no files found; hidden files are not uploaded")
    elif source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        target.mkdir(parents=True)
        shutil.copy(source, target)


def download() -> None:
    """Copy the artifacts that match into the work tree."""
    for artifact in (FOLDER / "artifacts").glob("*"):
        if fnmatch.fnmatch(artifact.name, INPUTS["pattern"] or INPUTS["name"]):
            shutil.copytree(artifact, INPUTS["path"], dirs_exist_ok=True)


with (FOLDER / "calls.jsonl").open("a") as calls:
    words = [f"{name}={value}" for name, value in INPUTS.items() if value]
    calls.write(json.dumps({"call": [PLACE["action"], *words]}) + "\n")
failing = FOLDER / "fail"
if failing.exists() and re.match(failing.read_text(), PLACE["action"]):
    sys.exit(f"stand-in: {PLACE['action']} fails on request")
parts = {
    "actions/checkout": checkout,
    "actions/setup-python": setup_python,
    "aws-actions/configure-aws-credentials": credentials,
    "actions/upload-artifact": upload,
    "actions/download-artifact": download,
}
parts.get(PLACE["action"], lambda: None)()
