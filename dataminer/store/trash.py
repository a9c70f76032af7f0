"""Remove folders from the store: set aside while rows are locked, deleted after the commit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dataminer.errors import DataminerError
from dataminer.files.links import lstat_or_none
from dataminer.files.publishing import remove, staging_path

VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Size:
    """The contents of some folders, counted; hard links count once."""

    files: int
    bytes: int


def checked(name: str, pattern: re.Pattern[str]) -> str:
    """Return an id if it may become part of a path.

    Raises
    ------
    DataminerError
        If it may not.
    """
    if not pattern.fullmatch(name):
        raise DataminerError(
            f"{name!a} is not an id", "give one that `dataminer status --json` shows"
        )
    return name


def measure_size(paths: Iterable[Path]) -> Size:
    """Count what is under some paths, without following links."""
    seen: dict[tuple[int, int], int] = {}
    for path in paths:
        for stat in _walk(path):
            seen[stat.st_dev, stat.st_ino] = stat.st_size
    return Size(len(seen), sum(seen.values()))


def _walk(path: Path) -> Iterator[os.stat_result]:
    try:
        if path.is_symlink() or not path.is_dir():
            yield path.lstat()
            return
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path))
                else:
                    yield entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return


@contextmanager
def set_aside(paths: Iterable[Path]) -> Iterator[None]:
    """Set paths aside for the block; delete them after it, or restore them if it fails.

    A crash leaves hidden ``.partial`` folders, which ``dataminer cleanup-orphans`` finds.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for path in paths:
            if lstat_or_none(path):
                aside = staging_path(path)
                os.rename(path, aside)
                moved.append((path, aside))
        yield
    except BaseException:
        for path, aside in moved:
            os.rename(aside, path)
        raise
    for _, aside in moved:
        remove(aside)
