import pytest

from include.settings import settings


def test_what_is_not_set_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLYGON_BASE_URL", "AIRLOCK_REPORT_ROOT", "AIRLOCK_DATABASE_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AIRFLOW_HOME", "/an airflow home")
    found = settings()
    assert found.polygon_base_url == "https://api.massive.com"
    assert found.report_root == "file:///an airflow home/reports"
    assert found.database_url is None


def test_a_change_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AIRLOCK_REPORT_ROOT", "s3://bucket/reports")
    assert (settings().polygon_base_url, settings().report_root) == ("http://127.0.0.1:1", "s3://bucket/reports")
