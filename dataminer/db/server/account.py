"""The account that runs the server, and small file helpers that depend on it."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import secrets
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.errors import DatabaseError
from dataminer.permissions import user_name

STATE_DIR = Path("/var/lib/dataminer")
LOCK_WAIT_SECONDS = 180.0
HINT_OTHER_LOCATION = (
    "set DATAMINER_PGDATA to a folder on a local disk, or DATABASE_URL to a PostgreSQL server"
)


@dataclass(frozen=True)
class ServerAccount:
    """The operating system user that the server runs as.

    Parameters
    ----------
    uid, gid : int
        The user's and the group's number.
    name : str
        The user's name, or the number if it has none.
    """

    uid: int
    gid: int
    name: str

    @property
    def dropped(self) -> bool:
        """Whether the server runs as a different user than the calling process."""
        return self.uid != os.geteuid()

    def run(
        self, command: Sequence[str], *, text: str | None = None, keep_fds: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a server program as this account and wait for it; its failure raises no error."""
        who: dict[str, Any] = (
            {"user": self.uid, "group": self.gid, "extra_groups": []} if self.dropped else {}
        )
        return subprocess.run(
            command,
            input=text or "",
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=_clean_environment(),
            pass_fds=keep_fds,
            start_new_session=True,
            **who,
        )

    def may_enter(self, folder: Path) -> bool:
        """Whether the account can traverse a folder and all its parents."""
        return all(self._has_search_right(path) for path in (folder, *folder.parents))

    def _has_search_right(self, folder: Path) -> bool:
        facts = folder.stat()
        if facts.st_uid == self.uid:
            return bool(facts.st_mode & stat.S_IXUSR)
        return bool(facts.st_mode & (stat.S_IXGRP if facts.st_gid == self.gid else stat.S_IXOTH))

    def own(self, path: Path) -> None:
        """Make the account the owner of a path that the calling process has just created."""
        if self.dropped:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(data_dir: Path | None) -> ServerAccount:
    """Choose the account of a server: the owner of its data, the caller or, for root, another user.

    Parameters
    ----------
    data_dir : Path or None
        An existing data folder; None if it is to be created.

    Raises
    ------
    DatabaseError
        If the data belongs to another user, or root finds no other user to run the server as.
    """
    me = os.geteuid()
    owner = data_dir.stat() if data_dir else None
    if me != 0:
        if owner and owner.st_uid != me:
            raise DatabaseError(
                f"the database in {data_dir} belongs to another user ({user_name(owner.st_uid)})",
                f"run dataminer as that user, or {HINT_OTHER_LOCATION}",
            )
        return ServerAccount(me, os.getegid(), user_name(me))
    if owner and owner.st_uid != 0:
        return ServerAccount(owner.st_uid, owner.st_gid, user_name(owner.st_uid))
    return _account_below_root()


def _account_below_root() -> ServerAccount:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerAccount(entry.pw_uid, entry.pw_gid, name)
    raise DatabaseError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody",
        "run dataminer as a normal user, or set DATABASE_URL to a server",
    )


def _clean_environment() -> dict[str, str]:
    # PGPORT, PGDATA and the like would affect the server; its messages are parsed in English
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def private_root(folder: Path) -> Path:
    """Create or check a folder of root that others may read but not change."""
    folder.mkdir(mode=0o755, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise DatabaseError(
            f"{folder} is not a folder that only its owner can write to",
            f"remove it, or correct it with `chown root {folder}; chmod 755 {folder}`",
        )
    if facts.st_mode & 0o777 != 0o755:  # created under a stricter umask
        folder.chmod(0o755)
    return folder


def private_folder(folder: Path, account: ServerAccount) -> None:
    """Create or check a folder that only the account can enter; never trust another user's."""
    if account.dropped and not os.path.lexists(folder):
        # Other processes see either no folder, or one that already belongs to the account
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        account.own(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            fresh.rmdir()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if account.dropped and folder.lstat().st_uid == os.geteuid():
        account.own(folder)
    require_private(folder, account)


def require_private(folder: Path, account: ServerAccount) -> None:
    """Refuse a folder that does not belong to the account alone."""
    if not is_private(folder, account):
        raise DatabaseError(
            f"{folder} is not a private folder of user {account.name}; it is not safe to use",
            "remove it, or ask its owner to remove it; the server's sockets need a private one",
        )


def is_private(folder: Path, account: ServerAccount) -> bool:
    """Whether a path is a real folder that belongs to the account and is closed to all others."""
    facts = folder.lstat()
    closed = not facts.st_mode & 0o077
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == account.uid and closed


def write_whole(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a small file atomically: readers see the old one or the new one, never a part."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def try_lock(fd: int) -> bool:
    """Lock an open file unless it is locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise DatabaseError(
            f"the file system of the database folder has no working file locks ({error.strerror})",
            HINT_OTHER_LOCATION,
        ) from error
    return True


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Lock a file for the block; the lock of a dead process is released at once.

    The file stays: if it were removed, two processes could lock two files with the same name.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while not try_lock(fd):
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"another process has locked {path} for {LOCK_WAIT_SECONDS:.0f} s",
                    "check whether another dataminer is starting or stopping the database",
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)
