"""A PostgreSQL server in the user's own space, started on demand for one working directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dataminer.db.server.account import HINT_OTHER_LOCATION, account_for, file_lock
from dataminer.db.server.home import PORT, ServerHome, check_socket_dir, warn_network
from dataminer.db.server.launch import create_unless_there, end, launch, refuse_elsewhere, settle
from dataminer.db.server.network import (
    ListenSettings,
    nodes_copy,
    publish_endpoint,
    read_endpoint,
    read_listen_settings,
    write_listen_settings,
)
from dataminer.db.server.postmaster import is_here, other_host, postmaster, read_marker
from dataminer.errors import DatabaseAway, DatabaseError


@dataclass(frozen=True)
class ServerStatus:
    """What is known of one embedded server.

    Parameters
    ----------
    state : str
        ``absent``: no database has been made; ``stopped``: it takes no connections now;
        ``running``; ``elsewhere``: a server on another host holds it.
    data_dir : Path
        PostgreSQL's data folder.
    socket_dir : Path or None
        The folder of the server's socket.
    pid : int or None
        The server's process; also given while it starts up or goes down.
    version : str or None
        The major version of the data folder.
    url : str or None
        How to connect from this machine; it holds no password.
    host : str or None
        The machine that the server was last started on, while its note stands.
    listens : str or None
        Where other machines reach it, and whether it encrypts; None where they do not.
    nodes_url : str or None
        How to connect from other machines; it holds no password.
    """

    state: Literal["absent", "stopped", "running", "elsewhere"]
    data_dir: Path
    socket_dir: Path | None
    pid: int | None
    version: str | None
    url: str | None = None
    host: str | None = None
    listens: str | None = None
    nodes_url: str | None = None


def default_home() -> Path:
    """Give the database's place: $DATAMINER_PGDATA, else .dataminer/postgres in this folder."""
    chosen = os.environ.get("DATAMINER_PGDATA")
    return Path(os.path.expanduser(chosen or ".dataminer/postgres")).absolute()


def start(home: Path | None = None, *, create: bool = True) -> str:
    """Start the server unless it runs, and make its database the first time.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.
    create : bool
        Whether to make a database where there is none.

    Returns
    -------
    str
        The URL to connect with; of a server on another machine, where it serves this one.

    Raises
    ------
    DatabaseError
        When the server cannot be started, is held by a host that serves only itself, or ``create``
        is False and there is no database.
    """
    server_home = _home(home)
    with _plain_errors(server_home):
        found = _status(server_home)
        if found.state == "running" and found.url:
            return found.url
        if found.state == "elsewhere" and found.nodes_url:
            return found.nodes_url
        if found.state == "absent" and not create:
            raise _absent(server_home)
        server_home.path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(server_home.start_lock):
            return _start_locked(server_home)


def stop(home: Path | None = None) -> bool:
    """Stop the server; open connections are cut, committed work is kept.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.

    Returns
    -------
    bool
        Whether a server ran.

    Raises
    ------
    DatabaseError
        When it cannot be stopped, or runs on another host.
    """
    server_home = _home(home)
    with _plain_errors(server_home):
        if _status(server_home).state == "absent":
            return False
        refuse_elsewhere(server_home)
        with file_lock(server_home.start_lock):
            refuse_elsewhere(server_home)
            server = postmaster(server_home.data)
            if server:
                end(server, server_home)
                with suppress(OSError):
                    (server.socket_dir or server_home.data).rmdir()
            for source in (server_home, nodes_copy(server_home)):
                if source:
                    source.marker.unlink(missing_ok=True)
            return server is not None


def status(home: Path | None = None) -> ServerStatus:
    """Say what is known of the server; starts and writes nothing.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.
    """
    server_home = _home(home)
    with _plain_errors(server_home):
        return _status(server_home)


def url(home: Path | None = None) -> str:
    """Give the URL of the server, whether it runs or not.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.

    Raises
    ------
    DatabaseError
        When there is no database.
    """
    server_home = _home(home)
    found = status(server_home.path)
    if found.url is None:
        raise _absent(server_home)
    return found.url


def reachable_url(home: Path | None = None) -> str:
    """Give the URL of a server that runs, and start none: what a job may do, on any machine.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.

    Raises
    ------
    DatabaseAway
        When no server runs now.
    DatabaseError
        When it serves its own machine only, which is not this one.
    """
    server_home = _home(home)
    source = nodes_copy(server_home) or server_home
    machine, endpoint = read_marker(source), read_endpoint(source)
    here = is_here(machine)
    server = postmaster(server_home.data) if here else None
    if server and server.socket_dir and server.reachable():
        return server_home.url(server.socket_dir, server.port)
    if endpoint:
        return endpoint.url(source)  # also on its own machine, from a job with a /tmp of its own
    if machine is None or here:
        raise DatabaseAway(
            f"the server of the database in {server_home.path} does not run", "`dataminer db start`"
        )
    raise _serves_itself(machine.host)


def listening(home: Path | None = None) -> bool:
    """Whether a server runs that other machines can reach.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.
    """
    found = status(home)
    return found.state in ("running", "elsewhere") and found.nodes_url is not None


