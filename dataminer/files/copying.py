"""Linking or copying files as cheaply as the file systems allow."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path

from dataminer.errors import DamagedFile
from dataminer.files.links import refuse_links
from dataminer.files.reading import NOT_A_FILE, open_without_links

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file (Btrfs, XFS)
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP}
_CHUNK_BYTES = 1 << 20


def link_or_copy(source: Path, target: Path, *, reflink: bool = False) -> str:
    """Make ``target`` the same file as ``source``.

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
        raise DamagedFile(source, NOT_A_FILE)
    return "hardlink"


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes to a name that does not exist yet, sharing blocks if possible."""
    if not _reflink(source, target):
        shutil.copyfile(source, target)


def _copy(source: Path, target: Path) -> None:
    with open_without_links(source) as src:
        with target.open("xb") as dst:
            shutil.copyfileobj(src, dst, _CHUNK_BYTES)
        status = os.fstat(src.fileno())
        target.chmod(stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _reflink(source: Path, target: Path) -> bool:
    with open_without_links(source) as src, target.open("xb") as dst:
        try:
            fcntl.ioctl(dst.fileno(), _FICLONE, src.fileno())
        except OSError:
            cloned = False
        else:
            cloned = True
    if not cloned:
        target.unlink()
    return cloned
