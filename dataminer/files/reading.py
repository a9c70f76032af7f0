"""Reading files and folders of a store, never what lies elsewhere."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from re import Pattern
from typing import BinaryIO

from dataminer.errors import DamagedFile
from dataminer.files.links import ABSENT_ERRORS, StrPath, read_link, refuse_links

MAX_FILE_BYTES = 2**30
"""Limit of a file that is read whole. An image of 178 megapixels, the largest, takes half of it."""
MAX_DOCUMENT_BYTES = 2**22
"""Limit of a file that takes a few kB; a list of 20,000 class names takes 1 MB."""
NOT_A_FILE = "it is a link, or not a file"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")  # names have up to 255 bytes


def is_plain_name(name: str) -> bool:
    """Return whether a name has only characters that stages use, and no path separator."""
    return _PLAIN_NAME.fullmatch(name) is not None


def path_in(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder.

    Raises
    ------
    DamagedFile
        The name leads out of the folder.
    """
    if not is_plain_name(name):
        raise DamagedFile(
            folder / name, "its name leads out of its folder, or is not a plain file name"
        )
    return folder / name


def open_file(path: StrPath) -> BinaryIO:
    """Open a file of a store for reading, unbuffered.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    DamagedFile
        It is no file, it is below a link, or it is a link that
        :func:`dataminer.files.publishing.write_link` did not make.
    DataminerError
        As :func:`dataminer.files.links.refuse_links` for a project's folder.
    """
    try:
        return open_without_links(path)
    except DamagedFile:
        target = read_link(path)
        if target == path:
            raise
    return open_without_links(target, path)


def open_without_links(path: StrPath, shown: StrPath | None = None) -> BinaryIO:
    """Open a file of a store as :func:`open_file`, but no link at all.

    Parameters
    ----------
    path : path
        The file.
    shown : path, optional
        The path in error messages.
    """
    refuse_links(path)
    shown = path if shown is None else shown
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise DamagedFile(shown, NOT_A_FILE) from None
        if error.errno == errno.ENOTDIR:  # callers need to handle one error only
            raise FileNotFoundError(errno.ENOENT, error.strerror, error.filename) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DamagedFile(shown, NOT_A_FILE)
    return os.fdopen(fd, "rb", buffering=0)


def read_file(path: StrPath, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a file of a store; see :func:`open_file`.

    Raises
    ------
    DamagedFile
        It has more than ``max_bytes``, or cannot be opened.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            reason = f"it has {size:,} bytes; a file of its kind has at most {max_bytes:,}"
            raise DamagedFile(path, reason)
        return file.read()


def _entries(folder: StrPath) -> list[os.DirEntry[str]]:
    refuse_links(os.path.join(folder, "x"))
    with os.scandir(folder) as entries:
        return list(entries)


def list_names(folder: StrPath, pattern: Pattern[str] | None = None) -> frozenset[str]:
    """Return the names in a folder that match a pattern; none if there is no folder.

    Raises
    ------
    DataminerError
        As :func:`dataminer.files.links.refuse_links` for a project's folder.
    """
    try:
        names = (entry.name for entry in _entries(folder))
        return frozenset(name for name in names if pattern is None or pattern.fullmatch(name))
    except ABSENT_ERRORS:
        return frozenset()


def names_without_links(folder: StrPath) -> set[str]:
    """Return the names in a folder, except those of symbolic links.

    Raises
    ------
    OSError
        There is no such folder, or it cannot be read.
    DamagedFile
        It is a link, or below one.
    """
    return {entry.name for entry in _entries(folder) if not entry.is_symlink()}


def sizes_in(folder: StrPath) -> dict[str, int]:
    """Return the size of each file in a folder by its name; links are left out."""
    try:
        status = {e.name: e.stat(follow_symlinks=False) for e in _entries(folder)}
    except ABSENT_ERRORS:
        return {}
    return {name: file.st_size for name, file in status.items() if stat.S_ISREG(file.st_mode)}
