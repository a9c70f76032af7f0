"""The embedded PostgreSQL across machines, and jobs that outlive its outages."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from dataminer.config import Config, MonitorConfig
from dataminer.db import connection, schema
from dataminer.db.connection import transaction
from dataminer.db.server import binaries, control, postmaster
from dataminer.db.server import supervisor as guard_module
from dataminer.db.server.network import ListenSettings
from dataminer.db.server.supervisor import ServerSupervisor
from dataminer.errors import DatabaseAway, DatabaseError
from dataminer.process import connecting_only
from dataminer.sync.claims import claim_end, projects, stage_rows
from dataminer.sync.claims.heartbeat import kept_alive
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.jobs.download import download_video
from dataminer.sync.jobs.extract import extract_video
from dataminer.sync.jobs.filter import filter_video
from dataminer.sync.jobs.rule_log import log_job
from tests.support import videos
from tests.support.embedded import clean_up, is_listening, kill_server, own_server, pid_of
from tests.support.postgres import execute
from tests.support.waiting import wait_until

NODE = postmaster.Machine("node17", "another boot", "pid:[1]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make one database for this file; its server listens unless a test changes that."""
    with own_server(tmp_path_factory.mktemp("shared")) as home:
        yield home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a listening server that lies outside of the working directory, and is its default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATAMINER_PGDATA", str(made))
    control.listen(made, ListenSettings(addresses="127.0.0.1, localhost", host="localhost"))
    schema.upgrade()
    return made


