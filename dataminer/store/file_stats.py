"""Looks at many files, several at a time where that pays."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dataminer.errors import DamagedFile
from dataminer.files.links import StrPath, lstat_or_none
from dataminer.files.reading import open_file

_LOOKS_AT_ONCE = 32  # a look at a file on a network file system is mostly waiting
_TRIED, _QUICK_SECONDS = 32, 0.0001  # a local one answers sooner than threads take turns

FileStats = os.stat_result | None
FileState = tuple[int, int, int] | None
"""What tells a file from what was there before or will be: inode, size and time; None: no file."""


def times(paths: Sequence[StrPath]) -> list[float | None]:
    """Return when each result was last changed; None if there is none.

    A link is none, nor is what is behind one, nor an empty file, as no result is.
    """
    found = _each(paths, partial(_lstat, known=set()))
    return [file.st_mtime if file and _is_filled(file) else None for file in found]


def stats(paths: Sequence[StrPath]) -> list[FileStats]:
    """Look at files."""
    return _each(paths, _stat)


def states(paths: Iterable[StrPath]) -> list[FileState]:
    """Return the state that each file is in: another one once it is replaced or written to.

    Each is opened, as only that makes a network file system ask its server; one that cannot be
    opened is in no state, and whoever reads it says why.
    """
    found = _each(list(paths), _open)
    return [file and (file.st_ino, file.st_size, file.st_mtime_ns) for file in found]


def _each(paths: Sequence[StrPath], read: Callable[[StrPath], FileStats]) -> list[FileStats]:
    began = time.perf_counter()
    first, rest = [read(path) for path in paths[:_TRIED]], paths[_TRIED:]
    if time.perf_counter() - began < len(first) * _QUICK_SECONDS:
        return first + [read(path) for path in rest]
    share = -(-len(rest) // _LOOKS_AT_ONCE) or 1
    shares = [rest[start : start + share] for start in range(0, len(rest), share)]
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        found_stats = pool.map(lambda some: [read(path) for path in some], shares)
        return first + [result for found in found_stats for result in found]


def _stat(path: StrPath) -> FileStats:
    try:
        return os.stat(path)
    except OSError:
        return None


def _lstat(path: StrPath, known: set[str]) -> FileStats:
    try:
        return lstat_or_none(path, known)
    except OSError:
        return None


def _is_filled(file: os.stat_result) -> bool:
    return stat.S_ISREG(file.st_mode) and file.st_size > 0


def _open(path: StrPath) -> FileStats:
    try:
        with open_file(path) as file:
            return os.fstat(file.fileno())
    except (OSError, DamagedFile):
        return None
