"""What a job tells besides its log: Markdown on its page, where it runs on GitHub; nothing elsewhere."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def add(markdown: str) -> None:
    """Add to the job's summary."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{markdown.rstrip()}\n\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table; what is in a cell stays text."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[re.sub(r"([\\|`*_<>\[\]])", r"\\\1", cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in cells)


def block(text: str, language: str = "") -> str:
    """Give text as a block of code that nothing in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"
