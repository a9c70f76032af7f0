"""The embedded server from outside: asked, killed and cleared away."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from dataminer.db.server import control
from dataminer.db.server.account import STATE_DIR, account_for
from dataminer.errors import DatabaseError
from tests.support.postgres import execute, superuser_of
from tests.support.waiting import wait_until

MEMORY, ROOM = Path("/dev/shm"), 2 * 2**30


def is_listening(home: Path) -> bool:
    """Return whether a server is running that other machines can reach."""
    found = control.status(home)
    return found.state in ("running", "elsewhere") and found.nodes_url is not None


@contextmanager
def shared_server(folder: Path) -> Iterator[str]:
    """Give the URL of a server for all processes of a test run.

    The last that leaves takes it away, and with it all that lies in the folder.
    """
    home, mine = folder / "home", folder / "users" / str(os.getpid())
    with FileLock(f"{folder}.lock"):
        mine.parent.mkdir(parents=True, exist_ok=True)
        new = not home.exists()
        url = control.start(home)
        if new:
            never_sync(home)
            if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
                keep_in_memory(home, folder / "memory")
        mine.touch()
    try:
        yield url
    finally:
        with FileLock(f"{folder}.lock"):
            mine.unlink()
            if not any(mine.parent.iterdir()):
                clean_up(home)  # as root the data lies elsewhere, for its user to enter
                shutil.rmtree((folder / "memory").resolve(), ignore_errors=True)
                shutil.rmtree(folder)


def keep_in_memory(home: Path, link: Path) -> None:
    """Have all databases that are made from now on lie in memory, and a link lead there.

    A clone has 330 files of 8 kB each: some disks take 0.3 s to make them, memory 0.02.
    """
    link.symlink_to(tempfile.mkdtemp(prefix="dataminer-tests-", dir=MEMORY))
    account_for(control.status(home).data_dir).own(link.resolve())
    superuser = superuser_of(control.url(home))
    execute(superuser, f"CREATE TABLESPACE memory LOCATION '{link.resolve()}'")
    # where a database's template lies, it lies
    execute(superuser, "ALTER DATABASE template1 SET TABLESPACE memory")


def never_sync(home: Path) -> None:
    """Have the server wait for no disk: a power cut would lose all, a crash of ours nothing."""
    url = control.url(home)
    superuser = superuser_of(url)
    # what ALTER SYSTEM sets comes after the settings that each start writes
    for setting in ("fsync", "full_page_writes"):
        execute(superuser, f"ALTER SYSTEM SET {setting} = off")
    execute(superuser, "SELECT pg_reload_conf()")
    wait_until(lambda: execute(url, "SHOW fsync") == [("off",)])


@contextmanager
def own_server(folder: Path) -> Iterator[Path]:
    """Make a database of a test module's own, and take it away; give its home."""
    home = folder / "pg"
    try:
        control.start(home)
        never_sync(home)
        yield home
    finally:
        clean_up(home)


def clean_up(home: Path) -> None:
    """Stop what a test started, and remove what lies outside of its own folder."""
    found = home.resolve()
    (found / "host.json").unlink(missing_ok=True)
    with suppress(DatabaseError):
        _end_at_once(home)
    last = control.status(home)
    assert last.state in ("absent", "stopped")
    if last.socket_dir:
        shutil.rmtree(last.socket_dir, ignore_errors=True)
    if found.parent == STATE_DIR:
        shutil.rmtree(found)


def _end_at_once(home: Path) -> None:
    """End a server whose data nobody needs any more: it writes nothing to the disk first."""
    running = control.status(home).pid
    if running:
        os.kill(running, signal.SIGQUIT)
        wait_until(lambda: control.status(home).pid is None)


def pid_of(home: Path) -> int:
    pid = control.status(home).pid
    assert pid is not None
    return pid


def kill_server(home: Path) -> None:
    os.kill(pid_of(home), signal.SIGKILL)
    wait_until(lambda: control.status(home).state == "stopped")
