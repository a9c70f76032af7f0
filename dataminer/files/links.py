"""Paths of a store: no symbolic link is followed below its top folders.

Others may write to a store: a link in it could lead to what only its reader may see or change.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from contextlib import suppress
from pathlib import Path, PurePath

from dataminer.errors import DamagedFile, DataminerError
from dataminer.text import cut

StrPath = str | os.PathLike[str]
ABSENT_ERRORS = (FileNotFoundError, NotADirectoryError, DamagedFile)
"""Raised by reading a file that is absent, or that no stage wrote, which counts as absent."""
ABSENT_ERRNOS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_MAX_TARGET_LENGTH = 100  # characters of a link's target in a message

_stores: dict[str, str] = {}  # the root of each store, and the top folder of its projects


def register_store(root: Path, projects: str) -> None:
    """Register a store, so that no function here follows a link below its top folders.

    The root and the top folders may be links, as their owner has set them up.

    Parameters
    ----------
    root : Path
        The store.
    projects : str
        The top folder of its projects. A link in place of a project's folder is an error and not
        replaced, because its owner may have put it there.
    """
    for path in (os.fspath(root), os.path.abspath(root)):
        _stores[path] = projects


def _folders_in_store(path: StrPath) -> list[str]:
    """Return the folders above a path and below a top folder of its store, from the top down."""
    path = os.fspath(path)
    for normalise in (os.path.normpath if "/.." in path else str, os.path.abspath):
        folders = list(itertools.accumulate(normalise(path).split("/"), "{}/{}".format))
        for depth, folder in enumerate(folders):
            if folder in _stores:
                return folders[depth + 2 : -1]
    return []


def refuse_links(path: StrPath, checked: set[str] | None = None) -> None:
    """Make sure that no folder of a store above a path is a link.

    Parameters
    ----------
    path : path
        In a store or elsewhere; it may be a link itself.
    checked : set of str, optional
        Folders that have been checked before; those that are checked now are added.

    Raises
    ------
    DamagedFile
        A folder is a link.
    DataminerError
        A project's folder is a link.
    """
    checked = set() if checked is None else checked
    parent = os.path.dirname(path)
    # usually one of many paths in a folder whose parents have been checked
    for folder in [parent] if os.path.dirname(parent) in checked else _folders_in_store(path):
        if folder in checked:
            continue
        try:
            mode = os.lstat(folder).st_mode
        except OSError as error:
            if error.errno in ABSENT_ERRNOS:
                return
            raise
        if stat.S_ISLNK(mode):
            raise _link_error(folder)
        checked.add(folder)


def _link_error(folder: str) -> DataminerError:
    top, name = os.path.split(folder)
    if _stores.get(os.path.dirname(top)) != os.path.basename(top):
        return DamagedFile(folder, "it is a link, which is not followed")
    return DataminerError(
        f"the folder of project {name}, {folder}, is a link, which is not followed",
        f"move the folder itself there; or, to have projects on another disk, make {top} the link",
    )


def lstat_or_none(path: StrPath, checked: set[str] | None = None) -> os.stat_result | None:
    """Return the status of a path of a store, of a link itself; None if it is absent.

    Raises
    ------
    DataminerError
        As :func:`refuse_links` for a project's folder.
    """
    try:
        refuse_links(path, checked)
        return os.lstat(path)
    except DamagedFile:
        return None
    except OSError as error:
        if error.errno in ABSENT_ERRNOS:
            return None
        raise


def is_file(path: StrPath) -> bool:
    """Return whether a path of a store is a file; a link to one is not."""
    status = lstat_or_none(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: StrPath) -> bool:
    """Return whether a path of a store is a folder; a link to one is not."""
    status = lstat_or_none(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def clear_path(folder: Path) -> None:
    """Remove files and links in the place of a folder of a store, or of one above it.

    The targets of links stay.

    Raises
    ------
    DataminerError
        As :func:`refuse_links` for a project's folder.
    """
    for path in _folders_in_store(folder / "x"):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode) and not isinstance(error := _link_error(path), DamagedFile):
            raise error
        if not stat.S_ISDIR(mode):
            with suppress(FileNotFoundError, IsADirectoryError):  # another job was faster
                os.unlink(path)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, replacing files and links in their places."""
    clear_path(folder)
    folder.mkdir(parents=True, exist_ok=True)


def read_link(path: StrPath) -> StrPath:
    """Return the target of a link of :func:`dataminer.files.publishing.write_link`.

    A path that is no link is returned itself.

    Raises
    ------
    DamagedFile
        It is another link.
    """
    try:
        target = PurePath(os.readlink(path))
    except OSError:  # no link, or absent
        return path
    if target.is_absolute() or ".." in target.parts or len(target.parts) != 2:
        raise DamagedFile(
            path, f"it is a link to {cut(str(target), _MAX_TARGET_LENGTH)}, which is not followed"
        )
    return os.path.join(os.path.dirname(path), target)
