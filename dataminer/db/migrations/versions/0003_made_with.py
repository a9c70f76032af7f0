"""What each result was made with: its stage's version and settings, as one short hash."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a column for each stage of a video; what is there already says nothing yet."""
    op.execute("ALTER TABLE videos ADD downloaded_with varchar, ADD extracted_with varchar")
    op.execute("ALTER TABLE project_videos ADD filtered_with varchar")


def downgrade() -> None:
    """Drop the columns."""
    op.execute("ALTER TABLE project_videos DROP filtered_with")
    op.execute("ALTER TABLE videos DROP extracted_with, DROP downloaded_with")
