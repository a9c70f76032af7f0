"""What was lost, mended or converted in the frames of a video, and in those that projects use."""

from alembic import op

revision = "0010"
down_revision = "0009"

_COLUMNS = {"videos": "notes", "project_videos": "source_notes"}


def upgrade() -> None:
    """Add the columns; older versions counted nothing."""
    for table, column in _COLUMNS.items():
        op.execute(f"ALTER TABLE {table} ADD {column} jsonb NOT NULL DEFAULT '{{}}'")


def downgrade() -> None:
    """Drop them."""
    for table, column in _COLUMNS.items():
        op.execute(f"ALTER TABLE {table} DROP {column}")
