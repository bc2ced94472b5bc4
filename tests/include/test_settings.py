"""Settings: defaults, what the environment says, and the values that are refused."""

import re

import pytest

from include.errors import PermanentError
from include.settings import settings


def test_what_is_not_set_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AIRLOCK_REPORT_ROOT",
        "AIRLOCK_DATABASE_URL",
        "AIRLOCK_PUBLICATIONS_KEPT",
        "AIRLOCK_QUALITY_DAYS_KEPT",
        "AIRLOCK_DATA_DOCS",
    ):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AIRFLOW_HOME", "/an airflow home")
    found = settings()
    assert found.report_root == "file:///an airflow home/reports"
    assert found.database_url is None
    assert (found.publications_kept, found.quality_days_kept) == (7, 400)
    assert not found.data_docs


def test_a_change_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "s3://bucket/reports")
    monkeypatch.setenv("AIRLOCK_DATABASE_URL", "postgresql://admin@host/")
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", "2")
    monkeypatch.setenv("AIRLOCK_QUALITY_DAYS_KEPT", "60")
    assert (settings().report_root, settings().database_url) == ("s3://bucket/reports", "postgresql://admin@host/")
    assert (settings().publications_kept, settings().quality_days_kept) == (2, 60)


@pytest.mark.parametrize(("value", "wanted"), [("", False), ("0", False), ("1", True), ("yes", True)])
def test_data_docs_are_written_for_any_text_but_0(monkeypatch: pytest.MonkeyPatch, value: str, wanted: bool) -> None:
    monkeypatch.setenv("AIRLOCK_DATA_DOCS", value)

    assert settings().data_docs is wanted


# With fewer than two publications there would be nothing to go back to; the report shows results of 60 days.
@pytest.mark.parametrize(
    ("name", "least"), [("AIRLOCK_PUBLICATIONS_KEPT", 2), ("AIRLOCK_QUALITY_DAYS_KEPT", 60)], ids=str
)
@pytest.mark.parametrize("value", ["least", "0", "-7", "70.5", "seven", "99999999999999999999", " 70", "\u0667\u0667"])
def test_a_number_that_cannot_be_used_is_refused(
    name: str, least: int, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = str(least - 1) if value == "least" else value
    monkeypatch.setenv(name, value)
    message = f"{name} is {value!r}: give a whole number from {least} to 9999"

    with pytest.raises(PermanentError, match=f"^{re.escape(message)}$"):
        settings()
