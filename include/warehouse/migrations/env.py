"""How Alembic runs our migrations: inside the transaction that include/warehouse/migrate.py opened."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import text

connection = context.config.attributes["connection"]
# One migration run at a time; the lock ends with the transaction.
connection.execute(text("select pg_advisory_xact_lock(hashtextextended('airlock migrations', 0))"))
connection.execute(text("create schema if not exists warehouse"))


def note(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]) -> None:
    """Remember each applied revision, for the log of the task."""
    context.config.attributes["applied"].append(step.up_revision_id)


context.configure(connection=connection, version_table_schema="warehouse", on_version_apply=note)
context.run_migrations()
