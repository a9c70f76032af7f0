"""Start and stop the processes of an embedded server, and explain failures."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from dataminer.db.server import binaries as _pgbinaries
from dataminer.db.server import home as _pghome
from dataminer.db.server import network
from dataminer.db.server.account import HINT_OTHER_LOCATION, ServerAccount, account_for, try_lock
from dataminer.db.server.home import (
    PORT,
    ServerHome,
    check_path,
    clear_lines,
    prepare_socket_dir,
    server_options,
)
from dataminer.db.server.network import Endpoint, nodes_copy
from dataminer.db.server.postmaster import (
    Postmaster,
    is_here,
    other_host,
    postmaster,
    read_marker,
    remove_stale_pid_file,
    remove_stale_socket,
    write_marker,
)
from dataminer.errors import DatabaseError

START_SECONDS = 120.0
STOP_SECONDS = 60.0
KILL_SECONDS = 10.0
ORPHAN_SECONDS = 15.0
POLL_SECONDS = 0.02


def launch(home: ServerHome) -> str:
    """Start the server with the settings of its home, and return the URL of its socket.

    The caller has the start lock, and no server is running.
    """
    account = account_for(home.data)
    if account.dropped and not account.may_enter(home.real):
        raise DatabaseError(
            f"user {account.name}, as whom the server runs, cannot enter {home.real}",
            "move it to where every user may enter, or set DATAMINER_PGDATA to such a folder",
        )
    binaries = _pgbinaries.find_binaries(home.major(), account)
    socket_dir = home.socket_dir(account)
    prepare_socket_dir(socket_dir, account)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(home.real / "server.lock", flags, 0o600)
    try:
        _take_server_lock(lock, home)
        remove_stale_pid_file(home.data)
        remove_stale_socket(socket_dir)
        endpoint = network.prepare(home, account, binaries)
        write_marker(home, asdict(endpoint) if endpoint else None)
        _pg_ctl_start(home, account, binaries, lock, endpoint)
    finally:
        os.close(lock)
    network.publish_endpoint(home, endpoint)
    if endpoint:
        network.warn_unreachable(endpoint)
    return home.url(socket_dir, endpoint.port if endpoint else PORT)


def _take_server_lock(lock: int, home: ServerHome) -> None:
    """Wait for the last process of an earlier server: each of them has this lock.

    The kernel keeps the lock, also for processes of another container that have no number here.
    After a server was killed, its remaining processes may still write to the data folder.
    """
    deadline = time.monotonic() + ORPHAN_SECONDS
    while not try_lock(lock):
        if time.monotonic() > deadline:
            raise DatabaseError(
                f"processes of an earlier server still use {home.data}",
                "wait until they have ended (`ps ax | grep 'postgres: dataminer'`), or kill them",
            )
        time.sleep(POLL_SECONDS)


def _pg_ctl_start(
    home: ServerHome,
    account: ServerAccount,
    binaries: _pgbinaries.Binaries,
    lock: int,
    endpoint: Endpoint | None,
) -> None:
    socket_dir = home.socket_dir(account)
    startup_log = home.log / "startup.log"
    startup_log.unlink(missing_ok=True)
    sizes = _log_sizes(home)
    conf = home.write_settings(socket_dir, network.settings(home, endpoint))
    # pg_ctl starts the server in a separate session, without our terminal and pipes
    command = [
        *(binaries.program("pg_ctl"), "start", "-w", "-s", "-t", f"{START_SECONDS:.0f}"),
        *("-D", str(home.data), "-l", str(startup_log)),
        *("-o", server_options(conf)),
    ]
    result = account.run(command, keep_fds=[lock])
    if result.returncode != 0:
        if postmaster(home.data) is None:
            home.marker.unlink(missing_ok=True)
        reason = _log_since(home, sizes) or clear_lines(result.stderr)
        raise DatabaseError(
            f"the embedded PostgreSQL did not start: {reason}", f"see its log in {home.log}"
        )


def _log_sizes(home: ServerHome) -> dict[Path, int]:
    return {path: path.lstat().st_size for path in home.log.glob("s*.log")}


def _log_since(home: ServerHome, before: dict[Path, int]) -> str:
    """Return what the server's logs say about a failed start, without older lines."""
    text = ""
    for path, size in sorted(_log_sizes(home).items(), reverse=True):
        known = before.get(path, 0)
        if size != known and not path.is_symlink():
            new = path.read_bytes()[known if size > known else 0 :]
            text += new[-4000:].decode(errors="replace") + "\n"
    return clear_lines(text)


def create_unless_there(home: ServerHome) -> None:
    """Create the database if there is none, and refuse one that another machine uses."""
    check_path(home)
    refuse_elsewhere(home)
    if home.major() is None:
        account = account_for(None)
        _pghome.create(home, account, _pgbinaries.find_binaries(None, account))


def refuse_elsewhere(home: ServerHome) -> None:
    """Refuse a database that a server on another machine may be writing to."""
    host, source = other_host(home), home
    copy = nodes_copy(home)
    if copy and home.major() is None:  # it may be on a local disk of the other machine
        machine = read_marker(copy)
        host, source = None if machine is None or is_here(machine) else machine.host, copy
    if host:
        raise DatabaseError(
            f"the database in {home.path} is in use by a server on host {host}",
            f"work on {host}, or have it serve other machines with `dataminer db start --listen` "
            f"there, or run `dataminer db stop` there; if that host is gone for good, remove "
            f"{source.marker}; or {HINT_OTHER_LOCATION}",
        )


def wait_until_settled(home: ServerHome) -> Postmaster | None:
    """Wait for a server that is starting or stopping; return it once it accepts connections."""
    deadline = time.monotonic() + START_SECONDS
    while server := postmaster(home.data):
        if server.reachable():
            return server
        if server.phase == "ready":
            _end_unreachable(server, home)
        elif time.monotonic() > deadline:
            raise DatabaseError(
                f"the embedded PostgreSQL (process {server.pid}) has been {server.phase} for "
                f"{START_SECONDS:.0f} s",
                f"wait, or check its log in {home.log}",
            )
        time.sleep(POLL_SECONDS)
    return None


def _end_unreachable(server: Postmaster, home: ServerHome) -> None:
    """Stop a server whose socket was removed, but not one whose socket is just not visible here."""
    if not server.sees_same_files():
        raise DatabaseError(
            f"the database in {home.path} is served by process {server.pid}, whose socket in "
            f"{server.socket_dir} cannot be seen from here (a private /tmp)",
            f"run dataminer where that process was started, or {HINT_OTHER_LOCATION}",
        )
    end(server, home)


def end(server: Postmaster, home: ServerHome) -> None:
    """Stop a server; open connections are closed, committed work is kept."""
    # Fast shutdown, then an immediate one, after which the next start recovers
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, KILL_SECONDS)):
        with suppress(ProcessLookupError):
            os.kill(server.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            now = postmaster(home.data)
            if now is None or now.pid != server.pid:
                return
            time.sleep(POLL_SECONDS)
    raise DatabaseError(
        f"the embedded PostgreSQL (process {server.pid}) does not stop",
        f"see its log in {home.log}",
    )
