"""How Alembic runs our migrations: inside the transaction that include/warehouse/migrate.py opened."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

attributes = context.config.attributes


def note(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]) -> None:
    """Collect each applied revision, for the log of the task."""
    attributes["applied"].append(step.up_revision_id)


context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    version_table_schema="warehouse",
    on_version_apply=note,
)
context.run_migrations()
