"""What a change to great_expectations/ is called, and with which exit status."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from scripts.quality_diff import DEFAULTS, GROWS, SHOWN, code, main

LOOSENED = 3  # 1 is how Python ends when it fails; ci.yml asks for this number
SUITE = "great_expectations/expectations/market.json"
CHECKPOINT = "great_expectations/checkpoints/market.json"
DEFINITION = "great_expectations/validation_definitions/market.json"
CONFIG = "great_expectations/great_expectations.yml"
NOTHING = "Result: nothing was loosened."

Files = Mapping[str, str]
Judge = Callable[[Files, Files], tuple[int, str]]


@pytest.fixture(autouse=True)
def own_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git know nothing but the test's repository: not even the one whose hook runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    who = {f"GIT_{role}_{what}": f"t@{role}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for name, value in {**who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}.items():
        monkeypatch.setenv(name, value)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607


def write(folder: Path, files: Files) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder: Path, files: Files) -> None:
    """Make a repository whose branch `main` holds the files, and nothing in the working tree."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    write(folder, files)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=before")
    for name in files:
        (folder / name).unlink()


@pytest.fixture
def judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Judge:
    """Compare one state, committed, with another in the working tree; gives exit status and what was printed."""

    def judged(before: Files, after: Files) -> tuple[int, str]:
        commit(tmp_path, before)
        write(tmp_path, after)
        status = main(["main"], tmp_path)
        told = capsys.readouterr()
        assert told.err == ""
        return status, told.out

    return judged