def listen(home: Path | None = None, wanted_settings: ListenSettings | None = None) -> str:
    """Have the server serve other machines too, from now on: one that does not is started again.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.
    wish : ListenSettings, optional
        On which addresses and port; what it leaves open stays as it was, or is chosen.

    Returns
    -------
    str
        The URL that other machines connect with.

    Raises
    ------
    DatabaseError
        When it cannot be started so (it then runs as before), or is held by another host.
    """
    wanted_settings = wanted_settings or ListenSettings()
    wanted_settings.check()
    server_home = _home(home)
    _change_listening(
        server_home, wanted_settings.over(read_listen_settings(server_home) or ListenSettings())
    )
    found = status(server_home.path)
    if found.nodes_url is None:
        raise _serves_itself(found.host or "this machine")
    return found.nodes_url


def serve_own_machine(home: Path | None = None) -> None:
    """Have the server serve its own machine only, from now on.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.
    """
    _change_listening(_home(home), None)


def ensure_listening(home: Path | None = None) -> str | None:
    """See to it that jobs on other machines reach the database, before they are sent there.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.

    Returns
    -------
    str or None
        What to tell the user when the server was started again for it; None when nothing changed,
        as where ``DATABASE_URL`` names a server.

    Raises
    ------
    DatabaseError
        As for :func:`listen`.
    """
    if os.environ.get("DATABASE_URL"):
        return None
    before = status(home)
    if before.state == "elsewhere" and before.nodes_url:
        return None
    listen(home)
    after = status(home)
    if (before.state, before.nodes_url) == ("running", after.nodes_url):
        return None
    return f"the database now serves the compute nodes: {after.listens}"


def crashed(home: Path | None = None) -> bool:
    """Whether this machine's server ended although nobody stopped it.

    Parameters
    ----------
    home : Path, optional
        The database's place; ``default_home()`` unless given.
    """
    server_home = _home(home)
    return is_here(read_marker(server_home)) and postmaster(server_home.data) is None


def _change_listening(server_home: ServerHome, wanted: ListenSettings | None) -> None:
    with _plain_errors(server_home):
        refuse_elsewhere(server_home)
        server_home.path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(server_home.start_lock):
            create_unless_there(server_home)
            before, server = read_listen_settings(server_home), settle(server_home)
            endpoint = read_endpoint(server_home)
            if server and wanted == before and bool(endpoint) == bool(wanted):
                publish_endpoint(server_home, endpoint)
                return
            write_listen_settings(server_home, wanted)
            if server:
                end(server, server_home)
            try:
                launch(server_home)
            except DatabaseError:
                write_listen_settings(server_home, before)
                if server:
                    launch(server_home)
                raise


def _serves_itself(host: str) -> DatabaseError:
    return DatabaseError(
        f"the database's server on host {host} serves that machine only",
        f"`dataminer db start --listen` on {host}, or set DATABASE_URL to a server that this "
        "machine can reach",
    )


def _home(home: Path | None) -> ServerHome:
    path = Path(home).absolute() if home is not None else default_home()
    return ServerHome(path.parent.resolve() / path.name)


def _absent(home: ServerHome) -> DatabaseError:
    return DatabaseError(
        f"there is no database in {home.path} yet",
        "`dataminer populate` or `dataminer db init` makes it, or set DATABASE_URL to a server",
    )


@contextmanager
def _plain_errors(home: ServerHome) -> Iterator[None]:
    """Turn an error of the operating system into a sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise DatabaseError(
            f"the database folder {home.path} cannot be used: {reason}{where}",
            f"see that its disk has space and that you may write to it, or {HINT_OTHER_LOCATION}",
        ) from error


def _status(home: ServerHome) -> ServerStatus:
    version = home.major()
    if version is None:
        return _status_by_copy(home)
    host = other_host(home)
    server = None if host else postmaster(home.data)
    running = server is not None and server.reachable()
    socket_dir = server.socket_dir if server else None
    if socket_dir is None:
        account = account_for(home.data)
        socket_dir = home.socket_dir(account)
        check_socket_dir(socket_dir, account)
    marker, endpoint = read_marker(home), read_endpoint(home)
    nodes_url = endpoint.url(nodes_copy(home) or home) if endpoint else None
    local_url = home.url(socket_dir, server.port if server else PORT)
    return ServerStatus(
        state="elsewhere" if host else "running" if running else "stopped",
        data_dir=home.data,
        socket_dir=socket_dir,
        pid=server.pid if server else None,
        version=version,
        url=nodes_url if host and nodes_url else local_url,
        host=marker.host if marker else None,
        listens=str(endpoint) if endpoint else None,
        nodes_url=nodes_url,
    )


def _status_by_copy(home: ServerHome) -> ServerStatus:
    """Tell what the run that this working directory belongs to left for machines like this one."""
    copy = nodes_copy(home)
    machine, endpoint = (read_marker(copy), read_endpoint(copy)) if copy else (None, None)
    if not (copy and machine and endpoint) or is_here(machine):
        return ServerStatus("absent", home.data, None, None, None)
    url = endpoint.url(copy)
    names = {"url": url, "host": machine.host, "listens": str(endpoint), "nodes_url": url}
    return ServerStatus("elsewhere", home.data, None, None, None, **names)


def _start_locked(home: ServerHome) -> str:
    create_unless_there(home)
    running = settle(home)
    if running and running.socket_dir:
        return home.url(running.socket_dir, running.port)
    warn_network(home.real)
    return launch(home)
