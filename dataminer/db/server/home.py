"""The folder of an embedded database: its layout, and how it is created atomically.

- ``data/``: PostgreSQL's own folder
- ``log/``: the server's logs
- ``server.conf``: dataminer's settings, rewritten at each start
- ``pgpass``: the passwords, for libpq
- ``identity``: a random name of this database
- ``host.json``: while the server runs, its machine and where it listens
- ``server.lock``: locked by all processes of the running server
"""

from __future__ import annotations

import hashlib
import logging
import os
import pwd
import re
import secrets
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dataminer.db.server.account import (
    HINT_OTHER_LOCATION,
    STATE_DIR,
    ServerAccount,
    is_private,
    private_folder,
    private_root,
    require_private,
    write_whole,
)
from dataminer.db.server.binaries import Binaries
from dataminer.errors import DatabaseError

log = logging.getLogger(__name__)

DATABASE = "dataminer"
SUPERUSER = "postgres"
PORT = 5432
SOCKET_PATH_LIMIT = 107
NETWORK_FILE_SYSTEM = re.compile(
    r"nfs4?|lustre|gpfs|beegfs|cifs|smb3|smbfs|ceph|afs|panfs|fuse\.(sshfs|glusterfs)"
)
TELLING = re.compile(
    r"(FATAL|PANIC|ERROR|error|HINT|DETAIL):|LOG:\s+(could not|invalid|unrecognized|syntax)"
)
SERVER_CONF = """\
# Written by dataminer at each start. To change a setting for good: ALTER SYSTEM SET ...
include 'data/postgresql.conf'
cluster_name = '{cluster_name}'
{network}
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
max_connections = 300
max_logical_replication_workers = 0
shared_buffers = 64MB
# the sessions of a compute node that is gone hold neither a slot nor a lock for long
tcp_keepalives_idle = 60
tcp_keepalives_interval = 10
tcp_keepalives_count = 3
tcp_user_timeout = 60s
# survives a desktop's removal of a user's shared memory, and the 64 MB of a container's /dev/shm
dynamic_shared_memory_type = mmap
fsync = on
synchronous_commit = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
# a file a weekday, each overwritten after a week
logging_collector = on
log_directory = '../log'
log_filename = 'server-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_line_prefix = '%m [%p] %a '
log_checkpoints = off
"""


@dataclass(frozen=True)
class ServerHome:
    """The paths of an embedded database.

    Parameters
    ----------
    path : Path
        Where the user wants it; may be a symbolic link.
    """

    path: Path

    @property
    def real(self) -> Path:
        """The folder itself, with symbolic links resolved."""
        return self.path.resolve()

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.real / "data"

    @property
    def log(self) -> Path:
        """The folder of the server's logs."""
        return self.real / "log"

    @property
    def passfile(self) -> Path:
        """The password file for libpq."""
        return self.real / "pgpass"

    @property
    def marker(self) -> Path:
        """The marker file that names the machine that runs the server."""
        return self.real / "host.json"

    @property
    def start_lock(self) -> Path:
        """The lock for creating, starting and stopping; beside the home, which is created last."""
        return self.path.with_name(self.path.name + ".lock")

    def major(self) -> str | None:
        """Return the major version of the data; None if there is no database yet."""
        try:
            return (self.data / "PG_VERSION").read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            # data/ is closed to all but its owner
            raise DatabaseError(
                f"the database in {self.path} belongs to another user",
                f"run dataminer as that user, or {HINT_OTHER_LOCATION}",
            ) from None

    def socket_dir(self, account: ServerAccount) -> Path:
        """Return where the next start puts the socket; that of a running server may differ."""
        name = self._name()
        base = _runtime_dir(account)
        if base and len(os.fsencode(socket_file(base / name))) <= SOCKET_PATH_LIMIT:
            return base / name
        return Path("/tmp", f"dataminer-{account.uid}", name)

    def _name(self) -> str:
        """Return a name that neither another database nor a copy of this one has."""
        identity = (self.real / "identity").read_text().strip()
        return hashlib.sha256(f"{identity}:{self.real}".encode()).hexdigest()[:16]

    def url(self, socket_dir: Path, port: int = PORT) -> str:
        """Return the URL for libpq, psycopg2 and SQLAlchemy, without a password."""
        host, passfile = (quote(str(path), safe="") for path in (socket_dir, self.passfile))
        return f"postgresql://{DATABASE}@/{DATABASE}?host={host}&port={port}&passfile={passfile}"

    def write_settings(self, socket_dir: Path, network: str) -> Path:
        """Write the server's settings for one start, including those for other machines."""
        conf = self.real / "server.conf"
        text = SERVER_CONF.format(
            cluster_name=f"dataminer-{self._name()[:8]}",
            socket_dir=socket_dir,
            network=network,
        )
        write_whole(conf, text)
        return conf


