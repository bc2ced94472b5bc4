"""The SQL files of the platform, which lie beside the modules that run them."""

from pathlib import Path
from typing import LiteralString

_INCLUDE = Path(__file__).resolve().parent.parent


def read(name: str) -> LiteralString:
    """Return the text of the query `<package>/<query>`, the file `include/<package>/sql/<query>.sql`.

    Values are bound when it runs, so it never contains text from elsewhere.
    """
    package, _, query = name.partition("/")
    return (_INCLUDE / package / "sql" / f"{query}.sql").read_text()
