"""A batch of videos: what befalls one of them is no matter of the others."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from dataminer import planning
from dataminer.config import Config, load
from dataminer.errors import DataminerError, ErrorClass, PermanentError, TransientError
from dataminer.net.rate_limit import quota_of
from dataminer.stages.extract import stage
from dataminer.sync.batches.batch import Batch
from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.batches.job import run_batch, run_job
from dataminer.sync.batches.late_batches import LateBatches
from dataminer.sync.claims import owners, projects
from dataminer.sync.claims.stage_rows import FILTER
from dataminer.sync.jobs.rule_log import log_job
from dataminer.sync.rate_limit import breakers
from dataminer.sync.recovery import dead_jobs
from tests.support import videos
from tests.support.http_server import serve
from tests.support.postgres import execute
from tests.support.rows import Given
from tests.support.waiting import wait_until

COUNT = 8
Fault = Callable[[], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(folder: Path, database: str) -> Config:
    """The settings of a project of a few videos that are downloaded."""
    made = load(
        {
            "project": "p",
            "filter": {"min_sharpness": 0},
            "monitor": {
                "heartbeat_seconds": 1,
                "stale_threshold_minutes": 0.1,
                "no_progress_minutes": 5,
                "retry_seconds": 0.1,
            },
        }
    )
    videos.make_video(folder / "clip.mp4", frames=30, size=(96, 64))
    for number in range(COUNT):
        shutil.copy(folder / "clip.mp4", folder / f"{number}.mp4")
    sources = [Given(f"v{number}", url=str(folder / f"{number}.mp4")) for number in range(COUNT)]
    projects.add_videos("p", sources)
    return made


@pytest.fixture
def hasty(config: Config) -> Config:
    """The same, where progress must come soon: on a busy machine, it sometimes does not."""
    monitor = config.monitor.model_copy(update={"no_progress_minutes": 0.05})
    return config.model_copy(update={"monitor": monitor})


def ids() -> list[str]:
    return [f"v{number}" for number in range(COUNT)]


def own_mb() -> int:
    """Return the memory that workers begin with: of tests that ran before in this process."""
    return psutil.Process().memory_info().rss // 2**20


def run_one_batch(config: Config, name: str, *, workers: int = 2, memory_mb: int = 4000) -> None:
    project = "p" if name == "filter" else None
    run_batch(Batch(name, ids(), project), config, workers=workers, memory_mb=memory_mb)


def statuses(database: str, table: str = "videos") -> dict[str, str]:
    return dict(execute(database, f"SELECT video_id, status FROM {table}"))


def inject(monkeypatch: pytest.MonkeyPatch, faults: dict[str, Fault]) -> None:
    """Have the extraction of some videos come to a fault in the middle."""
    real = stage.extract

    def extract(video: Path, out: Path, video_id: str, *rest: Any, **more: Any) -> Any:
        if video_id in faults:
            (out / "half.jpg").write_bytes(b"half a picture")
            faults[video_id]()
        made = real(video, out, video_id, *rest, **more)
        while started:
            started.pop().join()
        return made

    monkeypatch.setattr(stage, "extract", extract)


def test_a_batch_goes_through_the_stages(config: Config, database: str) -> None:
    for name, table, status in (
        ("download", "videos", "DOWNLOADED"),
        ("extract", "videos", "EXTRACTED"),
        ("filter", "project_videos", "FILTERED"),
    ):
        run_one_batch(config, name)
        assert set(statuses(database, table).values()) == {status}
    ((row),) = execute(
        database, "SELECT videos_extracted, filtered_frames, project_stage FROM projects"
    )
    assert row[0] == COUNT and row[1] > 0 and row[2] == "DEDUP_READY"
    workers = {owner for (owner,) in execute(database, "SELECT locked_by FROM videos")}
    assert workers == {None}
    for costs in execute(database, "SELECT costs FROM videos"):
        assert costs[0].keys() == {"download", "extract"}
        known = {"seconds", "cpu_seconds", "peak_mb", "bytes", "ended_at"}
        assert costs[0]["extract"].keys() == known
        assert costs[0]["extract"]["bytes"] > 100
    run_one_batch(config, "extract")  # again: nothing to do
    assert execute(database, "SELECT DISTINCT lease FROM videos") == [(2,)]


def test_what_killed_its_jobs_too_often_is_for_a_later_run(
    config: Config, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    execute(
        database,
        "UPDATE videos SET suspect = true, not_before = now() + interval '1 hour',"
        " error = 'the job died: SIGKILL', error_class = 'killed' WHERE video_id = 'v3'",
    )
    run_one_batch(config, "download")
    assert statuses(database) == {**dict.fromkeys(ids(), "DOWNLOADED"), "v3": "PENDING"}
    assert "waits for the next run: v3: the job died: SIGKILL" in capfd.readouterr().err
    execute(database, "UPDATE videos SET not_before = now() - interval '1 s'")
    run_one_batch(config, "download")
    assert set(statuses(database).values()) == {"DOWNLOADED"}


def test_a_video_that_was_deleted_meanwhile_is_passed_over(
    config: Config, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    execute(database, "DELETE FROM project_videos WHERE video_id = 'v2'")
    execute(database, "DELETE FROM videos WHERE video_id = 'v2'")
    run_one_batch(config, "download")
    assert "skipped: v2: video v2 was deleted" in capfd.readouterr().err
    run_one_batch(config, "extract")
    execute(database, "DELETE FROM project_videos WHERE video_id = 'v3'")
    run_one_batch(config, "filter")
    assert "skipped: v3: video v3 was deleted" in capfd.readouterr().err
    left = dict.fromkeys(set(ids()) - {"v2", "v3"}, "FILTERED")
    assert statuses(database, "project_videos") == left


def test_a_video_that_waits_in_filter_is_not_due(config: Config, database: str) -> None:
    for name in ("download", "extract", "filter"):
        run_one_batch(config, name)
    execute(
        database,
        "UPDATE project_videos SET status = 'PENDING', suspect = true,"
        " not_before = now() + interval '1 day' WHERE video_id = 'v4'",
    )
    planned = planning.plan(config, ["p"], upto="filter")
    assert planned.due("filter", "p") == []
    assert "filter for project p: 1 waiting (1 until" in planned.reasons()[-1]


def segfault() -> None:
    ctypes.string_at(0)


def block() -> None:
    ctypes.PyDLL(None).sleep(120)


def hang() -> None:
    time.sleep(120)


def eat() -> None:
    held = []
    while True:
        held.append(b"x" * 10**7)
        time.sleep(0.0005)


@pytest.mark.parametrize(
    ("fault", "error_class", "printed"),
    [
        (segfault, ErrorClass.CRASHED, "SIGSEGV"),
        (block, ErrorClass.HUNG, "no sign of life"),
        (hang, ErrorClass.HUNG, "no progress"),
    ],
)
def test_what_crashes_or_hangs_costs_its_own_video_alone(
    config: Config,
    hasty: Config,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    error_class: ErrorClass,
    printed: str,
) -> None:
    run_one_batch(config, "download")
    inject(monkeypatch, {"v3": fault})
    run_one_batch(hasty if fault is hang else config, "extract")
    assert statuses(database) == {**dict.fromkeys(ids(), "EXTRACTED"), "v3": "FAILED"}
    ((reason, kind, attempts),) = execute(
        database, "SELECT error, error_class, attempts FROM videos WHERE video_id = 'v3'"
    )
    assert printed in reason
    assert kind == error_class
    assert attempts == config.monitor.max_attempts + 1
    assert sorted(path.name for path in Path("data/frames/v3").glob("*/*")) == ["frames.parquet"]
    assert not list(Path("data/frames").glob("**/.*"))


@pytest.mark.parametrize("seed", range(2))
def test_faults_at_random_places_of_fifty_videos(
    config: Config, database: str, monkeypatch: pytest.MonkeyPatch, folder: Path, seed: int
) -> None:
    """A crash, a loop that keeps the interpreter to itself, and memory without end."""
    drawn = random.Random(seed)
    names = [f"v{number}" for number in range(50)]
    for number in range(COUNT, 50):
        shutil.copy(folder / "clip.mp4", folder / f"{number}.mp4")
    projects.add_videos("p", [Given(v, url=str(folder / f"{v[1:]}.mp4")) for v in names[COUNT:]])
    run_batch(Batch("download", names), config, workers=2, memory_mb=4000)
    faults = dict(zip(drawn.sample(names, 3), (segfault, block, eat), strict=True))
    crashes, hangs, eats = faults
    inject(monkeypatch, {video: soon(drawn.uniform(0, 0.03), faults[video]) for video in faults})
    with pytest.raises(DataminerError, match=f"{eats}: stopped: it used more than"):
        run_batch(Batch("extract", names), config, workers=2, memory_mb=1500 + 2 * own_mb())
    expected = {crashes: "FAILED", hangs: "FAILED", eats: "DOWNLOADED"}
    assert statuses(database) == {**dict.fromkeys(names, "EXTRACTED"), **expected}
    reasons = dict(execute(database, "SELECT video_id, error_class FROM videos WHERE error <> ''"))
    assert reasons == {crashes: "crashed", hangs: "hung", eats: "out_of_memory"}
    assert {path.name for path in Path("data/frames").iterdir()} == {*names} - {eats}


def soon(seconds: float, fault: Fault) -> Fault:
    """Have a fault happen on another thread, somewhere in what is done meanwhile."""

    def begin() -> None:
        thread = threading.Timer(seconds, fault)
        thread.start()
        started.append(thread)

    return begin


started: list[threading.Timer] = []
"""Of a worker's present video, whose end waits for them."""


