"""A real pgbouncer that pools transactions, if this machine has one."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from local.login import Login
from local.processes import free_port, tail

PROGRAM = os.environ.get("AIRLOCK_PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin")


@contextmanager
def pooler(login: Login, folder: Path) -> Iterator[Login]:
    """Yield a login like this one through a pgbouncer with two connections to the server, taken by turns."""
    if not PROGRAM:
        pytest.skip("pgbouncer is not installed: apt install pgbouncer, or name the program in AIRLOCK_PGBOUNCER")
    folder.chmod(0o755)
    port, log = free_port(), folder / "pgbouncer.log"
    (folder / "users").write_text(f'"{login.user}" "{login.password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={login.host} port={login.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {folder / 'users'}\nlogfile = {log}\n"
        "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 2\ndefault_pool_size = 4\n"
    )
    user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}  # it refuses to run as root
    log.touch(mode=0o666)
    log.chmod(0o666)
    process = subprocess.Popen([PROGRAM, "-q", folder / "pgbouncer.ini"], **user)  # type: ignore[call-overload]
    through = replace(login, host="127.0.0.1", port=port)
    deadline = time.monotonic() + 30
    try:
        while True:
            try:
                through.connect().close()
                break
            except psycopg.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"pgbouncer does not answer.\n{tail(log)}") from error
        yield through
    finally:
        process.terminate()
        process.wait()
