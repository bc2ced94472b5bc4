"""What a dataset declares of itself. Everything outside its folder reads this and names no dataset."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from include.errors import PermanentError, short_repr

# Postgres allows 63 characters; a dataset's name is a part of longer names.
_IDENTIFIER = "[a-z][a-z0-9_]{0,62}"
_DATASET_NAME = "[a-z][a-z0-9_]{0,39}"
PLATFORM_CONNECTIONS = ("postgres_admin_conn", "postgres_reader_conn", "slack_alerts_conn")
_PLATFORM_SCHEMAS = ("warehouse", "quality", "public", "information_schema")


class InvalidDeclaration(PermanentError):
    """A declaration that cannot work; the text says what to change."""


@dataclass(frozen=True)
class Table:
    """A published table. A publication replaces one day of it. A migration of the dataset creates it."""

    name: str
    """Without its schema."""
    key: tuple[str, ...]
    """The columns of its primary key; they name a row in reports and repairs."""
    day: str
    """The column of the key that holds the day, a date."""
    suite: str = ""
    """The expectation suite that checks it; empty: the one with the table's name."""


@dataclass(frozen=True)
class View:
    """A published view of what one query returns. The query is the file `<name>.sql` in the dataset's folder."""

    name: str
    """Without its schema."""
    key: tuple[str, ...]
    """The columns that identify a row; they name it in repairs."""
    suite: str = ""
    """The expectation suite that checks it; empty: the one with the view's name."""


@dataclass(frozen=True)
class Dataset:
    """A tenant of the platform: its tables, or its views, and what the platform has to know about them.

    Raises InvalidDeclaration for one that cannot work.
    """

    name: str
    """Its checkpoint; and its schema, its folder, and a tag of its DAGs, unless it is one of a group."""
    title: str
    """Its name in the report."""
    owner: str
    """Who is responsible for it: the owner of its DAGs."""
    connection: str
    """The Airflow connection through which its DAGs reach the warehouse, as the role airlock_app."""
    publishes: tuple[Table, ...] | tuple[View, ...]
    """Tables: a day of each is replaced. Views: all of them switch to a new batch together."""
    closed_reason: Callable[[date], str | None]
    """Says why a day has no data; None for a day that has."""
    due: Callable[[date], datetime]
    """Returns when the data of a day is late, in UTC."""
    folder: Path = field(repr=False)
    """Its folder: the migrations, and the queries of its views."""
    group: str = ""
    """Its schema, its folder, and a tag of its DAGs, if it shares them with other datasets; empty: its name."""
    reads: tuple[str, ...] = ()
    """What it is made of, as Airflow's assets show it: `<schema>.<table>`, or the name of a system outside."""

    def __post_init__(self) -> None:
        """Check what can be seen without the warehouse."""
        for label in ("name", "schema"):
            if flaw := name_flaw(getattr(self, label)):
                self._refuse(f"{label} is {short_repr(getattr(self, label))}: {flaw}")
        for label in ("title", "owner", "connection"):
            if not getattr(self, label).strip():
                self._refuse(f"{label} is empty: fill it in")
        if not re.fullmatch("[a-z0-9_]+", self.connection) or self.connection in PLATFORM_CONNECTIONS:
            self._refuse(
                f"connection is {short_repr(self.connection)}: use lower-case letters, digits and _, and none "
                f"of {', '.join(PLATFORM_CONNECTIONS)}"
            )
        try:
            if self.due(date(2023, 8, 1)).utcoffset() is None:
                self._refuse("due returns a time without a time zone: return it in UTC")
        except (AttributeError, TypeError, ValueError) as error:
            self._refuse(f"due cannot say when 2023-08-01 is late ({error}): return a datetime in UTC")
        if not isinstance(self.publishes, tuple):
            self._refuse("publishes is not a tuple: write a comma after a single Table or View")
        if not self.publishes:
            self._refuse("publishes is empty: declare a Table or a View")
        if len({type(each) for each in self.publishes}) > 1:
            self._refuse("publishes has tables and views: make two datasets of them, they are published differently")
        for label in ("name", "suite"):
            names = [each.name if label == "name" else suite_name(each) for each in self.publishes]
            if twice := repeated(names):
                self._refuse(f"two of what it publishes have the {label} {twice}: give each one of its own")
        for each in self.publishes:
            self._check(each)

    def _check(self, each: Table | View) -> None:
        if not re.fullmatch(_IDENTIFIER, each.name):
            self._refuse(f"{short_repr(each.name)}: a table's or view's name has lower-case letters, digits and _ only")
        if not isinstance(each.key, tuple):
            self._refuse(f"{each.name} has the key {each.key!r}, not a tuple: write a comma after a single column")
        if not each.key or repeated(each.key):
            self._refuse(f"{each.name} has the key {each.key}: name the columns that identify a row, each once")
        if isinstance(each, Table) and each.day not in each.key:
            self._refuse(f"{each.name} has the day column {each.day!r}, which is not in its key: days would overlap")

    def _refuse(self, why: str) -> None:
        raise InvalidDeclaration(f"include/datasets/{self.folder.name}/dataset.py: {why}.")

    @property
    def schema(self) -> str:
        """The schema of what readers see."""
        return self.group or self.name

    @property
    def views(self) -> bool:
        """Whether it publishes views: all of them show one batch, of one day."""
        return isinstance(self.publishes[0], View)

    @property
    def label(self) -> str:
        """The name under which it is published and rolled back: its one table, else the dataset."""
        return self.name if self.views or len(self.publishes) > 1 else self.published_name(self.publishes[0])

    @property
    def staging_schema(self) -> str:
        """The schema of its staging tables."""
        return f"{self.schema}_staging"

    @property
    def published_names(self) -> list[str]:
        """The tables or views that readers see, with their schema, as the register of publications names them."""
        return [self.published_name(each) for each in self.publishes]

    def published_name(self, each: Table | View) -> str:
        """Return the name under which readers know a table or view."""
        return f"{self.schema}.{each.name}"

    def staging_name(self, each: Table | View) -> str:
        """Return the name of the staging table, which holds the batches of a table or view."""
        return f"{self.staging_schema}.{each.name}"

    def query_path(self, view: View) -> Path:
        """Return the file with the query of a view."""
        return self.folder / f"{view.name}.sql"


