"""Downloads side by side: what befalls one of them is no matter of the others."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from dataminer.config import Config, load
from dataminer.errors import DataminerError
from dataminer.net.rate_limit import quota_of
from dataminer.sync.batches import worker
from dataminer.sync.batches.batch import Batch
from dataminer.sync.batches.job import run_batch
from dataminer.sync.claims import claim_end, claims, projects, stage_rows
from dataminer.sync.jobs.rule_log import log_job
from tests.support import videos
from tests.support.crowd import Crowd, counted, ended, forked, inject
from tests.support.http_server import Behaviour, File, Reply, Server, serve
from tests.support.postgres import execute, name_of
from tests.support.rows import Given, force
from tests.support.waiting import wait_until

Start = Callable[[Callable[[], object]], int]
HELD = "SELECT count(*) FROM videos WHERE locked_by IS NOT NULL"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of several blocks."""
    path = videos.make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=10)
    free = 200_000  # a box of an MP4 file that means nothing
    with path.open("ab") as file:
        file.write(free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    """Start jobs; whatever is left of them is killed in the end."""
    begun: list[int] = []

    def begin(act: Callable[[], object]) -> int:
        begun.append(forked(act))
        return begun[-1]

    yield begin
    for pid in begun:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def http() -> Iterator[Server]:
    with serve() as server:
        yield server


def settings(heartbeat: float = 0.5, **download: Any) -> Config:
    rates = {"requests_per_minute": 60_000, "downloads_per_hour": 1_000_000}
    budget = {"others": rates, **download.pop("budget", {})}
    monitor = {
        "heartbeat_seconds": heartbeat,
        "stale_threshold_minutes": max(0.1, heartbeat / 30),
        "retry_seconds": 0.1,
        "max_attempts": 1,
    }
    return load({"download": {"budget": budget, "retries": 0, **download}, "monitor": monitor})


def add(**links: str) -> None:
    projects.add_videos("p", [Given(name, url=url) for name, url in links.items()])


def fetch(names: list[str], config: Config | None = None, **more: Any) -> None:
    given = {"workers": 1, "downloads": 8, "memory_mb": 8000, **more}
    forced = given.pop("forced", False)
    run_batch(Batch("download", names, forced=forced), config or settings(), **given)


def statuses(database: str) -> dict[str, str]:
    return dict(execute(database, "SELECT video_id, status FROM videos"))


def charged(database: str) -> list[tuple[Any, ...]]:
    """Return the rows that any attempt was counted of, or that are not as new."""
    return execute(
        database,
        "SELECT video_id, status, attempts, suspect FROM videos WHERE attempts > 0 OR suspect"
        " OR kills > 0 OR failures > 0 OR locked_by IS NOT NULL",
    )


def test_downloads_overlap_and_are_right(
    database: str, folder: Path, http: Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd, names = Crowd(clip, 0.5), [f"v{number}" for number in range(24)]
    add(**{name: http.add(f"/{name}.mp4", crowd) for name in names})
    gone = {"v5", "v6"}  # which is worth a log of their own
    for name in gone:
        http.add(f"/{name}.mp4", Reply(404, delay=0.5))
    count_statements = counted(monkeypatch, folder)
    with log_job(str(folder / "log"), video_logs=folder):
        fetch(names, settings(heartbeat=30.0))  # whose beats would count
    assert crowd.most == 8
    assert http.requests == {f"/{name}.mp4": 1 for name in names}
    expected = {name: "FAILED" if name in gone else "DOWNLOADED" for name in names}
    assert statuses(database) == expected
    assert {row[0] for row in charged(database)} == gone
    for name in {*names} - gone:
        info = json.loads(Path(f"data/videos/{name}/info.json").read_text())
        assert info["video_id"] == name
        assert info["url"].endswith(f"/{name}.mp4")
        assert Path(f"data/videos/{name}/{name}.mp4").read_bytes() == clip.read_bytes()
    rows = execute(database, "SELECT video_id, video_path FROM videos WHERE error IS NULL")
    assert {name: Path(path).parent.name for name, path in rows} == {v: v for v in {*names} - gone}
    assert not list(Path("data/videos").glob(".*"))
    # of all that is logged, each video has its own, and a log if that is worth a look
    assert sorted(path.name for path in folder.glob("v*.log")) == ["v5.log", "v6.log"]
    for name in gone:
        own = (folder / f"{name}.log").read_text().splitlines()
        assert own
        assert all(f" {name}: " in line for line in own)
    lines = [line for line in (folder / "log").read_text().splitlines() if "data/videos/v" in line]
    assert lines
    assert all(line.split(" ")[3].strip(":") in line.split("data/videos/")[1] for line in lines)
    statements = count_statements()
    assert 0 < statements["claim_new"] < len(names)  # several at once
    assert statements["execute"] <= 2  # each on its own
    assert statements["finish_all"] <= 12
    assert statements["finish"] == 0
    assert sum(statements.values()) < 2 * len(names)


def segfault() -> None:
    ctypes.string_at(0)


def block() -> None:
    ctypes.PyDLL(None).sleep(120)


def eat() -> None:
    held = []
    while True:
        held.append(b"x" * 10**7)
        time.sleep(0.0005)


@pytest.mark.parametrize(
    ("fault", "status", "error_class"),
    [
        (segfault, "FAILED", "crashed"),
        (block, "FAILED", "hung"),
        (eat, "PENDING", "out_of_memory"),
    ],
)
def test_one_that_loses_their_worker_costs_the_others_nothing(
    database: str,
    folder: Path,
    http: Server,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[], None],
    status: str,
    error_class: str,
) -> None:
    names = [f"v{number}" for number in range(14)]
    add(**{name: http.add(f"/{name}.mp4", clip) for name in names})
    together = threading.Barrier(4)  # as many as are fetched side by side

    def meet() -> None:
        if not (folder / "lost").exists():
            together.wait(20)
            time.sleep(20)  # in the middle, when their worker is lost

    def be_lost() -> None:
        if not (folder / "lost").exists():
            together.wait(20)
        (folder / "lost").touch()
        fault()

    in_flight = {"v0": meet, "v1": meet, "v2": meet, "v3": be_lost}
    spans = inject(monkeypatch, folder, in_flight)
    printed = ""
    own_mb = psutil.Process().memory_info().rss // 2**20
    memory = 300 + own_mb if fault is eat else 8000
    try:
        fetch(names, downloads=4, memory_mb=memory)
    except DataminerError as error:
        printed = str(error)
    assert ("used more than" in printed) == (fault is eat), printed
    assert statuses(database) == {**dict.fromkeys(names, "DOWNLOADED"), "v3": status}
    kind = "SELECT error_class FROM videos WHERE video_id = 'v3'"
    assert execute(database, kind) == [(error_class,)]
    assert [row[0] for row in charged(database)] == ["v3"]
    # two leases: the one that was lost, and another; what had not begun was not claimed
    leases = dict(execute(database, "SELECT video_id, lease FROM videos WHERE video_id <> 'v3'"))
    assert leases == {name: 2 if name in in_flight else 1 for name in {*names} - {"v3"}}
    alone = [span for span in spans() if span[0] in in_flight]
    others = [span for span in spans() if span[0] not in in_flight]
    assert all(
        one[3] <= other[2] or other[3] <= one[2]
        for one in alone
        for other in [*alone, *others]
        if one is not other
    )
    assert not list(Path("data/videos").glob(".*.partial"))


def test_several_that_crash_are_tried_alone_until_they_are_given_up(
    database: str, folder: Path, http: Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"v{number}" for number in range(6)]
    add(**{name: http.add(f"/{name}.mp4", clip) for name in names})
    inject(monkeypatch, folder, {"v1": segfault, "v4": segfault})
    config = settings()
    monitor = config.monitor.model_copy(update={"max_attempts": 2})
    fetch(names, config.model_copy(update={"monitor": monitor}))
    expected = dict.fromkeys(names, "DOWNLOADED") | dict.fromkeys(("v1", "v4"), "FAILED")
    assert statuses(database) == expected
    assert sorted(row[0] for row in charged(database)) == ["v1", "v4"]


def test_what_fails_in_passing_is_tried_again_while_others_are_fetched(
    database: str, folder: Path, http: Server, clip: Path
) -> None:
    names = [f"v{number}" for number in range(6)]
    away, reply = Reply(503), Reply(body=clip.read_bytes(), content_type="video/mp4")

    def answer(target: str) -> Reply:
        wait_until(lambda: http.requests["/v1.mp4"] == 3, 20)
        return reply

    add(**{name: http.add(f"/{name}.mp4", clip) for name in names})
    http.add("/v1.mp4", [away, away, reply])
    http.add("/v2.mp4", answer)
    fetch(names)
    assert statuses(database) == dict.fromkeys(names, "DOWNLOADED")
    assert http.requests["/v2.mp4"] == 1
    assert charged(database) == []


# ---- jobs that are asked to end, or killed -------------------------------------------------------


def begun_job(
    start: Start, database: str, http: Server, clip: Path, names: list[str], paused: str
) -> tuple[int, list[str]]:
    """Start a job whose transfers all hang: some after a part, one before its first byte.

    One more waits for minutes until its source may be asked. Returns the process, and the videos
    that have a part of their file.
    """
    half = clip.stat().st_size // 2
    files: list[Behaviour] = [
        File(clip, etag='"1"', stop_after=half),  # and says nothing more
        File(clip, etag='"1"', trickle=0.05),
        Reply(delay=60.0),
    ]
    links = {}
    for number, name in enumerate(names):
        again = File(clip, etag='"1"')
        links[name] = http.add(f"/{name}.mp4", [files[number % 3], again] if number < 7 else again)
    links["waits"] = paused
    add(**links)
    execute(
        database,
        "INSERT INTO breakers (source, reason, error_class, strikes, opened_at, open_until)"
        f" VALUES ('{quota_of(paused).source}', '429', 'rate_limit', 1, now(),"
        " now() + interval '10 minutes')",
    )
    patient = settings(min_bytes_per_second=1)  # whose blocks are small
    pid = start(lambda: fetch(["waits", *names], patient))
    halves = names[::3][:3]

    def all_begun() -> bool:
        kept = [Path("data/videos").glob(f".{name}.*.resume/*.part") for name in halves]
        sizes = [max((part.stat().st_size for part in parts), default=0) for parts in kept]
        return min(sizes) > half // 2 and len(http.log) == 7

    wait_until(all_begun, 20)
    return pid, halves


def resumed_at(http: Server, name: str) -> int:
    """Return the byte at which the second request for a video went on."""
    _, second = http.ranges[f"/{name}.mp4"]
    assert second
    return int(second.removeprefix("bytes=").rstrip("-"))


def test_a_job_that_is_asked_to_end_gives_all_back_at_once(
    database: str, folder: Path, http: Server, clip: Path, start: Start
) -> None:
    names = [f"v{number}" for number in range(12)]
    with serve() as other:
        paused = other.add("/waits.mp4", clip)
        pid, halves = begun_job(start, database, http, clip, names, paused)
        assert execute(database, HELD) == [(8,)], "as many as are fetched side by side"
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        assert ended(pid) == 143
        assert time.monotonic() - began < 4
        assert charged(database) == []
        assert set(statuses(database).values()) == {"PENDING"}
        assert not list(Path("data/videos").glob(".*.partial"))
        assert not [path for path in Path("data/videos").iterdir() if path.name[0] != "."]
        execute(database, "DELETE FROM breakers")
        fetch(["waits", *names])
    assert set(statuses(database).values()) == {"DOWNLOADED"}
    assert charged(database) == []
    for name in halves:
        assert resumed_at(http, name) > clip.stat().st_size // 4
        assert Path(f"data/videos/{name}/{name}.mp4").read_bytes() == clip.read_bytes()
    assert not list(Path("data/videos").glob(".*"))


def test_a_job_that_is_killed_is_taken_up_where_it_was(
    database: str, folder: Path, http: Server, clip: Path, start: Start
) -> None:
    names = [f"v{number}" for number in range(9)]
    with serve() as other:
        paused = other.add("/waits.mp4", clip)
        pid, halves = begun_job(start, database, http, clip, names, paused)
        workers = psutil.Process(pid).children()
        os.kill(pid, signal.SIGKILL)
        ended(pid)
        psutil.wait_procs(workers, timeout=10)
        assert execute(database, HELD) == [(8,)]
        execute(database, "DELETE FROM breakers")
        fetch(["waits", *names])
    assert set(statuses(database).values()) == {"DOWNLOADED"}
    assert charged(database) == []
    for name in halves:
        assert resumed_at(http, name) > clip.stat().st_size // 4
    assert not list(Path("data/videos").glob(".*"))


def test_claims_of_which_nobody_heard_are_given_back(
    database: str,
    folder: Path,
    http: Server,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Start,
) -> None:
    """The answer does not come any more."""
    names = [f"v{number}" for number in range(6)]
    add(**{name: http.add(f"/{name}.mp4", clip) for name in names})
    real = claims.claim_new

    def claim_new(names: Any) -> Any:
        real(names)
        (folder / "claimed").touch()
        for _ in range(600):
            time.sleep(0.1)

    with monkeypatch.context() as patch:
        patch.setattr(claims, "claim_new", claim_new)
        patch.setattr(worker, "_END_SECONDS", 0.5)
        pid = start(lambda: fetch(names))
        wait_until((folder / "claimed").exists)
        assert execute(database, HELD) != [(0,)]
        os.kill(pid, signal.SIGTERM)
        assert ended(pid) == 143
    assert charged(database) == []
    assert set(statuses(database).values()) == {"PENDING"}
    assert execute(database, "SELECT max(lease) FROM videos") == [(1,)]


def test_claims_that_are_under_way_are_given_back(
    database: str, folder: Path, http: Server, clip: Path, start: Start
) -> None:
    """The signal comes while the database is at it."""
    names = [f"v{number}" for number in range(6)]
    add(**{name: http.add(f"/{name}.mp4", clip) for name in names})
    execute(
        database,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'",
    )
    execute(
        database,
        "CREATE TRIGGER slow AFTER UPDATE ON videos FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    )
    pid = start(lambda: fetch(names))
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    wait_until(lambda: execute(database, at_work) != [(0,)])
    os.kill(pid, signal.SIGTERM)
    assert ended(pid) == 143
    wait_until(lambda: execute(database, at_work) == [(0,)])
    assert charged(database) == []
    assert execute(database, "SELECT max(lease) FROM videos") == [(1,)]


# ---- leases, and the database --------------------------------------------------------------------


def test_a_lost_lease_ends_one_download_alone(
    database: str, folder: Path, http: Server, clip: Path, start: Start
) -> None:
    names = [f"v{number}" for number in range(6)]
    add(**{name: http.add(f"/{name}.mp4", clip) for name in names})
    half = clip.stat().st_size // 2
    link = http.add("/v2.mp4", [File(clip, stop_after=half), clip])
    pid = start(lambda: fetch(names))
    wait_until(lambda: list(statuses(database).values()).count("DOWNLOADED") == 5, 20)
    wait_until(lambda: http.requests["/v2.mp4"] > 0, 20)
    assert http.requests["/v2.mp4"] == 1
    me = f"other-host:{os.getpid()}"
    force(database, f"UPDATE videos SET lease = 7, locked_by = '{me}' WHERE video_id = 'v2'")
    held = claims.Claim(stage_rows.DOWNLOAD, {"video_id": "v2"}, 7, 1)
    wait_until(lambda: list(Path("data/videos").glob(".v2.*.partial")) == [], 10)
    assert claims.beat(held)
    assert not Path("data/videos/v2").exists()
    assert execute(database, f"SELECT video_id FROM videos WHERE locked_by = '{me}'") == [("v2",)]
    # whoever took it over gives it back: then it is this batch's again
    assert claim_end.release(held, error=None, error_class=None, counts=False)
    assert ended(pid) == 0
    assert statuses(database)["v2"] == "DOWNLOADED"
    assert execute(database, "SELECT lease FROM videos WHERE video_id = 'v2'") == [(8,)]
    assert http.requests["/v2.mp4"] == 2, link
    assert charged(database) == []


def test_connections_that_are_cut_harm_nothing(
    database: str, folder: Path, http: Server, clip: Path, start: Start
) -> None:
    crowd, names = Crowd(clip, 0.1), [f"v{number}" for number in range(40)]
    add(**{name: http.add(f"/{name}.mp4", crowd) for name in names})
    pid = start(lambda: fetch(names, workers=2))
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name_of(database)}' AND usename = current_user"  # not autovacuum's
        " AND pid <> pg_backend_pid()"
    )
    times = 0
    wait_until(lambda: len(http.log) > 3)
    while list(statuses(database).values()).count("DOWNLOADED") < len(names) and times < 1000:
        execute(database, cut)
        times += 1
        time.sleep(0.02)
    assert ended(pid) == 0
    assert times > 10
    assert set(statuses(database).values()) == {"DOWNLOADED"}
    assert charged(database) == []


