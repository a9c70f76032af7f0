"""Looks at many files, several at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_LOOKS_AT_ONCE = 32  # a look at a file on a network file system is mostly waiting


def times(paths: Sequence[Path]) -> list[float | None]:
    """Return when each file was last changed; None if there is none."""
    return [found.st_mtime if found else None for found in stats(paths)]


def exist(paths: Sequence[Path]) -> list[bool]:
    """Tell which files are there."""
    return [found is not None for found in stats(paths)]


def stats(paths: Sequence[Path]) -> list[os.stat_result | None]:
    """Look at files, several at a time."""
    share = -(-len(paths) // _LOOKS_AT_ONCE) or 1
    shares = [paths[start : start + share] for start in range(0, len(paths), share)]
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        return [result for found in pool.map(_look, shares) for result in found]


def _look(paths: Sequence[Path]) -> list[os.stat_result | None]:
    return [_stat(path) for path in paths]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
