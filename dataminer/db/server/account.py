"""Who runs the server, and the small file helpers that depend on it."""

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

from dataminer.errors import DatabaseError
from dataminer.permissions import user_name

STATE_DIR = Path("/var/lib/dataminer")
LOCK_WAIT_SECONDS = 180.0
HINT_OTHER_LOCATION = (
    "set DATAMINER_PGDATA to a folder on a local disk, or DATABASE_URL to a PostgreSQL server"
)


@dataclass(frozen=True)
class ServerAccount:
    """The operating system's user that the server runs as.

    Parameters
    ----------
    uid, gid : int
        Its numbers.
    name : str
        Its name, or its number where it has none.
    """

    uid: int
    gid: int
    name: str

    @property
    def dropped(self) -> bool:
        """Whether the server runs as somebody else than the calling process."""
        return self.uid != os.geteuid()

    def run(
        self, command: Sequence[str], *, text: str | None = None, keep_fds: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a server program to its end as this account; errors of its own are not raised."""
        who = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.dropped else {}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
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
        """Whether the account can pass through a folder and all that lie above it."""
        return all(self._has_search_right(path) for path in (folder, *folder.parents))

    def _has_search_right(self, folder: Path) -> bool:
        facts = folder.stat()
        if facts.st_uid == self.uid:
            return bool(facts.st_mode & stat.S_IXUSR)
        return bool(facts.st_mode & (stat.S_IXGRP if facts.st_gid == self.gid else stat.S_IXOTH))

    def own(self, path: Path) -> None:
        """Hand a path that the calling process just made over to the account."""
        if self.dropped:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(data_dir: Path | None) -> ServerAccount:
    """Choose the account of a server: the owner of its data, the caller, or one below root.

    Parameters
    ----------
    data_dir : Path or None
        An existing data folder; None for one that is to be made.

    Raises
    ------
    DatabaseError
        When the data belongs to another user, or root finds no user to drop to.
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
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as",
        "run dataminer as a normal user, or set DATABASE_URL to a server",
    )


def _clean_environment() -> dict[str, str]:
    # PGPORT, PGDATA and their kin would move the server; its messages are read in English
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def private_root(folder: Path) -> Path:
    """Make or check a folder of root's that others may read but not change."""
    folder.mkdir(mode=0o755, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise DatabaseError(
            f"{folder} is not a folder that only its owner can write to",
            f"remove it, or make it right with `chown root {folder}; chmod 755 {folder}`",
        )
    if facts.st_mode & 0o777 != 0o755:  # made under a tighter umask
        folder.chmod(0o755)
    return folder


def private_folder(folder: Path, account: ServerAccount) -> None:
    """Make or check a folder that only the account can enter; never trust another's."""
    if account.dropped and not os.path.lexists(folder):
        # whoever looks at this moment sees no folder, or the account's own
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        account.own(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # somebody else was first
            fresh.rmdir()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if account.dropped and folder.lstat().st_uid == os.geteuid():
        account.own(folder)
    require_private(folder, account)


def require_private(folder: Path, account: ServerAccount) -> None:
    """Refuse a folder that is not the account's own."""
    if not is_private(folder, account):
        raise DatabaseError(
            f"{folder} is not a private folder of user {account.name}; it is not safe to use",
            "remove it, or ask its owner to; it may hold the sockets of nobody else",
        )


def is_private(folder: Path, account: ServerAccount) -> bool:
    """Whether a path is a real folder of the account, closed to everybody else."""
    facts = folder.lstat()
    closed = not facts.st_mode & 0o077
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == account.uid and closed


def write_whole(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a small file so that a reader sees the old one or the new one, never a part."""
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
    """Take the lock of an open file if it is free."""
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
    """Hold a lock file; a dead holder's lock is free at once.

    The file stays: removing it would let two processes hold two files of one name.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while not try_lock(fd):
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"another process has held {path} for {LOCK_WAIT_SECONDS:.0f} s",
                    "see whether another dataminer is starting or stopping the database",
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)
