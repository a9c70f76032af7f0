"""Serving other machines: address and port, access rules, encryption, and the published endpoint.

Files in the home, besides those of :mod:`dataminer.db.server.home`: ``listen.json`` has the user's
settings, which survive restarts; ``pg_hba.conf`` says who may connect, and is rewritten at each
start; ``server.crt`` and ``server.key`` are for encryption. If other machines cannot see the home,
a copy of what they need is in ``.dataminer/nodes`` of the working directory, which jobs share with
their run.
"""

from __future__ import annotations

import errno
import json
import logging
import random
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dataminer.db.server.account import ServerAccount, write_whole
from dataminer.db.server.binaries import Binaries
from dataminer.db.server.home import DATABASE, PORT, ServerHome
from dataminer.errors import DatabaseError

log = logging.getLogger(__name__)

NODES_FOLDER = Path(".dataminer/nodes")
EVERYWHERE = "*"
# between the well-known ports and those that kernels use for outgoing connections
PORTS = range(20000, 30000)
TRIES = 100
PROBE_SECONDS = 5.0
LOCAL_RULE = "local all all scram-sha-256\n"
HOST_RULES = (
    "{kind} {role} {role} 0.0.0.0/0 scram-sha-256\n{kind} {role} {role} ::/0 scram-sha-256\n"
)


@dataclass(frozen=True)
class ListenSettings:
    """The user's settings; those that are None stay as they were, or are chosen.

    Parameters
    ----------
    addresses : str or None
        The addresses to listen on, in the format of PostgreSQL's ``listen_addresses``.
    port : int or None
        The port; a chosen one changes if another program has taken it.
    host : str or None
        The name or address by which other machines reach this one.
    """

    addresses: str | None = None
    port: int | None = None
    host: str | None = None

    def over(self, kept: ListenSettings) -> ListenSettings:
        """Fill in missing settings from earlier ones."""
        return ListenSettings(
            self.addresses or kept.addresses,
            self.port or kept.port,
            # a name that was given for one address does not fit another
            self.host or (kept.host if self.addresses in (None, kept.addresses) else None),
        )

    def check(self) -> None:
        """Refuse values that are invalid in the server's settings or in a URL."""
        if not re.fullmatch(r"[\w.:*-]+(, *[\w.:*-]+)*", self.addresses or EVERYWHERE, re.ASCII):
            raise DatabaseError(
                f"{self.addresses!r} is not an address to listen on",
                "give addresses of this machine, separated by commas, or * for all",
            )
        if not re.fullmatch(r"[\w.:-]+", self.host or "x", re.ASCII):
            raise DatabaseError(
                f"{self.host!r} is not the name of a machine", "give a host name or an address"
            )


@dataclass(frozen=True)
class Endpoint:
    """Where other machines can reach the server.

    Parameters
    ----------
    host : str
        The name or address of the server's machine.
    port : int
        Its port.
    tls : bool
        Whether it encrypts and refuses unencrypted connections.
    """

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self._netloc()} ({'encrypted' if self.tls else 'not encrypted'})"

    def _netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, source: ServerHome) -> str:
        """Return the URL for libpq, psycopg2 and SQLAlchemy, without a password."""
        # only our own certificate is trusted, so its name needs no check
        mode = "verify-ca" if self.tls else "disable"
        options = [f"sslmode={mode}", f"passfile={quote(str(source.passfile), safe='')}"]
        if self.tls:
            options.append(f"sslrootcert={quote(str(_certificate(source)), safe='')}")
        return f"postgresql://{DATABASE}@{self._netloc()}/{DATABASE}?{'&'.join(options)}"


def _certificate(home: ServerHome) -> Path:
    return home.real / "server.crt"


def _key(home: ServerHome) -> Path:
    return home.real / "server.key"


def _kept(home: ServerHome) -> Path:
    return home.real / "listen.json"


# --- the user's settings


