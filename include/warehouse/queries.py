"""The SQL files under include/sql/."""

from pathlib import Path
from typing import LiteralString

_FOLDER = Path(__file__).resolve().parent.parent / "sql"


def read(name: str) -> LiteralString:
    """Give the text of `include/sql/<name>.sql`; values are bound, so no text of others is ever in it."""
    return (_FOLDER / f"{name}.sql").read_text()
