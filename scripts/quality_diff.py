"""Say in words, as Markdown, what a change does to the quality gates: what got looser, what stricter.

python -m scripts.quality_diff main    compares great_expectations/ with what it was in that git revision

Exit status: 0 when nothing was loosened, 3 when something was or cannot be judged, 2 when it could not be told. Not 1:
that is how Python ends when this itself fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import chain, groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeVar

import yaml  # type: ignore[import-untyped]
from pydantic import TypeAdapter, ValidationError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "great_expectations"
CONFIG = f"{FOLDER}/great_expectations.yml"
KINDS = ("expectations", "checkpoints", "validation_definitions")
SHOWN = 160  # characters of a value
LOOSENED = 3  # the exit status

T = TypeVar("T")


class DiffError(Exception):
    """The comparison could not be carried out; the text says why."""


class Word(StrEnum):
    """What a change is; in the order in which changes are told."""

    LOOSER = "looser"
    GONE = "gone"
    UNJUDGED = "cannot be judged"
    STRICTER = "stricter"
    NEW = "new"
    WORDING = "wording only"


Change = tuple[Word, str]
OPPOSITE = {Word.STRICTER: Word.LOOSER, Word.LOOSER: Word.STRICTER, Word.UNJUDGED: Word.UNJUDGED}
BOUNDS = (("min_value", "strict_min"), ("max_value", "strict_max"))
SEVERITIES = ("info", "warning", "critical")

# What a parameter makes of its expectation by growing: a larger number, a later date, true after false, a superset.
# UNJUDGED: a set, of which at least the order says nothing. A change of what is not here cannot be judged.
GROWS = {
    "meta.quarantine": Word.LOOSER,
    "meta.quarantine_max_share": Word.LOOSER,
    "expect_*.mostly": Word.STRICTER,
    "expect_*_to_be_between.min_value": Word.STRICTER,
    "expect_*_to_be_between.max_value": Word.LOOSER,
    "expect_*_to_be_between.strict_m??": Word.STRICTER,
    "expect_column_*_to_be_less_than.threshold": Word.LOOSER,
    "expect_column_most_common_value_to_be_in_set.ties_okay": Word.LOOSER,
    "expect_column_pair_values_a_to_be_greater_than_b.or_equal": Word.LOOSER,
    "expect_column_value_z_scores_to_be_less_than.double_sided": Word.STRICTER,
    "expect_column_values_to_be_*creasing.strictly": Word.STRICTER,
    "expect_column_values_to_not_be_outliers.multiplier": Word.LOOSER,
    "expect_table_columns_to_match_set.exact_match": Word.STRICTER,
    "expect_column_*_to_be_in_set.value_set": Word.LOOSER,
    "expect_column_pair_values_to_be_in_set.value_pairs_set": Word.LOOSER,
    "expect_column_values_to_be_in_type_list.type_list": Word.LOOSER,
    "expect_column_distinct_values_to_contain_set.value_set": Word.STRICTER,
    "expect_column_values_to_not_be_in_set.value_set": Word.STRICTER,
    "expect_column_values_to_not_match_*_list.*_list": Word.STRICTER,
    "expect_column_distinct_values_to_equal_set.value_set": Word.UNJUDGED,
    "expect_*_to_be_unique*.column_list": Word.UNJUDGED,
    "expect_multicolumn_*.column_list": Word.UNJUDGED,
    "expect_table_columns_to_match_set.column_set": Word.UNJUDGED,
}
# What is meant where a file says nothing.
DEFAULTS: Mapping[str, object] = {
    **dict.fromkeys(("or_equal", "quarantine", "strict_max", "strict_min", "strictly", "ties_okay"), False),
    **{"exact_match": True, "match_on": "any", "method": "iqr"},
    **{"mostly": 1, "multiplier": 1.5, "quarantine_max_share": 0},
}


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
    """A file of expectations/."""

    expectations: list[Expectation]
    meta: dict[str, Any] | None = None


@dataclass(frozen=True)
class Project:
    """One state of great_expectations/, by name."""

    suites: dict[str, Suite]
    checkpoints: dict[str, set[str]]
    """The validation definitions that each runs."""
    definitions: dict[str, dict[str, str]]
    """The suite, datasource, asset and batch_definition that each puts together."""
    assets: dict[str, dict[str, Any]]
    """The query of each."""


class Finding(NamedTuple):
    """A change: of what, in a word, and told; both texts are Markdown."""

    of: str
    word: Word
    text: str


def working_tree(root: Path) -> dict[str, bytes]:
    """Give the files as they are now, by path."""
    files = chain(root.glob(CONFIG), *((root / FOLDER).glob(f"{kind}/*.json") for kind in KINDS))
    try:
        return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}
    except OSError as error:
        raise DiffError(str(error)) from error


def revision(root: Path, base: str) -> dict[str, bytes]:
    """Give the files as they are in a git revision, by path."""
    if base.startswith("-"):
        raise DiffError(f"a git revision does not begin with '-': {base}")
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}").decode().strip()
    except DiffError as error:
        raise DiffError(str(error) or f"git knows no revision {base!r}; it may have to be fetched first") from error
    listed = _git(root, "ls-tree", "-z", commit, "--", CONFIG, *(f"{FOLDER}/{kind}/" for kind in KINDS))
    entries = [os.fsdecode(line).split("\t", 1) for line in listed.split(b"\0") if line]  # mode type object TAB path
    return {
        path: _git(root, "cat-file", "blob", about.split()[2])
        for about, path in entries
        if path == CONFIG or path.endswith(".json")
    }


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout  # noqa: S607
    except subprocess.CalledProcessError as error:
        raise DiffError(os.fsdecode(error.stderr).partition("\n")[0]) from error
    except OSError as error:
        raise DiffError(f"git cannot be run: {error}") from error


def read(files: Mapping[str, bytes], state: str) -> Project:
    """Read the files of a state; `state` says in an error which one it is."""

    def every(parent: str, load: Callable[[str], Any], take: Callable[[Any], T]) -> dict[str, T]:
        taken = {}
        for path in (path for path in map(PurePosixPath, files) if path.parent.name == parent):
            try:
                taken[path.stem] = take(load(files[str(path)].decode()))
            except ValidationError as error:
                first = error.errors()[0]
                raise DiffError(f"{path} ({state}): {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
            except (KeyError, TypeError, AttributeError) as error:
                raise DiffError(f"{path} ({state}): without the parts of such a file: {error!r}") from error
            except (ValueError, RecursionError, yaml.YAMLError) as error:
                raise DiffError(f"{path} ({state}): {error}") from error
        return taken

    return Project(
        every("expectations", _json, TypeAdapter(Suite).validate_python),
        every("checkpoints", _json, lambda it: {str(each["name"]) for each in it["validation_definitions"]}),
        every("validation_definitions", _json, _definition),
        every(FOLDER, yaml.safe_load, _assets).get(Path(CONFIG).stem, {}),
    )


def _json(text: str) -> Any:
    def number(digits: str) -> float:
        value = float(digits)
        return int(value) if value.is_integer() else value

    return json.loads(text, parse_float=number)  # 1.0 is 1: how a number is written is no change


def _definition(content: Any) -> dict[str, str]:
    parts = {"suite": content["suite"], **content["data"]}
    return {part: str(parts[part]["name"]) for part in ("suite", "datasource", "asset", "batch_definition")}


def _assets(config: Any) -> dict[str, dict[str, Any]]:
    return {
        f"{source}.{name}": {"query": asset.get("query")}
        for source, content in ((config or {}).get("fluent_datasources") or {}).items()
        for name, asset in (content.get("assets") or {}).items()
    }


def compare(before: Project, after: Project) -> Iterator[Finding]:
    """Tell every change between two states."""
    yield from _each("Suite", before.suites, after.suites, _suite, alone=True)
    yield from _each("Checkpoint", before.checkpoints, after.checkpoints, _checkpoint, alone=True)
    # Of these, one that is gone or new counts by what uses it: a gate that misses one fails, and lets nothing through.
    yield from _each("Validation definition", before.definitions, after.definitions, _parameters)
    yield from _each("Asset", before.assets, after.assets, _parameters)


def _each(
    title: str,
    before: Mapping[str, T],
    after: Mapping[str, T],
    changes: Callable[[T, T], Iterable[Change]],
    *,
    alone: bool = False,
) -> Iterator[Finding]:
    for name in sorted(before.keys() | after.keys()):
        found: Iterable[Change] = ()
        if name in before and name in after:
            found = changes(before[name], after[name])
        elif alone:
            found = [(Word.GONE if name in before else Word.NEW, f"the whole {title.lower()}")]
        yield from (Finding(f"{title} {code(name)}", word, text) for word, text in found)


def _checkpoint(before: set[str], after: set[str]) -> Iterator[Change]:
    yield from ((Word.GONE, f"it no longer runs validation definition {code(it)}") for it in sorted(before - after))
    yield from ((Word.NEW, f"it runs validation definition {code(it)}") for it in sorted(after - before))


def _suite(before: Suite, after: Suite) -> Iterator[Change]:
    yield from _parameters(before.meta or {}, after.meta or {}, "meta", besides=["great_expectations_version"])
    for old, new in matched(before.expectations, after.expectations):
        if old and new:
            yield from ((word, f"{_label(new)}: {text}") for word, text in _expectation(old, new))
        elif only := old or new:
            kwargs, _ = _cut(_text(only.kwargs))
            aside = ", setting rows aside" if (only.meta or {}).get("quarantine") else ""
            told = f"{_label(only)}: {only.severity}{aside}, {code(only.type)} with {code(kwargs)}"
            yield Word.GONE if old else Word.NEW, told


def matched(
    before: Iterable[Expectation], after: Iterable[Expectation]
) -> Iterator[tuple[Expectation | None, Expectation | None]]:
    """Pair what is the same expectation before and after, the surest pairs first; what is left has None beside it.

    Where no pair is looser and nothing is left from before, nothing more passes, however they were paired.
    """
    old, new = list(before), list(after)
    for same in SAME:
        for each in list(new):
            found = next((other for other in old if same(each) is not None and same(other) == same(each)), None)
            if found:
                old = [other for other in old if other is not found]
                new = [other for other in new if other is not each]
                yield found, each
    yield from ((each, None) for each in old)
    yield from ((None, each) for each in new)


def _columns(expectation: Expectation) -> list[str]:
    """Give what an expectation looks at: its column, column_A, column_list and so on; in which order is a detail."""
    on = [value for name, value in expectation.kwargs.items() if name.startswith("column")]
    return sorted(str(each) for value in on for each in (value if isinstance(value, list) else [value]))


# By what two expectations are taken for the same; two queries of a kind have nothing in common.
SAME: Sequence[Callable[[Expectation], object]] = (
    lambda it: _text([it.type, it.kwargs, it.severity, it.description, it.meta]),
    lambda it: it.id,
    lambda it: (it.type, _columns(it), it.description),
    lambda it: _text([it.type, it.kwargs]),
    lambda it: None if any(name.endswith("_query") for name in it.kwargs) else (it.type, _columns(it)),
    lambda it: (it.type, it.description) if it.description else None,
)


def _expectation(before: Expectation, after: Expectation) -> Iterator[Change]:
    risen = SEVERITIES.index(after.severity) - SEVERITIES.index(before.severity)
    if risen:
        yield Word.STRICTER if risen > 0 else Word.LOOSER, _told("severity", before.severity, after.severity)
    if before.description != after.description:
        yield Word.WORDING, _told("description", before.description, after.description)
    yield from _parameters(before.meta or {}, after.meta or {}, "meta")
    owner = before.type if before.type == after.type else ""  # the parameters of two types cannot be compared
    if not owner:
        yield Word.UNJUDGED, _told("type", before.type, after.type)
    bounds = BOUNDS if owner.endswith("_to_be_between") else ()
    for value, strict in bounds:
        yield from _bound(owner, value, strict, before.kwargs, after.kwargs)
    yield from _parameters(before.kwargs, after.kwargs, owner, besides=chain(*bounds))


def _bound(
    owner: str, value: str, strict: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Change]:
    """Judge a bound together with its strictness: > 1 is looser than >= 2."""
    changes = list(_parameter(owner, value, before, after))
    if before.get(value) is None or after.get(value) is None:  # without a bound, strict says nothing
        yield from ((Word.STRICTER if before.get(value) is None else Word.LOOSER, text) for _, text in changes)
    elif changes := [*changes, *_parameter(owner, strict, before, after)]:
        yield changes[0][0], " and ".join(text for _, text in changes)


def _parameters(
    before: Mapping[str, Any], after: Mapping[str, Any], owner: str = "", besides: Iterable[str] = ()
) -> Iterator[Change]:
    for name in sorted((before.keys() | after.keys()).difference(besides)):
        yield from _parameter(owner, name, before, after)


def _parameter(owner: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    was, now = (state.get(name, DEFAULTS.get(name)) for state in (before, after))
    word = next((word for pattern, word in GROWS.items() if fnmatchcase(f"{owner}.{name}", pattern)), None)
    grown = _growth(was, now) if word else None
    if _text(was) == _text(now) or grown == 0:
        return
    if word is None or grown is None:
        word = Word.WORDING if word is None and owner == "meta" else Word.UNJUDGED
    yield OPPOSITE[word] if grown == -1 else word, _told(name, was, now)


def _growth(before: object, after: object) -> Literal[-1, 0, 1] | None:
    """Tell whether a value grew (1), shrank (-1) or means the same (0); None where that cannot be told."""
    kinds = {float if type(value) is int else type(value) for value in (before, after)}
    try:
        was, now = _ordered(before), _ordered(after)
        if len(kinds) != 1:
            return None
        return 1 if was < now else -1 if was > now else 0 if was == now else None
    except (TypeError, ValueError):  # no date, or only one of them has a time zone
        return None


def _ordered(value: object) -> Any:
    """Give what can be compared: a number as it is, text as the date that it tells, a list as a set."""
    match value:
        case int() | float():
            return value
        case str():
            return datetime.fromisoformat(value)
        case list():
            return {_text(each) for each in value}
    raise TypeError


def _label(expectation: Expectation) -> str:
    text, _ = _cut(expectation.description or " ".join((expectation.type, *_columns(expectation))))
    return code(text)


def _told(name: str, before: object, after: object) -> str:
    was, now = _cut(_text(before), _text(after))
    return f"{code(name)} from {'none' if before is None else code(was)} to {'none' if after is None else code(now)}"


def _text(value: object) -> str:
    """Write a value as its file does, whatever the order of its keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _cut(before: str, after: str = "") -> tuple[str, str]:
    """Cut two values to a length that can be read, near the place where they begin to differ."""
    shorter, longer = sorted((len(before), len(after)))
    differs = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    start = max(0, differs - SHOWN // 4) if longer > SHOWN else 0

    def cut(text: str) -> str:
        return "..." * (start > 0) + text[start : start + SHOWN] + "..." * (len(text) > start + SHOWN)

    return cut(before), cut(after)


def code(text: str) -> str:
    """Give text as a Markdown code span on one line: nothing in it ends the span, and HTML in it stays text."""
    text = printable(text) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.strip() and {text[0], text[-1]} & {"`", " "} else ""  # Markdown takes one off again
    return f"{fence}{space}{text}{space}{fence}"


def printable(text: str) -> str:
    """Escape line feeds and whatever else is not seen, or changes how what follows it is seen."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def render(findings: Iterable[Finding], base: str) -> str:
    """Write the findings as Markdown that also reads well as plain text."""
    text = f"# Quality gates, compared with {code(base)}\n\n"
    for of, group in groupby(findings, key=lambda it: it.of):
        told = sorted(group, key=lambda it: list(Word).index(it.word))
        text += f"## {of}\n\n" + "".join(f"- {it.word}: {it.text}\n" for it in told) + "\n"
    return text


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Compare the working tree with a git revision and tell it; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("base", metavar="BASE", help="the git revision to compare with, such as main")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] not in {"-h", "--help", "--"}:
        given.insert(0, "--")  # what begins with '-' is for us to refuse
    base = parser.parse_args(given).base
    try:
        findings = list(compare(read(revision(root, base), base), read(working_tree(root), "working tree")))
    except DiffError as error:
        print(printable(" ".join(str(error).split())), file=sys.stderr)
        return 2
    counted = Counter(finding.word for finding in findings)
    bad = {"looser or gone": counted[Word.LOOSER] + counted[Word.GONE], "cannot be judged": counted[Word.UNJUDGED]}
    told = ", ".join(f"{count} {what}" for what, count in bad.items() if count)
    print(f"{render(findings, base)}Result: {told or 'nothing was loosened'}.")
    return LOOSENED if told else 0


if __name__ == "__main__":
    sys.exit(main())