def name_flaw(name: str) -> str | None:
    """Return why a text cannot be the name of a dataset, and what to use instead; None when it can."""
    if not re.fullmatch(_DATASET_NAME, name):
        return "use up to 40 lower-case letters, digits and underscores, beginning with a letter"
    if name in _PLATFORM_SCHEMAS or name.startswith("pg_") or name.endswith("_staging"):
        return "a schema of the platform or of Postgres has such a name, so choose another"
    return None


def suite_name(each: Table | View) -> str:
    """Return the name of the expectation suite that checks a table or view."""
    return each.suite or each.name


def check_distinct(datasets: Iterable[Dataset]) -> None:
    """Raise InvalidDeclaration when two datasets have one name, or two tables or views one suite."""
    datasets = tuple(datasets)
    if twice := repeated(dataset.name for dataset in datasets):
        raise InvalidDeclaration(f"include/datasets/__init__.py: two datasets have the name {twice}: rename one.")
    if twice := repeated(suite_name(each) for dataset in datasets for each in dataset.publishes):
        raise InvalidDeclaration(
            f"include/datasets: two tables or views have the suite {twice}: give each one of its own."
        )


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that is there twice; None when there is none."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def always_open(_: date) -> None:
    """Return None, as the `closed_reason` of a dataset that has data for every day."""


def next_day_at(hour: int) -> Callable[[date], datetime]:
    """Return the `due` of a dataset whose day is late at an hour (UTC) of the next day."""
    at = time(hour, tzinfo=UTC)
    return lambda day: datetime.combine(day + timedelta(days=1), at)
