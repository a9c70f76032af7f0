"""Flushing files and folders to the disk."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path


def fsync(path: Path) -> None:
    """Flush one file or folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_tree(folder: Path) -> None:
    """Flush a folder of many files, with one system call if there is one."""
    if not _syncfs(folder):
        for entry in folder.rglob("*"):
            fsync(entry)
        fsync(folder)


def fsync_trees(folders: Iterable[Path]) -> None:
    """Flush several folders, those of one file system at once."""
    flushed = set()
    for folder in folders:
        device = folder.stat().st_dev
        if device in flushed:
            continue
        if _syncfs(folder):
            flushed.add(device)
        else:
            fsync_tree(folder)


def _syncfs(folder: Path) -> bool:
    """Flush the whole file system of a folder; return False if the system cannot do that."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        return False
    fd = os.open(folder, os.O_RDONLY)
    try:
        return bool(libc.syncfs(fd) == 0)
    finally:
        os.close(fd)
