"""The statements of claims, and of the rows and counters of projects.

What repairs rows (:mod:`dataminer.sync.repair`, :mod:`dataminer.sync.recovery`) and what deletes
them (:mod:`dataminer.sync.deletion`) has its statements beside it.

``{table}`` and ``{status}`` are identifiers of :mod:`dataminer.sync.claims.stage_rows`, ``{key}``
and ``{columns}`` are made of identifiers too; values are always bound.
"""

# A claim of exactly one row, skipped if somebody else has it locked at this moment. The lease rises
# with each claim and fences every later write. A FAILED row that is tried again counts from 1. An
# attempt that ended with its whole job is not counted: any of the job's videos may be the cause.
CLAIM = """
UPDATE {table} AS t SET
    {status} = %(running)s, locked_by = %(owner)s, lease = lease + 1,
    locked_at = clock_timestamp(), heartbeat_at = clock_timestamp(),
    attempts = CASE WHEN {status} = 'FAILED' THEN 1
        WHEN {status} = ANY(%(held)s) THEN greatest(attempts, 1)
        ELSE attempts + 1 END,
    kills = kills + (suspect AND {status} = ANY(%(held)s))::int,
    suspect = suspect OR {status} = ANY(%(held)s)
WHERE {key} AND lease = (
    SELECT lease FROM {table}
    WHERE {key} AND (
        {status} = ANY(%(idle)s)
        OR ({status} = ANY(%(held)s) AND (
            lease = %(dead_lease)s
            OR heartbeat_at < clock_timestamp() - make_interval(secs => %(stale)s))))
    FOR UPDATE SKIP LOCKED)
RETURNING lease, attempts, attempts > 1 OR suspect, failures,
    coalesce(extract(epoch FROM clock_timestamp() - failing_since)::float, 0)
"""

# Claims of new videos by name, with what a download needs to know about them. Those that somebody
# has locked at this moment are skipped. MATERIALIZED: joined into the UPDATE, SKIP LOCKED could be
# run more than once.
CLAIM_NEW = """
WITH chosen AS MATERIALIZED (
    SELECT video_id FROM videos
    WHERE video_id = ANY(%(videos)s) AND status = %(ready)s
    ORDER BY video_id COLLATE "C" FOR UPDATE SKIP LOCKED
)
UPDATE videos AS t SET
    status = %(running)s, locked_by = %(owner)s, lease = lease + 1,
    locked_at = clock_timestamp(), heartbeat_at = clock_timestamp(), attempts = attempts + 1
FROM chosen WHERE t.video_id = chosen.video_id
RETURNING t.video_id, url, downloaded_with, source_info ->> 'origin',
    lease, attempts, attempts > 1 OR suspect, failures,
    coalesce(extract(epoch FROM clock_timestamp() - failing_since)::float, 0)
"""

# the claims of a process that is ending
OWN_CLAIMS = """
SELECT video_id, lease FROM videos
WHERE video_id = ANY(%(videos)s) AND status = %(running)s AND locked_by = %(owner)s
"""

READ_ROW = """
SELECT {status}, lease, locked_by, error, error_class, suspect, kills, {made}
FROM {table} WHERE {key}
"""

# killed with their jobs too often: only a later run may try them
POSTPONED = """
SELECT video_id, coalesce(error, '') FROM {table}
WHERE video_id = ANY(%(videos)s) AND suspect AND not_before > clock_timestamp()
    AND (%(project_id)s IS NULL OR to_jsonb({table}) ->> 'project_id' = %(project_id)s::text)
"""

SUSPECTS = """
SELECT video_id FROM {table}
WHERE video_id = ANY(%(videos)s) AND (suspect OR {status} = %(running)s)
"""

BEAT = """
UPDATE {table} SET heartbeat_at = clock_timestamp()
WHERE {key} AND lease = %(lease)s AND {status} = %(running)s
"""

# for many rows; a row that is being finished at this moment is left out
BEAT_ALL = """
WITH held AS MATERIALIZED (
    SELECT t.video_id FROM videos t
    JOIN unnest(%(videos)s::text[], %(leases)s::bigint[]) AS h (video_id, lease)
        ON t.video_id = h.video_id AND t.lease = h.lease
    WHERE t.status = %(running)s FOR UPDATE OF t SKIP LOCKED
)
UPDATE videos t SET heartbeat_at = clock_timestamp()
FROM held WHERE t.video_id = held.video_id RETURNING t.video_id
"""

# before a result is published: until the COMMIT, nobody can take the row over
FINISH = """
UPDATE {table} SET
    {status} = %(done)s, locked_by = NULL, locked_at = NULL, heartbeat_at = NULL,
    attempts = CASE WHEN %(done)s = 'FAILED' THEN attempts ELSE 0 END,
    not_before = NULL, suspect = false, failures = 0, failing_since = NULL, kills = 0,
    costs = costs || %(cost)s{columns}
WHERE {key} AND lease = %(lease)s AND {status} = %(running)s
"""

