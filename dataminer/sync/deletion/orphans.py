"""Finds and deletes orphans: files without rows, abandoned staging, videos of no project."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg2.extensions import connection as Connection

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.errors import DataminerError
from dataminer.files.links import lstat_or_none
from dataminer.files.publishing import RESUME_SUFFIX, STAGING_SUFFIX
from dataminer.files.reading import list_names
from dataminer.provenance import recipes
from dataminer.store.layout import Store
from dataminer.store.trash import PROJECT_NAME, VIDEO_ID, set_aside
from dataminer.sync.claims import stage_rows
from dataminer.sync.claims.execution import adapt
from dataminer.sync.deletion.delete import carry_out
from dataminer.sync.deletion.plan import Deletion, folders_of_videos
from dataminer.sync.repair.evidence import StoreInspector, existing
from dataminer.sync.repair.snapshot import RowsOfProjects, read_rows

# ---- statements: values bound ------------------------------------------------------------------

_VIDEOS_OF_NO_PROJECT = """
SELECT video_id FROM videos v
WHERE NOT EXISTS (SELECT FROM project_videos pv WHERE pv.video_id = v.video_id) ORDER BY 1
"""

_NAME_NEWEST = """
UPDATE videos SET frames_dir = %(frames_dir)s, frame_count = %(frame_count)s,
    extracted_with = %(extracted_with)s, extract_fingerprint = %(extract_fingerprint)s,
    warning = %(warning)s, notes = %(notes)s
