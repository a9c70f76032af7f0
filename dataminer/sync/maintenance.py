"""Delete projects and videos, and have dedup or detect made again; never under a live claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from dataminer import recipes
from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.db.enums import ProjectStatus
from dataminer.errors import DataminerError
from dataminer.frames import CLUSTERS_FILE
from dataminer.store import Store
from dataminer.sync import claims, mend, projects, rows, stages
from dataminer.sync import sql as statements
from dataminer.sync.discard import (
    PROJECT_NAME,
    VIDEO_ID,
    checked,
    measure,
    refuse_outside,
    set_aside,
)
from dataminer.sync.truth import Files, Verdict, existing

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

_KNOWN_VIDEOS = "SELECT video_id FROM videos WHERE video_id = ANY(%(videos)s)"

_COUNT = """
SELECT count(*) FROM project_videos
WHERE project_id = ANY(%(projects)s) OR video_id = ANY(%(videos)s)
"""

# in the order in which `populate` writes, so that the two wait for each other at most
_LOCK = (
    """
SELECT video_id, locked_by, heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s)
FROM videos WHERE video_id = ANY(%(videos)s) ORDER BY video_id FOR UPDATE
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
        for folder in self.folders:
            size = measure([folder])
            lines.append(f"  {folder}: {size.files} files, {size.bytes / 1e6:.1f} MB")
        total = measure(self.folders)
        if len(self.folders) > 1:
            lines.append(f"  in all {total.files} files, {total.bytes / 1e6:.1f} MB")
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


def plan_videos(
    store: Store, video_ids: Iterable[str], *, files: bool, all_projects: bool
) -> Deletion:
    """Plan the deletion of videos, out of all projects that use them.

    Their filtered folders (links to frames) always go, or the next ``sync`` would bring the rows
    back.

    Parameters
    ----------
    store : Store
        The store.
    video_ids : iterable of str
        Which.
    files : bool
        The downloaded files and the frames too.
    all_projects : bool
        Also videos that several projects use.

    Raises
    ------
    DataminerError
        When a video is unknown, or in several projects without ``all_projects``.
    """
    wanted = sorted({checked(video_id, VIDEO_ID) for video_id in video_ids})
    unknown = set(wanted) - {row[0] for row in _ask(_KNOWN_VIDEOS, videos=wanted)}
    if unknown:
        raise DataminerError(
            f"the database knows no video {', '.join(sorted(unknown))}",
            "`dataminer cleanup-orphans` finds files that no row knows",
        )
    members = _ask(_MEMBERS, projects=[], videos=wanted)
    _refuse_shared(members, all_projects)
    filtered = [store.filtered(project, video_id) for _, video_id, _, project in members]
    central = of_videos(store, wanted) if files else []
    return Deletion(
        f"video{'s'[: len(wanted) != 1]} {', '.join(wanted)}",
        store,
        members=tuple(row[0] for row in members),
        videos=tuple(wanted),
        recount=tuple(sorted({row[2] for row in members})),
        folders=existing(*central, *filtered),
    )


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
    refuse_outside(deletion.store, deletion.folders)
    values: dict[str, Any] = {
        "projects": list(deletion.projects),
        "members": list(deletion.members),
        "videos": list(deletion.videos),
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
            for statement in _DELETE:
                cursor.execute(statement, values)
            again = {"projects": values["recount"], "refiltered": True}
            cursor.execute(statements.REFRESH_PROJECTS, again)

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
    return existing(*Files(store).outputs(project, stage), *kept[stage])


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
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    )
    refuse_outside(store, remove)
    key = {"project_id": projects.id_of(project)}
    row = rows.load([project]).projects[project]
    ready, columns = Files.before(stage)
    goes_back = row.status in (ProjectStatus.COMPLETE, ProjectStatus.DETECT_READY)
    if goes_back and (row.status, stage) != (ProjectStatus.DETECT_READY, "detect"):
        verdict = Verdict(ready, remove, columns)
    else:
        verdict = Verdict(row.status, remove)
    running = row.status in stages.running_statuses("projects")
    before = (row.status, row.lease)
    if running or not mend.put_back(stages.DEDUP, key, before, verdict, lambda: verdict):
        raise DataminerError(
            f"project {project} is being worked on: {row.status}",
            "wait for the run to end; one that has died is given back by the next `snakemake`",
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
            "say --all-projects to delete them from all of these",
        )


def _refuse_live(locked: list[tuple[str, str | None, bool | None]]) -> None:
    for name, owner, fresh in locked:
        if owner and fresh and not claims.is_dead(owner):
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
