"""Airflow connections as the environment gives them, which needs no Airflow database."""

import json

import pytest

from local.login import Login


def give(monkeypatch: pytest.MonkeyPatch, conn_id: str, login: Login) -> None:
    """Let a login be an Airflow connection of that name."""
    connection = {
        "conn_type": "postgres",
        "host": login.host,
        "port": login.port,
        "login": login.user,
        "password": login.password,
        "schema": login.dbname,
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