def socket_file(socket_dir: Path, port: int = PORT) -> Path:
    """Return the path of the socket that PostgreSQL creates in a folder."""
    return socket_dir / f".s.PGSQL.{port}"


def _runtime_dir(account: ServerAccount) -> Path | None:
    """Return $XDG_RUNTIME_DIR/dataminer, if that folder outlives the login session."""
    value = os.environ.get("XDG_RUNTIME_DIR")
    if not value or account.dropped:
        return None
    base = Path(value)
    # logind removes /run/user/UID at the last logout, even if a server still uses it
    lingers = Path("/var/lib/systemd/linger", account.name).exists()
    if value.startswith("/run/user/") and not lingers:
        return None
    plain = re.fullmatch(r"/[\w/.+-]+", value, re.ASCII)  # it becomes part of a list in server.conf
    usable = plain and base.is_dir() and os.access(base, os.W_OK | os.X_OK)
    return base / "dataminer" if usable and is_private(base, account) else None


def prepare_socket_dir(socket_dir: Path, account: ServerAccount) -> None:
    """Create the socket's folder and its parent, or check that both belong to the account."""
    private_folder(socket_dir.parent, account)
    private_folder(socket_dir, account)


def check_socket_dir(socket_dir: Path, account: ServerAccount) -> None:
    """Refuse a socket folder that another user created in place of ours."""
    for folder in (socket_dir.parent, socket_dir):
        if os.path.lexists(folder):
            require_private(folder, account)


def check_path(home: ServerHome) -> None:
    """Refuse a path that the shell of ``pg_ctl`` would interpret."""
    if re.search(r'["$`\\\n]', str(home.real)):
        raise DatabaseError(
            f"the path of the database folder {home.real} contains a quote, $, ` or backslash",
            "set DATAMINER_PGDATA to a folder with a plain name",
        )


def create(home: ServerHome, account: ServerAccount, binaries: Binaries) -> None:
    """Create the database; it appears under its name only once it is complete.

    The caller has the start lock.
    """
    _check_free(home)
    target = home.real
    relocated = account.dropped and not account.may_enter(target.parent)
    if relocated:
        target = private_root(STATE_DIR) / f"data-{secrets.token_hex(8)}"
    warn_network(target.parent)
    _remove_leftovers(target)
    staging = target.with_name(f".{target.name}.new-{secrets.token_hex(6)}")
    try:
        _fill(ServerHome(staging), account, binaries)
        os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sync(target.parent)
    if relocated:
        _link(home.path, target)


def _check_free(home: ServerHome) -> None:
    if home.path.is_symlink() and not home.path.exists():
        raise DatabaseError(
            f"{home.path} points to {home.real}, which does not exist",
            "mount or restore it, or remove the link to start with an empty database",
        )
    if home.path.exists() and (not home.real.is_dir() or any(home.real.iterdir())):
        raise DatabaseError(
            f"{home.path} exists and contains no database of dataminer",
            "set DATAMINER_PGDATA to a new or an empty folder",
        )


def _remove_leftovers(target: Path) -> None:
    # Left by a process that was killed: because of the start lock, no other process is creating one
    for entry in target.parent.iterdir():
        if entry.name.startswith(f".{target.name}.new-"):
            shutil.rmtree(entry, ignore_errors=True)


