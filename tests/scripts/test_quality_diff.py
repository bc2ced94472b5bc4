"""What the report calls a change of great_expectations/, and the exit status for it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from scripts.quality_diff import DEFAULTS, GROWS, LENGTH, code, main

LOOSENED = 3  # not 1, which is the exit status of an unhandled exception; ci.yml tests for this number
SUITE = "great_expectations/expectations/orders.json"
CONFIG = "great_expectations/great_expectations.yml"
BAD = {"looser", "gone", "cannot be judged"}

Files = Mapping[str, str]
Report = Callable[[Files, Files], tuple[int, str]]


@pytest.fixture(autouse=True)
def isolated_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove git's own variables and settings: a git hook that runs the tests would point git to its repository."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    names = {f"GIT_{role}_{part}": f"t@{role}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    for name, value in {**names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}.items():
        monkeypatch.setenv(name, value)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607


def write(folder: Path, files: Files) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder: Path, files: Files) -> None:
    """Create a repository with the files on its branch `main` and none of them in the working tree."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    write(folder, files)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=before")
    for name in files:
        (folder / name).unlink()


@pytest.fixture
def report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    """Return a function that compares a committed state with a working tree; returns exit status and output."""

    def compared(before: Files, after: Files) -> tuple[int, str]:
        commit(tmp_path, before)
        write(tmp_path, after)
        status = main(["--", "main"], tmp_path)
        printed = capsys.readouterr()
        assert printed.err == ""
        return status, printed.out

    return compared


def expectation(type: str = "expect_column_values_to_be_between", **parts: Any) -> dict[str, Any]:
    return {"type": type, "kwargs": {"column": "price"}, "severity": "critical", "description": "a rule", **parts}


def suite(*expectations: dict[str, Any], **parts: Any) -> dict[str, str]:
    return {SUITE: json.dumps({"name": "orders", "expectations": expectations, "meta": {}, **parts})}


def kinds(output: str) -> list[str]:
    """Return the kind of each reported change."""
    return [line[2:].partition(":")[0] for line in output.splitlines() if line.startswith("- ")]


def check(report: Report, before: Files, after: Files, expected: list[str]) -> None:
    status, output = report(before, after)
    assert kinds(output) == expected
    assert status == (LOOSENED if BAD & set(expected) else 0)


BETWEEN = "expect_column_values_to_be_between"
ROW_COUNT = "expect_table_row_count_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
CONTAIN_SET = "expect_column_distinct_values_to_contain_set"
ROWS = "unexpected_rows_expectation"

# Type, arguments before and after, and the kind of the change; the opposite change is the opposite kind.
ARGUMENTS: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    (BETWEEN, {"min_value": 1}, {"min_value": 2}, ["stricter"]),
    (BETWEEN, {"max_value": 1.5}, {"max_value": 2}, ["looser"]),
    (ROW_COUNT, {"min_value": 1}, {"min_value": 0}, ["looser"]),
    (BETWEEN, {"min_value": 1, "max_value": 9}, {"max_value": 9}, ["looser"]),
    (BETWEEN, {"min_value": 1, "max_value": None}, {"min_value": 1, "max_value": 5}, ["stricter"]),
    (BETWEEN, {"min_value": 1, "max_value": 9}, {"min_value": 0, "max_value": 8}, ["looser", "stricter"]),
    (BETWEEN, {"min_value": 1}, {"min_value": 1.0, "max_value": None}, []),
    (BETWEEN, {"min_value": 1}, {"min_value": "1"}, ["cannot be judged"]),
    (BETWEEN, {"min_value": 1}, {"min_value": True}, ["cannot be judged"]),
    (BETWEEN, {"min_value": float("nan")}, {"min_value": 5}, ["cannot be judged"]),
    (BETWEEN, {"min_value": 1}, {"min_value": 1, "strict_min": True}, ["cannot be judged"]),
    (BETWEEN, {"min_value": 1}, {"min_value": 1, "mostly": 0.99}, ["looser"]),
    (BETWEEN, {"mostly": 1}, {}, []),
    (IN_SET, {"value_set": ["a", "b"]}, {"value_set": ["c", "b", "a"]}, ["looser"]),
    (IN_SET, {"value_set": ["a", "b"]}, {"value_set": ["b", "a", "a"]}, []),
    (IN_SET, {"value_set": ["a", "b"]}, {"value_set": ["b", "c"]}, ["cannot be judged"]),
    (IN_SET, {"value_set": [1]}, {"value_set": [True]}, ["cannot be judged"]),
    (CONTAIN_SET, {"value_set": ["a"]}, {"value_set": ["a", "b"]}, ["stricter"]),
    # A parameter of the run, in the old and the new form.
    (CONTAIN_SET, {"value_set": ["a"]}, {"value_set": "{products}"}, ["cannot be judged"]),
    (CONTAIN_SET, {"value_set": {"$PARAMETER": "products"}}, {"value_set": "{products}"}, ["cannot be judged"]),
    (BETWEEN, {}, {"min_value": "{limit}"}, ["stricter"]),
    (BETWEEN, {"min_value": "{low}"}, {"min_value": "{lower}"}, ["cannot be judged"]),
    (IN_SET, {"value_set": {"$PARAMETER": "a"}}, {"value_set": {"$PARAMETER": "b"}}, ["cannot be judged"]),
    (ROWS, {"unexpected_rows_query": "a '{day}'"}, {"unexpected_rows_query": "b '{day}'"}, ["cannot be judged"]),
    ("expect_column_values_to_match_regex", {"regex": "^a"}, {"regex": "^b"}, ["cannot be judged"]),
    ("expect_compound_columns_to_be_unique", {"column_list": [1]}, {"column_list": [1, 2]}, ["cannot be judged"]),
    ("expect_column_values_to_not_be_in_set", {"value_set": [1]}, {"value_set": [1, 2]}, ["cannot be judged"]),
    (BETWEEN, {}, {"row_condition": "x > 1"}, ["cannot be judged"]),
    ("expect_something_of_ours", {"limit": 1}, {"limit": 2}, ["cannot be judged"]),
]
OPPOSITE = {"stricter": "looser", "looser": "stricter"}


