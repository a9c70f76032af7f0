"""A trigger on each table that refuses a status that may not follow, and an unfenced claim."""

from alembic import op

revision = "0002"
down_revision = "0001"

_REFUSE = """
CREATE FUNCTION dataminer_refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := to_jsonb(OLD) ->> TG_ARGV[0];
    after text := to_jsonb(NEW) ->> TG_ARGV[0];
BEGIN
    RAISE EXCEPTION 'a row of % may not go from % with lease % to % with lease %',
        TG_TABLE_NAME, before, OLD.lease, after, NEW.lease
    USING ERRCODE = 'check_violation', CONSTRAINT = 'transition_' || TG_TABLE_NAME,
        TABLE = TG_TABLE_NAME, COLUMN = TG_ARGV[0], DETAIL = 'key: ' || coalesce(
            to_jsonb(OLD) ->> 'name',
            concat_ws(' ', to_jsonb(OLD) ->> 'project_id', to_jsonb(OLD) ->> 'video_id')),
        HINT = 'A claim raises the lease, its end leaves it as it is, and only a status that'
            ' dataminer/sync/transitions.py lists may follow.';
END $$
"""

# A WHEN clause instead of a function's body: a move that is allowed costs no PL/pgSQL call.
_VIDEOS = """
CREATE TRIGGER transition BEFORE UPDATE OF status, lease ON videos FOR EACH ROW
WHEN (
    NEW.lease < OLD.lease
    OR OLD.status <> NEW.status AND (
        (OLD.status, NEW.status) NOT IN (
            ('PENDING', 'DOWNLOADING'),
            ('DOWNLOADING', 'DOWNLOADED'),
            ('DOWNLOADING', 'FAILED'),
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

_PROJECT_VIDEOS = """
CREATE TRIGGER transition BEFORE UPDATE OF status, lease ON project_videos FOR EACH ROW
WHEN (
    NEW.lease < OLD.lease
    OR OLD.status <> NEW.status AND (
        (OLD.status, NEW.status) NOT IN (
            ('PENDING', 'FILTERING'),
            ('FILTERING', 'FILTERED'),
            ('FILTERING', 'FILTERED_EMPTY'),
            ('FILTERING', 'FAILED'),
            ('FILTERING', 'PENDING'),
            ('FILTERED', 'FILTERING'),
            ('FILTERED', 'PENDING'),
            ('FILTERED_EMPTY', 'FILTERING'),
            ('FILTERED_EMPTY', 'PENDING'),
            ('FAILED', 'FILTERING'),
            ('FAILED', 'PENDING'))
        OR CASE
            WHEN NEW.status = 'FILTERING' THEN NEW.lease <= OLD.lease
            WHEN OLD.status = 'FILTERING' THEN NEW.lease <> OLD.lease
            ELSE false END))
EXECUTE FUNCTION dataminer_refuse_move('status')
"""

_PROJECTS = """
CREATE TRIGGER transition BEFORE UPDATE OF project_stage, lease ON projects FOR EACH ROW
WHEN (
    NEW.lease < OLD.lease
    OR OLD.project_stage <> NEW.project_stage AND (
        (OLD.project_stage, NEW.project_stage) NOT IN (
            ('POPULATING', 'FILTERING'),
            ('POPULATING', 'DEDUP_READY'),
            ('FILTERING', 'POPULATING'),
            ('FILTERING', 'DEDUP_READY'),
            ('FILTERING', 'DEDUPING'),
            ('FILTERING', 'DETECTING'),
            ('DEDUP_READY', 'POPULATING'),
            ('DEDUP_READY', 'FILTERING'),
            ('DEDUP_READY', 'DEDUPING'),
            ('DEDUP_READY', 'DETECTING'),
            ('DEDUPING', 'DETECT_READY'),
            ('DEDUPING', 'DEDUP_READY'),
            ('DEDUPING', 'DETECTING'),
            ('DETECT_READY', 'POPULATING'),
            ('DETECT_READY', 'FILTERING'),
            ('DETECT_READY', 'DEDUP_READY'),
            ('DETECT_READY', 'DEDUPING'),
            ('DETECT_READY', 'DETECTING'),
            ('DETECTING', 'COMPLETE'),
            ('DETECTING', 'DETECT_READY'),
            ('DETECTING', 'DEDUPING'),
            ('COMPLETE', 'POPULATING'),
            ('COMPLETE', 'FILTERING'),
            ('COMPLETE', 'DEDUP_READY'),
            ('COMPLETE', 'DETECT_READY'),
            ('COMPLETE', 'DEDUPING'),
            ('COMPLETE', 'DETECTING'))
        OR CASE
            WHEN NEW.project_stage IN ('DEDUPING', 'DETECTING') THEN NEW.lease <= OLD.lease
            WHEN OLD.project_stage IN ('DEDUPING', 'DETECTING') THEN NEW.lease <> OLD.lease
            ELSE false END))
EXECUTE FUNCTION dataminer_refuse_move('project_stage')
"""


def upgrade() -> None:
    """Make the triggers."""
    for statement in (_REFUSE, _VIDEOS, _PROJECT_VIDEOS, _PROJECTS):
        op.execute(statement)


def downgrade() -> None:
    """Drop the triggers."""
    for table in ("videos", "project_videos", "projects"):
        op.execute(f"DROP TRIGGER transition ON {table}")
    op.execute("DROP FUNCTION dataminer_refuse_move()")
