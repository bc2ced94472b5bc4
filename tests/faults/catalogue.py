"""The outcomes of faults, printed as one table at the end of a session of pytest."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """What a fault did."""

    fault: str
    outcome: str
    table: str
    seconds: float


OUTCOMES: list[Outcome] = []


def record(outcome: Outcome) -> None:
    """Keep an outcome for the table."""
    OUTCOMES.append(outcome)
