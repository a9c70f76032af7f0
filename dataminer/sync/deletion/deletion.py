"""Delete projects and videos, and have dedup or detect made again; never under a live claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.db.enums import ProjectStatus
from dataminer.errors import DataminerError
from dataminer.files.links import is_folder
from dataminer.files.reading import names_in
from dataminer.frames.table import CLUSTERS_FILE
from dataminer.provenance import recipes
from dataminer.store.layout import Store
from dataminer.store.trash import (
    PROJECT_NAME,
    VIDEO_ID,
    checked,
    measure,
    set_aside,
)
from dataminer.sync.claims import owners, projects, stage_rows, statements
from dataminer.sync.repair import row as mend
from dataminer.sync.repair import snapshot
from dataminer.sync.repair.evidence import Evidence, StoreInspector, existing
from dataminer.sync.repair.retry import Choice

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

# A project that has its frames of a video goes on with them, whatever became of the video since.
_CHOSEN = """
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

_COUNT = """
SELECT count(*) FROM project_videos
WHERE id = ANY(%(members)s) OR project_id = ANY(%(projects)s) OR video_id = ANY(%(videos)s)
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

# in the order in which `populate` writes, so that the two wait for each other at most
_LOCK = (
    """
SELECT video_id, locked_by, heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s)
FROM videos WHERE video_id = ANY(%(locked)s) ORDER BY video_id FOR UPDATE
""",
    """
SELECT video_id, locked_by, heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s)
FROM project_videos WHERE id = ANY(%(members)s) ORDER BY id FOR UPDATE
""",
    """
SELECT name, locked_by, heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s)
FROM projects WHERE project_id = ANY(%(projects)s) OR project_id = ANY(%(recount)s)
ORDER BY project_id FOR UPDATE
""",
)

_DELETE = (
    "DELETE FROM project_videos WHERE id = ANY(%(members)s)",
    "DELETE FROM videos WHERE video_id = ANY(%(videos)s)",
    "DELETE FROM projects WHERE project_id = ANY(%(projects)s)",
)


@dataclass(frozen=True)
class Deletion:
    """What is to be deleted; nothing is until :func:`carry_out`.

    Parameters
    ----------
    what : str
        For people.
    store : Store
        The store that the folders lie in.
    projects : tuple of int
        Rows of `projects`.
    members : tuple of int
        Rows of `project_videos`.
    videos : tuple of str
        Rows of `videos`.
    kept : tuple of str
        Videos that leave projects, and stay with all that is not of these projects.
    choice : Choice, optional
        What must still apply to all of these videos.
    recount : tuple of int
        Projects that lose videos and stay.
    folders : tuple of Path
        What is deleted from the store.
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
        """Return what goes, line by line."""
        counts = {
            "projects": len(self.projects),
            "project_videos": len(self.members),
            "videos": len(self.videos),
        }
        told = ", ".join(f"{count} of {table}" for table, count in counts.items() if count)
        lines = [f"{self.what}: rows: {told or 'none'}"]
        for folder in self.folders[:_NAMED]:
            size = measure([folder])
            lines.append(f"  {folder}: {size.files} files, {size.bytes / 1e6:.1f} MB")
        total = measure(self.folders)
        if len(self.folders) > 1:
            folders = f"{len(self.folders)} folders, {total.files} files"
            lines.append(f"  in all {folders}, {total.bytes / 1e6:.1f} MB")
        if self.kept:
            lines.append(f"  stays, for other projects and for later: {_named(self.kept)}")
        return lines


def plan_project(store: Store, name: str, *, files: bool, videos: bool) -> Deletion:
    """Plan the deletion of a project.

    Parameters
    ----------
    store : Store
        The store.
    name : str
        The project.
    files : bool
        Its folder too; without it ``dataminer sync --project NAME`` can bring the rows back.
    videos : bool
        Also the videos that no other project uses (with ``files``, their folders too).

    Raises
    ------
    DataminerError
        When there is no such project.
    """
    project_id = projects.id_of(checked(name, PROJECT_NAME))
    members = _ask(_MEMBERS, projects=[project_id], videos=[])
    own = [row[0] for row in _ask(_ONLY_HERE, project=project_id)] if videos else []
    folders = [store.project(name), *of_videos(store, own)] if files else []
    return Deletion(
        f"project {name}",
        store,
        projects=(project_id,),
        members=tuple(row[0] for row in members),
        videos=tuple(own),
        folders=existing(*folders),
    )


