"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from re import Pattern
from typing import Any, BinaryIO

from dataminer.errors import DamagedFile, DataminerError
from dataminer.text import cut

StrPath = str | os.PathLike[str]
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file (Btrfs, XFS)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP}
_COPIED = 1 << 20  # bytes at a time
_LONGEST = 100  # characters of a link's target
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")  # 255 bytes, the most of a name
MOST_BYTES = 2**30
"""The most that is read whole: a picture of 178 megapixels, the most that is decoded, has half."""
SMALL = 2**22
"""The most of what takes some kB; a list of 20,000 names of classes takes 1 MB."""
_NO_FILE = "it is a link or no file at all"
ABSENT = (FileNotFoundError, NotADirectoryError, DamagedFile)
"""What reading raises if a file is not there, or not as a stage wrote it, which is the same."""
NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
STAGING_SUFFIX = ".partial"
RESUME_SUFFIX = ".resume"  # folders of transfers that broke off; outlive the attempt


_stores: dict[str, str] = {}  # the root of each, and the top folder of its projects


def own(root: Path, projects: str) -> None:
    """Make a store known: no function here follows a link below its top folders.

    Others may write to a store: a link in it could lead to what only its reader may see or change.
    The root and the top folders may be links, as their owner has arranged it.

    Parameters
    ----------
    root : Path
        The store.
    projects : str
        The top folder of its projects. A link in the place of a project's folder is not replaced,
        as its owner may have put it there.
    """
    for path in (os.fspath(root), os.path.abspath(root)):
        _stores[path] = projects


def _folders(path: StrPath) -> list[str]:
    """Return the folders above a path and below a top folder of its store, the upper ones first."""
    path = os.fspath(path)
    for way in (os.path.normpath if "/.." in path else str, os.path.abspath):
        folders = list(itertools.accumulate(way(path).split("/"), "{}/{}".format))
        for place, folder in enumerate(folders):
            if folder in _stores:
                return folders[place + 2 : -1]
    return []


def refuse_links(path: StrPath, known: set[str] | None = None) -> None:
    """Make sure that no folder of a store above a path is a link.

    Parameters
    ----------
    path : path
        In a store or elsewhere; whether it is a link itself is not asked.
    known : set of str, optional
        Folders that have been looked at; those that are looked at now are added.

    Raises
    ------
    DamagedFile
        One is.
    DataminerError
        One is, which is a project's folder.
    """
    known = set() if known is None else known
    above = os.path.dirname(path)
    # most often it is one of many in a folder that has been looked at
    for folder in [above] if os.path.dirname(above) in known else _folders(path):
        if folder in known:
            continue
        try:
            mode = os.lstat(folder).st_mode
        except OSError as error:
            if error.errno in NOWHERE:
                return
            raise
        if stat.S_ISLNK(mode):
            raise _is_link(folder)
        known.add(folder)


def _is_link(folder: str) -> DataminerError:
    top, name = os.path.split(folder)
    if _stores.get(os.path.dirname(top)) != os.path.basename(top):
        return DamagedFile(folder, "it is a link, which is not followed")
    return DataminerError(
        f"the folder of project {name}, {folder}, is a link, which is not followed",
        f"move the folder itself there; or, to have projects on another disk, make {top} the link",
    )


def look(path: StrPath, known: set[str] | None = None) -> os.stat_result | None:
    """Look at what is at a path of a store; None if it is absent. A link is looked at itself.

    Raises
    ------
    DataminerError
        As :func:`refuse_links` for a project's folder.
    """
    try:
        refuse_links(path, known)
        return os.lstat(path)
    except DamagedFile:
        return None
    except OSError as error:
        if error.errno in NOWHERE:
            return None
        raise


