"""The embedded PostgreSQL with real servers, as the calling user and, below root, as another."""

from __future__ import annotations

import json
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy

from dataminer.db.server import binaries, control, postmaster
from dataminer.db.server import home as _pghome
from dataminer.db.server.account import STATE_DIR, account_for
from dataminer.errors import DatabaseError
from tests.support.embedded import clean_up, kill_server, own_server, pid_of
from tests.support.postgres import execute

REPO = Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not AS_ROOT, reason="needs root")
FOR_A_NORMAL_USER = (
    "terminal or comes_back or stranger or lost_socket or password "
    "or private or planted or runtime or closed_folder or half_made"
)
START = "import sys; from pathlib import Path; from dataminer.db.server import control; "
START += "print(control.start(Path(sys.argv[1])))"


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Name a folder for a new database; below root a server's data then lies in STATE_DIR."""
    monkeypatch.delenv("DATAMINER_PG_BIN", raising=False)
    pg_home = tmp_path / "a project's" / ".dataminer" / "postgres"
    yield pg_home
    clean_up(pg_home)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the one database of the tests that need no new one."""
    with own_server(tmp_path_factory.mktemp("shared")) as home:
        yield home


@pytest.fixture(scope="module")
def of_root() -> Iterator[Path]:
    """Make a database below root where every user may enter."""
    with _open_folder() as folder:
        pg_home = folder / "pg"
        try:
            control.start(pg_home)
            yield pg_home
        finally:
            clean_up(pg_home)


@pytest.fixture
def home(shared: Path) -> Iterator[Path]:
    """Give the shared database with its server running; mend it after what a test did to it."""
    control.start(shared)
    data = control.status(shared).data_dir
    kept = {path: path.read_text() for path in (data / "PG_VERSION", data / "postgresql.conf")}
    yield shared
    (data.parent / "host.json").unlink(missing_ok=True)
    for path, text in kept.items():
        path.write_text(text)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that every user may enter."""
    with _open_folder() as folder:
        yield folder


@contextmanager
def _open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dm-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)


def child_environment() -> dict[str, str]:
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def start_in_child(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
        start_new_session=True,
    )


# --- the plain life of a server


def test_cycle(fresh: Path) -> None:
    assert control.status(fresh).state == "absent"
    assert control.stop(fresh) is False
    url = control.start(fresh)
    running = control.status(fresh)
    assert (running.state, running.url, running.version) == ("running", url, "16")
    assert running.pid and running.socket_dir and running.socket_dir.is_dir()
    assert control.stop(fresh) is True
    assert control.stop(fresh) is False
    stopped = control.status(fresh)
    assert (stopped.state, stopped.pid, stopped.url, stopped.host) == ("stopped", None, url, None)
    assert control.url(fresh) == url
    assert control.start(fresh, create=False) == url


def test_an_empty_folder_is_used_with_our_settings_and_role(fresh: Path) -> None:
    fresh.mkdir(parents=True)
    url = control.start(fresh)
    names = "max_connections shared_buffers fsync synchronous_commit timezone listen_addresses"
    values = [execute(url, f"SHOW {name}")[0][0] for name in names.split()]
    assert values == ["300", "64MB", "on", "on", "UTC", ""]
    facts = "SELECT current_user, current_database(), current_setting('is_superuser')"
    assert execute(url, facts) == [("dataminer", "dataminer", "off")]
    execute(url, "CREATE TABLE mine (id int); DROP TABLE mine")


def test_url_fits_sqlalchemy_and_ignores_pgport(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "7777")  # both of the server's and of the client's surroundings
    monkeypatch.setenv("PGDATA", "/nonexistent")
    url = control.start(fresh)
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:"))
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_start_twice_keeps_the_server(home: Path) -> None:
    first = pid_of(home)
    begun = time.monotonic()
    assert control.start(home) == control.url(home)
    assert time.monotonic() - begun < 0.2
    assert pid_of(home) == first


def test_default_home(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    control.stop(home)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATAMINER_PGDATA", raising=False)
    assert control.default_home() == tmp_path / ".dataminer" / "postgres"
    monkeypatch.setenv("DATAMINER_PGDATA", str(home))
    assert control.start() == control.url(home)
    assert control.status(home).state == "running"
    assert Path.cwd() == tmp_path


def test_several_start_at_once(fresh: Path) -> None:
    children = [start_in_child(fresh) for _ in range(4)]
    answers = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 4, answers
    assert {out.strip() for out, _ in answers} == {control.url(fresh)}
    beginning = f".{fresh.resolve().name}.new-"  # as root, others' data lies beside it
    made = [e for e in fresh.resolve().parent.iterdir() if e.name.startswith(beginning)]
    assert made == []
    assert execute(control.url(fresh), "SELECT 1") == [(1,)]


def test_server_leaves_terminal_and_pipes(home: Path) -> None:
    control.stop(home)
    child = start_in_child(home)
    reported = child.communicate(timeout=60)  # would hang if the server kept the pipes
    assert child.returncode == 0, reported
    server = pid_of(home)
    assert os.getsid(server) not in (child.pid, os.getsid(0))
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGINT)  # what Ctrl-C does
    time.sleep(0.2)
    assert control.status(home).state == "running"


