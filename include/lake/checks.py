"""A gate between two ends of a copy: what one end has and the other has, counted at both."""

from collections.abc import Mapping

from include.lake.storage import Figures
from include.quality.outcome import Finding, Validation


def compare(
    original: str,
    copy: str,
    table: str,
    wanted: tuple[int, Mapping[str, Figures]],
    found: tuple[int, Mapping[str, Figures]],
) -> Validation:
    """Return whether a copy has the rows, and in each column the values and the sum, of what it was made from.

    `original` and `copy` name the two in the report, and `table` what was checked; `wanted` and `found` are their row
    counts and figures.
    """
    (rows, expected), (found_rows, observed) = wanted, found
    pairs: list[tuple[str, str | None, object, object]] = [("as many rows", None, rows, found_rows)]
    for column, figures in expected.items():
        other = observed.get(column, Figures(0, None))
        pairs.append((f"as many values of {column}", column, figures.values, other.values))
        if figures.sum is not None:
            pairs.append((f"the same sum of {column}", column, figures.sum, other.sum))
    findings = [
        Finding(
            suite=f"{copy} against {original}",
            expectation=f"the {copy} has {same} as the {original}",
            type="copy",
            column=column,
            arguments={original: one},
            severity="critical",
            verdict="passed" if one == two else "failed",
            observed=f"{two}" if one == two else f"{two} instead of {one}",
            observed_number=None,
            checked=None,
            unexpected=None,
            sample=[],
        )
        for same, column, one, two in pairs
    ]
    return Validation(f"{copy} against {original}", table, found_rows, findings)
