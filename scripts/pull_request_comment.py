"""Write or update one comment with the changes of a pull request that its diff does not show.

python3 -m scripts.pull_request_comment OWNER/NAME NUMBER --quality quality.md --plan plan.txt

The files come from jobs that ran the pull request's code, so their content is not trusted: it is shown as plain text,
and never rendered. A missing file is reported.

Standard library only: the job that may write comments installs nothing and runs no code of the pull request.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from scripts.job_summary import block

MARKER = "<!-- airlock: what this pull request changes -->"
AUTHOR = "github-actions[bot]"
LIMIT = 65_536  # characters that GitHub accepts
# The only text of the files outside a code block: no mention, link or HTML can match.
_OUTCOME = re.compile(r"(Plan: |No changes\.|Result: )[A-Za-z0-9 ,.]*")
_CUT = "\n... cut here; the full text is on the page of the workflow's run.\n"


def build(quality: str | None, plan: str | None) -> str:
    """Return the comment; the longer part is cut when both do not fit."""
    # Lengths are in UTF-16 units, as GitHub may count them. 1000 of them are for the text around the parts.
    shares = _shares(_length(quality or ""), _length(plan or ""), LIMIT - 1000)
    return (
        f"{MARKER}\n# Quality gates\n\n{_part(quality, shares[0], 'The comparison', opened=True)}\n\n"
        f"# Infrastructure of dev\n\n{_part(plan, shares[1], 'The plan')}\n"
    )


def _part(text: str | None, length: int, name: str, *, opened: bool = False) -> str:
    """Return a text as a code block under its outcome: Markdown, HTML and mentions in it have no effect."""
    kept = cut(text or "", length)
    quoted = block(kept, "text")
    # A text full of backticks needs a fence that is as long as the text itself.
    if text is None or _length(quoted) > _length(kept) + 200:
        return "_Missing: see the workflow's run._"
    outcomes = [line for line in text.splitlines() if _OUTCOME.fullmatch(line)]
    summary = outcomes[-1] if outcomes else name
    return f"<details{' open' * opened}><summary>{summary}</summary>\n\n{quoted}\n\n</details>"


def cut(text: str, length: int) -> str:
    """Cut a text that is too long, and mark the cut."""
    if _length(text) <= length:
        return text
    kept = text.encode("utf-16-le")[: 2 * max(0, length - len(_CUT))].decode("utf-16-le", errors="ignore")
    return kept + _CUT


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    half = room // 2
    return max(half, room - second), max(half, room - first)


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def post(repository: str, number: int, body: str) -> str:
    """Post the comment, or update the earlier one; returns `posted` or `updated`."""
    comments = f"repos/{repository}/issues/{number}/comments"
    listed = _gh(["--paginate", f"{comments}?per_page=100", "--jq", ".[] | {id, body, login: .user.login}"])
    ours = [
        comment["id"]
        for comment in map(json.loads, listed.splitlines())
        # Anybody can write the marker: only a comment of the workflow's own account is updated.
        if comment["login"] == AUTHOR and comment["body"].startswith(MARKER)
    ]
    content = json.dumps({"body": body})
    if ours:
        _gh(["--method", "PATCH", f"repos/{repository}/issues/comments/{ours[0]}", "--input", "-"], content)
        return "updated"
    _gh(["--method", "POST", comments, "--input", "-"], content)
    return "posted"


def _gh(arguments: list[str], stdin: str = "") -> str:
    command = ["gh", "api", *arguments]
    return subprocess.run(command, input=stdin, check=True, stdout=subprocess.PIPE, text=True).stdout


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def main() -> int:
    """Build and post the comment; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("repository")
    parser.add_argument("number", type=int)
    parser.add_argument("--quality", type=Path, required=True)
    parser.add_argument("--plan", type=Path, required=True)
    arguments = parser.parse_args()
    body = build(_read(arguments.quality), _read(arguments.plan))
    try:
        print(f"The comment was {post(arguments.repository, arguments.number, body)}.")
    except subprocess.CalledProcessError as error:
        print(f"The comment could not be posted: gh ended with status {error.returncode}, see above.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
