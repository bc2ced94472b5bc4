import re

import pytest

from include.errors import PermanentError
from include.settings import settings


def test_what_is_not_set_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLYGON_BASE_URL", "AIRLOCK_REPORT_ROOT", "AIRLOCK_DATABASE_URL", "AIRLOCK_PUBLICATIONS_KEPT"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AIRFLOW_HOME", "/an airflow home")
    found = settings()
    assert found.polygon_base_url == "https://api.massive.com"
    assert found.report_root == "file:///an airflow home/reports"
    assert found.database_url is None
    assert found.publications_kept == 7


def test_a_change_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "s3://bucket/reports")
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", "2")
    assert (settings().polygon_base_url, settings().report_root) == ("http://127.0.0.1:1", "s3://bucket/reports")
    assert settings().publications_kept == 2


# With fewer than two there would be nothing to go back to.
@pytest.mark.parametrize("value", ["1", "0", "-7", "7.5", "seven", "99999999999999999999", " 7", "\u0667"])
def test_a_count_of_publications_that_cannot_be_kept_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOCK_PUBLICATIONS_KEPT", value)
    told = f"AIRLOCK_PUBLICATIONS_KEPT is {value!r}: give a whole number from 2 to 9999"

    with pytest.raises(PermanentError, match=f"^{re.escape(told)}$"):
        settings()