def expectation(kind: str = "expect_column_values_to_be_between", **parts: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": {"column": "price"}, "severity": "critical", "description": "it holds", **parts}


def suite(*expectations: dict[str, Any], **parts: Any) -> dict[str, str]:
    return {SUITE: json.dumps({"name": "market", "expectations": expectations, "meta": {}, **parts})}


def bullets(told: str) -> list[str]:
    """Give the word of each change."""
    return [line[2:].partition(":")[0] for line in told.splitlines() if line.startswith("- ")]


BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
REGEX = "expect_column_values_to_match_regex"
ORDERED = "expect_table_columns_to_match_ordered_list"
PARAMETER = {"$PARAMETER": "limit"}

# The type, its parameters before and after, and what the change is; the way back is the opposite.
PARAMETERS: list[tuple[str, dict[str, Any], dict[str, Any], str | None]] = [
    (BETWEEN, {"min_value": 1}, {"min_value": 2}, "stricter"),
    (BETWEEN, {"max_value": 1.5}, {"max_value": 2}, "looser"),
    (BETWEEN, {"min_value": 1, "max_value": 9}, {"max_value": 9}, "looser"),
    (BETWEEN, {"min_value": 1, "max_value": None}, {"min_value": 1, "max_value": 5}, "stricter"),
    (BETWEEN, {"min_value": None}, {"min_value": PARAMETER}, "stricter"),
    (BETWEEN, {"min_value": 1}, {"min_value": PARAMETER}, "cannot be judged"),
    (BETWEEN, {"min_value": 1}, {"min_value": "1"}, "cannot be judged"),
    (BETWEEN, {"min_value": "a"}, {"min_value": "b"}, "cannot be judged"),
    (BETWEEN, {"min_value": "2023-12-31"}, {"min_value": "2024-01-01T00:00:00"}, "stricter"),
    (BETWEEN, {"min_value": "2023-12-31"}, {"min_value": "2024-01-01T00:00:00Z"}, "cannot be judged"),
    (BETWEEN, {"min_value": float("nan")}, {"min_value": 5}, "cannot be judged"),
    (BETWEEN, {"min_value": 1}, {"min_value": 1.0}, None),
    (BETWEEN, {"min_value": 1}, {"min_value": 1, "max_value": None, "strict_min": False, "mostly": 1}, None),
    (BETWEEN, {"min_value": 1}, {"min_value": 1, "strict_min": True}, "stricter"),
    (BETWEEN, {"max_value": 1}, {"max_value": 1, "strict_max": True}, "stricter"),
    (BETWEEN, {"max_value": 1}, {"max_value": 1, "strict_min": True}, None),
    (BETWEEN, {"min_value": 1, "strict_min": True}, {"min_value": 2}, "stricter"),
    (BETWEEN, {"min_value": PARAMETER}, {"min_value": PARAMETER, "strict_min": True}, "stricter"),
    (BETWEEN, {"min_value": 1}, {"min_value": 1, "strict_min": PARAMETER}, "cannot be judged"),
    ("expect_table_row_count_to_be_between", {"min_value": 1}, {"min_value": 0}, "looser"),
    ("expect_column_value_lengths_to_be_between", {"max_value": 3}, {"max_value": 4}, "looser"),
    (BETWEEN, {"min_value": 1}, {"min_value": 1, "mostly": 0.99}, "looser"),
    (BETWEEN, {"mostly": 0.5}, {"mostly": PARAMETER}, "cannot be judged"),
    (IN_SET, {"value_set": ["a", "b"]}, {"value_set": ["c", "b", "a"]}, "looser"),
    (IN_SET, {"value_set": ["a", "b"]}, {"value_set": ["b", "a", "a"]}, None),
    (IN_SET, {"value_set": [1]}, {"value_set": [True]}, "cannot be judged"),
    (IN_SET, {"value_set": ["a", "b"]}, {"value_set": ["b", "c"]}, "cannot be judged"),
    (IN_SET, {"value_set": ["a"]}, {"value_set": PARAMETER}, "cannot be judged"),
    ("expect_column_distinct_values_to_be_in_set", {"value_set": [1]}, {"value_set": [1, 2]}, "looser"),
    ("expect_column_most_common_value_to_be_in_set", {"value_set": [1]}, {"value_set": [1, 2]}, "looser"),
    ("expect_column_values_to_not_be_in_set", {"value_set": [1]}, {"value_set": [1, 2]}, "stricter"),
    ("expect_column_distinct_values_to_contain_set", {"value_set": [1]}, {"value_set": [1, 2]}, "stricter"),
    ("expect_column_distinct_values_to_equal_set", {"value_set": [1]}, {"value_set": [1, 2]}, "cannot be judged"),
    ("expect_column_distinct_values_to_equal_set", {"value_set": [1, 2]}, {"value_set": [2, 1]}, None),
    (
        "expect_column_pair_values_to_be_in_set",
        {"value_pairs_set": [[1, 2]]},
        {"value_pairs_set": [[1, 2], [2, 1]]},
        "looser",
    ),
    ("expect_column_values_to_be_in_type_list", {"type_list": ["A"]}, {"type_list": ["A", "B"]}, "looser"),
    ("expect_column_values_to_not_match_regex_list", {"regex_list": ["a"]}, {"regex_list": ["a", "b"]}, "stricter"),
    ("expect_column_values_to_match_regex_list", {"regex_list": ["a"]}, {"regex_list": ["b", "a"]}, "cannot be judged"),
    ("expect_column_value_z_scores_to_be_less_than", {"threshold": 3}, {"threshold": 4}, "looser"),
    ("expect_column_kl_divergence_to_be_less_than", {"threshold": 0.1}, {"threshold": 0.2}, "looser"),
    ("expect_column_kl_divergence_to_be_less_than", {"min_value": 1}, {"min_value": 2}, "cannot be judged"),
    ("expect_column_values_to_not_be_outliers", {}, {"multiplier": 2}, "looser"),
    ("expect_column_values_to_be_increasing", {}, {"strictly": True}, "stricter"),
    ("expect_column_pair_values_a_to_be_greater_than_b", {}, {"or_equal": True}, "looser"),
    ("expect_table_columns_to_match_set", {}, {"exact_match": False}, "looser"),
    ("expect_table_columns_to_match_set", {"column_set": ["a", "b"]}, {"column_set": ["b", "a"]}, None),
    (ORDERED, {"column_list": ["a", "b"]}, {"column_list": ["b", "a"]}, "cannot be judged"),
    ("expect_multicolumn_sum_to_equal", {"sum_total": 100}, {"sum_total": 100.0}, None),
    (REGEX, {"regex": "^a"}, {"regex": "^b"}, "cannot be judged"),
    (BETWEEN, {}, {"row_condition": "x > 1"}, "cannot be judged"),
    ("unexpected_rows_expectation", {"unexpected_rows_query": "a"}, {"unexpected_rows_query": "b"}, "cannot be judged"),
    ("expect_something_of_ours", {"limit": 1}, {"limit": 2}, "cannot be judged"),
]
OPPOSITE = {"stricter": "looser", "looser": "stricter"}


@pytest.mark.parametrize(
    ("kind", "before", "after", "word"),
    [
        *PARAMETERS,
        *((kind, after, before, word and OPPOSITE.get(word, word)) for kind, before, after, word in PARAMETERS),
    ],
)
def test_a_parameter(judge: Judge, kind: str, before: dict[str, Any], after: dict[str, Any], word: str | None) -> None:
    status, told = judge(*(suite(expectation(kind, kwargs={"column": "price", **it})) for it in (before, after)))
    assert bullets(told) == ([word] if word else [])
    assert status == (LOOSENED if word in {"looser", "cannot be judged"} else 0)


def test_a_change_that_cannot_be_judged_is_shown_before_and_after(judge: Judge) -> None:
    _, told = judge(*(suite(expectation(REGEX, kwargs={"regex": it})) for it in ("^a$", "^b$")))
    assert told.splitlines() == [
        "# Quality gates, compared with `main`",
        "",
        "## Suite `market`",
        "",
        '- cannot be judged: `it holds`: `regex` from `"^a$"` to `"^b$"`',
        "",
        "Result: 1 cannot be judged.",
    ]


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ({}, {"severity": "warning"}, "looser"),
        ({"severity": "warning"}, {"severity": "info"}, "looser"),
        ({"severity": "info"}, {"severity": "critical"}, "stricter"),
        ({}, {"meta": {"quarantine": True}}, "looser"),
        ({"meta": {"quarantine": True}}, {"meta": {}}, "stricter"),
        ({"meta": {"quarantine": False}}, {"meta": None}, None),
        ({}, {"meta": {"quarantine": 1}}, "cannot be judged"),
        ({}, {"meta": {"owner": "me"}}, "wording only"),
        ({}, {"description": "it really holds"}, "wording only"),
        ({}, {"notes": "because"}, None),
        ({"id": "1"}, {"id": "2"}, None),
        ({"id": "1"}, {"id": "1", "type": "expect_column_values_to_be_null"}, "cannot be judged"),
        ({}, {"type": "expect_column_values_to_be_null"}, "gone new"),
        ({}, {"kwargs": {"column": "volume"}}, "cannot be judged"),
        ({}, {"kwargs": {"column": "volume"}, "description": "volume too"}, "gone new"),
        ({"id": "1"}, {"id": "1", "kwargs": {"column": "volume"}}, "cannot be judged"),
    ],
)
def test_what_else_an_expectation_says(
    judge: Judge, before: dict[str, Any], after: dict[str, Any], word: str | None
) -> None:
    status, told = judge(suite(expectation(**before)), suite(expectation(**after)))
    assert " ".join(bullets(told)) == (word or "")
    assert status == (LOOSENED if word in {"looser", "cannot be judged", "gone new"} else 0)


