"""Which configuration files each project was last run with, and in which folder."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns; nobody knows them of projects that were run before."""
    op.execute("ALTER TABLE projects ADD workdir varchar, ADD configfiles jsonb")


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE projects DROP workdir, DROP configfiles")
