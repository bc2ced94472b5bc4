"""Airflow connections from environment variables, which need no Airflow database."""

import pytest

from local.login import Login


def give(monkeypatch: pytest.MonkeyPatch, conn_id: str, login: Login) -> None:
    """Make a login the Airflow connection of that name."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", login.as_airflow_connection())