def is_file(path: StrPath) -> bool:
    """Tell whether a path of a store is a file itself, and no link to one."""
    found = look(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: StrPath) -> bool:
    """Tell whether a path of a store is a folder itself, and no link to one."""
    found = look(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def make_way(folder: Path) -> None:
    """Remove what is in the place of a folder of a store, or of one above it, and is no folder.

    What a link leads to stays.

    Raises
    ------
    DataminerError
        As :func:`refuse_links` for a project's folder.
    """
    for place in _folders(folder / "x"):
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode) and not isinstance(error := _is_link(place), DamagedFile):
            raise error
        if not stat.S_ISDIR(mode):
            with suppress(FileNotFoundError, IsADirectoryError):  # another job was quicker
                os.unlink(place)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, in the place of whatever else is there."""
    make_way(folder)
    folder.mkdir(parents=True, exist_ok=True)


def staging_path(final: Path) -> Path:
    """Name a hidden sibling of ``final`` under which to make it; unique to this call."""
    return final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}{STAGING_SUFFIX}")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on a clean exit it becomes ``path``, else nothing appears.

    Parameters
    ----------
    path : Path
        The file to make; its folder is created. In one of :func:`staging_dir` it is not flushed to
        the disk: the whole folder is, by :func:`fsync_tree`.

    Yields
    ------
    Path
        A sibling with the same suffix, so that writers that look at it choose the same format.
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


def is_plain_name(name: str) -> bool:
    """Tell whether a name is as stages name files: it leads nowhere, and says nothing else."""
    return _PLAIN_NAME.fullmatch(name) is not None


def member(folder: Path, name: str) -> Path:
    """Return the path of a folder's own file.

    Raises
    ------
    DamagedFile
        The name leads to somewhere else.
    """
    if not is_plain_name(name):
        raise DamagedFile(folder / name, "its name leads out of its folder, or is no plain one")
    return folder / name


def open_file(path: StrPath) -> BinaryIO:
    """Open a file of a store for reading, unbuffered; never what lies elsewhere.

    Raises
    ------
    FileNotFoundError
        There is none, or no such folder.
    DamagedFile
        It is a link other than those that :func:`lead_to` makes, or no file, or behind a link.
    DataminerError
        As :func:`refuse_links` for a project's folder.
    """
    try:
        return _open(path, path)
    except DamagedFile:
        target = led_to(path)
        if target == path:
            raise
    return _open(target, path)


def read_file(path: StrPath, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file of a store, see :func:`open_file`.

    Raises
    ------
    DamagedFile
        It has more than ``most`` bytes, or cannot be opened.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DamagedFile(path, f"it has {size:,} bytes, and nothing of its kind has {most:,}")
        return file.read()


def _open(path: StrPath, name: StrPath) -> BinaryIO:
    refuse_links(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise DamagedFile(name, _NO_FILE) from None
        if error.errno == errno.ENOTDIR:  # so that readers need not know of this one
            raise FileNotFoundError(errno.ENOENT, error.strerror, error.filename) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DamagedFile(name, _NO_FILE)
    return os.fdopen(fd, "rb", buffering=0)


def _entries(folder: StrPath) -> list[os.DirEntry[str]]:
    refuse_links(os.path.join(folder, "x"))
    with os.scandir(folder) as entries:
        return list(entries)


def names_in(folder: StrPath, kind: Pattern[str] | None = None) -> frozenset[str]:
    """Return the names in a folder, or those of a kind; none if there is no folder.

    Raises
    ------
    DataminerError
        As :func:`refuse_links` for a project's folder.
    """
    try:
        names = (entry.name for entry in _entries(folder))
        return frozenset(name for name in names if kind is None or kind.fullmatch(name))
    except ABSENT:
        return frozenset()


def own_names(folder: StrPath) -> set[str]:
    """Return the names in a folder without those of symbolic links.

    Raises
    ------
    OSError
        There is no such folder, or it cannot be read.
    DamagedFile
        It is a link, or behind one.
    """
    return {entry.name for entry in _entries(folder) if not entry.is_symlink()}


def sizes_in(folder: StrPath) -> dict[str, int]:
    """Return the size of each file of a folder, by its name; a link is none."""
    try:
        found = {e.name: e.stat(follow_symlinks=False) for e in _entries(folder)}
    except ABSENT:
        return {}
    return {name: file.st_size for name, file in found.items() if stat.S_ISREG(file.st_mode)}


def led_to(path: StrPath) -> StrPath:
    """Return where a link that :func:`lead_to` made leads; the path itself if it is no link.

    Raises
    ------
    DamagedFile
        It is another link.
    """
    try:
        target = PurePath(os.readlink(path))
    except OSError:  # no link, or nothing
        return path
    if target.is_absolute() or ".." in target.parts or len(target.parts) != 2:
        raise DamagedFile(
            path, f"it is a link to {cut(str(target), _LONGEST)}, which is not followed"
        )
    return os.path.join(os.path.dirname(path), target)


def lead_to(target: str, link: Path) -> None:
    """Have a symbolic link lead to a file of a folder beside it, in one step."""
    new = link.with_name(f".{uuid.uuid4().hex[:12]}{STAGING_SUFFIX}")
    new.symlink_to(target)
    os.replace(new, link)


@contextmanager
def staging_dir(final: Path) -> Iterator[Path]:
    """Yield a fresh folder beside ``final``, removed at the end unless it was published."""
    staging = staging_path(final)
    make_folder(final.parent)
    staging.mkdir()
    try:
        yield staging
    finally:
        remove(staging, ignore_errors=True)


def publish_dir(staging: Path, final: Path) -> Path | None:
    """Put a finished folder in the place of ``final``: two renames, whatever its size.

    Where the file system can swap names, one of the two is there at any moment.

    Safe to call again after it was interrupted: when ``staging`` is gone and ``final`` is there, it
    was already published.

    Parameters
    ----------
    staging : Path
        A complete folder on the same file system, flushed by :func:`fsync_tree`.
    final : Path
        Where it shall appear.

    Returns
    -------
    Path or None
        What stood there before, a folder or not, left beside it under a name that
        :func:`remove_partials` knows; a link itself, and not what it leads to.
    """
    make_folder(final.parent)
    there = os.path.lexists(final)
    if there and not staging.exists():
        return None
    aside = staging_path(final) if there else None
    if aside is None:
        os.replace(staging, final)
    elif _exchange(staging, final):
        os.replace(staging, aside)
    else:
        os.replace(final, aside)
        os.replace(staging, final)
    fsync(final.parent)
    return aside


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, where system and file system can: neither is ever missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return bool(libc.renameat2(*names, _RENAME_EXCHANGE) == 0)


def remove_partials(final: Path) -> None:
    """Delete what attempts at making ``final`` left beside it, and what it replaced."""
    remove_staging(final.parent, f".{final.name}.")


def remove_staging(folder: Path, start: str) -> None:
    """Delete what attempts left in a folder, under names that start so."""
    for name in names_in(folder):
        if name.startswith(start) and name.endswith(STAGING_SUFFIX):
            remove(folder / name, ignore_errors=True)


def remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Delete a folder, a file or a link; never what a link leads to."""
    with suppress(*((OSError,) if ignore_errors else ())):
        if is_folder(path):
            shutil.rmtree(path, ignore_errors=ignore_errors)
        else:
            remove_file(path)