def chosen(choice: Choice) -> list[str]:
    """Return the videos to which all that is asked for applies.

    Statuses and classes are those of a video or of its place in a project that was named, or in any
    if none was. A video of which a project has its frames has not failed there, whatever became of
    it since.
    """
    return [row[0] for row in _ask(_CHOSEN, **choice.values())]


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

    Their filtered folders (links to frames) always go, or the next ``sync`` would bring the rows
    back. So does the dataset of a project that no run can make anew: without usable videos.

    Parameters
    ----------
    store : Store
        The store.
    video_ids : iterable of str
        Which.
    out_of : iterable of str
        The projects that lose them: others keep them, and so do the store and the database, except
        with ``files`` what no other project uses. None for all projects, and the videos go.
    files : bool
        The downloaded files and the frames too.
    all_projects : bool
        Also videos that several projects use.
    choice : Choice, optional
        What the videos were chosen by, and must still be like when they are deleted.

    Raises
    ------
    DataminerError
        When there is no such project or it does not have such a video, or when several projects
        use one without ``all_projects`` or ``out_of``.
    """
    wanted = sorted({checked(video_id, VIDEO_ID) for video_id in video_ids})
    named = projects.ids_of(out_of)
    used = _ask(_MEMBERS, projects=[], videos=wanted)
    members = [row for row in used if row[3] in named or not named]
    if named:
        _refuse_strangers(wanted, members, named)
        kept = {row[1] for row in used if row[3] not in named} if files else {*wanted}
    else:
        _refuse_shared(members, all_projects)
        kept = set()
    gone = [video_id for video_id in wanted if video_id not in kept]
    filtered = [store.filtered(project, video_id) for _, video_id, _, project in members]
    central = of_videos(store, gone) if files else []
    unusable = [row[0] for row in _ask(_UNUSABLE, members=[row[0] for row in members])]
    made = [path(name) for name in unusable for path in (store.dedup, store.detect)]
    return Deletion(
        _named(wanted) + (f" out of project {', '.join(sorted(named))}" if named else ""),
        store,
        members=tuple(row[0] for row in members),
        videos=tuple(gone),
        kept=tuple(sorted(kept)),
        choice=choice,
        recount=tuple(sorted({row[2] for row in members})),
        folders=existing(*central, *filtered, *made),
    )


def left_empty(deletion: Deletion) -> list[str]:
    """Return the projects that have no video any more, once a deletion is carried out."""
    return [row[0] for row in _ask(_LEFT_EMPTY, projects=list(deletion.recount))]


def carry_out(deletion: Deletion, settings: MonitorConfig) -> None:
    """Delete rows and files together, as they were planned.

    Parameters
    ----------
    deletion : Deletion
        What goes.
    settings : MonitorConfig
        When a claim is stale, and no longer in the way.

    Raises
    ------
    DataminerError
        When a claim on one of the rows is live, or the rows have changed since; nothing was
        deleted then.
    """
    values: dict[str, Any] = {
        "projects": list(deletion.projects),
        "members": list(deletion.members),
        "videos": list(deletion.videos),
        "locked": [*deletion.videos, *deletion.kept],
        "recount": list(deletion.recount),
        "stale": settings.stale_threshold_minutes * 60,
    }

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            for statement in _LOCK:
                cursor.execute(statement, values)
                _refuse_live(cursor.fetchall())
            cursor.execute(_COUNT, values)
            if cursor.fetchone() != (len(deletion.members),):
                raise _changed(deletion)
            if deletion.choice:
                again = replace(deletion.choice, videos=tuple(values["locked"]))
                cursor.execute(_CHOSEN, again.values())
                if len(cursor.fetchall()) != len(again.videos):
                    raise _changed(deletion)
            for statement in _DELETE:
                cursor.execute(statement, values)
            left = {"projects": values["recount"], "refiltered": True}
            cursor.execute(statements.REFRESH_PROJECTS, left)

    def with_files(connection: Connection) -> None:
        work(connection)
        with set_aside(deletion.folders):
            connection.commit()

    try:
        transaction(with_files, name="delete")
    except psycopg2.errors.ForeignKeyViolation as error:
        raise _changed(deletion) from error


def outputs_of(
    store: Store, project: str, stage: str, *, rebuild: bool = False
) -> tuple[Path, ...]:
    """Return the outputs that must go so that ``dedup`` or ``detect`` is made again.

    With ``rebuild``, also what tells dedup which frames it kept before.
    """
    checked(project, PROJECT_NAME)
    kept = {
        # which frames stay
        "dedup": [store.dedup(project) / CLUSTERS_FILE] if rebuild else [],
        # boxes that are kept would be taken over, and no model would run
        "detect": [store.detect_shards(project)],
    }
    return existing(*StoreInspector(store).outputs(project, stage), *kept[stage])


def force(store: Store, project: str, stage: str, *, rebuild: bool = False) -> None:
    """Have ``dedup`` or ``detect`` of a project made again by the next ``snakemake``.

    Parameters
    ----------
    store : Store
        The store.
    project : str
        The project.
    stage : {"dedup", "detect"}
        What is made again; after dedup, detect is too.
    rebuild : bool
        Let dedup forget which frames it kept before, and judge all anew.

    Raises
    ------
    DataminerError
        When there is no such project, or it is being worked on.
    """
    remove = tuple(
        file
        for path in outputs_of(store, project, stage, rebuild=rebuild)
        for file in ([path / n for n in sorted(names_in(path))] if is_folder(path) else [path])
    )
    key = {"project_id": projects.id_of(project)}
    row = snapshot.load([project]).projects[project]
    ready, columns = StoreInspector.before(stage)
    goes_back = row.status in (ProjectStatus.COMPLETE, ProjectStatus.DETECT_READY)
    if goes_back and (row.status, stage) != (ProjectStatus.DETECT_READY, "detect"):
        verdict = Evidence(ready, remove, columns)
    else:
        verdict = Evidence(row.status, remove)
    running = row.status in stage_rows.running_statuses("projects")
    before = (row.status, row.lease)
    if running or not mend.revert_row(stage_rows.DEDUP, key, before, verdict, lambda: verdict):
        raise DataminerError(
            f"project {project} is being worked on: {row.status}",
            "wait for the run to end; the next run gives back what a dead one held",
        )


def of_videos(store: Store, video_ids: Iterable[str]) -> list[Path]:
    """Return what is kept of videos for all projects; some of it may not be there."""
    return [
        path
        for name in video_ids
        for path in (store.video(name), *recipes.folders(store, name), *store.seen(name))
    ]


def _refuse_shared(members: list[tuple[Any, ...]], all_projects: bool) -> None:
    users: dict[str, list[str]] = {}
    for _, video_id, _, project in members:
        users.setdefault(video_id, []).append(project)
    shared = [f"{name} ({', '.join(used)})" for name, used in users.items() if len(used) > 1]
    if shared and not all_projects:
        raise DataminerError(
            f"used by several projects: {'; '.join(shared)}",
            "add --project NAME to take them out of this one only, or --all-projects to delete them"
            " from all",
        )


def _refuse_strangers(
    wanted: list[str], members: list[tuple[Any, ...]], named: Iterable[str]
) -> None:
    strangers = sorted({*wanted} - {row[1] for row in members})
    if strangers:
        raise DataminerError(
            f"not in project {', '.join(sorted(named))}: {', '.join(strangers)}",
            f"`dataminer why {strangers[0]}` names its projects",
        )


def _named(videos: Sequence[str]) -> str:
    more = f" and {len(videos) - _NAMED} more" if len(videos) > _NAMED else ""
    return f"video{'s'[: len(videos) != 1]} {', '.join(videos[:_NAMED])}{more}"


def _refuse_live(locked: list[tuple[str, str | None, bool | None]]) -> None:
    for name, owner, fresh in locked:
        if owner and fresh and not owners.is_dead(owner):
            raise DataminerError(
                f"{name} is being worked on by {owner}, and nothing was deleted",
                "wait for it, or stop that run first",
            )


def _changed(deletion: Deletion) -> DataminerError:
    return DataminerError(
        f"{deletion.what}: its rows changed meanwhile, and nothing was deleted", "try again"
    )


def _ask(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    return transaction(work, name="plan")
