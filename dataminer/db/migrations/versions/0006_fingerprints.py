"""What each result was made from and cost, when it is tried again, what a killed job was at."""

from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = ("projects", "videos", "project_videos")


def upgrade() -> None:
    """Add the columns; older rows have no fingerprints until a run takes them from the files."""
    for table in _TABLES:
        op.execute(
            f"ALTER TABLE {table} ADD not_before timestamptz,"
            " ADD suspect boolean NOT NULL DEFAULT false,"
            " ADD costs jsonb NOT NULL DEFAULT '{}'"
        )
    op.execute("ALTER TABLE videos ADD extract_fingerprint varchar")
    op.execute(
        "ALTER TABLE project_videos ADD filtered_from varchar, ADD filter_fingerprint varchar"
    )
    op.execute("ALTER TABLE projects ADD dedup_fingerprint varchar, ADD detect_fingerprint varchar")


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE projects DROP dedup_fingerprint, DROP detect_fingerprint")
    op.execute("ALTER TABLE project_videos DROP filtered_from, DROP filter_fingerprint")
    op.execute("ALTER TABLE videos DROP extract_fingerprint")
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} DROP not_before, DROP suspect, DROP costs")