@pytest.mark.parametrize(
    ("type", "before", "after", "expected"),
    [
        *ARGUMENTS,
        *(
            (type, after, before, sorted(OPPOSITE.get(kind, kind) for kind in kinds))
            for type, before, after, kinds in ARGUMENTS
        ),
    ],
)
def test_an_argument(
    report: Report, type: str, before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    old, new = (suite(expectation(type, kwargs={"column": "price", **each})) for each in (before, after))
    check(report, old, new, expected)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"severity": "warning"}, ["looser"]),
        ({"severity": "warning"}, {"severity": "info"}, ["looser"]),
        ({"severity": "info"}, {"severity": "critical"}, ["stricter"]),
        ({}, {"meta": {"quarantine": True}}, ["looser"]),
        ({"meta": {"quarantine": True}}, {"meta": {}}, ["stricter"]),
        ({"meta": {"quarantine": False}}, {"meta": None}, []),
        ({}, {"meta": {"quarantine": 1}}, ["cannot be judged"]),
        ({}, {"meta": {"unknown": 1}}, ["cannot be judged"]),
        ({}, {"description": "the same rule", "notes": "because"}, []),
        ({"id": "1"}, {"id": "2"}, []),
        ({"id": "1"}, {"id": "1", "kwargs": {"column": "volume"}}, ["cannot be judged"]),
        ({"id": "1"}, {"id": "1", "type": "expect_column_values_to_be_null"}, ["gone", "new"]),
        ({}, {"kwargs": {"column": "volume"}}, ["cannot be judged"]),
        ({}, {"kwargs": {"column": "volume"}, "description": "another rule"}, ["gone", "new"]),
    ],
)
def test_the_other_parts_of_an_expectation(
    report: Report, before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    check(report, suite(expectation(**before)), suite(expectation(**after)), expected)


def test_the_default_severity_is_critical(report: Report) -> None:
    bare = {"type": BETWEEN, "kwargs": {"column": "price"}}
    check(report, suite(bare), suite({**bare, "severity": "warning"}), ["looser"])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"quarantine_max_share": 0.1}, ["looser"]),
        ({"quarantine_max_share": 0.1}, {"quarantine_max_share": 0.05}, ["stricter"]),
        ({"quarantine_max_share": 0}, {}, []),
        ({"quarantine_max_share": 0.1}, {"quarantine_max_share": "all"}, ["cannot be judged"]),
        ({"great_expectations_version": "1"}, {"great_expectations_version": "2"}, []),
        ({}, {"unknown": 1}, ["cannot be judged"]),
    ],
)
def test_the_meta_of_a_suite(
    report: Report, before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    check(report, suite(expectation(), meta=before), suite(expectation(), meta=after), expected)


FIRST = expectation(id="1", description="first")
SECOND = expectation(id="2", description="second", kwargs={"column": "volume", "min_value": 1})


def above(value: int) -> dict[str, Any]:
    return expectation(kwargs={"column": "price", "min_value": value})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([FIRST, SECOND], [SECOND, FIRST], []),
        ([FIRST, SECOND], [FIRST], ["gone"]),
        ([FIRST], [FIRST, SECOND], ["new"]),
        ([FIRST, FIRST], [FIRST], ["gone"]),
        ([FIRST], [FIRST, FIRST], ["new"]),
        # By id, though all the rest changed; without ids by description; without both by type and arguments.
        ([SECOND], [{**SECOND, "description": "other", "kwargs": {"column": "volume"}}], ["looser"]),
        ([{**SECOND, "id": None}], [{**SECOND, "kwargs": {"column": "volume"}}], ["looser"]),
        ([{**SECOND, "id": None}], [{**SECOND, "description": "other", "severity": "info"}], ["looser"]),
        # Rules of the same type and description: the unchanged one is not mistaken for the changed one.
        ([above(1), above(5)], [above(5), above(0)], ["looser"]),
        ([above(1), above(5)], [above(5), above(1)], []),
    ],
)
def test_which_expectation_is_compared_with_which(
    report: Report, before: list[dict[str, Any]], after: list[dict[str, Any]], expected: list[str]
) -> None:
    check(report, suite(*before), suite(*after), expected)