# the same for many videos whose rows get the same columns
FINISH_ALL = """
WITH made AS (SELECT * FROM jsonb_populate_recordset(NULL::videos, %(rows)s)),
held AS MATERIALIZED (
    SELECT t.video_id FROM videos t JOIN made m ON t.video_id = m.video_id AND t.lease = m.lease
    WHERE t.status = %(running)s ORDER BY t.video_id COLLATE "C" FOR UPDATE OF t
)
UPDATE videos t SET
    status = m.status, locked_by = NULL, locked_at = NULL, heartbeat_at = NULL,
    attempts = CASE WHEN m.status = 'FAILED' THEN t.attempts ELSE 0 END,
    not_before = NULL, suspect = false, failures = 0, failing_since = NULL, kills = 0,
    costs = t.costs || m.costs{columns}
FROM made m JOIN held USING (video_id)
WHERE t.video_id = m.video_id
RETURNING t.video_id
"""

RELEASE = """
UPDATE {table} SET
    {status} = %(released)s, locked_by = NULL, locked_at = NULL, heartbeat_at = NULL,
    attempts = CASE WHEN %(counts)s THEN attempts ELSE greatest(attempts - 1, 0) END,
    suspect = suspect OR %(suspect)s, kills = kills + %(killed)s::int,
    failures = failures + %(failing)s::int,
    failing_since = CASE WHEN %(failing)s THEN coalesce(failing_since, clock_timestamp())
        ELSE failing_since END,
    not_before = clock_timestamp() + make_interval(secs => %(wait)s),
    error = coalesce(%(error)s, error), error_class = coalesce(%(error_class)s, error_class)
WHERE {key} AND lease = %(lease)s AND {status} = %(running)s
"""

# on a row that waits, at the lease that was read
NOTE = """
UPDATE {table} SET error = %(error)s, error_class = %(error_class)s
WHERE {key} AND lease = %(lease)s AND {status} = %(released)s
"""

LOCK_FAILED_VIDEO = "SELECT status FROM videos WHERE video_id = %(video_id)s FOR UPDATE"

LOCK_PROJECTS = """
SELECT project_id FROM projects
WHERE project_id = ANY(%(projects)s) ORDER BY project_id FOR UPDATE
"""

PROJECTS_OF_VIDEOS = """
SELECT DISTINCT project_id FROM project_videos WHERE video_id = ANY(%(video_ids)s)
"""

# Whether a video of a project can be worked on now, by its row and by its row in the project.
IS_READY = """(coalesce(v.failing_since, pv.failing_since) IS NULL
    AND coalesce(greatest(v.not_before, pv.not_before), '-infinity') < clock_timestamp())"""

# The stage that follows from the present one and from counts of videos: ``begun``, ``unfiltered``
# (ready and without a result of their filter) and ``usable``.
PROJECT_STAGE = """CASE
    WHEN project_stage IN ('DEDUPING', 'DETECTING') THEN project_stage
    WHEN begun = 0 THEN 'POPULATING'
    WHEN unfiltered > 0 OR usable = 0 THEN 'FILTERING'
    WHEN %(refiltered)s OR project_stage IN ('POPULATING', 'FILTERING') THEN 'DEDUP_READY'
    ELSE project_stage END"""

