"""libpq's password file: how a connection gets its password without one in a URL."""

from pathlib import Path


def write_passfile(path: Path, password: str, *, database: str = "*", user: str = "*") -> None:
    """Write a password file with one entry, readable by its owner only, as libpq requires.

    Format: PostgreSQL's documentation, "The Password File".
    """
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(f"*:*:{database}:{user}:{escaped}\n")