def test_the_format_of_a_suite_is_no_change(report: Report) -> None:
    content = {"name": "orders", "expectations": [FIRST], "meta": {}}
    status, output = report(suite(FIRST), {SUITE: json.dumps(content, indent=8, sort_keys=True) + "\n"})
    assert (status, kinds(output)) == (0, [])
    assert output.splitlines()[-1] == "Result: nothing was loosened."


def test_the_whole_report(report: Report) -> None:
    """The changes that a reviewer has to check come first."""
    before = [
        expectation(ROWS, id="1", description="one", kwargs={"unexpected_rows_query": "select 1"}),
        expectation(id="2", description="two", kwargs={"min_value": 1}),
        expectation("expect_column_values_to_not_be_null", id="3", description="three"),
    ]
    after = [
        expectation(ROWS, description="four", severity="info", kwargs={"limit": 4}, meta={"quarantine": True}),
        expectation(ROWS, id="1", description="one", kwargs={"unexpected_rows_query": "select 2"}),
        expectation(id="2", description="two", severity="warning", kwargs={"min_value": 2, "max_value": 3}),
    ]
    status, output = report(suite(*before), suite(*after))
    assert status == LOOSENED
    assert output.splitlines() == [
        "# Quality gates, compared with `main`",
        "",
        "## Suite `orders`",
        "",
        '- looser: `two`: `severity` from `"critical"` to `"warning"`',
        '- gone: `three`: critical, `{"column": "price", "type": "expect_column_values_to_not_be_null"}`',
        '- cannot be judged: `one`: `unexpected_rows_query` from `"select 1"` to `"select 2"`',
        "- stricter: `two`: `max_value` from none to `3`",
        "- stricter: `two`: `min_value` from `1` to `2`",
        '- new: `four`: info, `{"limit": 4, "quarantine": true, "type": "unexpected_rows_expectation"}`',
        "",
        "Result: 2 looser or gone, 1 cannot be judged.",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({}, suite(FIRST), ["new"]),
        (suite(FIRST), {}, ["gone"]),
        (suite(FIRST), {SUITE.replace("orders", "returns"): suite(FIRST)[SUITE]}, ["gone", "new"]),
        ({CONFIG: "a: 1\n"}, {CONFIG: "a: 1\n"}, []),
        ({CONFIG: "a: 1\n"}, {CONFIG: "a: 2\n"}, ["cannot be judged"]),
        ({CONFIG: "a: 1\n"}, {}, ["gone"]),
        (
            {".gitignore": "uncommitted/\n"},
            {".gitignore": "uncommitted/\n", "great_expectations/uncommitted/x": "1"},
            [],
        ),
    ],
)
def test_a_whole_file(report: Report, before: Files, after: Files, expected: list[str]) -> None:
    check(report, before, after, expected)