# Counters and stage of projects, from their videos' rows; only what changed is written. The counts
# of dedup and detect stay until they run again, unless nothing is left for them to run on. Run it
# after LOCK_PROJECTS in the same transaction: an earlier count could overwrite a newer one.
REFRESH_PROJECTS = f"""
WITH counted AS (
    SELECT p.project_id,
        count(pv.id) AS total,
        count(*) FILTER (WHERE s.video IN ('PENDING', 'DOWNLOADING')) AS pending,
        count(*) FILTER (WHERE s.video IN ('DOWNLOADED', 'EXTRACTING', 'EXTRACTED'))
            AS downloaded,
        count(*) FILTER (WHERE s.video = 'EXTRACTED') AS extracted,
        count(*) FILTER (WHERE s.video = 'FAILED' OR pv.status = 'FAILED') AS failed,
        coalesce(sum(s.frames) FILTER (WHERE s.video = 'EXTRACTED'), 0) AS frames,
        coalesce(sum(pv.passed_frames)
            FILTER (WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY')), 0) AS passed,
        count(*) FILTER (WHERE pv.status IN ('PENDING', 'FILTERING') AND {IS_READY}) AS unfiltered,
        count(*) FILTER (WHERE v.status <> 'PENDING' OR pv.status <> 'PENDING') AS begun,
        count(*) FILTER (WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY')) AS usable
    FROM projects p
    LEFT JOIN project_videos pv USING (project_id)
    LEFT JOIN videos v USING (video_id)
    LEFT JOIN LATERAL (  -- as the project sees it: others may make other frames of it
        SELECT coalesce(pv.source_frames, v.frame_count) AS frames, CASE
            WHEN pv.status IN ('FILTERED', 'FILTERED_EMPTY') AND pv.source_frames > 0
            THEN 'EXTRACTED'
            WHEN pv.status = 'FAILED' AND pv.filtered_from <> v.extract_fingerprint THEN 'FAILED'
            ELSE v.status END AS video
    ) s ON true
    WHERE p.project_id = ANY(%(projects)s)
    GROUP BY p.project_id
), staged AS (
    SELECT c.*, {PROJECT_STAGE} AS stage,
        (c.begun > 0 AND c.usable + c.unfiltered > 0)::int AS has_frames
    FROM counted c JOIN projects p USING (project_id)
)
UPDATE projects p SET
    project_stage = s.stage, total_videos = s.total, videos_pending = s.pending,
    videos_downloaded = s.downloaded, videos_extracted = s.extracted, videos_failed = s.failed,
    extracted_frames = s.frames, filtered_frames = s.passed,
    unique_frames = p.unique_frames * s.has_frames, annotations = p.annotations * s.has_frames
FROM staged s
WHERE p.project_id = s.project_id AND (
    p.project_stage, p.total_videos, p.videos_pending, p.videos_downloaded, p.videos_extracted,
    p.videos_failed, p.extracted_frames, p.filtered_frames, p.unique_frames, p.annotations
) IS DISTINCT FROM (
    s.stage, s.total, s.pending, s.downloaded, s.extracted, s.failed, s.frames, s.passed,
    p.unique_frames * s.has_frames, p.annotations * s.has_frames)
"""

PROJECT_IDS = "SELECT project_id, name FROM projects WHERE name = ANY(%(names)s)"

ADD_PROJECT = "INSERT INTO projects (name) VALUES (%(name)s) ON CONFLICT (name) DO NOTHING"

FROM_FILES = "files"
"""The ``origin`` of a row that was made from files of a store, which others may have written."""

ADD_VIDEOS = """
INSERT INTO videos (
    video_id, url, source_type, source_info, title, uploader, licence, duration) VALUES %s
ON CONFLICT (video_id) DO NOTHING RETURNING video_id
"""

# for rows that were made from files, if the user names the video as well
NAME_VIDEOS = f"""
UPDATE videos v SET url = g.url, source_type = g.source_type, source_info = g.info::jsonb
FROM (VALUES %s) AS g (video_id, url, source_type, info, title, uploader, licence, duration)
WHERE v.video_id = g.video_id AND v.source_info ->> 'origin' = '{FROM_FILES}'
    AND g.info::jsonb ->> 'origin' IS DISTINCT FROM '{FROM_FILES}'
RETURNING v.video_id
"""

# which of these videos any project has, and whether this one has them
KNOWN_VIDEOS = """
SELECT v.video_id, EXISTS (
    SELECT FROM project_videos pv JOIN projects p USING (project_id)
    WHERE pv.video_id = v.video_id AND p.name = %(project)s)
FROM videos v WHERE v.video_id = ANY(%(video_ids)s)
"""

ADD_PROJECT_VIDEOS = """
INSERT INTO project_videos (project_id, video_id) VALUES %s
ON CONFLICT (project_id, video_id) DO NOTHING RETURNING video_id
"""

MEMBERS = """
SELECT pv.video_id, pv.status, pv.filter_fingerprint, pv.filtered_from
FROM project_videos pv JOIN projects p USING (project_id)
WHERE p.name = %(project)s ORDER BY pv.video_id COLLATE "C"
"""

FRAMES_OF_VIDEO = """
SELECT status, error, error_class, extracted_with, extract_fingerprint, sha256, (
    SELECT filtered_from FROM project_videos pv JOIN projects p USING (project_id)
    WHERE pv.video_id = v.video_id AND p.name = %(project)s)
FROM videos v WHERE video_id = %(video_id)s
"""

LOCK_MEMBER = """
SELECT FROM project_videos WHERE project_id = %(project_id)s AND video_id = %(video_id)s FOR UPDATE
"""

LOCK_VIDEO = "SELECT FROM videos WHERE video_id = %(video_id)s FOR UPDATE"

SOURCE_OF_VIDEO = """
SELECT url, downloaded_with, source_info ->> 'origin' FROM videos WHERE video_id = %(video_id)s
"""
