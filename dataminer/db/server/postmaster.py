"""Find the server process of a data folder and its machine, from files and the kernel."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dataminer.db.server.account import write_whole
from dataminer.db.server.home import PORT, ServerHome, socket_file

CONNECT_SECONDS = 2.0
# NFS attribute caches may show a start on another host with this delay
FRESH_MARKER_SECONDS = 60.0


@dataclass(frozen=True)
class Machine:
    """What identifies a machine or a container.

    Parameters
    ----------
    host : str
        Its name.
    boot : str
        The kernel's boot id; empty if there is none.
    pid_space : str
        The namespace of its process numbers; empty if there is none.
    """

    host: str
    boot: str = ""
    pid_space: str = ""

    def same(self, other: Machine) -> bool:
        """Whether two markers mean one machine: a laptop changes its name, a server reboots."""
        same_boot = bool(self.boot) and (self.boot, self.pid_space) == (other.boot, other.pid_space)
        return self.host == other.host or same_boot


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    boot = pid_space = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        pid_space = os.readlink("/proc/self/ns/pid")
    return Machine(socket.gethostname(), boot, pid_space)


def is_here(machine: Machine | None) -> bool:
    """Whether a marker means this machine."""
    return machine is not None and machine.same(this_machine())


def write_marker(home: ServerHome, endpoint: dict[str, object] | None = None) -> None:
    """Record that this machine runs the server, and where other machines reach it."""
    write_whole(home.marker, json.dumps({**asdict(this_machine()), "offer": endpoint}) + "\n")


def read_marker(home: ServerHome) -> Machine | None:
    """Read which machine runs the server; None if the marker is missing or unreadable."""
    try:
        note = json.loads(home.marker.read_text())
        return Machine(note["host"], note.get("boot", ""), note.get("pid_space", ""))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return None


def other_host(home: ServerHome) -> str | None:
    """Return the name of another machine that uses the database."""
    marker = read_marker(home)
    if marker is None or is_here(marker):
        return None
    # a server that ended by itself removed its pid file, and leaves only our marker
    in_use = (home.data / "postmaster.pid").exists()
    fresh = abs(time.time() - home.marker.stat().st_mtime) < FRESH_MARKER_SECONDS
    return marker.host if in_use or fresh else None


@dataclass(frozen=True)
class Postmaster:
    """A live server process of a data folder, as its pid file describes it.

    Parameters
    ----------
    pid : int
        Its number.
    socket_dir : Path or None
        The folder of its socket; None while it starts.
    port : int
        Its port, which is also part of the socket's name.
    phase : str
        ``starting``, ``ready`` or ``stopping``.
    """

    pid: int
    socket_dir: Path | None
    port: int
    phase: str

    def reachable(self) -> bool:
        """Whether it is ready and accepts connections on its socket."""
        if self.phase != "ready" or self.socket_dir is None:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_SECONDS)
            try:
                probe.connect(str(socket_file(self.socket_dir, self.port)))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:  # its queue is full: it is busy but alive
                return True
        return True

    def sees_same_files(self) -> bool:
        """Whether it runs under the same mounts: with a private /tmp its socket is hidden."""
        try:
            return os.path.samefile(f"/proc/{self.pid}/ns/mnt", "/proc/self/ns/mnt")
        except OSError:
            return True


def postmaster(data: Path) -> Postmaster | None:
    """Find the live server of a data folder; None for a stale or reused process number."""
    lines = _pid_file(data)
    pid = _number(lines[0]) if lines else None
    if pid is None or not is_server_of(pid, data):
        return None
    port = _number(lines[3]) if len(lines) > 3 else None
    where = lines[4].strip() if len(lines) > 4 else ""
    phase = lines[7].strip() if len(lines) > 7 else "starting"
    return Postmaster(pid, Path(where) if where else None, port or PORT, phase)


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() and int(text) > 0 else None


def is_server_of(pid: int, data: Path) -> bool:
    """Whether a process is a PostgreSQL server of this data folder.

    Decided by the process's working folder or, if the kernel hides that (root in a container
    without CAP_SYS_PTRACE, macOS), by its command line.
    """
    arguments = _command_line(pid)
    if not arguments or not Path(arguments[0]).name.startswith(("postgres", "postmaster")):
        return False
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", data)
    except OSError:
        return str(data) in arguments


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return [] if os.path.isdir("/proc/self") else _command_line_from_ps(pid)
    return os.fsdecode(raw).rstrip("\0").split("\0")


def _command_line_from_ps(pid: int) -> list[str]:
    try:
        answer = subprocess.run(
            ["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True
        )
    except OSError:
        return []
    program, _, rest = answer.stdout.strip().partition(" -D ")
    return [program, *rest.split(" -c ")] if program else []


def remove_stale_pid_file(data: Path) -> None:
    """Remove a pid file whose number now belongs to another process.

    PostgreSQL itself recognises a number that is free, and also checks the shared memory, but does
    not start if a process has the number. The caller has the server's lock and has found no server.
    """
    lines = _pid_file(data)
    pid = _number(lines[0]) if lines else None
    if not lines or (pid is not None and not _lives(pid)):
        return
    if pid is None or not is_server_of(pid, data):
        (data / "postmaster.pid").unlink(missing_ok=True)


def remove_stale_socket(socket_dir: Path) -> None:
    """Empty the socket's folder, whose lock file may name a number that is in use again.

    No other database uses the folder. The caller has the server's lock.
    """
    for path in socket_dir.glob(".s.PGSQL.*"):
        path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
