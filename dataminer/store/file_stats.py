"""Read the state of many files, several at a time if that is faster."""

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

_LOOKS_AT_ONCE = 32  # Reading the state of a file on a network file system is mostly waiting
_TRIED, _QUICK_SECONDS = 32, 0.0001  # A local one answers faster than threads can switch

FileStats = os.stat_result | None
FileState = tuple[int, int, int] | None
"""What identifies a version of a file: inode, size and time; None: no file."""


def times(paths: Sequence[StrPath]) -> list[float | None]:
    """Return when each result was last changed; None for a missing one.

    Links, files behind links, and empty files count as missing, because no result is one.
    """
    found = _each(paths, partial(_lstat, known=set()))
    return [file.st_mtime if file and _is_filled(file) else None for file in found]


def stats(paths: Sequence[StrPath]) -> list[FileStats]:
    """Read the state of files."""
    return _each(paths, _stat)


def states(paths: Iterable[StrPath]) -> list[FileState]:
    """Return a state per file, which changes if the file is replaced or written to.

    Each file is opened, because only that makes a network file system query its server. A file that
    cannot be opened has no state; reading it will report the reason.
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
