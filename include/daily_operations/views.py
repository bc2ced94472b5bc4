"""The views of daily operations: one for each `.sql` file beside this one, which holds nothing but its SELECT.

What a query gives is kept in `daily_operations_snapshots.<view>`, and `daily_operations.<view>` shows readers the
published batch of it. `%(as_of)s` stands for the day in a query, so a literal % is written %%.
"""

import re
from pathlib import Path

from psycopg import sql

from include.errors import PermanentError

FOLDER = Path(__file__).resolve().parent
PUBLIC = "daily_operations"
SNAPSHOTS = "daily_operations_snapshots"
ANY_DAY = "2023-01-01"
"""What stands for the day where it does not matter: a query's columns are the same for every day."""


def views() -> list[str]:
    """Give the names of the views, in alphabetical order.

    Raises PermanentError when a file's name could not be an identifier: names are put into SQL as they are.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.sql"))
    for name in names:
        if not re.fullmatch("[a-z_]{1,63}", name):
            raise PermanentError(
                f"include/daily_operations/{name}.sql: a view's name is at most 63 lower-case letters and underscores"
            )
    return names


def public_name(view: str) -> str:
    """Give the name under which readers and the register of publications know a view."""
    return f"{PUBLIC}.{view}"


def snapshots_name(view: str) -> str:
    """Give the name of the table that holds a view's snapshots."""
    return f"{SNAPSHOTS}.{view}"


def query(view: str) -> sql.SQL:
    """Give the query of a view; `%(as_of)s` in it stands for the day.

    Raises PermanentError when Airflow's templates, through which it runs, would change its text.
    """
    text = (FOLDER / f"{view}.sql").read_text()
    if found := re.search("{[{%#]", text):
        raise PermanentError(
            f"include/daily_operations/{view}.sql: {found[0]} means something to Airflow's templates: write {{ "
            "and what follows it apart."
        )
    return sql.SQL(text)