# --- reading writes nothing


def test_absent_and_not_to_be_made(fresh: Path, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no database"):
        control.start(fresh, create=False)
    with pytest.raises(DatabaseError, match="no database"):
        control.url(fresh)
    assert list(tmp_path.iterdir()) == []


def test_a_strange_folder_is_left_alone(fresh: Path) -> None:
    fresh.mkdir(parents=True)
    (fresh / "notes.txt").write_text("mine")
    with pytest.raises(DatabaseError, match="contains no database"):
        control.start(fresh)
    assert [entry.name for entry in fresh.iterdir()] == ["notes.txt"]


def test_a_dangling_link_is_not_replaced(fresh: Path, tmp_path: Path) -> None:
    fresh.parent.mkdir(parents=True)
    fresh.symlink_to(tmp_path / "unmounted")
    with pytest.raises(DatabaseError, match="does not exist"):
        control.start(fresh)


def test_a_half_made_database_is_not_taken(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(half: _pghome.ServerHome, *_: object) -> None:
        (half.data / "PG_VERSION").write_text("16\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(_pghome, "_initdb", die)
    with pytest.raises(KeyboardInterrupt):
        control.start(fresh)
    assert control.status(fresh).state == "absent"
    monkeypatch.undo()
    left = fresh.parent / f".{fresh.name}.new-0123"
    (left / "data").mkdir(parents=True)
    assert execute(control.start(fresh), "SELECT 1") == [(1,)]
    assert AS_ROOT or not left.exists()


# --- crashes


def test_killed_server_comes_back_with_its_data(home: Path) -> None:
    url = control.start(home)
    execute(url, "DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT 42 AS answer")
    busy = psycopg2.connect(url)
    busy.cursor().execute("SELECT 1")
    kill_server(home)
    assert control.start(home) == url
    assert execute(url, "SELECT answer FROM t") == [(42,)]
    with suppress(psycopg2.Error):
        busy.close()


def test_start_waits_for_the_last_of_a_killed_server(home: Path) -> None:
    url = control.start(home)
    busy = psycopg2.connect(url)
    last = busy.info.backend_pid
    os.kill(last, signal.SIGSTOP)  # like one that computes, it does not see its server's end
    kill_server(home)
    begun = time.monotonic()
    threading.Timer(0.4, os.kill, [last, signal.SIGCONT]).start()
    control.start(home)
    assert time.monotonic() - begun > 0.3
    assert execute(url, "SELECT 1") == [(1,)]
    busy.close()


def stale_pid_file(home: Path, pid: int) -> None:
    """Leave the pid file of a killed server, with a number that now lives."""
    data = control.status(home).data_dir
    lines = (data / "postmaster.pid").read_text().splitlines()
    kill_server(home)
    (data / "postmaster.pid").write_text("\n".join([str(pid), *lines[1:]]) + "\n")


def test_recycled_pid_of_a_stranger(home: Path) -> None:
    url = control.start(home)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        stale_pid_file(home, stranger.pid)
        assert control.status(home).state == "stopped"
        assert control.stop(home) is False
        assert stranger.poll() is None
        assert control.start(home) == url
        assert execute(url, "SELECT 1") == [(1,)]
    finally:
        stranger.kill()
        stranger.wait()


def test_two_homes_have_two_servers_also_with_a_recycled_pid(home: Path, fresh: Path) -> None:
    url, other_url = control.start(home), control.start(fresh)
    other = pid_of(fresh)
    assert url != other_url and pid_of(home) != other
    stale_pid_file(home, other)
    assert control.start(home) == url
    assert pid_of(home) != other == pid_of(fresh)


def test_lost_socket_is_made_again(home: Path) -> None:
    url = control.start(home)
    socket_dir = control.status(home).socket_dir
    assert socket_dir
    shutil.rmtree(socket_dir)
    assert control.status(home).state == "stopped"
    assert control.start(home) == url
    assert execute(url, "SELECT 1") == [(1,)]


def test_hidden_socket_does_not_end_the_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control.start(home)
    first = pid_of(home)
    monkeypatch.setattr(postmaster.Postmaster, "reachable", lambda _: False)
    monkeypatch.setattr(postmaster.Postmaster, "sees_same_files", lambda _: False)
    with pytest.raises(DatabaseError, match="cannot be seen from here"):
        control.start(home)
    monkeypatch.undo()
    assert pid_of(home) == first


# --- two hosts


def write_marker(home: Path, **machine: str) -> None:
    (home.resolve() / "host.json").write_text(json.dumps(machine))


def test_another_host_is_refused(home: Path) -> None:
    control.start(home)
    kill_server(home)
    write_marker(home, host="node17", boot="other", pid_space="pid:[1]")
    found = control.status(home)
    assert (found.state, found.host) == ("elsewhere", "node17")
    with pytest.raises(DatabaseError, match="node17") as refusal:
        control.start(home)
    assert str(home.resolve() / "host.json") in refusal.value.hint
    with pytest.raises(DatabaseError, match="node17"):
        control.stop(home)
    (home.resolve() / "host.json").unlink()  # what the hint says
    assert execute(control.start(home), "SELECT 1") == [(1,)]


def test_a_renamed_machine_is_the_same(home: Path) -> None:
    control.start(home)
    here = postmaster.this_machine()
    if not here.boot:
        pytest.skip("this system has no boot id")
    write_marker(home, host="old-name", boot=here.boot, pid_space=here.pid_space)
    assert control.status(home).state == "running"


def test_an_old_note_without_a_server_is_no_hindrance(home: Path) -> None:
    control.start(home)
    control.stop(home)
    write_marker(home, host="node17", boot="other")
    assert control.status(home).state == "elsewhere"  # it may be starting this moment
    os.utime(home.resolve() / "host.json", (1, 1))
    assert control.status(home).state == "stopped"


# --- who may do what


def test_password_is_asked_for_and_hidden(home: Path, tmp_path: Path) -> None:
    url = control.url(home)
    passfile = home.resolve() / "pgpass"
    facts = passfile.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o600 and facts.st_uid == os.geteuid()
    socket_dir = control.status(home).socket_dir
    for password in ("wrong", ""):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(
                host=str(socket_dir),
                port=5432,
                user="dataminer",
                dbname="dataminer",
                passfile=str(tmp_path / "none"),
                password=password,
            )
    for line in passfile.read_text().split():
        assert line.rsplit(":", 1)[1] not in url
    rules = (home.resolve() / "pg_hba.conf").read_text().splitlines()
    methods = {line.split()[-1] for line in rules if line and not line.startswith("#")}
    assert methods == {"scram-sha-256"}


def test_socket_folder_is_private(home: Path) -> None:
    found = control.status(home)
    assert found.socket_dir and found.data_dir
    owner = found.data_dir.stat().st_uid
    for folder in (found.socket_dir, found.socket_dir.parent, found.data_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == owner
    assert len(str(_pghome.socket_file(found.socket_dir))) <= 107


def test_a_planted_socket_folder_is_refused(tmp_path: Path) -> None:
    account = account_for(None)
    loose, link = tmp_path / "loose", tmp_path / "link"
    loose.mkdir()
    loose.chmod(0o777)
    link.symlink_to(tmp_path)
    for base in (loose, link):
        for use in (_pghome.prepare_socket_dir, _pghome.check_socket_dir):
            with pytest.raises(DatabaseError, match="not a private folder"):
                use(base / "leaf", account)
        assert not (base / "leaf").exists()


@pytest.mark.skipif(AS_ROOT, reason="root drops to a user that has no runtime folder")
def test_runtime_folder_is_used(
    fresh: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = open_folder / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    url = control.start(fresh)
    assert control.status(fresh).socket_dir.parent == runtime / "dataminer"  # type: ignore[union-attr]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert control.start(fresh) == url  # the running server's own word counts


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_closed_folder_gives_a_clear_error(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(DatabaseError, match=r"Permission denied.*DATAMINER_PGDATA"):
        control.start(closed / "pg")
    closed.chmod(0o700)


def test_a_user_without_an_entry_hears_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 987_654_321)
    with pytest.raises(DatabaseError, match=r"987654321 has no entry .* DATABASE_URL"):
        control.start(tmp_path / "pg")
    assert not (tmp_path / "pg").exists()


@root_only
def test_root_in_an_open_folder(of_root: Path) -> None:
    assert execute(control.url(of_root), "SELECT 1") == [(1,)]
    assert not of_root.is_symlink()
    assert (of_root / "data").stat().st_uid == account_for(None).uid != 0
    assert os.stat(f"/proc/{pid_of(of_root)}").st_uid == account_for(None).uid


@root_only
def test_root_in_a_closed_folder(tmp_path: Path) -> None:
    before = [(path, path.stat().st_mode, path.stat().st_uid) for path in tmp_path.parents]
    (tmp_path / "closed").mkdir(mode=0o700)
    pg_home = tmp_path / "closed" / "pg"
    try:
        url = control.start(pg_home)
        assert pg_home.is_symlink() and pg_home.resolve().parent == STATE_DIR
        assert execute(url, "SELECT 1") == [(1,)]
        after = [(path, path.stat().st_mode, path.stat().st_uid) for path in tmp_path.parents]
        assert after == before
        assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o700
    finally:
        clean_up(pg_home)


@root_only
def test_root_copies_programs_that_cannot_be_reached(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put the wheel where the server's user cannot go, and start twice at once."""
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    found = binaries.find_binaries("16", account_for(None)).bin_dir.parent
    package = found.parent
    for part in (package / found.name, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(
                part,
                closed / part.relative_to(package.parent),
                symlinks=True,
                copy_function=link_or_copy,
            )
    moved = closed / package.name / found.name / "bin"
    monkeypatch.setenv("DATAMINER_PG_BIN", str(moved))
    before = set(STATE_DIR.glob("pg-*"))
    children = [start_in_child(fresh) for _ in range(2)]
    answers = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], answers
    assert execute(control.url(fresh), "SELECT 1") == [(1,)]
    assert os.readlink(f"/proc/{pid_of(fresh)}/exe").startswith(str(STATE_DIR / "pg-16"))
    control.stop(fresh)
    for copy in set(STATE_DIR.glob("pg-*")) - before:
        shutil.rmtree(copy)


@root_only
def test_another_user_is_turned_away(of_root: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(pwd.getpwnam("nobody").pw_gid)
        os.setuid(pwd.getpwnam("nobody").pw_uid)
        try:
            control.status(of_root)
        except DatabaseError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert "belongs to another user" in answer.read()


@root_only
def test_full_disk(open_folder: Path) -> None:
    small = open_folder / "small"
    small.mkdir()
    options = "size=20m,mode=755"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(small)])
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        with pytest.raises(DatabaseError, match=r"No space left on device|free disk space"):
            control.start(small / "pg")
        assert control.status(small / "pg").state == "absent"
        assert [entry.name for entry in small.iterdir()] == ["pg.lock"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


@root_only
def test_everything_as_a_normal_user(open_folder: Path) -> None:
    """Run what depends on the user once more, as one without rights."""
    nobody = pwd.getpwnam("nobody")
    os.chown(open_folder, nobody.pw_uid, nobody.pw_gid)
    packages = Path(psycopg2.__file__).parents[1]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(open_folder),
        "PYTHONPATH": f"{REPO}:{packages}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(interpreter: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [interpreter, *arguments],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            env=environment,
            cwd=open_folder,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def usable(interpreter: str) -> bool:
        with suppress(OSError):
            imports = "import psycopg2, pytest, sqlalchemy, dataminer.db.server.control"
            return run(interpreter, "-c", imports).returncode == 0
        return False

    interpreter = next((path for path in interpreters() if usable(path)), None)
    if interpreter is None:
        pytest.skip("user nobody can run no interpreter of this version with these packages")
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={open_folder / 'tests'}"]
    options += ["-k", FOR_A_NORMAL_USER, str(Path(__file__).resolve())]
    result = run(interpreter, "-m", "pytest", *options)
    assert result.returncode == 0, result.stdout + result.stderr


def interpreters() -> list[str]:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"]


# --- programs and places


def test_programs_must_fit_the_data(home: Path) -> None:
    control.start(home)
    control.stop(home)
    (control.status(home).data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(DatabaseError, match=r"PostgreSQL 9.*found only 16") as refusal:
        control.start(home)
    assert "DATAMINER_PG_BIN" in refusal.value.hint


def test_a_wrong_choice_of_programs(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAMINER_PG_BIN", "/nonexistent/bin")
    with pytest.raises(DatabaseError, match="/nonexistent/bin"):
        control.start(fresh)


def test_a_failed_start_tells_why(home: Path) -> None:
    control.start(home)
    control.stop(home)
    with (control.status(home).data_dir / "postgresql.conf").open("a") as conf:
        conf.write("work_mem = 'lots'\n")
    with pytest.raises(DatabaseError, match=r"did not start.*work_mem"):
        control.start(home)
    assert control.status(home).host is None


def test_shell_characters_in_the_path(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="quote"):
        control.start(tmp_path / "$(touch x)" / "pg")


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/ann\\040b/scratch rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/x", "ext4"),
        ("/home/ann/x", "nfs4"),
        ("/home2", "ext4"),
        ("/home/ann b/scratch/x", "xfs"),
    ],
)
def test_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert _pghome.file_system(Path(folder), MOUNTS) == kind


def test_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_pghome, "file_system", lambda *_: "lustre")
    with caplog.at_level(logging.WARNING):
        _pghome.warn_network(tmp_path)
    assert "DATAMINER_PGDATA" in caplog.text and "DATABASE_URL" in caplog.text
