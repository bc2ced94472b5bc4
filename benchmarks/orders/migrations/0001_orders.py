"""The source table of the views."""

from include.warehouse.migration import numbered, run_sql_beside

revision, down_revision = numbered(__file__)


def upgrade() -> None:
    """Run the SQL beside this file."""
    run_sql_beside(__file__)
