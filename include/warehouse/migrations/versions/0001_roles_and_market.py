"""The roles, the schemas market and market_staging, and the market tables."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the SQL beside this file. Migrations only go forward: to undo one, write the next."""
    op.execute(Path(__file__).with_suffix(".sql").read_text())
