"""Files and folders that appear whole or not at all, and their removal."""

from __future__ import annotations

import ctypes
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dataminer.files.flushing import fsync
from dataminer.files.links import (
    ABSENT_ERRORS,
    is_folder,
    make_folder,
    refuse_links,
)
from dataminer.files.reading import list_names

STAGING_SUFFIX = ".partial"
RESUME_SUFFIX = ".resume"  # of folders of interrupted transfers, which outlive the attempt
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def staging_path(final: Path) -> Path:
    """Return the path of a hidden sibling under which to make ``final``; unique to this call."""
    return final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}{STAGING_SUFFIX}")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes ``path`` if the body succeeds, and else disappears.

    Parameters
    ----------
    path : Path
        The file to make; its folder is created. In a folder of :func:`staging_dir` it is not
        flushed to the disk, because :func:`dataminer.files.flushing.fsync_tree` flushes all of it.

    Yields
    ------
    Path
        A sibling with the same suffix, by which some writers choose the format.
    """
    make_folder(path.parent)
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}{STAGING_SUFFIX}{path.suffix}")
    try:
        yield partial
        staged = path.parent.suffix == STAGING_SUFFIX
        if not staged:
            fsync(partial)
        os.replace(partial, path)
        if not staged:
            fsync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staging_dir(final: Path) -> Iterator[Path]:
    """Yield a new folder beside ``final``, which is removed at the end unless it was published."""
    staging = staging_path(final)
    make_folder(final.parent)
    staging.mkdir()
    try:
        yield staging
    finally:
        remove(staging, ignore_errors=True)


def publish_dir(staging: Path, final: Path) -> Path | None:
    """Replace ``final`` by a finished folder: two renames, whatever its size.

    If the file system can exchange names, ``final`` exists at any moment.

    It is safe to repeat after an interruption: if ``staging`` is gone and ``final`` exists, it has
    been published.

    Parameters
    ----------
    staging : Path
        A complete folder on the same file system, flushed by
        :func:`dataminer.files.flushing.fsync_tree`.
    final : Path
        Where it appears.

    Returns
    -------
    Path or None
        What was there before, renamed to a sibling that :func:`remove_partials` recognises. A link
        is renamed itself.
    """
    make_folder(final.parent)
    exists = os.path.lexists(final)
    if exists and not staging.exists():
        return None
    replaced = staging_path(final) if exists else None
    if replaced is None:
        os.replace(staging, final)
    elif _exchange(staging, final):
        os.replace(staging, replaced)
    else:
        os.replace(final, replaced)
        os.replace(staging, final)
    fsync(final.parent)
    return replaced


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False if the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return bool(libc.renameat2(*names, _RENAME_EXCHANGE) == 0)


def write_link(target: str, link: Path) -> None:
    """Make or replace a symbolic link to a file in a sibling folder, in one step."""
    new = link.with_name(f".{uuid.uuid4().hex[:12]}{STAGING_SUFFIX}")
    new.symlink_to(target)
    os.replace(new, link)


def remove_partials(final: Path) -> None:
    """Delete what attempts at making ``final`` left beside it, and what it replaced."""
    remove_staging(final.parent, f".{final.name}.")


def remove_staging(folder: Path, prefix: str) -> None:
    """Delete what attempts left in a folder under names with this prefix."""
    for name in list_names(folder):
        if name.startswith(prefix) and name.endswith(STAGING_SUFFIX):
            remove(folder / name, ignore_errors=True)


def remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Delete a folder, a file or a link; never a link's target."""
    with suppress(*((OSError,) if ignore_errors else ())):
        if is_folder(path):
            shutil.rmtree(path, ignore_errors=ignore_errors)
        else:
            remove_file(path)


def remove_file(path: Path) -> None:
    """Delete a file of a store, or a link; never a folder, and nothing below a link."""
    with suppress(IsADirectoryError, *ABSENT_ERRORS):
        refuse_links(path)
        path.unlink()