def test_without_a_severity_it_is_critical(judge: Judge) -> None:
    bare = {"type": BETWEEN, "kwargs": {"column": "price"}}
    assert bullets(judge(suite(bare), suite({**bare, "severity": "warning"}))[1]) == ["looser"]


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ({}, {"quarantine_max_share": 0.1}, "looser"),
        ({"quarantine_max_share": 0.1}, {"quarantine_max_share": 0.05}, "stricter"),
        ({"quarantine_max_share": 0}, {}, None),
        ({"quarantine_max_share": 0.1}, {"quarantine_max_share": "all"}, "cannot be judged"),
        ({"great_expectations_version": "1"}, {"great_expectations_version": "2"}, None),
    ],
)
def test_the_meta_of_a_suite(judge: Judge, before: dict[str, Any], after: dict[str, Any], word: str | None) -> None:
    status, told = judge(suite(expectation(), meta=before), suite(expectation(), meta=after))
    assert bullets(told) == ([word] if word else [])
    assert status == (LOOSENED if word in {"looser", "cannot be judged"} else 0)


FIRST = expectation(id="1", description="first")
SECOND = expectation(id="2", description="second", kwargs={"column": "volume", "min_value": 1})
QUERY = expectation("unexpected_rows_expectation", description="a", kwargs={"unexpected_rows_query": "select 1"})
OTHER = expectation("unexpected_rows_expectation", description="b", kwargs={"unexpected_rows_query": "select 2"})


def above(least: int) -> dict[str, Any]:
    return expectation(description="low", kwargs={"column": "price", "min_value": least})