def _link(path: Path, target: Path) -> None:
    if path.is_dir():
        path.resolve().rmdir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _fill(home: ServerHome, account: ServerAccount, binaries: Binaries) -> None:
    _refuse_unknown(account)
    home.path.mkdir(mode=0o700)
    for folder in (home.data, home.log):
        folder.mkdir(mode=0o700)
        account.own(folder)
    passwords = {name: secrets.token_urlsafe(24) for name in (DATABASE, SUPERUSER)}
    lines = "".join(f"*:*:*:{name}:{password}\n" for name, password in passwords.items())
    write_whole(home.passfile, lines, 0o600)
    write_whole(home.real / "identity", secrets.token_hex(16) + "\n")
    if account.dropped:
        home.path.chmod(0o711)  # the account may traverse it; pgpass in it still belongs to root
    _initdb(home, account, binaries, passwords[SUPERUSER])
    _make_database(home, account, binaries, passwords[DATABASE])
    _sync(home.path)


def _refuse_unknown(account: ServerAccount) -> None:
    """Refuse an account without a name on this system: initdb does not work for it."""
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        raise DatabaseError(
            f"user id {account.uid} has no entry among the system's users (/etc/passwd), without"
            " which PostgreSQL makes no database",
            "have one added (containers: start them with a user that the image or the host"
            " knows), or set DATABASE_URL to a PostgreSQL server",
        ) from None


def _initdb(home: ServerHome, account: ServerAccount, binaries: Binaries, password: str) -> None:
    # in log/ beside data/, which the account can read; it could not open a pipe
    pwfile = home.log / "initdb-password"
    write_whole(pwfile, password + "\n", 0o600)
    account.own(pwfile)
    command = [
        *(binaries.program("initdb"), "-D", str(home.data), "-U", SUPERUSER),
        *("--auth=scram-sha-256", f"--pwfile={pwfile}", "--encoding=UTF8", "--locale=C"),
        "--data-checksums",
    ]
    try:
        _check(account.run(command), home)
    finally:
        pwfile.unlink()


def _make_database(
    home: ServerHome, account: ServerAccount, binaries: Binaries, password: str
) -> None:
    """Create the role and its database without a server; the role is not a superuser."""
    sql = (
        f"CREATE ROLE {DATABASE} LOGIN CREATEDB PASSWORD '{password}'\n"
        f"CREATE DATABASE {DATABASE} OWNER {DATABASE}\n"
    )
    command = [
        *(binaries.program("postgres"), "--single", "-D", str(home.data)),
        *("-c", "exit_on_error=on", "-c", "password_encryption=scram-sha-256"),
        *("-c", "log_min_error_statement=panic", "postgres"),
    ]
    _check(account.run(command, text=sql), home)


def _check(result: subprocess.CompletedProcess[str], home: ServerHome) -> None:
    if result.returncode == 0:
        return
    reason = clear_lines(result.stderr) or f"exit status {result.returncode}"
    raise DatabaseError(
        f"the database folder {home.path.parent} could not be created: {reason}",
        "check that its disk has space and is writable (a new database takes 50 MB), "
        f"or {HINT_OTHER_LOCATION}",
    )


def clear_lines(text: str, count: int = 3) -> str:
    """Return the last log lines that explain a failure, as one line."""
    stamp = re.compile(r"^\d{4}-\d\d-\d\d .*?\[\d+\]\s+")
    lines = [stamp.sub("", line.strip()) for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if "Future log output" not in line]
    telling = [line for line in lines if TELLING.search(line)]
    return "; ".join((telling or lines)[-count:])


def server_options(conf: Path) -> str:
    """Return the argument of ``pg_ctl -o``, which a shell parses."""
    return shlex.join(["-c", f"config_file={conf}"])


def warn_network(folder: Path) -> None:
    """Warn if a database will be on a network file system."""
    try:
        table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return
    kind = file_system(folder.resolve(), table)
    if kind and NETWORK_FILE_SYSTEM.fullmatch(kind):
        log.warning(
            "the database folder %s is on a network file system (%s), where it is slow, and two "
            "hosts can damage it: %s",
            *(folder, kind, HINT_OTHER_LOCATION),
        )


def file_system(folder: Path, mountinfo: str) -> str | None:
    """Return the type of a folder's file system, from the text of mountinfo."""
    best: tuple[int, str | None] = (-1, None)
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        # a later mount on the same folder hides the earlier one
        if folder.is_relative_to(mount) and len(Path(mount).parts) >= best[0]:
            best = (len(Path(mount).parts), right.split()[0])
    return best[1]


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
