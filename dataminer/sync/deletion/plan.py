"""Plans what is deleted with a project or with videos; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection

from dataminer.db.connection import transaction
from dataminer.errors import DataminerError
from dataminer.provenance import recipes
from dataminer.store.layout import Store
from dataminer.store.trash import PROJECT_NAME, VIDEO_ID, checked, measure_size
from dataminer.sync.claims import projects
from dataminer.sync.repair.evidence import existing
from dataminer.sync.repair.retry_command import Choice

_NAMED = 20  # videos and folders in a summary

# ---- statements: values bound ------------------------------------------------------------------

_MEMBERS = """
SELECT pv.id, pv.video_id, p.project_id, p.name
FROM project_videos pv JOIN projects p USING (project_id)
WHERE pv.project_id = ANY(%(projects)s) OR pv.video_id = ANY(%(videos)s)
ORDER BY p.name, pv.video_id
"""

_ONLY_HERE = """
SELECT video_id FROM project_videos WHERE project_id = %(project)s
EXCEPT SELECT video_id FROM project_videos WHERE project_id <> %(project)s
ORDER BY 1
"""

# a project that has its frames of a video keeps them, whatever became of the video since
CHOSEN = """
SELECT DISTINCT v.video_id COLLATE "C"
FROM videos v LEFT JOIN (project_videos pv JOIN projects p USING (project_id)) USING (video_id),
    LATERAL (SELECT v.status <> 'EXTRACTED'
        AND coalesce(pv.status NOT IN ('FILTERED', 'FILTERED_EMPTY'), true) AS unfinished) s
WHERE (%(all_projects)s OR p.name = ANY(%(names)s))
    AND (%(all_videos)s OR v.video_id = ANY(%(videos)s))
    AND (%(all_statuses)s OR pv.status = ANY(%(statuses)s)
        OR v.status = ANY(%(statuses)s) AND (v.status = 'EXTRACTED' OR unfinished))
    AND (%(all_classes)s OR pv.error_class = ANY(%(classes)s)
        OR v.error_class = ANY(%(classes)s) AND unfinished)
ORDER BY 1
"""

_UNUSABLE = """
SELECT name FROM projects p
WHERE EXISTS (
    SELECT FROM project_videos
    WHERE project_id = p.project_id AND id = ANY(%(members)s) AND status = 'FILTERED')
AND NOT EXISTS (
    SELECT FROM project_videos
    WHERE project_id = p.project_id AND NOT id = ANY(%(members)s) AND status = 'FILTERED')