def test_what_runs_out_of_memory_is_tried_alone_and_then_asks_for_more(
    config: Config, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_one_batch(config, "download")
    tries = tmp_path / "tries"

    def note_and_eat() -> None:
        with tries.open("a") as file:
            print(os.getpid(), file=file)
        eat()

    inject(monkeypatch, {"v2": note_and_eat})
    with pytest.raises(DataminerError, match=r"v2: stopped: it used more than 9.. MB of memory"):
        run_one_batch(config, "extract", memory_mb=1000)
    assert statuses(database) == {**dict.fromkeys(ids(), "EXTRACTED"), "v2": "DOWNLOADED"}
    assert len(tries.read_text().splitlines()) == 2
    assert execute(database, "SELECT attempts FROM videos WHERE video_id = 'v2'") == [(2,)]


def test_what_fails_in_passing_is_tried_again_and_then_waits(
    config: Config,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    run_one_batch(config, "download")

    def passing() -> None:
        raise TransientError("the server is away", ErrorClass.SERVER)

    def once() -> None:
        if not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            passing()

    def for_good() -> None:
        raise PermanentError("no picture in it", ErrorClass.CORRUPT)

    inject(monkeypatch, {"v1": passing, "v2": once, "v5": for_good})
    run_one_batch(config, "extract")
    expected = {**dict.fromkeys(ids(), "EXTRACTED"), "v1": "DOWNLOADED", "v5": "FAILED"}
    assert statuses(database) == expected
    assert "waits for the next run: v1: the server is away" in capfd.readouterr().err
    assert execute(database, "SELECT attempts FROM videos WHERE video_id = 'v1'") == [(0,)]
    run_one_batch(config, "filter")
    filtered = {**dict.fromkeys(ids(), "FILTERED"), "v1": "PENDING", "v5": "FAILED"}
    assert statuses(database, "project_videos") == filtered
    assert capfd.readouterr().err == ""  # the download has reported it


def test_what_fails_in_passing_is_tried_again_while_others_are_worked_on(
    config: Config, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_one_batch(config, "download")

    def tries() -> int:
        return len((tmp_path / "tries").read_text()) if (tmp_path / "tries").exists() else 0

    def twice() -> None:
        with (tmp_path / "tries").open("a") as file:
            file.write(".")
        if tries() < 3:
            raise TransientError("the server is away", ErrorClass.SERVER)

    inject(monkeypatch, {"v1": twice, "v2": lambda: wait_until(lambda: tries() == 3, 20)})
    run_one_batch(config, "extract")
    assert statuses(database) == dict.fromkeys(ids(), "EXTRACTED")
    row = "SELECT attempts, failures, lease FROM videos WHERE video_id = 'v2'"
    assert execute(database, row) == [(0, 0, 2)]  # claimed once per stage


def test_for_what_fails_in_passing_nothing_waits_longer_than_a_short_pause(
    config: Config, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_one_batch(config, "download")

    def passing() -> None:
        raise TransientError("the server is away", ErrorClass.SERVER)

    inject(monkeypatch, {"v1": passing})
    run_batch(Batch("extract", ["v1"]), config, workers=2, memory_mb=4000)
    row = "SELECT attempts, failures FROM videos WHERE video_id = 'v1'"
    assert execute(database, row) == [(0, 2)]


def test_what_a_source_holds_back_waits_until_then(
    config: Config, database: str, capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    """No attempt is counted, nobody waits in the batch, and the plan says until when."""
    with serve() as http:
        url = http.add("/clip.mp4", folder / "clip.mp4")
        projects.add_videos("p", [Given("w", url=url)])
        host = quota_of(url).source
        execute(
            database,
            "INSERT INTO breakers (source, reason, error_class, strikes, opened_at, open_until)"
            f" VALUES ('{host}', '429', 'rate_limit', 1, now(), now() + interval '2 hours')",
        )
        run_batch(Batch("download", [*ids(), "w"]), config, workers=2, memory_mb=4000)
        assert statuses(database) == {**dict.fromkeys(ids(), "DOWNLOADED"), "w": "PENDING"}
        assert "waits for the next run: w: " in capfd.readouterr().err
        ((attempts, waits, error_class),) = execute(
            database,
            "SELECT attempts, not_before > now() + interval '1 hour', error_class FROM videos"
            " WHERE video_id = 'w'",
        )
        assert (attempts, waits, error_class) == (0, True, "rate_limit")
        planned = planning.plan(config, ["p"], upto="extract")
        assert planned.videos["download"]["w"].state is planning.VerdictState.WAITING
        assert re.search(
            r"download: 1 waiting \(1 until [-\d]+ \d\d:\d\d UTC\)", planned.reasons()[-1]
        )
        assert planned.due("extract") == sorted(ids())

        breakers.reset(host)
        assert planning.plan(config, ["p"], upto="download").due("download") == ["w"]
        run_batch(Batch("download", ["w"]), config, workers=1, memory_mb=4000)
    assert statuses(database)["w"] == "DOWNLOADED"


def test_what_this_machine_lacks_ends_the_batch_after_the_others(
    config: Config, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_one_batch(config, "download")

    def full() -> None:
        raise OSError(28, "No space left on device")

    inject(monkeypatch, {"v0": full})
    with pytest.raises(DataminerError, match=r"v0: No space left .* Next: free space"):
        run_one_batch(config, "extract")
    assert statuses(database) == {**dict.fromkeys(ids(), "EXTRACTED"), "v0": "DOWNLOADED"}


def test_a_batch_that_is_killed_loses_what_was_in_progress_alone(
    config: Config, database: str
) -> None:
    """No attempt is counted, and what was in progress is a suspect."""
    run_one_batch(config, "download")
    with pytest.MonkeyPatch.context() as patch:
        inject(patch, {"v6": hang})
        pid = os.fork()
        if pid == 0:
            run_one_batch(config, "extract")
            os._exit(0)
        wait_until(lambda: list(statuses(database).values()).count("EXTRACTED") == COUNT - 1, 60)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert statuses(database)["v6"] == "EXTRACTING"
    leases = execute(database, "SELECT lease FROM videos WHERE video_id <> 'v6'")
    killed = dead_jobs.Death("SIGKILL")
    wait_until(lambda: dead_jobs.give_back("extract", {"video_id": "v6"}, killed), 10)
    row = "SELECT status, attempts, suspect FROM videos WHERE video_id = 'v6'"
    assert execute(database, row) == [("DOWNLOADED", 0, True)]
    run_one_batch(config, "extract")
    assert execute(database, row) == [("EXTRACTED", 0, False)]
    assert execute(database, "SELECT lease FROM videos WHERE video_id <> 'v6'") == leases


def test_suspects_are_tried_alone_within_a_job_too(
    config: Config, database: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Snakemake's own retries have the same batch as the job that was killed."""
    run_one_batch(config, "download")
    suspects = {"v1", "v4"}
    execute(database, "UPDATE videos SET suspect = true WHERE video_id IN ('v1', 'v4')")
    real = stage.extract

    def extract(video: Path, out: Path, video_id: str, *rest: Any, **more: Any) -> Any:
        began = time.monotonic()
        made = real(video, out, video_id, *rest, **more)
        time.sleep(0.1)
        with (folder / "spans").open("a") as spans:
            spans.write(f"{began} {time.monotonic()} {video_id}\n")
        return made

    monkeypatch.setattr(stage, "extract", extract)
    run_one_batch(config, "extract")
    lines = [line.split() for line in (folder / "spans").read_text().splitlines()]
    spans = sorted((float(began), float(ended), video) for began, ended, video in lines)
    assert [video for _, _, video in spans[-2:]] == sorted(suspects)
    ends = [ended for _, ended, _ in spans]
    assert all(
        began >= max(ends[:position]) for position, (began, *_) in enumerate(spans) if position > 5
    )
    assert spans[1][0] < spans[0][1], "the others are done side by side"


def test_frames_that_are_lost_are_taken_out_again(
    config: Config, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("download", "extract"):
        run_one_batch(config, name)
    for video in ("v2", "v3"):
        min(Path("data/frames", video).glob("*/*.jpg")).unlink()
    Path("data/videos/v3/v3.mp4").unlink()
    run_one_batch(config, "filter")
    expected = dict.fromkeys(ids(), "FILTERED")
    found = statuses(database, "project_videos")
    assert found == {**expected, "v2": "PENDING", "v3": "FAILED"}
    printed = capfd.readouterr().err
    assert "waits for the next run: v2: frames of v2 are lost: data/frames/v2/" in printed
    assert execute(database, "SELECT attempts FROM project_videos WHERE video_id = 'v2'") == [(0,)]

    def due() -> tuple[list[str], list[str]]:
        plan = planning.plan(config, ["p"], upto="filter")
        return plan.due("extract"), plan.due("filter", "p")

    assert due() == (["v2"], ["v2"])
    for name, project in (("extract", None), ("filter", "p")):
        run_batch(Batch(name, ["v2"], project), config, workers=1, memory_mb=4000)
    assert statuses(database, "project_videos") == {**expected, "v3": "FAILED"}
    assert due() == ([], [])
    shutil.rmtree("data/frames/v3")  # as its next step says
    assert due() == (["v3"], ["v3"])


def test_a_job_that_has_done_its_batch_helps_one_that_is_late(
    config: Config, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each video is worked on once, by one or the other."""
    run_one_batch(config, "download")
    real = stage.extract

    def extract(video: Path, out: Path, video_id: str, *rest: Any, **more: Any) -> Any:
        pace = os.environ["PACE"]
        (folder / f"{video_id}.{pace}").touch(exist_ok=False)
        time.sleep(4 if pace == "slow" else 0.4)
        return real(video, out, video_id, *rest, **more)

    def job(pace: str) -> None:
        os.environ["PACE"] = pace
        with log_job(str(folder / f"{pace}.log"), video_logs=folder):
            run_job("extract", config, listed.path, {"batch": pace}, workers=1, memory_mb=4000)

    monkeypatch.setattr(stage, "extract", extract)
    parts = {"slow": ids()[:5], "fast": ids()[5:]}
    members = {"extract": parts, "filter/p": parts}
    listed = BatchList(folder / "run", members, owners.owner_name(), 1)
    listed.folder.mkdir()
    listed.write()
    begun = time.monotonic()
    fork = multiprocessing.get_context("fork")
    slow, fast = (fork.Process(target=job, args=(pace,)) for pace in ("slow", "fast"))
    slow.start()
    wait_until((folder / "v0.slow").exists, 30)
    fast.start()
    fast.join(60)
    assert fast.exitcode == 0
    slow.join(60)
    assert slow.exitcode == 0
    assert time.monotonic() - begun < 4 * 5  # which the slow one alone would take at least
    assert set(statuses(database).values()) == {"EXTRACTED"}
    by = {path.name for path in folder.glob("v*.*") if path.suffix in (".slow", ".fast")}
    assert len(by) == COUNT
    assert {"v0.slow", "v4.fast", "v7.fast"} <= by
    assert "batch slow is late" in (folder / "fast.log").read_text()
    assert not list(listed.folder.rglob("*.begun"))
    assert execute(database, "SELECT DISTINCT lease, attempts FROM videos") == [(2, 0)]

    # another project's rows do not count
    quick, late = (LateBatches(listed, "filter/p", name) for name in ("fast", "slow"))
    project_id = projects.project_id_of("p")
    with quick.begun(), late.begun():
        assert quick.videos(FILTER, project_id) == []  # it has just begun
        os.utime(listed.folder / "filter" / "p" / "slow.begun", (0, 0))
        assert quick.videos(FILTER, project_id) == ids()[4::-1]
        assert quick.videos(FILTER, project_id + 1) == []
    assert quick.videos(FILTER, project_id) == []
