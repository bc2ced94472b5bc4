"""The source tables of daily operations, and the schema of the views' snapshots."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the SQL beside this file. Migrations only go forward: to undo one, write the next."""
    op.execute(Path(__file__).with_suffix(".sql").read_text())
