"""The three tables, their constraints and the indexes that claims need."""

from alembic import op

revision = "0001"
down_revision = None

_CLAIM_COLUMNS = """
    error varchar,
    error_class varchar,
    attempts integer NOT NULL DEFAULT 0,
    lease bigint NOT NULL DEFAULT 0,
    locked_by varchar,
    locked_at timestamptz,
    heartbeat_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
"""

_LOCKED_WHILE_RUNNING = """
    CONSTRAINT ck_{table}_locked_while_running CHECK (
        ({status} IN ({running})) = (locked_by IS NOT NULL)
        AND (locked_by IS NULL) = (heartbeat_at IS NULL)
        AND (locked_by IS NULL) = (locked_at IS NULL))
"""

# fillfactor leaves room on each page for a row's next version: heartbeats need no index work (HOT)
_TABLES = f"""
CREATE TABLE projects (
    project_id serial PRIMARY KEY,
    name varchar NOT NULL UNIQUE,
    project_stage varchar(32) NOT NULL DEFAULT 'POPULATING',
    total_videos integer NOT NULL DEFAULT 0,
    videos_pending integer NOT NULL DEFAULT 0,
    videos_downloaded integer NOT NULL DEFAULT 0,
    videos_extracted integer NOT NULL DEFAULT 0,
    videos_failed integer NOT NULL DEFAULT 0,
    extracted_frames integer NOT NULL DEFAULT 0,
    filtered_frames integer NOT NULL DEFAULT 0,
    unique_frames integer NOT NULL DEFAULT 0,
    annotations integer NOT NULL DEFAULT 0,
    dedup_dir varchar,
    detect_dir varchar,
    {_CLAIM_COLUMNS},
    CONSTRAINT ck_projects_project_stage CHECK (project_stage IN
        ('POPULATING', 'FILTERING', 'DEDUP_READY', 'DEDUPING', 'DETECT_READY', 'DETECTING',
         'COMPLETE')),
    CONSTRAINT ck_projects_name CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_-]{{0,62}}$'),
    CONSTRAINT ck_projects_dedup_dir CHECK (
        project_stage NOT IN ('DETECT_READY', 'DETECTING', 'COMPLETE') OR dedup_dir IS NOT NULL),
    CONSTRAINT ck_projects_detect_dir CHECK (
        project_stage <> 'COMPLETE' OR detect_dir IS NOT NULL),
    CONSTRAINT ck_projects_counters CHECK (
        least(total_videos, videos_pending, videos_downloaded, videos_extracted, videos_failed,
              extracted_frames, filtered_frames, unique_frames, annotations) >= 0),
    {
    _LOCKED_WHILE_RUNNING.format(
        table="projects", status="project_stage", running="'DEDUPING', 'DETECTING'"
    )
}
) WITH (fillfactor = 85);

CREATE TABLE videos (
    video_id varchar PRIMARY KEY,
    url varchar NOT NULL,
    source_type varchar(32) NOT NULL,
    source_info jsonb NOT NULL DEFAULT '{{}}'::jsonb,
    title varchar,
    uploader varchar,
    licence varchar,
    duration double precision,
    video_path varchar,
    frames_dir varchar,
    frame_count integer,
    warning varchar,
    status varchar(32) NOT NULL DEFAULT 'PENDING',
    {_CLAIM_COLUMNS},
    CONSTRAINT ck_videos_video_id CHECK (video_id ~ '^[A-Za-z0-9_-]{{1,64}}$'),
    CONSTRAINT ck_videos_source_type CHECK (source_type IN ('SEARCH', 'URL', 'FILE', 'MANUAL')),
    CONSTRAINT ck_videos_status CHECK (status IN
        ('PENDING', 'DOWNLOADING', 'DOWNLOADED', 'EXTRACTING', 'EXTRACTED', 'FAILED')),
    CONSTRAINT ck_videos_video_path CHECK (
        status NOT IN ('DOWNLOADED', 'EXTRACTING', 'EXTRACTED') OR video_path IS NOT NULL),
    CONSTRAINT ck_videos_frames CHECK (
        status <> 'EXTRACTED' OR (frames_dir IS NOT NULL AND coalesce(frame_count, 0) > 0)),
    CONSTRAINT ck_videos_reason CHECK (
        status <> 'FAILED' OR (error IS NOT NULL AND error_class IS NOT NULL)),
    {
    _LOCKED_WHILE_RUNNING.format(
        table="videos", status="status", running="'DOWNLOADING', 'EXTRACTING'"
    )
}
) WITH (fillfactor = 85);

CREATE INDEX ix_videos_claimable ON videos (status, created_at)
    WHERE status IN ('PENDING', 'DOWNLOADED');
CREATE INDEX ix_videos_running ON videos (video_id)
    WHERE status IN ('DOWNLOADING', 'EXTRACTING');

CREATE TABLE project_videos (
    id serial PRIMARY KEY,
    project_id integer NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    video_id varchar NOT NULL REFERENCES videos (video_id),
    filtered_dir varchar,
    passed_frames integer,
    status varchar(32) NOT NULL DEFAULT 'PENDING',
    {_CLAIM_COLUMNS},
    CONSTRAINT uq_project_videos UNIQUE (project_id, video_id),
    CONSTRAINT ck_project_videos_status CHECK (status IN
        ('PENDING', 'FILTERING', 'FILTERED', 'FILTERED_EMPTY', 'FAILED')),
    CONSTRAINT ck_project_videos_filtered CHECK (
        status <> 'FILTERED' OR (filtered_dir IS NOT NULL AND coalesce(passed_frames, 0) > 0)),
    CONSTRAINT ck_project_videos_filtered_empty CHECK (
        status <> 'FILTERED_EMPTY'
        OR (filtered_dir IS NOT NULL AND coalesce(passed_frames, -1) = 0)),
    CONSTRAINT ck_project_videos_reason CHECK (
        status <> 'FAILED' OR (error IS NOT NULL AND error_class IS NOT NULL)),
    {_LOCKED_WHILE_RUNNING.format(table="project_videos", status="status", running="'FILTERING'")}
) WITH (fillfactor = 85);

CREATE INDEX ix_project_videos_video_id ON project_videos (video_id);
CREATE INDEX ix_project_videos_claimable ON project_videos (status, created_at)
    WHERE status = 'PENDING';
CREATE INDEX ix_project_videos_running ON project_videos (id)
    WHERE status = 'FILTERING';
"""

_TOUCH = """
CREATE FUNCTION dataminer_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE UPDATE ON projects
    FOR EACH ROW EXECUTE FUNCTION dataminer_touch();
CREATE TRIGGER touch BEFORE UPDATE ON videos
    FOR EACH ROW EXECUTE FUNCTION dataminer_touch();
CREATE TRIGGER touch BEFORE UPDATE ON project_videos
    FOR EACH ROW EXECUTE FUNCTION dataminer_touch();
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(_TABLES)
    op.execute(_TOUCH)


def downgrade() -> None:
    """Drop the tables, with everything in them."""
    op.execute("DROP TABLE project_videos, videos, projects")
    op.execute("DROP FUNCTION dataminer_touch()")
