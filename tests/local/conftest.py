"""What the tests of one machine's platform share."""

from collections.abc import Iterator

import pytest

from local.state import State
from tests.local.running import new_state


@pytest.fixture
def own_state() -> Iterator[State]:
    """Yield a state that only this test uses, in a path with a space."""
    with new_state() as state:
        yield state


@pytest.fixture(scope="session")
def shared_state() -> Iterator[State]:
    """Yield a state on which platforms are started one after the other: with its databases, one starts faster."""
    with new_state() as state:
        yield state
