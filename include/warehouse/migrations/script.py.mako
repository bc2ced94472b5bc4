"""${message}"""

from pathlib import Path

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Run the SQL beside this file. Migrations only go forward: to undo one, write the next."""
    op.execute(Path(__file__).with_suffix(".sql").read_text())
