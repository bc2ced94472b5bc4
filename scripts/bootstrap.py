"""Install the locked environment into .venv, or remove it: `python3 scripts/bootstrap.py install | clean`.

This script runs on the machine's own Python before anything is installed. So it uses the standard library only, and
no syntax that an older Python cannot parse: it has to be able to report which Python is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STATE = ROOT / ".airlock"
UV = "uv==0.13.9"  # reads uv.lock; kept by Astral
CACHES = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".terraform")


def install() -> None:
    """Install what uv.lock lists into .venv; do nothing when that is already installed."""
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        found = "{}.{}".format(*sys.version_info)
        stop(f"Airlock needs Python 3.11, 3.12 or 3.13, not {found}: set one, as in make demo PYTHON=python3.12")
    stamp = VENV / "airlock-installed"
    wanted = fingerprint()
    STATE.mkdir(exist_ok=True)
    lock = (STATE / "install.lock").open("w")  # held until this process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    print("Installing the locked environment into .venv (once; a minute or so) ...", flush=True)
    uv = uv_command()
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    run([*uv, "sync", "--frozen", "--compile-bytecode", "--python", sys.executable, *quiet], "uv sync")
    stamp.write_text(wanted)
    print(f"  done in {time.monotonic() - started:.0f} s", flush=True)


def fingerprint() -> str:
    """Return a hash of what .venv depends on: the lock and the interpreter."""
    parts = [(ROOT / name).read_bytes() for name in ("uv.lock", "pyproject.toml")]
    return hashlib.sha256(b"".join([*parts, sys.version.encode()])).hexdigest()


def uv_command() -> list[Path]:
    """Return the command of a uv inside the clone; install it first, with pip or else with venv."""
    folder = STATE / "uv"
    done = folder / UV
    pip = [sys.executable, "-m", "pip"]
    install_uv = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--root-user-action=ignore",
        UV,
    ]
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if works([*pip, "--version"]):
            run([*pip, *install_uv, "--target", folder / "lib"], "pip install uv")
        elif works([sys.executable, "-c", "import ensurepip"]):
            run([sys.executable, "-m", "venv", folder / "venv"], "python3 -m venv")
            run([folder / "venv" / "bin" / "python", "-m", "pip", *install_uv], "pip install uv")
        else:
            stop("Python has neither pip nor venv: install the package python3-venv (or python3-pip).")
        done.touch()
    found = [path for path in (folder / "lib" / "bin" / "uv", folder / "venv" / "bin" / "uv") if path.exists()]
    return [found[0]]


def run(command: Sequence[str | Path], name: str) -> None:
    """Run a command that writes only inside the clone; exit when it fails."""
    temporary = STATE / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    env = {
        **kept,
        "TMPDIR": str(temporary),
        "PIP_USER": "0",  # a user's own setting could forbid --target
        "PIP_REQUIRE_VIRTUALENV": "0",
        "UV_CACHE_DIR": str(STATE / "cache" / "uv"),
        "UV_PROJECT_ENVIRONMENT": str(VENV),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    if ssl.get_default_verify_paths().cafile:  # as pip does: a company's own CA is in the system's certificate store
        env.setdefault("UV_SYSTEM_CERTS", "true")
    result = subprocess.run([str(part) for part in command], cwd=str(ROOT), env=env, check=False)
    if result.returncode:
        stop(f"{name} failed (see above). Is the package index reachable?")


def works(command: Sequence[str]) -> bool:
    """Return whether a command succeeds."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def clean() -> None:
    """Stop the local platform and remove all files that it made, so that a bare clone is left."""
    python = VENV / "bin" / "python"
    if python.exists() and STATE.exists():
        subprocess.run([str(python), "-m", "local", "down"], cwd=str(ROOT), check=False)
    elsewhere = STATE / "postgres" / "elsewhere"
    if elsewhere.exists():
        remove(Path(elsewhere.read_text()))
    remove(STATE)
    remove(VENV)
    for name in CACHES:
        for folder in ROOT.rglob(name):
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder; a missing folder is not an error."""
    try:
        shutil.rmtree(str(folder))
    except FileNotFoundError:
        pass
    except PermissionError as error:
        stop(f"Cannot remove {error.filename}: was it made by root? Then run make clean as root.")


def stop(message: str) -> NoReturn:
    """Exit with a message of one line."""
    sys.exit("airlock: " + message)


if __name__ == "__main__":
    commands = {"install": install, "clean": clean}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit("usage: bootstrap.py " + "|".join(commands))
    try:
        commands[sys.argv[1]]()
    except KeyboardInterrupt:
        sys.exit(130)
