import json
import os
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from scripts.pull_request_comment import AUTHOR, LIMIT, MARKER, build, main

PLAN = "# aws_s3_bucket.reports will be created\nPlan: 1 to add, 0 to change, 0 to destroy.\n"


def test_it_begins_with_the_marker_and_has_both_parts() -> None:
    body = build("# Quality gates\n\nResult: 1 looser or gone.\n", PLAN)
    assert body.startswith(MARKER)
    assert "<summary>Result: 1 looser or gone.</summary>" in body
    assert "<summary>Plan: 1 to add, 0 to change, 0 to destroy.</summary>" in body


@pytest.mark.parametrize(("quality", "plan", "missing"), [(None, PLAN, 1), ("# Quality", None, 1), (None, None, 2)])
def test_a_missing_part_is_said(quality: str | None, plan: str | None, missing: int) -> None:
    assert build(quality, plan).count("Not there: see the workflow's run") == missing


HOSTILE = "@acme/owners ![](https://example.com/seen.png) <img src=x> [log in](https://example.com)"


@pytest.mark.parametrize("line", [HOSTILE, f"Plan: {HOSTILE}", f"Result: {HOSTILE}", f"```\n</details>\n\n{HOSTILE}"])
def test_nothing_in_a_part_is_rendered(line: str) -> None:
    """The jobs that wrote the parts ran the pull request's code: who opened it chose the text."""
    tokens = MarkdownIt("commonmark", {"html": True}).parse(build(f"{line}\n{line}\n", f"{line}\n"))
    assert sum(token.content.count(HOSTILE) for token in tokens if token.type == "fence") == 3
    rest = "".join(token.content for token in tokens if token.type != "fence")
    assert not set("@[") & set(rest)
    assert set(re.findall(r"<[^>]+>", rest)) == {
        *(MARKER, "<details>", "<details open>", "</details>", "<summary>", "</summary>")
    }


def test_nothing_in_a_plan_ends_its_block() -> None:
    plan = "```\n</details>\n@everybody\n````\n" + PLAN
    body = build("", plan)
    fence = "`" * 5
    assert body.count(fence) == 2
    inside = body.split(fence)[1]
    assert "@everybody" in inside
    assert "````\n" in inside


@pytest.mark.parametrize(
    ("quality", "plan"),
    [
        ("q\n" * 100_000, "p\n" * 100_000),
        ("q\n", "p\n" * 100_000),
        ("q\n" * 100_000, None),
        ("", "𝄞" * 60_000),
        ("", "`" * 60_000),
        ("`" * 60_000, "p"),
        ("`" * 20_000, "p\n" * 100_000),
        ("q" * 65_536, "p"),
    ],
)
def test_it_is_never_longer_than_github_takes(quality: str, plan: str | None) -> None:
    body = build(quality, plan)
    assert len(body.encode("utf-16-le")) // 2 <= LIMIT
    assert body.startswith(MARKER)


def test_the_short_part_is_not_cut_for_the_long_one() -> None:
    body = build("short", "p\n" * 100_000)
    assert "short" in body
    assert "cut here" in body
    assert len(body) > LIMIT * 0.9


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of a gh that notes its calls, gives the comments of comments.jsonl and keeps what is posted."""
    program = tmp_path / "gh"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> "{tmp_path}/calls"\ncase "$*" in *--input*) cat > "{tmp_path}/posted";; '
        f'*) cat "{tmp_path}/comments.jsonl";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "quality.md").write_text("# Quality")
    monkeypatch.setattr(
        "sys.argv", ["comment", "acme/airlock", "7", "--quality", f"{tmp_path}/quality.md", "--plan", f"{tmp_path}/no"]
    )
    return tmp_path


def comments(gh: Path, *given: tuple[int, str, str]) -> None:
    lines = [json.dumps({"id": number, "login": login, "body": body}) for number, login, body in given]
    (gh / "comments.jsonl").write_text("\n".join(lines))


def test_the_first_time_it_is_written(gh: Path) -> None:
    # Anybody can write the marker, and our account writes other comments, too.
    comments(gh, (1, "somebody", f"{MARKER}\nmine"), (2, AUTHOR, f"about {MARKER}"))
    assert main() == 0
    assert (gh / "calls").read_text().splitlines()[1] == (
        "api --method POST repos/acme/airlock/issues/7/comments --input -"
    )
    assert json.loads((gh / "posted").read_text())["body"].startswith(MARKER)


def test_after_that_it_is_brought_up_to_date(gh: Path) -> None:
    comments(gh, (1, "somebody", f"{MARKER}\nmine"), (33, AUTHOR, f"{MARKER}\nold"))
    assert main() == 0
    assert (gh / "calls").read_text().splitlines()[1:] == [
        "api --method PATCH repos/acme/airlock/issues/comments/33 --input -"
    ]


def test_a_failure_of_gh_is_a_failure(gh: Path) -> None:
    (gh / "gh").write_text("#!/bin/sh\nexit 4\n")
    assert main() == 1