# ---- of all kinds --------------------------------------------------------------------------------


def test_a_batch_of_all_kinds(
    database: str,
    folder: Path,
    http: Server,
    clip: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(clip, folder / "local.mp4")
    local = {f"local{number}": str(folder / "local.mp4") for number in range(3)}
    links = {
        name: http.add(f"/{name}.mp4", clip)
        for name in ("new", "there", "failed", "again", "deleted", "busy")
    }
    names = [*local, *links]
    http.add("/failed.mp4", [Reply(404), clip])
    add(**local, **links)
    fetch(["there", "failed", "again"])
    assert statuses(database)["failed"] == "FAILED"
    execute(
        database,
        f"UPDATE videos SET status = 'PENDING', downloaded_with = '{stage_rows.FETCH_AGAIN}'"
        " WHERE video_id = 'again'",
    )
    execute(database, "DELETE FROM project_videos WHERE video_id = 'deleted'")
    execute(database, "DELETE FROM videos WHERE video_id = 'deleted'")
    busy = claims.claim(stage_rows.DOWNLOAD, {"video_id": "busy"}, stale_seconds=60)
    assert busy
    done = {*names} - {"busy", "deleted"}

    def finish() -> None:
        def others_are_done() -> bool:
            claims.beat(busy)
            found = statuses(database)
            return all(found[name] == "DOWNLOADED" for name in done)

        wait_until(others_are_done, 20)
        claim_end.release(busy, error=None, error_class=None, counts=False)

    thread = threading.Thread(target=finish)
    thread.start()
    fetch(names)
    thread.join()
    assert "skipped: deleted: video deleted was deleted" in capfd.readouterr().err
    assert statuses(database) == dict.fromkeys({*names} - {"deleted"}, "DOWNLOADED")
    requested = {path[1:-4]: count for path, count in http.requests.items()}
    assert requested == {"new": 1, "there": 1, "failed": 2, "again": 2, "busy": 1}
    assert charged(database) == []
    fetch(["there", "new", "local1"], forced=True)
    assert http.requests["/there.mp4"] == http.requests["/new.mp4"] == 2


def test_what_is_refused_or_too_slow_is_a_matter_of_one(
    database: str, folder: Path, http: Server, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Angry:
        """Refuses all after the tenth request, for a while."""

        count, until, lock = 0, 0.0, threading.Lock()

        def __call__(self, target: str) -> Reply:
            with self.lock:
                self.count += 1
                if self.count == 10:
                    self.until = time.monotonic() + 1.0
                if time.monotonic() < self.until:
                    return Reply(429, headers={"Retry-After": "2"})
            return Reply(200, clip.read_bytes(), "video/mp4")

    angry = Angry()
    with serve() as other:
        refusing = {f"r{number}": other.add(f"/r{number}.mp4", angry) for number in range(24)}
        good = {f"v{number}": http.add(f"/v{number}.mp4", clip) for number in range(3)}
        big = clip.read_bytes() + bytes(3 * 10**6)
        bad = {
            "gone": http.add("/gone.mp4", Reply(404)),
            "big": http.add("/big.mp4", Reply(200, big, "video/mp4")),
            "slow": http.add("/slow.mp4", Reply(200, clip.read_bytes(), "video/mp4", trickle=0.1)),
            "hostile": http.add(
                "/hostile.mp4", Reply(302, headers={"Location": "http://169.254.169.254/x.mp4"})
            ),
        }
        links = {**bad, **refusing, **good}
        add(**links)
        config = settings(
            policy={"max_size_mb": 2},
            min_bytes_per_second=100,
            rate_window_seconds=1.0,
            budget={"first_pause_seconds": 1.0},
        )
        fetch(list(links), config)
        log = sorted(other.log)
    kinds = dict(execute(database, "SELECT video_id, error_class FROM videos WHERE error <> ''"))
    assert kinds == {
        "gone": "removed",
        "big": "policy",
        "hostile": "unsupported",
        "slow": "timeout",
    }
    failed = dict.fromkeys(("gone", "big", "hostile"), "FAILED")
    fine = dict.fromkeys((*refusing, *good), "DOWNLOADED")
    assert statuses(database) == {**fine, **failed, "slow": "PENDING"}
    assert "waits for the next run: slow: " in capfd.readouterr().err
    assert execute(database, "SELECT attempts FROM videos WHERE video_id = 'slow'") == [(0,)]
    refused = [arrived for arrived, _, status in log if status == 429]
    assert 1 <= len(refused) <= 8  # those that were on their way
    resumed = [arrived for arrived, _, status in log if arrived > refused[-1]]
    assert resumed[0] - refused[0] >= 2.0 - 0.05
    assert execute(database, "SELECT strikes FROM breakers") == [(0,)]
