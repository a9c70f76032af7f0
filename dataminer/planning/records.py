"""The rows of some projects and their videos."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dataminer.db import tables
from dataminer.db.connection import reading
from dataminer.db.tables import NoTables
from dataminer.errors import DataminerError

# ---- statements: values bound ------------------------------------------------------------------

_MEMBERS = """
SELECT p.name, v.video_id, v.url, v.duration, v.status, v.error_class, v.downloaded_with,
    v.extracted_with, v.extract_fingerprint, v.sha256, v.video_path,
    CASE WHEN v.not_before > clock_timestamp()
        THEN to_char(v.not_before, 'YYYY-MM-DD HH24:MI "UTC"') END,
    extract(epoch FROM v.updated_at)::float,
    pv.status, pv.error_class, pv.filtered_with, pv.filtered_from, pv.filter_fingerprint,
    pv.suspect OR v.suspect,
    CASE WHEN pv.not_before > clock_timestamp()
        THEN to_char(pv.not_before, 'YYYY-MM-DD HH24:MI "UTC"') END,
    extract(epoch FROM pv.updated_at)::float
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE p.name = ANY(%(names)s) ORDER BY p.name, v.video_id COLLATE "C"
"""

_PROJECTS = """
SELECT name, project_stage, dedup_fingerprint, detect_fingerprint
FROM projects WHERE name = ANY(%(names)s)
"""

# columns that older tables lack, which the run is about to upgrade
_SINCE = {
    "0006": {
        "pv.not_before": "NULL::timestamptz",  # first: the column of `v` is a part of it
        "v.extract_fingerprint": "NULL",
        "v.not_before": "NULL::timestamptz",
        "pv.filtered_from": "NULL",
        "pv.filter_fingerprint": "NULL",
        "pv.suspect OR v.suspect": "false",
        "dedup_fingerprint": "NULL",
        "detect_fingerprint": "NULL",
    },
    "0007": {"v.sha256": "NULL"},
}


class VideoRecord(NamedTuple):
    """The row of a video."""

    video_id: str
    url: str
    duration: float | None
    status: str
    error_class: str | None
    downloaded_with: str | None
    extracted_with: str | None
    extract_fingerprint: str | None
    sha256: str | None
    video_path: str | None
    waits_until: str | None
    updated: float


class MemberRecord(NamedTuple):
    """The row of a video in a project."""

    status: str
    error_class: str | None
    filtered_with: str | None
    filtered_from: str | None
    filter_fingerprint: str | None
    suspect: bool
    waits_until: str | None
    updated: float


class ProjectRecord(NamedTuple):
    """The row of a project."""

    stage: str
    dedup_fingerprint: str | None
    detect_fingerprint: str | None


@dataclass
class Records:
    """Rows by name; those of members by project and video."""

    videos: dict[str, VideoRecord] = field(default_factory=dict)
    members: dict[str, dict[str, MemberRecord]] = field(default_factory=dict)
    projects: dict[str, ProjectRecord] = field(default_factory=dict)

    @property
    def suspects(self) -> frozenset[str]:
        """Videos that were being worked on when a job was killed."""
        return frozenset(v for m in self.members.values() for v, row in m.items() if row.suspect)


def read_records(names: list[str]) -> Records:
    """Read the rows of projects, in one snapshot.

    Raises
    ------
    DataminerError
        If a project has no videos, or the database has no tables yet.
    """
    records = Records()
    try:
        # a run upgrades older tables once it begins
        with reading("plan", check=False) as session, session.cursor() as cursor:
            found = tables.find_tables(session)
            tables.check(found)
            if found.revision is None:
                raise NoTables
            cursor.execute(_for_revision(_MEMBERS, found.revision), {"names": names})
            for project, video_id, *columns in cursor.fetchall():
                records.videos.setdefault(video_id, VideoRecord(video_id, *columns[:11]))
                members_of_project = records.members.setdefault(project, {})
                members_of_project[video_id] = MemberRecord(*columns[11:])
            cursor.execute(_for_revision(_PROJECTS, found.revision), {"names": names})
            records.projects = {
                name: ProjectRecord(*columns) for name, *columns in cursor.fetchall()
            }
    except NoTables:
        pass
    for name in names:
        if name not in records.members:
            raise DataminerError(
                f"project {name} has no videos yet",
                "list some under `input` and run `dataminer populate`, or"
                f" `dataminer add-video URL --project {name}`",
            )
    return records


def _for_revision(statement: str, revision: str) -> str:
    for since, columns in _SINCE.items():
        for column, instead in columns.items() if revision < since else ():
            statement = statement.replace(column, instead)
    return statement
