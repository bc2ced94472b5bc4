import os
from pathlib import Path

import pytest

from scripts import job_summary


def test_outside_a_workflow_nothing_is_written() -> None:
    # tests/conftest.py removes the variables of a workflow that runs the tests.
    assert not {"GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"} & os.environ.keys()
    job_summary.add("text")


def test_parts_are_separated_by_an_empty_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    job_summary.add("one\n")
    job_summary.add("two")
    assert (tmp_path / "summary").read_text() == "one\n\ntwo\n\n"


def test_the_text_of_a_cell_is_escaped() -> None:
    assert job_summary.table(["a", "b"], [["x|y", "a_b\nc"]]) == "| a | b |\n| --- | --- |\n| x\\|y | a\\_b c |"


@pytest.mark.parametrize("text", ["plain", "```", "a\n`````\nb"])
def test_the_text_of_a_block_cannot_close_it(text: str) -> None:
    first, *inside, last = job_summary.block(text).splitlines()
    assert first == last
    assert set(first) == {"`"}
    assert first not in inside
    assert "\n".join(inside) == text
