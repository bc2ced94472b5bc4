import os
from pathlib import Path

import pytest

from scripts import job_summary


def test_outside_of_a_workflow_nothing_is_written() -> None:
    # Nor in one that runs the tests, which tests/conftest.py sees to.
    assert not {"GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"} & os.environ.keys()
    job_summary.add("text")


def test_parts_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    job_summary.add("one\n")
    job_summary.add("two")
    assert (tmp_path / "summary").read_text() == "one\n\ntwo\n\n"


def test_a_cell_stays_one_cell() -> None:
    assert job_summary.table(["a", "b"], [["x|y", "a_b\nc"]]) == "| a | b |\n| --- | --- |\n| x\\|y | a\\_b c |"


@pytest.mark.parametrize("text", ["plain", "```", "a\n`````\nb"])
def test_nothing_ends_a_block_before_its_end(text: str) -> None:
    first, *inside, last = job_summary.block(text).splitlines()
    assert first == last
    assert set(first) == {"`"}
    assert first not in inside
    assert "\n".join(inside) == text
