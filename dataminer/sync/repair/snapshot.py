"""The rows of projects and their videos, read in one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import cursor as Cursor

from dataminer.db.connection import reading
from dataminer.sync.claims.stage_rows import FETCH_AGAIN
from dataminer.sync.claims.statements import IS_READY
from dataminer.urls import SourceUrl

# ---- statements: values bound ------------------------------------------------------------------

_PROJECTS = """
SELECT name, project_id, project_stage, lease, total_videos, videos_pending, videos_downloaded,
    videos_extracted, videos_failed, extracted_frames, filtered_frames
FROM projects WHERE %(all)s OR name = ANY(%(names)s) ORDER BY name
"""

_MEMBERS = f"""
SELECT p.name, p.project_id, pv.video_id, pv.status, pv.lease, pv.filtered_from, {IS_READY}
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE %(all)s OR p.name = ANY(%(names)s) ORDER BY p.name, pv.video_id
"""

# the rows of all videos, even if only those of some projects are repaired: which rows are missing
# depends on all
_VIDEOS = """
SELECT v.video_id, v.url, v.status, v.lease, v.extract_fingerprint,
    %(all)s OR EXISTS (
        SELECT FROM project_videos pv JOIN projects p USING (project_id)
        WHERE pv.video_id = v.video_id AND p.name = ANY(%(names)s)),
    coalesce(v.downloaded_with = %(again)s, false)
FROM videos v ORDER BY v.video_id
"""


@dataclass
class RowSnapshot:
    """A row's status and lease when they were read.

    A row whose lease has changed since was worked on meanwhile, and is left alone.
    """

    status: str
    lease: int


@dataclass
class ProjectRow(RowSnapshot):
    """A project's row; ``counters`` in the order of the columns."""

    project_id: int
    counters: tuple[int, ...]


@dataclass
class MemberRow(RowSnapshot):
    """A video's row in a project.

    Parameters
    ----------
    project_id : int
        The project.
    recipe : str or None
        The recipe of the frames that it has chosen from.
    is_ready : bool
        Whether it can be worked on now.
    """

    project_id: int
    recipe: str | None = None
    is_ready: bool = True


@dataclass
class VideoRow(RowSnapshot):
    """A video's row.

    Parameters
    ----------
    url : SourceUrl
        Its source.
    requested : bool
        Whether it belongs to the requested projects.
    again : bool
        Whether it is to be downloaded again, even if its files exist.
    recipe : str or None
        The recipe of its newest frames.
    """

    url: SourceUrl
    requested: bool
    again: bool = False
    recipe: str | None = None


@dataclass
class RowsOfProjects:
    """The rows of some projects, or of all.

    Parameters
    ----------
    projects : dict
        Rows by name.
    members : dict
        Rows by project and video.
    videos : dict
        Rows by video.
    """

    projects: dict[str, ProjectRow]
    members: dict[str, dict[str, MemberRow]]
    videos: dict[str, VideoRow]


def read_rows(names: list[str] | None) -> RowsOfProjects:
    """Read the rows of projects, or of all projects; write nothing.

    Raises
    ------
    DatabaseError
        If the database has no tables yet.
    """
    values = {"names": names or [], "all": names is None, "again": FETCH_AGAIN}
    with reading("sync") as session, session.cursor() as cursor:
        return _read(cursor, values)


def _read(cursor: Cursor, values: dict[str, Any]) -> RowsOfProjects:
    cursor.execute(_PROJECTS, values)
    projects = {
        name: ProjectRow(stage, lease, project_id, tuple(counters))
        for name, project_id, stage, lease, *counters in cursor.fetchall()
    }
    members: dict[str, dict[str, MemberRow]] = {name: {} for name in projects}
    cursor.execute(_MEMBERS, values)
    for name, project_id, video_id, status, lease, recipe, is_ready in cursor.fetchall():
        members[name][video_id] = MemberRow(status, lease, project_id, recipe, is_ready)
    cursor.execute(_VIDEOS, values)
    videos = {
        video_id: VideoRow(status, lease, SourceUrl(url), requested, again, recipe)
        for video_id, url, status, lease, recipe, requested, again in cursor.fetchall()
    }
    return RowsOfProjects(projects, members, videos)
