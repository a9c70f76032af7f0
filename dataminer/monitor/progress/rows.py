"""The rows of the videos of a run, as far as its progress needs them."""

from __future__ import annotations

from typing import NamedTuple

VIDEOS = """
SELECT v.video_id, v.status, v.error_class, v.error IS NOT NULL, v.video_path IS NOT NULL,
    v.frame_count, v.duration, extract(epoch FROM v.updated_at)::float,
    coalesce(clock_timestamp() - v.heartbeat_at < make_interval(secs => %(alive)s), false),
    (v.costs->'download'->>'ended_at')::float, (v.costs->'download'->>'seconds')::float,
    (v.costs->'download'->>'bytes')::float,
    (v.costs->'extract'->>'ended_at')::float, (v.costs->'extract'->>'seconds')::float,
    extract(epoch FROM v.locked_at)::float
FROM videos v
WHERE (v.updated_at > to_timestamp(%(since)s) OR v.heartbeat_at IS NOT NULL) AND EXISTS (
    SELECT FROM project_videos pv JOIN projects p USING (project_id)
    WHERE pv.video_id = v.video_id AND p.name = ANY(%(names)s))
"""
PAIRS = """
SELECT p.name, pv.video_id, pv.status, pv.error_class, pv.error IS NOT NULL, pv.passed_frames,
    extract(epoch FROM pv.updated_at)::float,
    coalesce(clock_timestamp() - pv.heartbeat_at < make_interval(secs => %(alive)s), false),
    (pv.costs->'filter'->>'ended_at')::float, (pv.costs->'filter'->>'seconds')::float
FROM project_videos pv JOIN projects p USING (project_id)
WHERE p.name = ANY(%(names)s)
    AND (pv.updated_at > to_timestamp(%(since)s) OR pv.heartbeat_at IS NOT NULL)
"""
PROJECTS = """
SELECT p.name, p.project_stage, (p.costs->'dedup'->>'ended_at')::float,
    (p.costs->'detect'->>'ended_at')::float
FROM projects p WHERE p.name = ANY(%(names)s)
"""
NOW = "SELECT extract(epoch FROM clock_timestamp())::float"


class TrackedVideo(NamedTuple):
    """A video as a run's progress sees it; times are seconds since 1970."""

    video_id: str
    status: str
    error_class: str | None
    has_error: bool
    has_file: bool
    frames: int | None
    duration: float | None
    updated: float
    at_work: bool
    downloaded_at: float | None
    download_seconds: float | None
    bytes: float | None
    extracted_at: float | None
    extract_seconds: float | None
    begun: float | None

    def cost(self, stage: str) -> tuple[float | None, float | None, float | None]:
        """Return when a stage's result was made, how long it took, and its bytes or frames."""
        if stage == "download":
            return self.downloaded_at, self.download_seconds, self.bytes
        return self.extracted_at, self.extract_seconds, self.frames


class TrackedPair(NamedTuple):
    """A video in a project as a run's progress sees it; times are seconds since 1970."""

    project: str
    video_id: str
    status: str
    error_class: str | None
    has_error: bool
    passed: int | None
    updated: float
    at_work: bool
    filtered_at: float | None
    filter_seconds: float | None


def waits(row: TrackedVideo | TrackedPair | None, since: float) -> bool:
    """Return whether an attempt failed in this run, and another one follows at some time."""
    if row is None or row.updated < since or row.at_work:
        return False
    return row.has_error and row.status in ("PENDING", "DOWNLOADED")
