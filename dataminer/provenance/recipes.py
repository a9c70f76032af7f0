"""A video's frames by recipe: one folder per recipe.

A recipe is the fingerprint of the settings, the version and the video file. The frames in such a
folder never change, and projects with the same recipe share them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dataminer.files.links import ABSENT_ERRORS, clear_path, is_file, lstat_or_none, make_folder
from dataminer.files.publishing import remove, remove_file, remove_staging, staging_path, write_link
from dataminer.files.reading import list_names
from dataminer.frames.images import ARCHIVE_FILE
from dataminer.frames.table import FRAMES_FILE, read_meta
from dataminer.store.layout import Store

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def of_video(store: Store, video_id: str) -> list[str]:
    """Return the recipes for which a video has a frame table, the newest first."""
    return [name for _, name in sorted(_dated(store.frames(video_id)), reverse=True)]


def of_project(store: Store, project: str, video_id: str) -> Path:
    """Return the folder of the frames that a project has chosen from, even if it is gone.

    That is the folder of the newest frames, if the filtered frames do not name theirs.
    """
    made = _meta(store.filtered(project, video_id)).get("filtered_from")
    older = [table.parent for table in older_tables(store, video_id) if is_file(table)]
    if made is None:
        names = [store.recipe(video_id, name) for name in of_video(store, video_id)]
        return next(iter((*names, *older)), store.frames(video_id))
    folders = (folder for folder in older if _meta(folder).get("fingerprint") == made)
    return next(folders, store.recipe(video_id, made))


def _meta(folder: Path) -> dict[str, Any]:
    try:
        return read_meta(folder / FRAMES_FILE)
    except ABSENT_ERRORS:
        return {}


def _dated(folder: Path) -> Iterator[tuple[int, str]]:
    for name in list_names(folder, NAME):
        if found := lstat_or_none(folder / name / FRAMES_FILE):
            yield found.st_mtime_ns, name


def remove_partial_frames(store: Store, video_id: str) -> None:
    """Delete what attempts at a video's frames left behind, and what they replaced."""
    remove_staging(store.frames(video_id), ".")
    with suppress(OSError):  # it has frames of other recipes, or is absent
        store.frames(video_id).rmdir()


def link_newest(store: Store, video_id: str, recipe: str, *, always: bool = False) -> None:
    """Link ``frames/VIDEO/frames.parquet`` to the frames of the newest recipe.

    With a single recipe and without ``always``, no link is made: it would be one more file.
    """
    link = store.frames(video_id) / FRAMES_FILE
    if has_old_layout(store, video_id) or not (
        always or link.is_symlink() or len(of_video(store, video_id)) > 1
    ):
        return
    write_link(f"{recipe}/{FRAMES_FILE}", link)


def has_old_layout(store: Store, video_id: str) -> bool:
    """Tell whether a video's frames lie where they did before recipes were introduced."""
    return any(is_file(path) for path in older_tables(store, video_id))


def older_videos(store: Store) -> list[str]:
    """Return the videos whose frames lie where they did before recipes were introduced."""
    names = list_names(store.frames("x").parent)
    videos = {re.sub(r"^\.(.*)\.moving$", r"\1", name) for name in names}
    return sorted(v for v in videos if NAME.fullmatch(v) and has_old_layout(store, v))


def older_tables(store: Store, video_id: str) -> tuple[Path, Path]:
    """Return the paths of a frame table before recipes, and while it is moved."""
    folder = store.frames(video_id)
    return folder / FRAMES_FILE, _moving(folder) / FRAMES_FILE


def folders(store: Store, video_id: str) -> list[Path]:
    """Return the folders that frames of a video may lie in, also after a killed take-over."""
    return [store.frames(video_id), _moving(store.frames(video_id))]


def move_old_layout(store: Store, video_id: str) -> None:
    """Move frames from their place before recipes into the folder of their recipe.

    No file is copied, and a call that was killed is continued. The caller holds the lock of the
    video's row. Tables of filtered frames find an archive in its old place, through a link. Frames
    whose table cannot be read are moved aside, as leftover staging.
    """
    folder = store.frames(video_id)
    moving = _moving(folder)
    clear_path(moving)
    if is_file(folder / FRAMES_FILE) and not moving.exists():
        os.rename(folder, moving)
    if not is_file(moving / FRAMES_FILE):
        return
    make_folder(folder)
    for name in os.listdir(moving):
        if (moving / name).is_dir():  # by recipe already, or staging
            os.rename(moving / name, folder / name)
    name = _meta(moving).get("fingerprint") or ""
    if not NAME.fullmatch(name):
        os.rename(moving, staging_path(folder))
        return
    recipe = store.recipe(video_id, name)
    if (moving / ARCHIVE_FILE).exists():
        write_link(f"{recipe.name}/{ARCHIVE_FILE}", folder / ARCHIVE_FILE)
    if recipe.exists():  # made again since
        remove(moving)
    else:
        os.rename(moving, recipe)


def remove_dead_links(store: Store, video_id: str) -> None:
    """Remove links in the folder of a video's frames whose targets are gone."""
    for name in (FRAMES_FILE, ARCHIVE_FILE):
        link = store.frames(video_id) / name
        if link.is_symlink() and not link.exists():
            remove_file(link)


def _moving(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.moving")
