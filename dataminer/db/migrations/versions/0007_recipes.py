"""Which file frames are of, of how many a project chose, and frames that outlive their source."""

from alembic import op

revision = "0007"
down_revision = "0006"

_DROP = "DROP TRIGGER transition ON videos"
_MAKE = """
CREATE TRIGGER transition BEFORE UPDATE OF status, lease ON videos FOR EACH ROW
WHEN (
    NEW.lease < OLD.lease
    OR OLD.status <> NEW.status AND (
        (OLD.status, NEW.status) NOT IN (
            ('PENDING', 'DOWNLOADING'),
            ('DOWNLOADING', 'DOWNLOADED'),
{more}            ('DOWNLOADING', 'FAILED'),
            ('DOWNLOADING', 'PENDING'),
            ('DOWNLOADING', 'EXTRACTING'),
            ('DOWNLOADED', 'DOWNLOADING'),
            ('DOWNLOADED', 'EXTRACTING'),
            ('DOWNLOADED', 'PENDING'),
            ('EXTRACTING', 'EXTRACTED'),
            ('EXTRACTING', 'FAILED'),
            ('EXTRACTING', 'DOWNLOADED'),
            ('EXTRACTING', 'DOWNLOADING'),
            ('EXTRACTED', 'DOWNLOADING'),
            ('EXTRACTED', 'EXTRACTING'),
            ('EXTRACTED', 'PENDING'),
            ('EXTRACTED', 'DOWNLOADED'),
            ('FAILED', 'DOWNLOADING'),
            ('FAILED', 'EXTRACTING'),
            ('FAILED', 'PENDING'),
            ('FAILED', 'DOWNLOADED'))
        OR CASE
            WHEN NEW.status IN ('DOWNLOADING', 'EXTRACTING') THEN NEW.lease <= OLD.lease
            WHEN OLD.status IN ('DOWNLOADING', 'EXTRACTING') THEN NEW.lease <> OLD.lease
            ELSE false END))
EXECUTE FUNCTION dataminer_refuse_move('status')
"""
_KEPT = "            ('DOWNLOADING', 'EXTRACTED'),\n"


def upgrade() -> None:
    """Add the columns; a download whose source is gone may leave the frames that there are."""
    op.execute("ALTER TABLE videos ADD sha256 varchar")
    op.execute("ALTER TABLE project_videos ADD source_frames integer")
    op.execute(
        "UPDATE project_videos pv SET source_frames = v.frame_count FROM videos v"
        " WHERE v.video_id = pv.video_id AND pv.filtered_from = v.extract_fingerprint"
        " AND pv.status IN ('FILTERED', 'FILTERED_EMPTY')"
    )
    op.execute(_DROP)
    op.execute(_MAKE.format(more=_KEPT))


def downgrade() -> None:
    """Drop them."""
    op.execute(_DROP)
    op.execute(_MAKE.format(more=""))
    op.execute("ALTER TABLE project_videos DROP source_frames")
    op.execute("ALTER TABLE videos DROP sha256")