def below(most: int) -> dict[str, Any]:
    return expectation(description="high", kwargs={"column": "price", "max_value": most})


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([FIRST, SECOND], [SECOND, FIRST], []),
        ([FIRST, SECOND], [FIRST], ["gone"]),
        ([FIRST], [FIRST, SECOND], ["new"]),
        ([FIRST, FIRST], [FIRST], ["gone"]),
        ([FIRST], [FIRST, FIRST], ["new"]),
        ([FIRST, SECOND], [{**FIRST, "id": "2"}, {**SECOND, "id": "1"}], []),
        # Without ids: a threshold, a description, both.
        ([{**SECOND, "id": None}], [{**SECOND, "kwargs": {"column": "volume"}}], ["looser"]),
        ([{**SECOND, "id": None}], [{**SECOND, "description": "other"}], ["wording only"]),
        (
            [{**SECOND, "id": None}],
            [{**SECOND, "description": "other", "kwargs": {"column": "volume", "min_value": 2}}],
            ["stricter", "wording only"],
        ),
        ([above(1), below(9)], [below(8), above(0)], ["looser", "stricter"]),
        ([QUERY], [{**QUERY, "description": "other"}], ["wording only"]),
        ([QUERY], [OTHER], ["gone", "new"]),
        ([{**QUERY, "id": "1"}], [{**OTHER, "id": "1"}], ["cannot be judged", "wording only"]),
        ([QUERY, OTHER], [{**OTHER, "severity": "info"}, QUERY], ["looser"]),
    ],
)
def test_which_expectation_is_which(
    judge: Judge, before: list[dict[str, Any]], after: list[dict[str, Any]], words: list[str]
) -> None:
    status, told = judge(suite(*before), suite(*after))
    assert bullets(told) == words
    assert status == (LOOSENED if {"looser", "gone", "cannot be judged"} & set(words) else 0)


def test_how_a_file_is_written_is_no_change(judge: Judge) -> None:
    content = {"name": "market", "expectations": [FIRST], "meta": {}}
    status, told = judge(suite(FIRST), {SUITE: json.dumps(content, indent=8, sort_keys=True) + "\n"})
    assert (status, bullets(told)) == (0, [])
    assert told.splitlines()[-1] == NOTHING


def test_the_order_of_the_words_and_the_last_line(judge: Judge) -> None:
    """What a reviewer has to look at comes first."""
    before = [FIRST, SECOND, QUERY, expectation(id="4", description="fourth", kwargs={"column": "a", "min_value": 1})]
    after = [
        expectation(id="5", description="fifth", kwargs={"column": "b"}),
        {**FIRST, "description": "the first"},
        {**SECOND, "severity": "warning", "kwargs": {"column": "volume", "min_value": 2}},
        {**QUERY, "kwargs": {"unexpected_rows_query": "select 2"}},
    ]
    status, told = judge(suite(*before), suite(*after))
    assert bullets(told) == ["looser", "gone", "cannot be judged", "stricter", "new", "wording only"]
    assert told.splitlines()[-1] == "Result: 2 looser or gone, 1 cannot be judged."
    assert status == LOOSENED


def test_an_expectation_that_is_new_tells_what_it_is(judge: Judge) -> None:
    new = expectation(severity="warning", meta={"quarantine": True}, kwargs={"column": "a", "max_value": 3})
    _, told = judge(suite(), suite(new))
    assert (
        "- new: `it holds`: warning, setting rows aside, `expect_column_values_to_be_between` "
        'with `{"column": "a", "max_value": 3}`' in told
    )


def test_suites_that_came_went_or_were_renamed(judge: Judge) -> None:
    status, told = judge(suite(FIRST), {SUITE.replace("market", "bazaar"): suite(FIRST)[SUITE]})
    assert status == LOOSENED
    assert told.index("## Suite `bazaar`\n\n- new: the whole suite") < told.index(
        "## Suite `market`\n\n- gone: the whole suite"
    )


@pytest.mark.parametrize(
    ("before", "after", "status"), [({}, {}, 0), ({}, suite(FIRST), 0), (suite(FIRST), {}, LOOSENED)]
)
def test_a_side_without_the_folder(judge: Judge, before: Files, after: Files, status: int) -> None:
    assert judge(before, after)[0] == status


