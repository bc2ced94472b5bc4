"""The results of every gate, the quarantine, and the incidents that were told."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the SQL beside this file. Migrations only go forward: to undo one, write the next."""
    op.execute(Path(__file__).with_suffix(".sql").read_text())
