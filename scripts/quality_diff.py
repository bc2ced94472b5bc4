"""Report, as Markdown, how a change affects the quality gates: what became looser, what stricter.

python -m scripts.quality_diff -- main    compares great_expectations/ with that git revision

Suites are compared expectation by expectation; any other file that changed cannot be judged. The exit status is 0 when
nothing became looser, 3 when something did or cannot be judged, and 2 when the comparison failed. 1 is not used: Python
itself exits with it after an unhandled exception.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "great_expectations/"
LOOSENED = 3  # the exit status
LENGTH = 160  # characters of a value in the report
KINDS = LOOSER, GONE, UNJUDGED, STRICTER, NEW = ("looser", "gone", "cannot be judged", "stricter", "new")
OPPOSITE = {LOOSER: STRICTER, STRICTER: LOOSER}
SEVERITIES = ("info", "warning", "critical")
# What an expectation becomes when a parameter grows: to a larger number, from false to true, or to a superset. A change
# of a parameter that is not listed cannot be judged.
GROWS = {
    "severity": STRICTER,
    "meta.quarantine": LOOSER,
    "meta.quarantine_max_share": LOOSER,
    "expect_*.mostly": STRICTER,
    "expect_*_to_be_between.min_value": STRICTER,
    "expect_*_to_be_between.max_value": LOOSER,
    "expect_column_values_to_be_in_set.value_set": LOOSER,
    "expect_column_distinct_values_to_contain_set.value_set": STRICTER,
}
DEFAULTS: Mapping[str, object] = {"mostly": 1, "quarantine": False, "quarantine_max_share": 0}


class DiffError(Exception):
    """Raised when the two states cannot be compared; the text says why."""


@dataclass(frozen=True)
class Expectation:
    """One expectation of a suite."""

    type: str
    kwargs: dict[str, Any]
    severity: Literal["info", "warning", "critical"] = "critical"
    description: str | None = None
    meta: dict[str, Any] | None = None
    id: str | None = None


@dataclass(frozen=True)
class Suite:
    """One file of great_expectations/expectations/."""

    expectations: list[Expectation]
    meta: dict[str, Any] | None = None


# Two expectations are the same one when one of these keys is equal, tried in this order. A wrong match cannot hide a
# loosening: every difference between the two is reported, and so is every expectation without a match.
KEYS: Sequence[Callable[[Expectation], object]] = (
    lambda each: each,
    lambda each: each.id and (each.type, each.id),
    lambda each: each.description and (each.type, each.description),
    lambda each: (each.type, each.kwargs),
)


def read_revision(root: Path, base: str) -> dict[str, bytes]:
    """Return the files of great_expectations/ in a git revision, by path."""
    try:
        commit = os.fsdecode(_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}"))
    except DiffError as error:
        raise DiffError(str(error) or f"git knows no revision {base!r}; it may have to be fetched first") from error
    listing = os.fsdecode(_git(root, "ls-tree", "-r", "-z", "--name-only", commit.strip(), "--", FOLDER))
    return {path: _git(root, "show", f"{commit.strip()}:./{path}") for path in listing.split("\0") if path}


def read_working_tree(root: Path) -> dict[str, bytes]:
    """Return the files of great_expectations/ as they are now, by path, without those that git ignores."""
    listing = os.fsdecode(_git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", FOLDER))
    return {path: (root / path).read_bytes() for path in listing.split("\0") if (root / path).is_file()}


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout  # noqa: S607
    except subprocess.CalledProcessError as error:
        raise DiffError(os.fsdecode(error.stderr).partition("\n")[0]) from error


def compare(before: Mapping[str, bytes], after: Mapping[str, bytes], base: str) -> Iterator[tuple[str, str, str]]:
    """Yield every change between two states: the title of its file, the kind of change, and a text."""
    for path in sorted(before.keys() | after.keys()):
        file = PurePosixPath(path)
        is_suite = file.parent.name == "expectations" and file.suffix == ".json"
        title = f"Suite {code(file.stem)}" if is_suite else f"File {code(path)}"
        states = [(files[path], state) for files, state in ((before, base), (after, "working tree")) if path in files]
        suites = [_parse(content, f"{path} ({state})") for content, state in states if is_suite]
        if len(states) < 2:
            yield title, GONE if path in before else NEW, "the whole file"
        elif is_suite:
            yield from ((title, kind, text) for kind, text in _compare_suites(*suites))
        elif before[path] != after[path]:
            yield title, UNJUDGED, "the file changed"


def _parse(content: bytes, name: str) -> Suite:
    try:
        return TypeAdapter(Suite).validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise DiffError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _compare_suites(before: Suite, after: Suite) -> Iterator[tuple[str, str]]:
    yield from _compare_parameters(_meta(before.meta), _meta(after.meta))
    old, new = list(before.expectations), list(after.expectations)
    for key in KEYS:
        for each in list(new):
            match = next((other for other in old if key(each) and key(other) == key(each)), None)
            if match:
                old.remove(match)
                new.remove(each)
                changes = _compare_parameters(_parameters(match), _parameters(each))
                yield from ((kind, f"{_label(each)}: {text}") for kind, text in changes)
    for kind, each in [*((GONE, each) for each in old), *((NEW, each) for each in new)]:
        content = _shorten(_json({"type": each.type, **each.kwargs, **(each.meta or {})}))[0]
        yield kind, f"{_label(each)}: {each.severity}, {code(content)}"


def _parameters(each: Expectation) -> dict[str, object]:
    kwargs = {f"{each.type}.{name}": value for name, value in each.kwargs.items()}
    return {**kwargs, **_meta(each.meta), "severity": each.severity}


def _meta(meta: Mapping[str, object] | None) -> dict[str, object]:
    return {f"meta.{name}": value for name, value in (meta or {}).items() if name != "great_expectations_version"}


def _compare_parameters(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in sorted(before.keys() | after.keys()):
        short = name.rpartition(".")[2]
        was, now = (state.get(name, DEFAULTS.get(short)) for state in (before, after))
        kind = None if _json(was) == _json(now) else _judge(name, was, now)
        if kind:
            old, new = ("none" if text == "null" else code(text) for text in _shorten(_json(was), _json(now)))
            yield kind, f"{code(short)} from {old} to {new}"


def _judge(name: str, was: object, now: object) -> str | None:
    kind = next((kind for pattern, kind in GROWS.items() if fnmatchcase(name, pattern)), None)
    if kind and name.endswith((".min_value", ".max_value")) and None in (was, now):  # a bound that is new or gone
        return STRICTER if was is None else LOOSER
    growth = _growth(*map(SEVERITIES.index, (was, now))) if name == "severity" else _growth(was, now)
    if kind is None or growth is None:
        return UNJUDGED
    if growth == 0:
        return None
    return kind if growth > 0 else OPPOSITE[kind]


def _growth(was: Any, now: Any) -> int | None:
    """Return 1 when a value grew, -1 when it shrank, 0 when both mean the same, and None when this is unknown."""
    was, now = ({_json(each) for each in value} if isinstance(value, list) else value for value in (was, now))
    kinds = {float if type(value) is int else type(value) for value in (was, now)}
    if kinds not in ({float}, {bool}, {set}):
        return None
    return 1 if was < now else -1 if was > now else 0 if was == now else None


def _label(each: Expectation) -> str:
    return code(_shorten(each.description or each.type)[0])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _shorten(first: str, second: str = "") -> tuple[str, str]:
    """Shorten two long values to the part where they begin to differ."""
    same = next((index for index, pair in enumerate(zip(first, second, strict=False)) if len(set(pair)) > 1), 0)
    start = max(0, same - LENGTH // 4)

    def part(text: str) -> str:
        return "..." * (start > 0) + text[start : start + LENGTH] + "..." * (len(text) > start + LENGTH)

    return part(first), part(second)


def code(text: str) -> str:
    """Return text as a Markdown code span on one line: the text cannot end the span, and HTML in it stays text."""
    text = printable(text) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.strip() and {text[0], text[-1]} & {"`", " "} else ""  # Markdown removes one space at each end
    return f"{fence}{space}{text}{space}{fence}"


def printable(text: str) -> str:
    """Escape line feeds, control characters and other characters that are invisible."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Compare the working tree with a git revision and print the report; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("base", metavar="BASE", help="the git revision to compare with, such as main")
    base = parser.parse_args(arguments).base
    try:
        findings = list(compare(read_revision(root, base), read_working_tree(root), base))
    except DiffError as error:
        print(printable(" ".join(str(error).split())), file=sys.stderr)
        return 2
    print(f"# Quality gates, compared with {code(base)}\n")
    for title, group in groupby(findings, key=lambda finding: finding[0]):
        print(f"## {title}\n")
        for _, kind, text in sorted(group, key=lambda finding: KINDS.index(finding[1])):
            print(f"- {kind}: {text}")
        print()
    counts = Counter(kind for _, kind, _ in findings)
    bad = {"looser or gone": counts[LOOSER] + counts[GONE], UNJUDGED: counts[UNJUDGED]}
    result = ", ".join(f"{count} {kind}" for kind, count in bad.items() if count)
    print(f"Result: {result or 'nothing was loosened'}.")
    return LOOSENED if result else 0


if __name__ == "__main__":
    sys.exit(main())
