"""What one clone keeps on this machine: its folders, its generated secrets, and which process runs it now."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, BinaryIO

ROOT = Path(__file__).resolve().parent.parent


class LocalError(Exception):
    """A problem on this machine that a person has to solve: printed as one line, without a traceback."""


class Refused(Exception):
    """A command that cannot be carried out as it was given; the text says what to ask for instead."""


@dataclass(frozen=True)
class State:
    """The folder for everything that running creates (`make clean` removes it)."""

    folder: Path

    @classmethod
    def chosen(cls) -> "State":
        """Return the clone's own state, or the one that AIRLOCK_STATE_DIR names: tests use others."""
        return cls(Path(os.environ.get("AIRLOCK_STATE_DIR") or ROOT / ".airlock").absolute())

    @property
    def logs(self) -> Path:
        """The folder for the logs of the long-running processes."""
        return self._made("logs")

    @property
    def reports(self) -> Path:
        """AIRLOCK_REPORT_ROOT of the local platform."""
        return self._made("reports")

    @property
    def xcom(self) -> Path:
        """The folder for values between tasks that are too large for the metadata database."""
        return self._made("xcom")

    @property
    def airflow_home(self) -> Path:
        """AIRFLOW_HOME of the local platform."""
        return self._made("airflow")

    @property
    def temporary(self) -> Path:
        """Temporary files of the platform's processes."""
        return self._made("tmp")

    def _made(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Passwords and keys of this clone, each generated once; only its owner can read the file."""
        path = self.folder / "secrets.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        names = ("postgres", "airlock_app", "airlock_reader", "airlock_airflow", "jwt", "api")
        made = {name: secrets.token_urlsafe(48) for name in names}
        made["fernet"] = secrets.token_urlsafe(32) + "="  # 32 bytes, padded: the form that Fernet wants
        if missing := made.keys() - kept.keys():
            kept |= {name: made[name] for name in missing}
            write_private(path, json.dumps(kept))
        return dict(kept)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the clone for one platform at a time.

        The kernel releases the lock when its holder dies, however it dies. Raises LocalError, which names the
        holder, when another platform of this clone is running.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock_file.open("a+") as lock:
            while not _locked(lock, fcntl.LOCK_EX):
                # No holder: somebody only looked at the lock, or its holder has not written its process id yet.
                if holder := self.holder():
                    raise LocalError(
                        f"This clone's platform is already running (process {holder}): "
                        "use it, or stop it with `make down`."
                    )
                time.sleep(0.05)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._ui_file.unlink(missing_ok=True)  # of a platform that was killed
            try:
                yield
            finally:
                self._ui_file.unlink(missing_ok=True)
                lock.truncate(0)

    def holder(self) -> int | None:
        """Return the process id of the running platform, or None."""
        if not self._lock_file.exists():
            return None
        with self._lock_file.open() as lock:
            return None if _locked(lock, fcntl.LOCK_SH) else int(lock.read() or 0) or None

    @property
    def ui(self) -> str | None:
        """The address of Airflow's UI, if a platform is running that `make up` started."""
        return self._ui_file.read_text() if self.holder() and self._ui_file.exists() else None

    def show_ui(self, url: str) -> None:
        """Let other commands know the address of the running platform, until it stops."""
        write_private(self._ui_file, url)

    @property
    def _ui_file(self) -> Path:
        return self.folder / "ui"

    @property
    def _lock_file(self) -> Path:
        return self.folder / "platform.lock"


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def open_log(path: Path) -> BinaryIO:
    """Open a log to append to it; only its owner can read it."""
    path.touch(0o600)
    path.chmod(0o600)  # an earlier version let everybody read it
    return path.open("ab")