def read_listen_settings(home: ServerHome) -> ListenSettings | None:
    """Read the user's settings; None if the server serves only its own machine."""
    try:
        return ListenSettings(**json.loads(_kept(home).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_listen_settings(home: ServerHome, wanted_settings: ListenSettings | None) -> None:
    """Store the user's settings for later starts; None ends the service to other machines."""
    if wanted_settings is None:
        _kept(home).unlink(missing_ok=True)
    else:
        write_whole(_kept(home), json.dumps(asdict(wanted_settings)) + "\n")


def prepare(home: ServerHome, account: ServerAccount, binaries: Binaries) -> Endpoint | None:
    """Prepare for serving other machines at the next start, if the user wants that.

    Writes ``pg_hba.conf``, chooses the port the first time, and creates the certificate.

    Returns
    -------
    Endpoint or None
        The endpoint for other machines; None if the server only has its socket.

    Raises
    ------
    DatabaseError
        If the port is taken, or this machine has no such address.
    """
    wanted_settings = read_listen_settings(home)
    endpoint = None
    if wanted_settings is not None:
        addresses = wanted_settings.addresses or EVERYWHERE
        port = _usable_port(home, addresses, wanted_settings)
        tls = _encrypts(home, account, binaries) and _has_certificate(home, account)
        endpoint = Endpoint(wanted_settings.host or _own_name(addresses), port, tls)
    rules = LOCAL_RULE
    if endpoint:
        rules += HOST_RULES.format(kind="hostssl" if endpoint.tls else "host", role=DATABASE)
    write_whole(_rules(home), f"# Written by dataminer at each start.\n{rules}")
    return endpoint


def settings(home: ServerHome, endpoint: Endpoint | None) -> str:
    """Return the server's settings on who may connect and where it listens."""
    wanted_settings = read_listen_settings(home)
    addresses = (wanted_settings.addresses or EVERYWHERE) if wanted_settings and endpoint else ""
    rules = str(_rules(home)).replace("'", "''")
    lines = [
        f"listen_addresses = '{addresses}'",
        f"port = {endpoint.port if endpoint else PORT}",
        f"hba_file = '{rules}'",
        f"ssl = {'on' if endpoint and endpoint.tls else 'off'}",
    ]
    if endpoint and endpoint.tls:  # relative to data/
        lines += ["ssl_cert_file = '../server.crt'", "ssl_key_file = '../server.key'"]
    return "\n".join(lines)


def _rules(home: ServerHome) -> Path:
    return home.real / "pg_hba.conf"


def _own_name(addresses: str) -> str:
    """Choose this machine's name for others: the only address, otherwise its full name."""
    if re.fullmatch(r"[\w.:-]+", addresses, re.ASCII) and addresses not in ("0.0.0.0", "::"):
        return addresses
    name, full = socket.gethostname(), socket.getfqdn()
    return full if full.split(".")[0] == name.split(".")[0] else name


# --- the port


def _usable_port(home: ServerHome, addresses: str, wanted_settings: ListenSettings) -> int:
    """Return the user's port, otherwise the last one, otherwise a free one."""
    if wanted_settings.port:
        if not _is_free(addresses, wanted_settings.port):
            raise DatabaseError(
                f"port {wanted_settings.port} of this machine is taken",
                "choose another with `dataminer db start --listen --port NUMBER`",
            )
        return wanted_settings.port
    last = _last_port(home)
    if last and _is_free(addresses, last):
        return last
    for port in random.sample(PORTS, TRIES):
        if _is_free(addresses, port):
            if last:
                log.warning("port %d is taken: the database now listens on %d", last, port)
            write_whole(home.real / "port", f"{port}\n")
            return port
    raise DatabaseError(
        f"no free port was found between {PORTS.start} and {PORTS.stop}",
        "name one with `dataminer db start --listen --port NUMBER`",
    )


def _last_port(home: ServerHome) -> int | None:
    with suppress(FileNotFoundError, ValueError):
        return int((home.real / "port").read_text())
    return None


def _is_free(addresses: str, port: int) -> bool:
    # If only one of two addresses is free, PostgreSQL listens on it and just logs a warning
    return all(_can_bind(*address, port) for address in _socket_addresses(addresses))


def _socket_addresses(addresses: str) -> Iterator[tuple[socket.AddressFamily, str]]:
    for address in re.split(", *", addresses):
        if address == EVERYWHERE:
            yield socket.AF_INET, "0.0.0.0"
            yield socket.AF_INET6, "::"
            continue
        try:
            found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _no_such_address(address) from error
        for family, *_, socket_address in found:
            yield family, str(socket_address[0])


def _can_bind(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        if error.errno == errno.EADDRNOTAVAIL and address != "::":
            raise _no_such_address(address) from error
        return family == socket.AF_INET6  # This machine has no IPv6
    return True


def _no_such_address(address: str) -> DatabaseError:
    return DatabaseError(
        f"this machine has no address {address} to listen on",
        "`dataminer db start --listen` listens on all of its addresses (`hostname -I` shows them)",
    )


def warn_unreachable(endpoint: Endpoint) -> None:
    """Warn if the name for other machines does not lead here even from this machine."""
    try:
        socket.create_connection((endpoint.host, endpoint.port), timeout=PROBE_SECONDS).close()
    except OSError as error:
        log.warning(
            "the database does not answer at %s (%s): name this machine as the compute nodes know "
            "it with `dataminer db start --listen --host NAME`",
            *(endpoint, error.strerror or error),
        )


# --- encryption


def _encrypts(home: ServerHome, account: ServerAccount, binaries: Binaries) -> bool:
    """Return whether the server programs were built with TLS."""
    command = [binaries.program("postgres"), "-D", str(home.data), "-C", "ssl", "-c", "ssl=on"]
    return account.run(command).returncode == 0


def _has_certificate(home: ServerHome, account: ServerAccount) -> bool:
    """Create a certificate unless there is one; return False if there is no program for it."""
    if _certificate(home).is_file() and _key(home).is_file():
        return True
    openssl = shutil.which("openssl")
    if openssl is None:
        return False
    with tempfile.TemporaryDirectory(prefix="dataminer-certificate-") as folder:
        key, certificate = Path(folder, "key"), Path(folder, "crt")
        command = [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"),
            *("-subj", f"/CN={DATABASE}", "-keyout", str(key), "-out", str(certificate)),
        ]
        if subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode != 0:
            return False
        write_whole(_key(home), key.read_text(), 0o600)
        account.own(_key(home))
        write_whole(_certificate(home), certificate.read_text())
    return True


# --- the endpoint for other machines


def read_endpoint(source: ServerHome) -> Endpoint | None:
    """Read where other machines reach the server; None if they do not."""
    try:
        offered = _note(source).get("offer")
        return Endpoint(**offered) if offered else None
    except TypeError:
        return None


def _note(source: ServerHome) -> dict[str, Any]:
    try:
        note = json.loads(source.marker.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def nodes_copy(home: ServerHome) -> ServerHome | None:
    """Return the copy for other machines in this working directory; None if of another database."""
    copy = ServerHome(NODES_FOLDER.absolute())
    return copy if _note(copy).get("home") == str(home.path) else None


def publish_endpoint(home: ServerHome, endpoint: Endpoint | None) -> None:
    """Write what other machines need to where jobs of this working directory find it.

    They need no copy if the home is in the working directory, where they can see it.
    """
    if endpoint is None or home.real.is_relative_to(Path.cwd()):
        old = nodes_copy(home)
        if old:
            shutil.rmtree(old.path)
        return
    copy = ServerHome(NODES_FOLDER.absolute())
    copy.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = home.passfile.read_text().splitlines(keepends=True)
    ours = "".join(line for line in lines if line.split(":")[3] == DATABASE)
    write_whole(copy.passfile, ours, 0o600)
    if endpoint.tls:
        write_whole(_certificate(copy), _certificate(home).read_text())
    note = {**_note(home), "home": str(home.path)}
    write_whole(copy.marker, json.dumps(note) + "\n")