def gate(
    *runs: str, asset: str = "market", of: str = "market", query: str | None = "select 1", **ids: str
) -> dict[str, str]:
    names = {"datasource": "warehouse", "asset": asset, "batch_definition": "batch"}
    data = {part: {"name": name, **ids} for part, name in names.items()}
    config = {"fluent_datasources": {"warehouse": {"type": "postgres", "assets": {"market": {"query": query, **ids}}}}}
    return {
        CHECKPOINT: json.dumps({"name": "market", "validation_definitions": [{"name": run, **ids} for run in runs]}),
        DEFINITION: json.dumps({"name": "market", "suite": {"name": of, **ids}, "data": data}),
        CONFIG: json.dumps(config),  # JSON is YAML
    }


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (gate("market"), gate("market", id="2"), []),
        (gate("market", "views"), gate("views", "market"), []),
        (gate("market", "views"), gate("views"), ["gone"]),
        (gate("market"), gate("market", "views"), ["new"]),
        (gate("market"), {key: text for key, text in gate("market").items() if key != CHECKPOINT}, ["gone"]),
        ({key: text for key, text in gate("market").items() if key != CHECKPOINT}, gate("market"), ["new"]),
        (gate("market"), gate("market", of="lenient"), ["cannot be judged"]),
        (gate("market"), gate("market", asset="empty"), ["cannot be judged"]),
        (gate("market"), gate("market", query="select 2"), ["cannot be judged"]),
        (gate("market"), gate("market", query=None), ["cannot be judged"]),
        (gate("market"), {**gate("market"), CONFIG: ""}, []),
        (gate("market"), {key: text for key, text in gate("market").items() if key == CHECKPOINT}, []),
    ],
)
def test_what_is_run_on_what(judge: Judge, before: Files, after: Files, words: list[str]) -> None:
    status, told = judge(before, after)
    assert bullets(told) == words
    assert status == (LOOSENED if {"gone", "cannot be judged"} & set(words) else 0)


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
    "\x1b[2J\u202egnol\u2028\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_or_value_breaks_the_markdown(judge: Judge, name: str) -> None:
    """Rendered, all of it is code; as text, all of it is on its line."""
    kwargs = {"column": name, name: name, "value_set": [name]}
    renamed = expectation(id="1", description="", kwargs={"column": "x"}, meta={name: name})
    before = suite(expectation(id="1"), expectation(id="2", description=name, kwargs=kwargs))
    after = suite(renamed, expectation(id="3", type=name, description=name, kwargs=kwargs))
    file = SUITE.replace("market", re.sub(r"[/\ud800]", "", name))
    status, told = judge(before, {**after, **gate(name), file: suite()[SUITE]})
    assert status == LOOSENED
    assert all(line.isprintable() for line in told.splitlines())
    assert len(told.splitlines()) == told.count("\n")
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(told)
    kinds = {child.type for token in tokens for child in token.children or [token]}
    assert kinds <= {
        *("heading_open", "heading_close", "paragraph_open", "paragraph_close", "text", "code_inline"),
        *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    }
    text = "".join(child.content for token in tokens for child in token.children or [] if child.type == "text")
    assert not set(text) & set("<>[]`|&@\\")


@pytest.mark.parametrize("text", ["", " ", "`", "a`", "``a`` ` b", " a ", "a b", "é"])
def test_code_is_what_it_was(text: str) -> None:
    (paragraph,) = [token for token in MarkdownIt().parse(code(text)) if token.type == "inline"]
    (child,) = paragraph.children or []
    assert (child.type, child.content) == ("code_inline", text or " ")


@pytest.mark.parametrize(("old", "new", "end"), [("old", "new", "a, " * 300), ("", "new", ""), ("old", "", "")])
def test_long_values_are_cut_where_they_differ(judge: Judge, old: str, new: str, end: str) -> None:
    queries = (f"select {'a, ' * 300}{it}{end}" for it in (old, new))
    _, told = judge(*(suite({**QUERY, "kwargs": {"unexpected_rows_query": query}}) for query in queries))
    (line,) = [line for line in told.splitlines() if line.startswith("- ")]
    assert old in line
    assert new in line
    assert len(line) < 3 * SHOWN


def test_a_long_description_is_cut(judge: Judge) -> None:
    _, told = judge(suite(), suite(expectation(description="long " * 300, kwargs={"long": "long " * 300})))
    assert max(map(len, told.splitlines())) < 3 * SHOWN


@pytest.mark.parametrize("base", ["nowhere", "-x", "--all", "", "main..main", "main:"])
def test_a_revision_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str], base: str) -> None:
    commit(tmp_path, {})
    assert main([base], tmp_path) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("a git revision does not begin" if base[:1] == "-" else "git knows no revision")
    assert base in told.err
    assert told.err.count("\n") == 1


