"""Write Markdown to the summary page of a GitHub job; outside GitHub nothing is written."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def add(markdown: str) -> None:
    """Append a part to the job's summary."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{markdown.rstrip()}\n\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the text of a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[re.sub(r"([\\|`*_<>\[\]])", r"\\\1", cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in cells)


def block(text: str, language: str = "") -> str:
    """Return text as a Markdown code block that the text itself cannot close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"
