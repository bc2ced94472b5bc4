"""Bringing the warehouse's schema up to date: the versioned migrations beside this file, by Alembic."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import psycopg

from include.daily_operations.schema import ensure_views
from include.errors import PermanentError
from include.warehouse.roles import set_password

_MIGRATIONS = Path(__file__).resolve().parent / "migrations"


def migrate(connect: Callable[[], psycopg.Connection[Any]], passwords: Mapping[str, str]) -> list[str]:
    """Apply what is missing, make the views that are new, and give each role its password: all of it or nothing.

    `connect` opens a connection of the admin to the warehouse database; `passwords` are by role. Gives the
    revisions that were applied, oldest first. Safe to run twice and by two at once. Raises PermanentError when
    the database is at a revision that this code does not have, or a view's columns need a migration.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    applied: list[str] = []
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    # A creator instead of a URL: no password in a URL that an exception could show.
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    with engine.begin() as connection:
        config.attributes.update(connection=connection, applied=applied)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise PermanentError(
                f"The warehouse cannot be migrated: {error}. If it was migrated by newer code, deploy that code."
            ) from error
        # Still under the migrations' lock: Postgres refuses two that alter one role at once.
        admin = cast(psycopg.Connection[Any], connection.connection.driver_connection)
        ensure_views(admin)
        for role, password in passwords.items():
            set_password(admin, role, password)
    return applied
