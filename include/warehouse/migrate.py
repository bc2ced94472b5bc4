"""Bringing the warehouse's schema up to date: the platform's migrations, then those of each dataset, by Alembic."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psycopg

from include.dataset import Dataset
from include.errors import PermanentError
from include.warehouse import queries
from include.warehouse.migration import check_numbers
from include.warehouse.roles import APP, READER, set_password
from include.warehouse.staging import ensure_schemas, ensure_staging

# A migration may take hours. While it waits for a table, all who need that table wait behind it: so not for long.
LIMITS = {"statement_timeout": "6h", "lock_timeout": "1min"}
_MIGRATIONS = Path(__file__).resolve().parent / "migrations"


def migrate(
    connect: Callable[[], psycopg.Connection[Any]], passwords: Mapping[str, str], datasets: Iterable[Dataset]
) -> list[str]:
    """Apply what is missing, create what is derived from the declarations, and set the roles' passwords.

    All of it or nothing. `connect` opens a connection of the admin to the warehouse database; `passwords` are by
    role. Returns the migrations that were applied, as `<dataset>/<number>`, oldest first. Safe to run twice and by
    two at once. What a dataset that is no longer declared left in the warehouse stays as it is. Raises
    PermanentError when a migration fails, when the database is at a migration that this code does not have, and
    when a declaration does not fit its tables.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    # A creator instead of a URL: no password in a URL that an exception could show.
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    with engine.begin() as connection:
        admin = cast(psycopg.Connection[Any], connection.connection.driver_connection)
        for name, value in LIMITS.items():
            admin.execute("select set_config(%s, %s, true)", [name, value])
        _check_rights(admin)
        _take_turn(admin)
        if admin.execute("select to_regclass('warehouse.alembic_version') is not null").fetchone() == (True,):
            raise PermanentError(
                "This warehouse was made by the first version of Airlock, which cannot be upgraded: run `make clean`, "
                "then start again."
            )
        applied = _upgrade(connection, "warehouse", _MIGRATIONS / "versions")
        datasets = tuple(datasets)
        for dataset in datasets:
            ensure_schemas(admin, dataset)
            if (folder := dataset.folder / "migrations").is_dir():
                applied += _upgrade(connection, dataset.schema, folder)  # a group's are applied by its first dataset
        for dataset in datasets:  # after all migrations: views can read tables of any dataset
            ensure_staging(admin, dataset)
        # Still under the lock: Postgres refuses two that alter one role at once.
        for role, password in passwords.items():
            set_password(admin, role, password)
    return applied


def _check_rights(admin: psycopg.Connection[Any]) -> None:
    """Raise PermanentError unless the admin may do what migrations do, before any of it is done."""
    missing = admin.execute(queries.read("warehouse/missing_rights"), {"roles": [APP, READER]}).fetchone()
    if missing:
        raise PermanentError("Nothing was migrated. The role {} must be able to {}".format(*missing))


def _take_turn(admin: psycopg.Connection[Any]) -> None:
    """Let only this transaction migrate, by a lock that only an admin can take."""
    with suppress(psycopg.errors.UniqueViolation), admin.transaction():  # the first one has created them meanwhile
        admin.execute("create schema if not exists warehouse")
        admin.execute("create table if not exists warehouse.lock (name text primary key)")
    if admin.execute("select to_regclass('warehouse.migrations_warehouse') is not null").fetchone() == (True,):
        admin.execute("lock table warehouse.migrations_warehouse in share update exclusive mode")


def _upgrade(connection: Any, name: str, folder: Path) -> list[str]:
    """Apply the missing migrations of one folder, which have a version table of their own."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    check_numbers(folder)
    applied: list[str] = []
    config = Config()
    for option, value in (
        ("script_location", str(_MIGRATIONS)),
        ("path_separator", "newline"),
        ("version_locations", str(folder)),
    ):
        config.set_main_option(option, value.replace("%", "%%"))
    config.attributes.update(connection=connection, applied=applied, version_table=f"migrations_{name}")
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise PermanentError(
            f"The migrations of {name} cannot be applied: {error}. If newer code migrated the warehouse, deploy that "
            "code. If an older Airlock made this local one: make clean, then start again."
        ) from error
    return [f"{name}/{number}" for number in applied]
