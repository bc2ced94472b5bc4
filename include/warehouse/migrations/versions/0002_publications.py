"""The register of publications."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the SQL beside this file. Migrations only go forward: to undo one, write the next."""
    op.execute(Path(__file__).with_suffix(".sql").read_text())