@pytest.fixture
def on_node(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Make a block run as on another machine, with or without sight of the home itself."""

    @contextmanager
    def block(*, hidden: Path | None = None) -> Iterator[None]:
        aside = hidden and hidden.resolve().rename(hidden.resolve().with_name("not-here"))
        try:
            with monkeypatch.context() as patch:
                patch.setattr(postmaster, "this_machine", lambda: NODE)
                yield
        finally:
            if aside and hidden:
                aside.rename(hidden.resolve())

    return block


def answer(url: str) -> list[tuple[object, ...]]:
    return execute(url, "SELECT current_user, host(inet_server_addr())")


TCP = [("dataminer", "127.0.0.1")]
SOCKET = [("dataminer", None)]


# --- listening


def test_it_listens_with_a_password_of_which_the_url_tells_nothing(home: Path) -> None:
    found = control.status(home)
    assert found.state == "running" and found.url and found.nodes_url
    assert answer(found.nodes_url) == TCP and answer(found.url) == SOCKET
    copy = Path(".dataminer/nodes/pgpass").absolute()
    for passfile in (home.resolve() / "pgpass", copy):
        assert stat.S_IMODE(passfile.stat().st_mode) == 0o600
        for line in passfile.read_text().split():
            assert line.rsplit(":", 1)[1] not in found.nodes_url + found.url
    assert "postgres" not in copy.read_text()
    wrongs: list[dict[str, Any]] = [
        {"passfile": "/none", "password": "x"},
        {"user": "postgres"},
        {"dbname": "x"},
    ]
    for wrong in wrongs:
        with pytest.raises(psycopg2.OperationalError, match=r"password|pg_hba\.conf"):
            psycopg2.connect(found.nodes_url, **wrong)
    superuser = found.url.replace("//dataminer@", "//postgres@")
    ((rules,),) = execute(superuser, "SHOW hba_file")
    lines = [line.split() for line in Path(str(rules)).read_text().splitlines()[1:]]
    assert [line[-1] for line in lines] == ["scram-sha-256"] * 3
    assert [line[1:3] for line in lines if line[0] != "local"] == [["dataminer", "dataminer"]] * 2


def test_it_listens_again_at_the_same_place(home: Path) -> None:
    before = control.status(home)
    control.stop(home)
    assert not is_listening(home)
    control.start(home)
    assert control.status(home).nodes_url == before.nodes_url
    kill_server(home)
    assert not is_listening(home)
    control.start(home)
    assert control.status(home).nodes_url == before.nodes_url
    assert is_listening(home)
    first = pid_of(home)
    assert control.listen(home) == before.nodes_url and pid_of(home) == first


def test_it_serves_its_own_machine_again(home: Path) -> None:
    nodes_url = control.status(home).nodes_url
    assert nodes_url
    control.serve_own_machine(home)
    url = control.status(home).url
    assert url and answer(url) == SOCKET
    assert not is_listening(home) and not Path(".dataminer/nodes").exists()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(nodes_url)
    printed = control.ensure_listening(home)
    assert printed and f":{urlsplit(nodes_url).port} " in printed
    assert control.ensure_listening(home) is None


def test_a_chosen_port_that_is_taken_gives_way(home: Path) -> None:
    port = urlsplit(control.status(home).nodes_url or "").port
    assert port
    control.stop(home)
    with closing(socket.create_server(("127.0.0.1", port))):
        control.start(home)
    url = control.status(home).nodes_url
    assert url and f":{port}/" not in url and answer(url) == TCP


def test_a_named_port_that_is_taken_is_an_error(home: Path) -> None:
    before = control.status(home).nodes_url
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DatabaseError, match=f"port {port} of this machine is taken"):
            control.listen(home, ListenSettings(port=port))
    assert control.status(home).nodes_url == before and is_listening(home)


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        (ListenSettings(addresses="203.0.113.7"), "no address 203.0.113.7"),
        (ListenSettings(addresses="x' y"), "not an address to listen on"),
        (ListenSettings(host="a b"), "not the name of a machine"),
    ],
)
def test_a_wrong_wish_changes_nothing(home: Path, wanted: ListenSettings, printed: str) -> None:
    with pytest.raises(DatabaseError, match=printed):
        control.listen(home, wanted)
    assert is_listening(home)


def test_it_encrypts_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pg_home = tmp_path / "pg"
    monkeypatch.chdir(tmp_path)
    folders = [path for path in binaries._candidates() if binaries._version(path)]
    able = [path for path in folders if b"SSL_CTX_new" in (path / "postgres").read_bytes()]
    if not able or not shutil.which("openssl"):
        pytest.skip("no server programs with TLS, or no openssl")
    monkeypatch.setenv("DATAMINER_PG_BIN", str(able[0]))
    try:
        url = control.listen(pg_home)
        facts = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert "sslmode=verify-ca" in url and execute(url, facts) == [(True,)]
        wrongs: list[dict[str, Any]] = [{"sslmode": "disable"}, {"sslrootcert": "/etc/hostname"}]
        for wrong in wrongs:
            with pytest.raises(psycopg2.OperationalError, match=r"no encryption|certificate"):
                psycopg2.connect(url, **wrong)
        key = pg_home.resolve() / "server.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert "(encrypted)" in str(control.status(pg_home).listens)
    finally:
        clean_up(pg_home)


# --- from another machine


def test_another_machine_connects_over_the_network(home: Path, on_node: Any) -> None:
    with on_node():
        found = control.status(home)
        assert found.state == "elsewhere" and is_listening(home)
        assert control.start(home) == control.reachable_url(home) == found.nodes_url
        assert control.ensure_listening(home) is None
        with closing(connection.connect()) as reached, reached.cursor() as cursor:
            cursor.execute("SELECT host(inet_server_addr())")
            assert cursor.fetchone() == ("127.0.0.1",)


def test_a_home_on_a_local_disk_need_not_be_seen(home: Path, on_node: Any) -> None:
    with on_node(hidden=home):
        url = control.reachable_url(home)
        assert url == control.start(home, create=False) and answer(url) == TCP
        assert ".dataminer%2Fnodes%2Fpgpass" in url
        for use in (control.stop, control.listen, control.serve_own_machine):
            with pytest.raises(DatabaseError, match=r"in use by .*nodes/host\.json"):
                use(home)
        assert control.reachable_url(home) == url and not home.resolve().exists()
    with on_node(hidden=home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATAMINER_PGDATA", str(home.with_name("other")))  # the copy is not its
        with pytest.raises(DatabaseAway):
            control.reachable_url()


def test_a_server_that_serves_itself_says_how_to_be_reached(home: Path, on_node: Any) -> None:
    control.serve_own_machine(home)
    with on_node():
        for use in (control.reachable_url, control.start, control.listen, control.ensure_listening):
            with pytest.raises(
                DatabaseError, match=r"host .*dataminer db start --listen"
            ) as printed:
                use(home)
            assert not isinstance(printed.value, DatabaseAway)  # waiting would not help


def test_a_job_that_cannot_see_the_socket_takes_the_network(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer(control.reachable_url(home)) == SOCKET
    monkeypatch.setattr(postmaster.Postmaster, "reachable", lambda _: False)  # a private /tmp
    assert answer(control.reachable_url(home)) == TCP


def test_a_job_starts_no_server(home: Path) -> None:
    control.stop(home)
    with connecting_only():
        begun = time.monotonic()
        with pytest.raises(DatabaseAway, match="dataminer db start"):
            transaction(lambda c: None)
        with pytest.raises(DatabaseAway):
            transaction(lambda c: None, patience=0.5)
        assert time.monotonic() - begun > 0.3
        assert control.status(home).state == "stopped"
        threading.Timer(0.5, control.start, [home]).start()
        assert transaction(lambda c: c.server_version, patience=60) > 0
    assert connection.database_url().reveal() == control.url(home)


# --- outages


@pytest.mark.parametrize("wrong", [{"path": "/nowhere"}, {"netloc": "stranger:x@{host}"}])
def test_what_is_refused_for_good_is_asked_once(
    server: str, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    parts = urlsplit(server)
    host = parts.netloc.rpartition("@")[2]
    changed = {name: value.format(host=host) for name, value in wrong.items()}
    monkeypatch.setenv("DATABASE_URL", urlunsplit(parts._replace(**changed)))
    requested: list[dict[str, Any]] = []
    real = connection.connect

    def connect(**how: Any) -> Any:
        requested.append(how)
        return real(**how)

    monkeypatch.setattr(connection, "connect", connect)
    with pytest.raises(DatabaseError, match="cannot be reached"):
        transaction(lambda c: None, patience=60)
    assert len(requested) == 1


def test_a_guard_starts_what_crashed_and_not_what_was_stopped(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[Path] = []
    crashed = control.crashed

    def record_check(home: Path) -> bool:
        checks.append(home)
        return crashed(home)

    monkeypatch.setattr(control, "crashed", record_check)
    monkeypatch.setattr(guard_module, "LOOK_SECONDS", 0.1)
    guard = ServerSupervisor()
    guard.begin()
    try:
        os.kill(pid_of(home), 9)
        wait_until(lambda: control.status(home).state == "running")
        control.stop(home)
        seen = len(checks)
        wait_until(lambda: len(checks) > seen + 3)  # it starts what it has seen crashed twice
        assert control.status(home).state == "stopped"
    finally:
        guard.stop()
    assert not guard.is_alive()


class Outages:
    """Stops the server before each transaction, for a moment, and counts."""

    SECONDS = 0.1

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.count, self.refused = home, 0, 0
        self._due = True
        self._borrowed = connection._borrowed
        monkeypatch.setattr(connection, "_borrowed", self._borrow)

    @contextmanager
    def _borrow(self, name: str, *, keep: bool) -> Iterator[Any]:
        if self._due:
            self._due = False
            control.stop(self.home)
            threading.Timer(self.SECONDS, control.start, [self.home]).start()
            self.count += 1
        try:
            with self._borrowed(name, keep=keep) as session:
                yield session
        except (DatabaseError, psycopg2.Error):
            self.refused += 1
            raise
        self._due = True


@pytest.mark.parametrize("named", [True, False], ids=["DATABASE_URL", "embedded"])
def test_no_job_fails_for_an_outage(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    from dataminer.cli.ingest import add_source

    clip = videos.make_video(tmp_path / "clip.mp4", frames=12)
    config = Config(project="birds", filter={"min_sharpness": 0}, store=str(tmp_path / "data"))
    url = control.status(home).nodes_url
    assert url
    execute(control.start(home), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    add_source(str(clip), "birds")
    video = str(execute(url, "SELECT video_id FROM videos")[0][0])
    if named:
        monkeypatch.setenv("DATABASE_URL", url)
    outages = Outages(home, monkeypatch)

    def run(job: Callable[..., None], *arguments: Any) -> None:
        before = outages.count
        with log_job(str(tmp_path / "log")):
            job(config, *arguments)
        # questions (where from; whether there are frames, which project; which videos), claim,
        # finish; dedup refreshes the project before and after
        expected = {download_video: 3, extract_video: 3, filter_video: 4, dedup_project: 6}
        assert outages.count - before == expected[job]
        projects.refresh_named(["birds"])
        connection._spares.clear()  # the next job is another process

    run(download_video, video)
    if not named:
        run(extract_video, video)
        run(filter_video, "birds", video)
        run(dedup_project, "birds")
    assert outages.refused >= outages.count
    wait_until(lambda: control.status(home).state == "running")
    last = "FILTERING" if named else "DETECT_READY"
    assert execute(url, "SELECT project_stage FROM projects") == [(last,)]


def test_a_claim_outlives_an_outage(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    from dataminer.db import schema
    from tests.support.rows import add, held

    execute(control.start(home), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    schema.upgrade()
    add("p", "v1")
    claim = held(stage_rows.DOWNLOAD, video_id="v1")
    beats = "SELECT heartbeat_at FROM videos"
    settings = MonitorConfig(heartbeat_seconds=0.1, stale_threshold_minutes=0.01)
    with connecting_only(), kept_alive(claim, settings):
        control.stop(home)
        wait_until(lambda: "heartbeat failed" in caplog.text)
        time.sleep(0.8)  # its heartbeat is now stale
        ((last,),) = execute(control.start(home), beats)
        wait_until(lambda: execute(control.url(home), beats) != [(last,)])
    claim_end.finish(claim, "DOWNLOADED", {"video_path": "x"}, lambda: None)


def test_a_crowd_waits_for_its_turn(home: Path) -> None:
    """Send 100 at once to a server that takes 10."""
    superuser = str(control.status(home).url).replace("//dataminer@", "//postgres@")
    with closing(psycopg2.connect(superuser)) as session:
        session.autocommit = True
        session.cursor().execute("ALTER SYSTEM SET max_connections = 10")
    control.stop(home)
    control.start(home)
    url = control.status(home).nodes_url
    barrier, refused = threading.Barrier(100), []

    def job(number: int) -> int:
        def work(session: Any) -> int:
            with session.cursor() as cursor:
                cursor.execute("SELECT %s FROM pg_sleep(0.05)", (number,))
                return int(cursor.fetchone()[0])

        barrier.wait()
        return transaction(work, patience=120, keep=False)

    real = psycopg2.connect

    def counting(*args: Any, **kwargs: Any) -> Any:
        try:
            return real(*args, **kwargs)
        except psycopg2.OperationalError as error:
            refused.append(str(error))
            raise

    try:
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(100) as pool:
            patch.setenv("DATABASE_URL", str(url))
            patch.setattr(psycopg2, "connect", counting)
            assert sorted(pool.map(job, range(100))) == list(range(100))
        assert any(
            "too many clients" in printed or "slots are reserved" in printed for printed in refused
        )
    finally:
        with closing(psycopg2.connect(superuser)) as session:
            session.autocommit = True
            session.cursor().execute("ALTER SYSTEM RESET max_connections")