def remove_file(path: Path) -> None:
    """Delete a file of a store, or a link; never a folder, and nothing that is behind a link."""
    with suppress(IsADirectoryError, *ABSENT):
        refuse_links(path)
        path.unlink()


def fsync_tree(folder: Path) -> None:
    """Flush a folder of many files to the disk, with one system call where there is one."""
    if not _syncfs(folder):
        for entry in folder.rglob("*"):
            fsync(entry)
        fsync(folder)


def fsync_trees(folders: Iterable[Path]) -> None:
    """Flush several folders to the disk, those of one file system at once."""
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


def fsync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def link_or_copy(source: Path, target: Path, *, reflink: bool = False) -> str:
    """Make ``target`` the same file as ``source`` as cheaply as the file systems allow.

    Parameters
    ----------
    source, target : Path
        An existing file, and a name that does not exist yet.
    reflink : bool
        Try to share blocks first: then a later change to ``source`` leaves ``target`` as it is.

    Returns
    -------
    str
        ``"reflink"``, ``"hardlink"`` or ``"copy"``: how it was done.

    Raises
    ------
    DamagedFile
        The source is a symbolic link, or no regular file.
    """
    if reflink and _reflink(source, target):
        return "reflink"
    refuse_links(source)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        _copy(source, target)
        return "copy"
    if not stat.S_ISREG(target.lstat().st_mode):
        target.unlink()
        raise DamagedFile(source, _NO_FILE)
    return "hardlink"


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes to a name that does not exist yet, sharing blocks where possible."""
    if not _reflink(source, target):
        shutil.copyfile(source, target)


def _copy(source: Path, target: Path) -> None:
    with _open(source, source) as src:
        with target.open("xb") as dst:
            shutil.copyfileobj(src, dst, _COPIED)
        found = os.fstat(src.fileno())
        target.chmod(stat.S_IMODE(found.st_mode))
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _reflink(source: Path, target: Path) -> bool:
    with _open(source, source) as src, target.open("xb") as dst:
        try:
            fcntl.ioctl(dst.fileno(), _FICLONE, src.fileno())
        except OSError:
            cloned = False
        else:
            cloned = True
    if not cloned:
        target.unlink()
    return cloned


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that change when any part (anything JSON can hold) changes."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
