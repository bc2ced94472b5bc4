"""The tables behind the dashboards."""

from include.warehouse.migration import numbered, run_sql_beside

revision, down_revision = numbered(__file__)


def upgrade() -> None:
    """Run the SQL beside this file. Migrations only go forward: to undo one, write the next."""
    run_sql_beside(__file__)