WHERE video_id = %(video_id)s AND extract_fingerprint = %(gone)s AND status = 'EXTRACTED'
"""

_TABLE = ".parquet"
_MODEL_OUTPUT = re.compile(rf"(?:{VIDEO_ID.pattern})(?:{re.escape(_TABLE)})?")
_OF_VIDEOS = ("videos", "frames", "model output")
OLD_SECONDS = 24 * 3600.0  # younger ones may be resumed, or belong to a job that only seems dead
_PARTIAL = re.compile(
    r"\.(?:(?P<name>[^.]+)\.)?[0-9a-f]{12}"
    rf"(?:{re.escape(STAGING_SUFFIX)}(?:\..*)?|{re.escape(RESUME_SUFFIX)})"
)


@dataclass(frozen=True)
class Orphans:
    """Files without rows, and rows without projects.

    Parameters
    ----------
    store : Store
        The store.
    folders : tuple of Path
        Folders of videos and projects without a row, and model outputs of such videos.
    partials : tuple of Path
        Staging and partial downloads of attempts that ended long ago.
    videos : tuple of str
        Rows of videos that belong to no project.
    unused : tuple of Path
        Frames of settings from which no project has chosen, and model outputs for them.
    recent : tuple of Path
        The same, made less than a day ago, since a run may be about to choose from them.
    """

    store: Store
    folders: tuple[Path, ...]
    partials: tuple[Path, ...]
    videos: tuple[str, ...]
    unused: tuple[Path, ...] = ()
    recent: tuple[Path, ...] = ()


def find_orphans(store: Store) -> Orphans:
    """Find all orphans; change nothing.

    Raises
    ------
    DataminerError
        If the database is empty and the store is not, so that every file would be an orphan.
    """
    # files first: a row that is added in between exists before its files
    found = list(_entries(store))
    tables = read_rows(None)
    if found and not tables.projects and not tables.videos:
        raise DataminerError(
            f"the database is empty, and {store.root} is not",
            "make the rows from the files with `dataminer sync --project NAME`, or name the"
            " right database in DATABASE_URL",
        )
    folders = [entry.path for entry in found if not entry.partial and not entry.has_row(tables)]
    partials = [entry.path for entry in found if entry.partial and entry.is_abandoned(tables)]
    unused = [
        path for video_id in tables.videos for path in _unused_frames(store, tables, video_id)
    ]
    old: list[Path] = []
    recent: list[Path] = []
    for path in unused:  # a run may be about to choose from the recent ones
        (old if _age(path) > OLD_SECONDS else recent).append(path)
    return Orphans(
        store,
        tuple(folders),
        tuple(partials),
        tuple(_videos_of_no_project()),
        tuple(old),
        tuple(recent),
    )


def delete_files(orphans: Orphans) -> list[Path]:
    """Delete the folders of ``orphans`` that still have no row; return what was deleted."""
    present = find_orphans(orphans.store)
    listed = {*orphans.folders, *orphans.partials, *orphans.unused}
    every = (*present.folders, *present.partials, *present.unused)
    deleted = [path for path in every if path in listed]
    for path in deleted:
        with set_aside([path]):
            pass
    for path in present.unused:
        if path in deleted and path.parent.parent == orphans.store.frames("x").parent:
            recipes.remove_dead_links(orphans.store, path.parent.name)
            _name_newest(orphans.store, path.parent.name, path.name)
    return deleted


def deletion_of_rows(orphans: Orphans, *, files: bool) -> Deletion:
    """Plan the deletion of the videos that belong to no project."""
    store = orphans.store
    folders = existing(*folders_of_videos(store, orphans.videos))
    return Deletion(
        "videos of no project", store, videos=orphans.videos, folders=folders if files else ()
    )


def delete_rows(orphans: Orphans, settings: MonitorConfig, *, files: bool) -> None:
    """Delete the rows of videos that belong to no project, with ``files`` also their folders."""
    carry_out(deletion_of_rows(orphans, files=files), settings)


@dataclass(frozen=True)
class _StoreEntry:
    """A file or folder in one of the store's folders.

    Parameters
    ----------
    path : Path
        Its path.
    name : str
        The video or project that it is named after; for staging, that of the folder to be made.
    kind : str
        ``videos``, ``frames``, ``projects`` or ``filtered``; ``model output`` of a video;
        ``stage`` for folders of a project, or of none.
    project : str
        The project that contains it, or an empty string.
    partial : bool
        Whether it is staging.
    """

    path: Path
    name: str
    kind: str
    project: str = ""
    partial: bool = False

    def has_row(self, tables: RowsOfProjects) -> bool:
        if self.kind in _OF_VIDEOS:
            return self.name in tables.videos
        if self.kind == "projects":
            return self.name in tables.projects
        # the content of an orphaned project's folder is deleted with it
        members = tables.members.get(self.project)
        return self.kind == "stage" or members is None or self.name in members

    def is_abandoned(self, tables: RowsOfProjects) -> bool:
        return not self._is_claimed(tables) and _age(self.path) > OLD_SECONDS

    def _is_claimed(self, tables: RowsOfProjects) -> bool:
        if self.kind in _OF_VIDEOS:
            row = tables.videos.get(self.name)
            return row is not None and row.status in stage_rows.running_statuses("videos")
        if self.kind == "filtered":
            member = tables.members.get(self.project, {}).get(self.name)
            return member is not None and member.status in stage_rows.running_statuses(
                "project_videos"
            )
        project = tables.projects.get(self.project or self.name)
        return project is not None and project.status in stage_rows.running_statuses("projects")


def _entries(store: Store) -> Iterator[_StoreEntry]:
    for kind in ("videos", "frames"):
        yield from _entries_in(store.root / kind, VIDEO_ID, kind)
    for name in sorted(list_names(store.root / "frames")):
        if moving := re.fullmatch(rf"\.({VIDEO_ID.pattern})\.moving", name):
            yield _StoreEntry(store.root / "frames" / name, moving[1], "frames")
    for video_id in sorted(list_names(store.root / "videos", VIDEO_ID)):
        yield from _staging_in(store.video(video_id), "videos", video_id)
    for video_id in sorted(list_names(store.root / "frames", VIDEO_ID)):
        yield from _staging_in(store.frames(video_id), "frames", video_id)
    for folder in store.of_models():
        yield from _entries_in(folder, _MODEL_OUTPUT, "model output")
    # without a row, so that only their age counts; "batches" are an older version's
    for folder in (*sorted(store.root.glob("prompts/*/")), store.root / "batches"):
        yield from _staging_in(folder, "stage", "")
    projects = store.project("x").parent
    yield from _entries_in(projects, PROJECT_NAME, "projects")
    for project in sorted(list_names(projects, PROJECT_NAME)):
        if store.project(project).is_symlink():
            continue
        yield from _entries_in(store.project(project), None, "stage", project)
        for folder in (store.report(project), store.detect_shards(project)):
            yield from _staging_in(folder, "stage", "", project)
        yield from _entries_in(store.filtered(project, "x").parent, VIDEO_ID, "filtered", project)


def _entries_in(
    folder: Path, pattern: re.Pattern[str] | None, kind: str, project: str = ""
) -> Iterator[_StoreEntry]:
    for name in sorted(list_names(folder)):
        partial = _PARTIAL.fullmatch(name)
        if partial:
            yield _StoreEntry(folder / name, partial["name"] or "", kind, project, partial=True)
        elif pattern and pattern.fullmatch(name):
            yield _StoreEntry(folder / name, name.removesuffix(_TABLE), kind, project)


def _staging_in(folder: Path, kind: str, name: str, project: str = "") -> Iterator[_StoreEntry]:
    """Yield the remains of files that were being written into a permanent folder."""
    for entry in _entries_in(folder, None, kind, project):
        yield replace(entry, name=name)


def _age(path: Path) -> float:
    """Return the seconds since anything directly in a folder last changed."""
    newest = path.lstat().st_mtime
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            times = [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
        newest = max([newest, *times])
    return time.time() - newest


def _unused_frames(store: Store, tables: RowsOfProjects, video_id: str) -> Iterator[Path]:
    """Yield the frames of a video from which no project has chosen, once all have chosen."""
    members = {name: rows[video_id] for name, rows in tables.members.items() if video_id in rows}
    stored_recipes = [
        name for name in list_names(store.frames(video_id)) if recipes.NAME.fullmatch(name)
    ]
    claimed = tables.videos[video_id].status in stage_rows.running_statuses("videos")
    if (
        claimed
        or not members
        or any(row.status not in stage_rows.FILTER.past for row in members.values())
    ):
        return
    # by rows, which may come from an older dump, and by files
    unused = {*stored_recipes} - {row.recipe for row in members.values()}
    if unused:
        unused -= {recipes.of_project(store, name, video_id).name for name in members}
    for recipe in sorted(unused):
        yield store.recipe(video_id, recipe)
        seen = (model / video_id / f"{recipe}{_TABLE}" for model in store.of_models())
        yield from (path for path in seen if lstat_or_none(path))


def _name_newest(store: Store, video_id: str, gone: str) -> None:
    """Let the row of a video name its newest frames, if it names frames that are gone."""
    found = StoreInspector(store).frames(video_id, None).outcome
    if found is None:
        return
    row = {name: adapt(value) for name, value in found.columns.items()}
    row["frames_dir"] = str(row["frames_dir"])

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_NAME_NEWEST, {**row, "video_id": video_id, "gone": gone})

    transaction(work, name="orphans")


def _videos_of_no_project() -> list[str]:
    def work(connection: Connection) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(_VIDEOS_OF_NO_PROJECT)
            return [row[0] for row in cursor.fetchall()]

    return transaction(work, name="orphans")
