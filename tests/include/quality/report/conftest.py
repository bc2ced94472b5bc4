"""The report is of the toy datasets, and of no other."""

import airflow  # noqa: F401  # at its first import it replaces the handlers of the log, with which caplog reads it
import pytest


@pytest.fixture(autouse=True)
def only_toys(toys: None) -> None:
    """Let every test of the report see the toy datasets only."""
