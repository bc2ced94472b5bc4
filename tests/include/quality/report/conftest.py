"""The report is of the toy datasets, and of no other."""

import pytest


@pytest.fixture(autouse=True)
def only_toys(toys: None) -> None:
    """Let every test of the report see the toy datasets only."""
