"""What each project was last run with, and since when attempts have failed temporarily."""

from alembic import op

revision = "0008"
down_revision = "0007"

_TABLES = ("projects", "videos", "project_videos")


def upgrade() -> None:
    """Add the columns; nobody knows of older rows."""
    op.execute("ALTER TABLE projects ADD workdir varchar, ADD configfiles jsonb")
    for table in _TABLES:
        op.execute(
            f"ALTER TABLE {table} ADD failures integer NOT NULL DEFAULT 0,"
            " ADD failing_since timestamptz, ADD kills integer NOT NULL DEFAULT 0"
        )


def downgrade() -> None:
    """Drop them."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} DROP failures, DROP failing_since, DROP kills")
    op.execute("ALTER TABLE projects DROP workdir, DROP configfiles")