ORDER BY 1
"""

_LEFT_EMPTY = """
SELECT name FROM projects WHERE project_id = ANY(%(projects)s) AND total_videos = 0 ORDER BY 1
"""


@dataclass(frozen=True)
class Deletion:
    """What is to be deleted by :func:`dataminer.sync.deletion.delete.carry_out`.

    Parameters
    ----------
    what : str
        What it is, for people.
    store : Store
        The store of the folders.
    projects : tuple of int
        Rows of `projects`.
    members : tuple of int
        Rows of `project_videos`.
    videos : tuple of str
        Rows of `videos`.
    kept : tuple of str
        Videos that leave projects, and stay for others and for later.
    choice : Choice, optional
        A condition that all of these videos must still meet.
    recount : tuple of int
        Projects that lose videos and stay.
    folders : tuple of Path
        Folders of the store.
    """

    what: str
    store: Store
    projects: tuple[int, ...] = ()
    members: tuple[int, ...] = ()
    videos: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    choice: Choice | None = None
    recount: tuple[int, ...] = ()
    folders: tuple[Path, ...] = ()

    def summary(self) -> list[str]:
        """Return what is deleted, line by line."""
        counts = {
            "projects": len(self.projects),
            "project_videos": len(self.members),
            "videos": len(self.videos),
        }
        rows = ", ".join(f"{count} of {table}" for table, count in counts.items() if count)
        lines = [f"{self.what}: rows: {rows or 'none'}"]
        for folder in self.folders[:_NAMED]:
            size = measure_size([folder])
            lines.append(f"  {folder}: {size.files} files, {size.bytes / 1e6:.1f} MB")
        total = measure_size(self.folders)
        if len(self.folders) > 1:
            folders = f"{len(self.folders)} folders, {total.files} files"
            lines.append(f"  in all {folders}, {total.bytes / 1e6:.1f} MB")
        if self.kept:
            lines.append(f"  stays, for other projects and for later: {_list_videos(self.kept)}")
        return lines


class _Member(NamedTuple):
    """A video in a project."""

    row: int
    video_id: str
    project_id: int
    project: str


def plan_project(store: Store, name: str, *, files: bool, videos: bool) -> Deletion:
    """Plan the deletion of a project.

    Parameters
    ----------
    store : Store
        The store.
    name : str
        The project.
    files : bool
        Also delete its folder; otherwise ``dataminer sync --project NAME`` can restore the rows.
    videos : bool
        Also delete videos that no other project uses; with ``files``, their folders too.

    Raises
    ------
    DataminerError
        If there is no such project.
    """
    project_id = projects.project_id_of(checked(name, PROJECT_NAME))
    members = _members(projects=[project_id])
    own = [row[0] for row in _query(_ONLY_HERE, project=project_id)] if videos else []
    folders = [store.project(name), *folders_of_videos(store, own)] if files else []
    return Deletion(
        f"project {name}",
        store,
        projects=(project_id,),
        members=tuple(member.row for member in members),
        videos=tuple(own),
        folders=existing(*folders),
    )


def select_videos(choice: Choice) -> list[str]:
    """Return the videos that meet all conditions.

    Statuses and error classes are those of a video, or of its place in the named projects, or in
    any project if none is named. If a project has its frames of a video, that video has not failed
    there, whatever became of it since.
    """
    return [row[0] for row in _query(CHOSEN, **choice.values())]


def plan_videos(
    store: Store,
    video_ids: Iterable[str],
    *,
    out_of: Iterable[str] = (),
    files: bool,
    all_projects: bool = False,
    choice: Choice | None = None,
) -> Deletion:
    """Plan the deletion of videos, out of all projects that use them or out of some only.

    Parameters
    ----------
    store, video_ids : Store, iterable of str
        The store and the videos.
    out_of : iterable of str
        The projects that lose them. None for all projects, and then the videos are deleted.
    files, all_projects : bool
        Also delete files that no project uses then; also delete videos of several projects.
    choice : Choice, optional
        The condition that selected the videos, which they must still meet upon deletion.

    Raises
    ------
    DataminerError
        If a named project does not exist or lacks such a video, or several projects use one.
    """
    wanted = sorted({checked(video_id, VIDEO_ID) for video_id in video_ids})
    named = projects.ids_of(out_of)
    used = _members(videos=wanted)
    members = [member for member in used if member.project in named or not named]
    if named:
        _refuse_missing(wanted, members, named)
    elif not all_projects:
        _refuse_shared(members)
    kept = _kept(wanted, used, named, files)
    deletion = _deletion_of_members(store, members, [v for v in wanted if v not in kept], files)
    where = f" out of project {', '.join(sorted(named))}" if named else ""
    what = f"{_list_videos(wanted)}{where}"
    return replace(deletion, what=what, kept=tuple(sorted(kept)), choice=choice)


def _deletion_of_members(
    store: Store, members: list[_Member], videos: list[str], files: bool
) -> Deletion:
    """Return the rows and folders of videos in projects, and of some videos themselves.

    Filtered folders (links to frames) always go, or the next ``sync`` would restore the rows. So
    does the dataset of a project without usable videos, which no run can make again.
    """
    return Deletion(
        _list_videos(videos),
        store,
        members=tuple(member.row for member in members),
        videos=tuple(videos),
        recount=tuple(sorted({member.project_id for member in members})),
        folders=existing(
            *(folders_of_videos(store, videos) if files else ()),
            *(store.filtered(member.project, member.video_id) for member in members),
            *_unusable_datasets(store, members),
        ),
    )


def emptied_projects(deletion: Deletion) -> list[str]:
    """Return the projects that have no video left after a deletion."""
    return [row[0] for row in _query(_LEFT_EMPTY, projects=list(deletion.recount))]


def folders_of_videos(store: Store, video_ids: Iterable[str]) -> list[Path]:
    """Return the folders of videos that all projects share, whether or not they exist."""
    return [
        path
        for name in video_ids
        for path in (store.video(name), *recipes.folders(store, name), *store.seen(name))
    ]


def _kept(wanted: list[str], used: list[_Member], named: Iterable[str], files: bool) -> set[str]:
    """Return the videos that leave the named projects only."""
    if not named:
        return set()
    return (
        {member.video_id for member in used if member.project not in named} if files else {*wanted}
    )


def _unusable_datasets(store: Store, members: list[_Member]) -> list[Path]:
    """Return the datasets of projects that have no usable video without these members."""
    names = [row[0] for row in _query(_UNUSABLE, members=[member.row for member in members])]
    return [folder(name) for name in names for folder in (store.dedup, store.detect)]


def _refuse_shared(members: list[_Member]) -> None:
    users: dict[str, list[str]] = {}
    for member in members:
        users.setdefault(member.video_id, []).append(member.project)
    shared = [f"{name} ({', '.join(used)})" for name, used in users.items() if len(used) > 1]
    if shared:
        raise DataminerError(
            f"used by several projects: {'; '.join(shared)}",
            "add --project NAME to take them out of this one only, or --all-projects to delete them"
            " from all",
        )


def _refuse_missing(wanted: list[str], members: list[_Member], named: Iterable[str]) -> None:
    missing = sorted({*wanted} - {member.video_id for member in members})
    if missing:
        raise DataminerError(
            f"not in project {', '.join(sorted(named))}: {', '.join(missing)}",
            f"`dataminer why {missing[0]}` names its projects",
        )


def _list_videos(videos: Sequence[str]) -> str:
    more = f" and {len(videos) - _NAMED} more" if len(videos) > _NAMED else ""
    return f"video{'s'[: len(videos) != 1]} {', '.join(videos[:_NAMED])}{more}"


def _members(*, projects: Sequence[int] = (), videos: Sequence[str] = ()) -> list[_Member]:
    rows = _query(_MEMBERS, projects=list(projects), videos=list(videos))
    return [_Member(*row) for row in rows]


def _query(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    return transaction(work, name="plan")