HOSTILE = [
    "<script>alert(1)</script>",
    "`</code><img src=x onerror=alert(1)>`",
    "a ``` b",
    "```",
    "`",
    " ` ",
    "one\n\n# Heading\n\n- gone: everything\r\n<b>",
    "a | b |\n|---|---|",
    "[here](https://example.com) ![x](y) @everyone #1 <!-- --> &amp; $`x`$",
    "\x1b[2J\u202egnol\u2028",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_or_value_breaks_the_markdown(report: Report, name: str) -> None:
    """When rendered, all of it is code; as plain text, each change stays on its line."""
    kwargs = {"column": name, name: name, "value_set": [name]}
    changed = expectation(id="1", description=name, kwargs={"column": "x"}, meta={name: name})
    before = suite(expectation(id="1"), expectation(id="2", description=name, kwargs=kwargs))
    after = suite(changed, expectation(id="3", type=name, description=name, kwargs=kwargs))
    file = SUITE.replace("orders", name.replace("/", ""))
    status, output = report(before, {**after, file: suite()[SUITE], f"{file}.yml": ""})
    assert status == LOOSENED
    assert all(line.isprintable() for line in output.splitlines())
    assert len(output.splitlines()) == output.count("\n")
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(output)
    types = {child.type for token in tokens for child in token.children or [token]}
    assert types <= {
        *("heading_open", "heading_close", "paragraph_open", "paragraph_close", "text", "code_inline"),
        *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    }
    text = "".join(child.content for token in tokens for child in token.children or [] if child.type == "text")
    assert not set(text) & set("<>[]`|&@\\")


@pytest.mark.parametrize("text", ["", " ", "`", "a`", "``a`` ` b", " a ", "a b", "é"])
def test_a_code_span_shows_its_text(text: str) -> None:
    (paragraph,) = [token for token in MarkdownIt().parse(code(text)) if token.type == "inline"]
    (child,) = paragraph.children or []
    assert (child.type, child.content) == ("code_inline", text or " ")


@pytest.mark.parametrize(("old", "new", "end"), [("old", "new", "a, " * 300), ("", "new", ""), ("old", "", "")])
def test_long_values_are_shortened_to_their_difference(report: Report, old: str, new: str, end: str) -> None:
    queries = (f"select {'a, ' * 300}{each}{end}" for each in (old, new))
    _, output = report(*(suite(expectation(ROWS, kwargs={"unexpected_rows_query": query})) for query in queries))
    (line,) = [line for line in output.splitlines() if line.startswith("- ")]
    assert old in line
    assert new in line
    assert len(line) < 3 * LENGTH


def test_a_long_description_is_shortened(report: Report) -> None:
    _, output = report(suite(), suite(expectation(description="long " * 300, kwargs={"long": "long " * 300})))
    assert max(map(len, output.splitlines())) < 3 * LENGTH


@pytest.mark.parametrize("base", ["nowhere", "-x", "--all", "", "main..main", "main:"])
def test_an_unknown_revision_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], base: str) -> None:
    commit(tmp_path, {})
    assert main(["--", base], tmp_path) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"git knows no revision {base!r}" in printed.err
    assert printed.err.count("\n") == 1


def test_without_a_repository_the_message_is_that_of_git(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["main"], tmp_path) == 2
    assert "not a git repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"expectations": 1}',
        b'{"expectations": [{"type": "x"}]}',
        b'{"expectations": [{"type": "x", "kwargs": {}, "severity": "mild\\n"}]}',
    ],
    ids=lambda content: content[:40],
)
def test_an_invalid_suite_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    commit(tmp_path, {})
    write(tmp_path, {SUITE: ""})
    (tmp_path / SUITE).write_bytes(content)
    assert main(["main"], tmp_path) == 2
    in_tree = capsys.readouterr()
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=broken")
    (tmp_path / SUITE).unlink()
    assert main(["main"], tmp_path) == 2
    in_revision = capsys.readouterr()
    assert in_tree.out == in_revision.out == ""
    assert in_tree.err.startswith(f"{SUITE} (working tree)")
    assert in_revision.err.startswith(f"{SUITE} (main)")
    assert in_tree.err.count("\n") == in_revision.err.count("\n") == 1


def test_a_project_inside_a_larger_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of the same name in another project is not compared."""
    inside = {f"data platform/{name}": text for name, text in suite(FIRST, SECOND).items()}
    commit(tmp_path, {**inside, **suite(FIRST)})
    write(tmp_path / "data platform", suite(FIRST))
    assert main(["HEAD"], tmp_path / "data platform") == LOOSENED
    assert kinds(capsys.readouterr().out) == ["gone"]


def test_the_command_on_this_repository(repository: Path) -> None:
    """It runs as in the Makefile; the result depends on the state of the working tree."""
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    command = [sys.executable, "-X", "importtime", "-m", "scripts.quality_diff", "--", "HEAD"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode in {0, LOOSENED}, done.stderr
    assert done.stdout.startswith("# Quality gates, compared with `HEAD`\n")
    assert done.stdout.splitlines()[-1].startswith("Result: ")
    assert "great_expectations" not in done.stderr, "its import takes seconds"


def test_the_table_names_arguments_of_the_library() -> None:
    """A release of Great Expectations that renames an argument, or changes a default, fails here."""
    from great_expectations.expectations import core

    kinds: list[Any] = [each for each in vars(core).values() if getattr(each, "expectation_type", None)]
    defaults = {
        f"{kind.expectation_type}.{name}": field.default for kind in kinds for name, field in kind.__fields__.items()
    }
    for pattern in [each for each in GROWS if each.startswith("expect_")]:
        found = [name for name in defaults if fnmatchcase(name, pattern)]
        assert found, pattern
        assert all(defaults[name] == DEFAULTS.get(name.partition(".")[2]) for name in found), pattern
