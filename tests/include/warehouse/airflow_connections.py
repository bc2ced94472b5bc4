"""Airflow connections as the environment gives them, which needs no Airflow database."""

import pytest

from local.login import Login


def give(monkeypatch: pytest.MonkeyPatch, conn_id: str, login: Login) -> None:
    """Let a login be an Airflow connection of that name."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", login.as_airflow_connection())