def test_no_revision_and_no_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([], tmp_path)
    assert stopped.value.code == 2
    capsys.readouterr()
    assert main(["main"], tmp_path) == 2
    assert "not a git repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (SUITE, "{"),
        (SUITE, "[" * 100_000),
        (SUITE, '{"expectations": 1}'),
        (SUITE, '{"expectations": [{"type": "x"}]}'),
        (SUITE, '{"expectations": [{"type": "x", "kwargs": {}, "severity": "mild\\n"}]}'),
        (CHECKPOINT, "[]"),
        (CHECKPOINT, '{"validation_definitions": ["market"]}'),
        (DEFINITION, '{"suite": {"name": "market"}}'),
        (CONFIG, "a: [\n"),
        (CONFIG, "- a"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    commit(tmp_path, {})
    write(tmp_path, {name: text})
    assert main(["main"], tmp_path) == 2
    now = capsys.readouterr()
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=broken")
    (tmp_path / name).unlink()
    assert main(["main"], tmp_path) == 2
    then = capsys.readouterr()
    assert now.out == then.out == ""
    assert now.err.startswith(f"{name} (working tree)")
    assert then.err.startswith(f"{name} (main)")
    assert now.err.count("\n") == then.err.count("\n") == 1


def test_what_is_no_text_is_named_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(tmp_path, {})
    write(tmp_path, {SUITE: ""})
    (tmp_path / SUITE).write_bytes(b"\xff")
    assert main(["main"], tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"{SUITE} (working tree)")
    (tmp_path / SUITE).unlink()
    (tmp_path / SUITE).mkdir()
    assert main(["main"], tmp_path) == 2
    assert SUITE in capsys.readouterr().err


def test_a_project_inside_a_larger_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another project's folder of the same name is not looked at."""
    inside = {f"data platform/{name}": text for name, text in suite(FIRST, SECOND).items()}
    commit(tmp_path, {**inside, **suite(FIRST)})
    write(tmp_path / "data platform", suite(FIRST))
    assert main(["HEAD"], tmp_path / "data platform") == LOOSENED
    assert bullets(capsys.readouterr().out) == ["gone"]


def test_this_repository(repository: Path) -> None:
    """As the Makefile runs it; what it finds depends on what is being worked on."""
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scripts.quality_diff", "HEAD"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in {0, LOOSENED}, ran.stderr
    assert ran.stdout.startswith("# Quality gates, compared with `HEAD`\n")
    assert ran.stdout.splitlines()[-1].startswith("Result: ")
    assert "great_expectations" not in ran.stderr  # its import takes seconds


def test_every_name_is_one_of_the_librarys() -> None:
    """A release of Great Expectations that renames, adds or gives another default is seen here."""
    from great_expectations.expectations import core
    from great_expectations.expectations.expectation import Expectation

    kinds: list[Any] = [it for it in vars(core).values() if inspect.isclass(it) and issubclass(it, Expectation)]
    kinds = [kind for kind in kinds if kind.expectation_type]  # one that is deprecated has no name
    fields = {
        f"{kind.expectation_type}.{name}": field
        for kind in kinds
        for name, field in kind.__fields__.items()
        if name not in Expectation.__fields__
    }
    judged = {name: [each for each in GROWS if fnmatchcase(name, each)] for name in fields}
    assert {pattern for found in judged.values() for pattern in found} == {
        pattern for pattern in GROWS if not pattern.startswith("meta.")
    }
    assert all(len(found) <= 1 for found in judged.values())
    for name, each in fields.items():
        parameter = name.partition(".")[2]
        if parameter in DEFAULTS and not each.required:
            assert (each.default or False) == DEFAULTS[parameter], name
    assert {name.partition(".")[2] for name, found in judged.items() if not found} == {
        *("column", "column_A", "column_B", "column_index", "column_list", "row_condition", "condition_parser"),
        *("ignore_row_if", "batch_id", "library_metadata", "quantile_ranges", "allow_relative_error", "value"),
        *("partition_object", "bucketize_data", "internal_weight_holdout", "tail_weight_holdout", "sum_total"),
        *("min_value", "max_value"),  # of the KL divergence
        *("regex", "regex_list", "like_pattern", "like_pattern_list", "match_on", "escape", "strftime_format"),
        *("type_", "json_schema", "method", "other_table_name", "base_query", "unexpected_rows_query"),
        *("comparison_query", "comparison_data_source_name"),
    }
