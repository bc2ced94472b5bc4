"""A stand-in for an action: it records which it is and its inputs, and does the part of it that later steps need."""

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
GIVEN = {name: os.environ.get(f"INPUT_{name.upper().replace('-', '_')}", "") for name in PLACE["inputs"]}


def checkout() -> None:
    """Check out the commit that is asked for; act itself does it where none is."""
    subprocess.run(["git", "clone", "--quiet", PLACE["clone"], "."], check=True)  # noqa: S607
    subprocess.run(["git", "checkout", "--quiet", "--detach", GIVEN["ref"]], check=True)  # noqa: S607


def python(version: str) -> str:
    """Give the interpreter of a version that this machine has, or nothing; a shim says which one it stands for."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    for candidate in (shutil.which(f"python{version}"), *map(str, installed)):
        if candidate:
            question = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2])"
            told = subprocess.run([candidate, "-c", question], capture_output=True, text=True, check=False).stdout
            if told.split()[1:] == [version]:
                return told.split()[0]
    return ""


def setup_python() -> None:
    """Put a Python of the version first on the PATH; where this machine has none, the one that runs the tests."""
    wanted = GIVEN["python-version"]
    found = python(wanted)
    shared = Path(PLACE["root"]) / ".venv"
    if os.environ.get("SHARE") or not found:
        # The environment of the checkout is used as it is, with the interpreter that it was made by.
        found = str(Path(sys.executable).resolve())
        Path(".venv").symlink_to(shared)
        Path(".airlock").mkdir(exist_ok=True)
        for name in ("cache", "uv"):
            Path(".airlock", name).symlink_to(shared.parent / ".airlock" / name)
        print(f"stand-in: Python {wanted} is {found}, with the environment of the checkout")
    place = FOLDER / f"python-{wanted}"
    place.mkdir(exist_ok=True)
    link = place / "python3"
    link.unlink(missing_ok=True)
    link.symlink_to(found)
    add_path(place)


def credentials() -> None:
    """Let programs that would use the credentials be stand-ins from here on."""
    add_path(FOLDER / "cloud")


def add_path(folder: Path) -> None:
    """Put a folder first on the PATH of later steps."""
    with Path(os.environ["GITHUB_PATH"]).open("a") as file:
        file.write(f"{folder}\n")


def upload() -> None:
    source, target = Path(GIVEN["path"]), FOLDER / "artifacts" / GIVEN["name"]
    hidden = any(part.startswith(".") for part in source.parts)
    if hidden and GIVEN["include-hidden-files"] != "true":
        print("stand-in: no files found, hidden ones are not uploaded")
    elif source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        target.mkdir(parents=True)
        shutil.copy(source, target)


def download() -> None:
    for artifact in (FOLDER / "artifacts").glob("*"):
        if fnmatch.fnmatch(artifact.name, GIVEN["pattern"] or GIVEN["name"]):
            shutil.copytree(artifact, GIVEN["path"], dirs_exist_ok=True)


with (FOLDER / "calls.jsonl").open("a") as calls:
    words = [f"{name}={value}" for name, value in GIVEN.items() if value]
    calls.write(json.dumps({"call": [PLACE["action"], *words]}) + "\n")
failing = FOLDER / "fail"
if failing.exists() and re.match(failing.read_text(), PLACE["action"]):
    sys.exit(f"stand-in: {PLACE['action']} fails as it was told")
parts = {
    "actions/checkout": checkout,
    "actions/setup-python": setup_python,
    "aws-actions/configure-aws-credentials": credentials,
    "actions/upload-artifact": upload,
    "actions/download-artifact": download,
}
parts.get(PLACE["action"], lambda: None)()
