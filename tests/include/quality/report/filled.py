"""Results as gates store them, without a gate; and the pages that are made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from include.dataset import suite_name
from include.quality import report, results
from include.quality.outcome import Finding, Outcome, Validation
from include.warehouse.register import Run
from tests.toy import READINGS

DAY = date(2023, 9, 21)  # a Thursday
NOW = datetime(2023, 9, 22, 12, tzinfo=UTC)
RUN = Run("readings_dag", "scheduled__2023-09-22T09:00:00+00:00")
SUITE = suite_name(READINGS.publishes[0])
FOREVER = 100_000  # days that results are kept


def finding(expectation: str = "the day has rows", **changes: Any) -> Finding:
    """Return an expectation that passed, apart from what is given."""
    values = {
        "suite": SUITE,
        "type": "expect_table_row_count_to_be_between",
        "column": None,
        "arguments": {"min_value": 1, "max_value": 50},
        "severity": "critical",
        "verdict": "passed",
        "observed": "24",
        "observed_number": 24.0,
        "checked": None,
        "unexpected": None,
        "sample": [],
        **changes,
    }
    return Finding(expectation=expectation, **values)


FAILED = finding("value is not negative", verdict="failed", observed="2", observed_number=2.0, unexpected=2, checked=24)
WARNED = finding("values hardly move", verdict="failed", severity="warning")
QUARANTINED = finding("value is at most 1000", verdict="quarantined", type="unexpected_rows_expectation")


def validation(*findings: Finding, suite: str = SUITE, rows: int = 24, quarantined: int = 0) -> Validation:
    return Validation(
        suite, f"{READINGS.staging_schema}.{suite}", rows, list(findings or [finding()]), quarantined=quarantined
    )


def store(
    connection: psycopg.Connection[Any],
    *validations: Validation,
    checkpoint: str = READINGS.name,
    day: date = DAY,
    batch_id: UUID | None = None,
    run: Run = RUN,
    started_at: datetime | None = None,
    seconds: float = 1.5,
) -> list[int]:
    """Store the results of a run, and commit; returns the ids of its validations."""
    at = started_at or datetime(day.year, day.month, day.day, 9, tzinfo=UTC) + timedelta(days=1)
    outcome = Outcome(checkpoint, at, seconds, list(validations or [validation()]))
    ids = results.store(connection, outcome, day, batch_id or uuid4(), run, days_kept=FOREVER)
    connection.commit()
    return ids


def publish(
    connection: psycopg.Connection[Any], ids: Sequence[int], root: Path, checkpoint: str = READINGS.name
) -> "Node":
    """Write the report of a run; returns the page of the run."""
    address = report.publish(connection, checkpoint, ids, str(root), now=NOW)
    assert address
    assert Path(address.removeprefix("file://")).is_relative_to(root)
    return read(Path(address.removeprefix("file://")))


@dataclass
class Node:
    """An element of a page."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Node | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of its text, with the white space that a browser would show."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        """All of its text."""
        return "".join(child if isinstance(child, str) else child.raw for child in self.children)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def __iter__(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child

    def all(self, tag: str, class_: str | None = None) -> list["Node"]:
        """Return the elements with a tag, and a class, in it."""
        return [each for each in self if each.tag == tag and (class_ is None or class_ in each.classes)]

    def facts(self) -> dict[str, str]:
        """Return the terms and values of its description lists."""
        terms, values = self.all("dt"), self.all("dd")
        return {term.text: value.text for term, value in zip(terms, values, strict=True)}

    def rows(self) -> list[list[str]]:
        """Return the texts of a table's body."""
        return [[cell.text for cell in row.all("td")] for row in self.all("tbody")[0].all("tr")]

    def section(self, heading: str) -> "Node":
        """Return the section or article with this heading."""
        [found] = [
            each for each in self if each.tag in ("section", "article") and each.all("h2")[0].text.startswith(heading)
        ]
        return found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in ("meta", "link", "br"):
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Node:
    """Parse a page, in which every element is closed."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    [root] = parser.open
    return root


def read(page: Path) -> Node:
    return parse(page.read_text())
