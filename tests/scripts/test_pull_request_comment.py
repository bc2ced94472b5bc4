import json
import os
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from scripts.pull_request_comment import AUTHOR, LIMIT, MARKER, build, main

PLAN = "# aws_s3_bucket.reports will be created\nPlan: 1 to add, 0 to change, 0 to destroy.\n"


def test_the_comment_begins_with_the_marker_and_has_both_parts() -> None:
    body = build("# Quality gates\n\nResult: 1 looser or gone.\n", PLAN)
    assert body.startswith(MARKER)
    assert "<summary>Result: 1 looser or gone.</summary>" in body
    assert "<summary>Plan: 1 to add, 0 to change, 0 to destroy.</summary>" in body


@pytest.mark.parametrize(("quality", "plan", "missing"), [(None, PLAN, 1), ("# Quality", None, 1), (None, None, 2)])
def test_a_missing_part_is_reported(quality: str | None, plan: str | None, missing: int) -> None:
    assert build(quality, plan).count("Missing: see the workflow's run") == missing


HOSTILE = "@acme/owners ![](https://example.com/seen.png) <img src=x> [log in](https://example.com)"


@pytest.mark.parametrize("line", [HOSTILE, f"Plan: {HOSTILE}", f"Result: {HOSTILE}", f"```\n</details>\n\n{HOSTILE}"])
def test_nothing_in_a_part_is_rendered(line: str) -> None:
    """The parts come from jobs that ran the pull request's code, so its author controls the text."""
    tokens = MarkdownIt("commonmark", {"html": True}).parse(build(f"{line}\n{line}\n", f"{line}\n"))
    assert sum(token.content.count(HOSTILE) for token in tokens if token.type == "fence") == 3
    rest = "".join(token.content for token in tokens if token.type != "fence")
    assert not set("@[") & set(rest)
    assert set(re.findall(r"<[^>]+>", rest)) == {
        *(MARKER, "<details>", "<details open>", "</details>", "<summary>", "</summary>")
    }


def test_the_text_of_a_plan_cannot_close_its_block() -> None:
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
def test_the_comment_is_never_longer_than_github_accepts(quality: str, plan: str | None) -> None:
    body = build(quality, plan)
    assert len(body.encode("utf-16-le")) // 2 <= LIMIT
    assert body.startswith(MARKER)


def test_only_the_longer_part_is_cut() -> None:
    body = build("short", "p\n" * 100_000)
    assert "short" in body
    assert "cut here" in body
    assert len(body) > LIMIT * 0.9


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a stand-in for gh: it records its calls, lists comments.jsonl and stores what is posted."""
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


def comments(gh: Path, *existing: tuple[int, str, str]) -> None:
    lines = [json.dumps({"id": number, "login": login, "body": body}) for number, login, body in existing]
    (gh / "comments.jsonl").write_text("\n".join(lines))


def test_the_first_comment_is_posted(gh: Path) -> None:
    # Anybody can write the marker, and the workflow's account also writes other comments.
    comments(gh, (1, "somebody", f"{MARKER}\nmine"), (2, AUTHOR, f"about {MARKER}"))
    assert main() == 0
    assert (gh / "calls").read_text().splitlines()[1] == (
        "api --method POST repos/acme/airlock/issues/7/comments --input -"
    )
    assert json.loads((gh / "posted").read_text())["body"].startswith(MARKER)


def test_an_earlier_comment_is_updated(gh: Path) -> None:
    comments(gh, (1, "somebody", f"{MARKER}\nmine"), (33, AUTHOR, f"{MARKER}\nold"))
    assert main() == 0
    assert (gh / "calls").read_text().splitlines()[1:] == [
        "api --method PATCH repos/acme/airlock/issues/comments/33 --input -"
    ]


def test_a_failure_of_gh_is_a_failure(gh: Path) -> None:
    (gh / "gh").write_text("#!/bin/sh\nexit 4\n")
    assert main() == 1
