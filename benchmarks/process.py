"""What a process needs and takes, for the measurements."""

import subprocess
from pathlib import Path

from local.login import Login
from local.postgres import PROGRAMS


def psql(database: Login, command: str) -> None:
    """Run a command of psql; raises subprocess.CalledProcessError when it fails."""
    target = f"host={database.host} port={database.port} user={database.user} dbname={database.dbname}"
    subprocess.run(
        [PROGRAMS / "psql", "-q", "-v", "ON_ERROR_STOP=1", target, "-c", command],
        env={"PGPASSWORD": database.password},
        check=True,
    )


def most_memory() -> float:
    """Return the most memory that this process has used, in MB."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
