"""An embedded PostgreSQL server, started on demand for one working directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dataminer.db.server.account import HINT_OTHER_LOCATION, account_for, file_lock
from dataminer.db.server.home import PORT, ServerHome, check_socket_dir, warn_network
from dataminer.db.server.launch import (
    create_unless_there,
    end,
    launch,
    refuse_elsewhere,
    wait_until_settled,
)
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
    """The status of an embedded server.

    Parameters
    ----------
    state : str
        ``absent``: there is no database; ``stopped``: it accepts no connections at the moment;
        ``running``; ``elsewhere``: a server on another host uses it.
    data_dir : Path
        PostgreSQL's data folder.
    socket_dir : Path or None
        The folder of the server's socket.
    pid : int or None
        The server's process; also set while it starts or stops.
    version : str or None
        The major version of the data folder.
    url : str or None
        How to connect from this machine; without a password.
    host : str or None
        The machine that the server was last started on, as long as its marker exists.
    listens : str or None
        The address for other machines, and whether it encrypts; None if it does not serve them.
    nodes_url : str or None
        How to connect from other machines; without a password.
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
    """Return the database's folder: $DATAMINER_PGDATA, or .dataminer/postgres in this folder."""
    chosen = os.environ.get("DATAMINER_PGDATA")
    return Path(os.path.expanduser(chosen or ".dataminer/postgres")).absolute()


def start(home: Path | None = None, *, create: bool = True) -> str:
    """Start the server unless it is running, and create its database on the first start.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.
    create : bool
        Whether to create a database if there is none.

    Returns
    -------
    str
        The URL to connect with; that of a server on another machine if it serves this one.

    Raises
    ------
    DatabaseError
        If the server cannot be started, runs on another host without serving this one, or
        ``create`` is False and there is no database.
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
    """Stop the server; open connections are closed, committed work is kept.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.

    Returns
    -------
    bool
        Whether a server was running.

    Raises
    ------
    DatabaseError
        If it cannot be stopped, or runs on another host.
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
    """Return the status of the server; starts and writes nothing.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.
    """
    server_home = _home(home)
    with _plain_errors(server_home):
        return _status(server_home)


def url(home: Path | None = None) -> str:
    """Return the URL of the server, whether it runs or not.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.

    Raises
    ------
    DatabaseError
        If there is no database.
    """
    server_home = _home(home)
    found = status(server_home.path)
    if found.url is None:
        raise _absent(server_home)
    return found.url


def reachable_url(home: Path | None = None) -> str:
    """Return the URL of a running server, without starting one: what a job may do, on any machine.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.

    Raises
    ------
    DatabaseAway
        If no server is running.
    DatabaseError
        If it serves only its own machine, and this is another one.
    """
    server_home = _home(home)
    source = nodes_copy(server_home) or server_home
    machine, endpoint = read_marker(source), read_endpoint(source)
    here = is_here(machine)
    server = postmaster(server_home.data) if here else None
    if server and server.socket_dir and server.reachable():
        return server_home.url(server.socket_dir, server.port)
    if endpoint:
        return endpoint.url(source)  # also on its own machine, for a job with a private /tmp
    if machine is None or here:
        raise DatabaseAway(
            f"the server of the database in {server_home.path} does not run", "`dataminer db start`"
        )
    raise _serves_itself(machine.host)


def listen(home: Path | None = None, wanted_settings: ListenSettings | None = None) -> str:
    """Make the server serve other machines from now on; restarts it if it does not yet.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.
    wanted_settings : ListenSettings, optional
        The addresses and the port; settings that are None stay as they were, or are chosen.

    Returns
    -------
    str
        The URL that other machines connect with.

    Raises
    ------
    DatabaseError
        If it cannot be started with these settings (it then runs as before), or another host runs
        it.
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
    """Make the server serve only its own machine from now on.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.
    """
    _change_listening(_home(home), None)


def ensure_listening(home: Path | None = None) -> str | None:
    """Ensure that jobs on other machines can reach the database, before they are submitted.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.

    Returns
    -------
    str or None
        A message for the user if the server was restarted; None if nothing changed, for example
        because ``DATABASE_URL`` names a server.

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
    """Whether this machine's server ended without being stopped.

    Parameters
    ----------
    home : Path, optional
        The database's folder; ``default_home()`` by default.
    """
    server_home = _home(home)
    return is_here(read_marker(server_home)) and postmaster(server_home.data) is None


def _change_listening(server_home: ServerHome, wanted: ListenSettings | None) -> None:
    with _plain_errors(server_home):
        refuse_elsewhere(server_home)
        server_home.path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(server_home.start_lock):
            create_unless_there(server_home)
            before, server = read_listen_settings(server_home), wait_until_settled(server_home)
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
        f"the database's server on host {host} serves only that machine",
        f"`dataminer db start --listen` on {host}, or set DATABASE_URL to a server that this "
        "machine can reach",
    )


def _home(home: Path | None) -> ServerHome:
    path = Path(home).absolute() if home is not None else default_home()
    return ServerHome(path.parent.resolve() / path.name)


def _absent(home: ServerHome) -> DatabaseError:
    return DatabaseError(
        f"there is no database in {home.path} yet",
        "`dataminer populate` or `dataminer db init` creates it, or set DATABASE_URL to a server",
    )


@contextmanager
def _plain_errors(home: ServerHome) -> Iterator[None]:
    """Turn an error of the operating system into one with a next step."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise DatabaseError(
            f"the database folder {home.path} cannot be used: {reason}{where}",
            f"check that its disk has space and that you may write to it, or {HINT_OTHER_LOCATION}",
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
    """Return what the run of this working directory published for machines like this one."""
    copy = nodes_copy(home)
    machine, endpoint = (read_marker(copy), read_endpoint(copy)) if copy else (None, None)
    if not (copy and machine and endpoint) or is_here(machine):
        return ServerStatus("absent", home.data, None, None, None)
    url = endpoint.url(copy)
    names = {"url": url, "host": machine.host, "listens": str(endpoint), "nodes_url": url}
    return ServerStatus("elsewhere", home.data, None, None, None, **names)


def _start_locked(home: ServerHome) -> str:
    create_unless_there(home)
    running = wait_until_settled(home)
    if running and running.socket_dir:
        return home.url(running.socket_dir, running.port)
    warn_network(home.real)
    return launch(home)
