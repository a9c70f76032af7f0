"""Explain refusals of a file system in one sentence: the file, its owner, and the next step."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataminer.errors import NEXT_STEP, DataminerError, ErrorClass, TransientError, os_error_class

_REFUSED = (errno.EACCES, errno.EPERM)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_NO_PLACE = "check it and the folders above it with `ls -ld`, and move away what is in the way"
_SHARED = (
    "have its owner share it with a group: g+rwX, setgid folders and umask 002, as docs/stores.md"
    " says under 'A store of several people'"
)
_READ_ONLY = (
    "have it mounted writable; report, preview and export can write elsewhere, with --output"
    " or --to"
)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if the system has no entry for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group, or the number if the system has no entry for it."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def explain_os_error(error: OSError) -> DataminerError | None:
    """Explain in one sentence what a file system refused or could not do.

    Parameters
    ----------
    error : OSError
        The error as raised.

    Returns
    -------
    DataminerError or None
        None if the cause is not a condition of this machine, but a bug.
    """
    error_class = os_error_class(error)
    if not isinstance(error.filename, str | os.PathLike):
        text = " ".join(str(error.strerror or error).split())
        known = error_class in (ErrorClass.PERMISSION, ErrorClass.DISK, ErrorClass.DISK_FULL)
        return DataminerError(text, NEXT_STEP[error_class]) if known else None
    path = Path(error.filename)
    if error.errno == errno.EROFS:
        folder = _folder(path)
        return DataminerError(f"{folder} is mounted read-only", _READ_ONLY)
    if error.errno in _REFUSED:
        return _refused(path, str(error.strerror))
    if error_class in (ErrorClass.DISK, ErrorClass.DISK_FULL):
        return DataminerError(f"{path}: {error.strerror}", NEXT_STEP[error_class])
    if error.errno in _IN_THE_WAY:
        return DataminerError(f"{path}: {error.strerror}", _NO_PLACE)
    return None


@contextmanager
def named() -> Iterator[None]:
    """Raise errors that :func:`explain_os_error` knows as failures to be fixed on this machine."""
    try:
        yield
    except OSError as error:
        known = explain_os_error(error)
        if known is None:
            raise
        raise TransientError(known.message, os_error_class(error), known.hint) from error


def try_to_write(folder: Path) -> None:
    """Create a folder, and check that files can be created in it; leaves none behind.

    Raises
    ------
    OSError
        If they cannot; :func:`explain_os_error` gives the reason.
    """
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _refused(path: Path, reason: str) -> DataminerError:
    where, what = _closed(path)
    if not what:  # a flag of the file, or a policy of the system
        return DataminerError(f"{path}: {reason}", NEXT_STEP[ErrorClass.PERMISSION])
    found = where.stat()
    owner = f"{user_name(found.st_uid)}:{group_name(found.st_gid)}"
    groups = ", ".join(sorted(group_name(gid) for gid in {os.getegid(), *os.getgroups()}))
    return DataminerError(
        f"{where} may not be {what} by {user_name(os.geteuid())} (in {groups}): it belongs to"
        f" {owner}, mode {stat.filemode(found.st_mode)}",
        _SHARED,
    )


def _closed(path: Path) -> tuple[Path, str]:
    """Return the path that blocks another one, and what may not be done with it, if known."""
    for folder in reversed(path.absolute().parents):
        if not _may(folder, os.X_OK):
            return folder, "entered"
    if path.exists() and not _may(path, os.R_OK):
        return path, "read"
    if path.is_file() and not _may(path, os.W_OK) and _may(path.parent, os.W_OK):
        return path, "written to"
    folder = _folder(path.parent)
    return folder, "" if _may(folder, os.W_OK) else "written to"


def _folder(path: Path) -> Path:
    """Return the nearest parent folder that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)
