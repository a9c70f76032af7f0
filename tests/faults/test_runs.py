"""Whole runs that are killed, stopped, interrupted or robbed of their database: all of it heals.

A run costs seconds of processor time before its first job, so each of these is struck many times.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from dataminer.db.server import control
from dataminer.sync.claims.stage_rows import (
    DEDUP,
    DETECT,
    DOWNLOAD,
    EXTRACT,
    FILTER,
    STAGES,
    StageRows,
)
from tests.support import videos
from tests.support.http_server import File, Reply, Server, serve
from tests.support.postgres import fresh_database
from tests.support.runs import (
    PATIENCE,
    Barrier,
    Pauses,
    Run,
    contents,
    detector,
    end_sessions,
    facts,
    half_written,
    held,
    job_of,
    leftovers,
    pid_of,
    populate,
    states,
    story,
    until,
    without_snakemake,
)
from tests.support.site import Site, jobs

pytestmark = pytest.mark.slow

AT = ("claims", "records")
STORY = "SELECT status, attempts, locked_by, error, error_class FROM videos"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short clip, and one whose 300 frames take a second to write."""
    folder = tmp_path_factory.mktemp("clips")
    videos.make_video(folder / "short.mp4", frames=30)
    videos.make_video(folder / "long.mp4", frames=300, size=(640, 360), gop=50)
    return folder


@pytest.fixture(scope="module")
def http() -> Iterator[Server]:
    with serve() as server:
        yield server


def test_a_job_killed_at_any_moment_is_done_again_by_the_same_run(
    new_site: Callable[..., Site],
    start: Callable[..., Run],
    http: Server,
    clips: Path,
    shapes_weights: Path,
) -> None:
    site, barrier = new_site("site"), Barrier(clips / "long.mp4")
    url = http.add("/clip.mp4", barrier)
    populate(site, {"urls": [url]}, detect=detector(shapes_weights))
    ((video_id,),) = site.rows("SELECT video_id FROM videos")
    pauses = Pauses(site, *((stage, at) for stage in STAGES.values() for at in AT))
    run = start(site, "--retries", "3")
    at_work = {
        DOWNLOAD: barrier.requested.is_set,
        EXTRACT: lambda: half_written(site, video_id),
    }

    def kill_the_job_that_speaks(stage: StageRows, at: str) -> None:
        until(lambda: pauses.reached(stage), run, f"{stage.name} {at}")
        pauses.lift(stage, at)
        os.kill(job_of(run, stage.name), signal.SIGKILL)
        end_sessions(site)

    for stage in STAGES.values():
        kill_the_job_that_speaks(stage, "claims")
        if stage in at_work:
            until(at_work[stage], run, f"{stage.name} at work")
            os.kill(pid_of(held(site, stage.running)), signal.SIGKILL)
            barrier.open()
        kill_the_job_that_speaks(stage, "records")
    assert run.end() == 0, run.printed
    assert run.printed.count("died with <Signals.SIGKILL: 9>") == 2 * len(STAGES)
    assert site.rows("SELECT project_stage, attempts, error FROM projects") == [
        ("COMPLETE", 0, None)
    ]
    assert site.rows("SELECT status, attempts, error FROM project_videos") == [
        ("FILTERED", 0, None)
    ]
    assert story(site) == ("EXTRACTED", 0, None, None, None)
    assert leftovers(site) == []
    ((frames, folder),) = site.rows("SELECT frame_count, frames_dir FROM videos")
    assert frames == 300 == len(list((site.folder / folder).glob("*.jpg")))


def test_what_a_run_could_not_do_is_still_due(
    new_site: Callable[..., Site], start: Callable[..., Run], http: Server, clips: Path
) -> None:
    """Killed in the middle of a download: the next run asks for the rest, and for no more.

    A repetition that failed leaves what was there before, and is due again.
    """
    site = new_site("site")
    clip = clips / "long.mp4"
    half = clip.stat().st_size // 2
    link = http.add("/half.mp4", [File(clip, '"1"', stop_after=half), File(clip, '"1"')])
    small_blocks = {"min_bytes_per_second": 1}
    populate(site, {"urls": [link]}, download=small_blocks, monitor={"retry_seconds": 0.1})
    run = start(site, "only_download", "--retries", "0")

    def there() -> int:
        return sum(part.stat().st_size for part in site.folder.rglob(".*.resume/*.part"))

    until(lambda: there() > half - 10_000, run)
    os.kill(job_of(run, "download"), signal.SIGKILL)
    assert run.end() == 1
    status, attempts, owner, error, error_class = story(site)
    assert (status, attempts, owner, error_class) == ("PENDING", 0, None, "killed")
    assert error.startswith("the job died: SIGKILL. Next: run snakemake again")
    assert "the job died: SIGKILL" in run.printed  # in what ends the run
    came = there()
    site.mine("only_download")
    assert story(site) == ("DOWNLOADED", 0, None, None, None)
    assert http.ranges["/half.mp4"][-1] == f"bytes={came}-"
    ((path,),) = site.rows("SELECT video_path FROM videos")
    assert (site.folder / path).read_bytes() == clip.read_bytes()
    assert there() == 0

    good = contents(site)
    site.configure(**{**site.config(), "download": {**small_blocks, "max_height": 720}})
    assert jobs(site.snakemake("-n", "only_download")) == {}, "what was fetched stays"
    ((video_id,),) = site.rows("SELECT video_id FROM videos")
    assert site.dataminer_here("retry", "--download", video_id).returncode == 0
    http.add("/half.mp4", Reply(status=503))
    assert start(site, "only_download", "--retries", "0").end() == 0
    assert contents(site) == good
    http.add("/half.mp4", clip)
    assert jobs(site.mine("only_download")) == {"download": 1, "only_download": 1}
    again = site.mine("only_download", "-n")
    assert jobs(again) == {}, again.stderr + again.stdout
    assert story(site) == ("DOWNLOADED", 0, None, None, None)


@pytest.fixture(scope="module")
def undisturbed(
    server: str,
    template: str,
    http: Server,
    clips: Path,
    shapes_weights: Path,
    tmp_path_factory: Any,
) -> tuple[dict[str, str], dict[str, list[dict[str, Any]]]]:
    """What is left when nothing happens: files and rows."""
    with fresh_database(server, template, "site") as url:
        site = Site(tmp_path_factory.mktemp("undisturbed"), url)
        populate(site, both(http, clips, clips / "long.mp4"), detect=detector(shapes_weights))
        without_snakemake(site, "detect")
        return contents(site), facts(site)


def both(http: Server, clips: Path, last: Path | Barrier) -> dict[str, list[str]]:
    url = http.add("/clip.mp4", last)
    return {"urls": [url], "files": [str(clips / "short.mp4")]}


def test_a_killed_run_is_finished_by_the_next(
    new_site: Callable[..., Site],
    start: Callable[..., Run],
    http: Server,
    clips: Path,
    undisturbed: tuple[dict[str, str], dict[str, list[dict[str, Any]]]],
    shapes_weights: Path,
) -> None:
    """Five runs, each of them killed in another stage, and one that ends."""
    site, barrier = new_site("site"), Barrier(clips / "long.mp4")
    populate(site, both(http, clips, barrier), detect=detector(shapes_weights))
    ((from_url,),) = site.rows("SELECT video_id FROM videos WHERE source_type = 'URL'")
    pauses = Pauses(site, *((stage, "records") for stage in (FILTER, DEDUP, DETECT)))
    strikes = {
        DOWNLOAD: barrier.requested.is_set,
        EXTRACT: lambda: half_written(site, from_url),
        FILTER: lambda: pauses.reached(FILTER),
        DEDUP: lambda: pauses.reached(DEDUP),
        DETECT: lambda: pauses.reached(DETECT),
    }
    for stage, strike in strikes.items():
        run = start(site)
        until(strike, run, stage.running)
        run.signal(signal.SIGKILL)
        run.end()
        assert stage.running in states(site, stage)
        barrier.open()
        pauses.lift(stage, "records")
        end_sessions(site)
        unlock(site, as_users_do=stage is DOWNLOAD)
    site.mine()
    files, rows = undisturbed
    assert contents(site) == files
    assert facts(site) == rows
    assert leftovers(site) == []


def unlock(site: Site, *, as_users_do: bool) -> None:
    """Take a killed run's lock away; the command that does no more than this takes seconds."""
    locks = site.folder / ".snakemake" / "locks"
    assert list(locks.iterdir())
    if as_users_do:
        unlocked = site.snakemake("--unlock")
        assert unlocked.returncode == 0, unlocked.stderr
        assert not locks.exists()
    else:
        shutil.rmtree(locks)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Name a folder for an embedded database; stopped and removed after the test's runs."""
    folder = tmp_path / "postgres"
    yield folder
    control.stop(folder)
    shutil.rmtree(folder.resolve(), ignore_errors=True)


def test_a_killed_database_does_not_stop_the_run(
    home: Path,
    start: Callable[..., Run],
    http: Server,
    clips: Path,
    tmp_path: Path,
    shapes_weights: Path,
) -> None:
    """It is killed once in each stage of one run."""
    environment = {"DATAMINER_PGDATA": str(home)}
    site, barrier = Site(tmp_path, ""), Barrier(clips / "long.mp4")
    site.configure(
        project="birds",
        input={"urls": [http.add("/clip.mp4", barrier)]},
        filter={"min_sharpness": 0},
        extract={"every_seconds": 0.04},
        detect=detector(shapes_weights),
    )
    populated = site.dataminer("populate", **environment)
    assert populated.returncode == 0, populated.stderr
    seen = Site(tmp_path, control.url(home))
    ((video_id,),) = seen.rows("SELECT video_id FROM videos")
    pauses = Pauses(seen, *((stage, "records") for stage in (FILTER, DEDUP, DETECT)))
    strikes: dict[Any, Callable[[], bool]] = {
        DOWNLOAD: barrier.requested.is_set,
        EXTRACT: lambda: half_written(site, video_id),
        FILTER: lambda: pauses.reached(FILTER),
        DEDUP: lambda: pauses.reached(DEDUP),
        DETECT: lambda: pauses.reached(DETECT),
    }
    postmaster = home.resolve() / "data" / "postmaster.pid"
    run = start(site, **environment)
    for stage, strike in strikes.items():
        until(strike, run, stage.running)
        pauses.lift(stage, "records")
        assert stage.running in states(seen, stage)
        os.kill(int(postmaster.read_text().split()[0]), signal.SIGKILL)
        barrier.open()
        until(lambda: answers(seen), run, f"the database, killed when {stage.running}")
    assert run.end() == 0, run.printed
    assert run.printed.count("the database has crashed and is being restarted") == len(strikes)
    assert story(seen) == ("EXTRACTED", 0, None, None, None)
    assert seen.rows("SELECT project_stage, attempts FROM projects") == [("COMPLETE", 0)]
    assert leftovers(site) == []


def answers(site: Site) -> bool:
    try:
        return site.rows("SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def test_jobs_that_wake_up_too_late_change_nothing(
    new_site: Callable[..., Site],
    start: Callable[..., Run],
    http: Server,
    clips: Path,
    tmp_path: Path,
) -> None:
    """Two of them: one makes a video again that exists already, the other one that is not."""
    settings: dict[str, Any] = {
        "store": str(tmp_path / "store"),
        "monitor": {"heartbeat_seconds": 0.5, "stale_threshold_minutes": 0.05},
    }
    one = new_site("one")
    two = new_site("two", one.database)
    short, store = clips / "short.mp4", Site(tmp_path, "")
    links = {name: http.add(name, short) for name in ("/made.mp4", "/new.mp4")}
    populate(one, {"urls": [links["/made.mp4"]]}, **settings)
    without_snakemake(one, "download")
    settings["download"] = {"max_height": 720}
    for site in (one, two):
        populate(site, {"urls": [*links.values()]}, **settings)
    barriers = {name: Barrier(short) for name in links}
    for name, barrier in barriers.items():
        http.add(name, [barrier, short])
    again = ("only_download", "--retries", "0", "--forcerun", "download")
    late = start(one, *again)
    until(lambda: all(barrier.requested.is_set() for barrier in barriers.values()), late)
    workers = [pid_of(owner) for _, _, owner, *_ in one.rows(STORY)]
    # with what watches over them, as when a machine is suspended
    sleepers = {*workers, *(psutil.Process(pid).ppid() for pid in workers)}
    for pid in sleepers:
        os.kill(pid, signal.SIGSTOP)
    # else the other run waits for them, and then takes what is there
    stale = "SELECT count(*) FROM videos WHERE heartbeat_at < clock_timestamp() - interval '3 s'"
    until(lambda: one.rows(stale) == [(2,)], late, "stale claims")
    second = start(two, *again)
    assert second.end() == 0, second.printed
    before, rows = store.listing("store"), one.dump()
    assert one.rows(STORY) == [("DOWNLOADED", 0, None, None, None)] * 2
    for pid in sleepers:
        os.kill(pid, signal.SIGCONT)
    for barrier in barriers.values():
        barrier.open()
    assert late.end() == 0, late.printed
    stopped = "was taken over by another job, so this one stopped and changed nothing"
    logs = [log.read_text() for log in one.folder.glob("logs/download/*/*.log")]
    assert len(logs) == 2 and all(stopped in log for log in logs), logs
    assert store.listing("store") == before
    assert one.dump()["videos"] == rows["videos"]


def test_two_runs_share_their_videos(
    new_site: Callable[..., Site],
    start: Callable[..., Run],
    http: Server,
    clips: Path,
    tmp_path: Path,
) -> None:
    """Both want both at the same time: each is fetched by one, and the other waits for it."""
    short = clips / "short.mp4"
    barriers = {f"/shared{number}.mp4": Barrier(short) for number in range(2)}
    urls = [http.add(name, barrier) for name, barrier in barriers.items()]
    one = new_site("one")
    two = new_site("two", one.database)
    for site, project in ((one, "birds"), (two, "fish")):
        populate(site, {"urls": urls}, project=project, store=str(tmp_path / "store"))
    runs = [start(site, "only_extract") for site in (one, two)]

    def waiting() -> int:
        logs = [log for site in (one, two) for log in site.folder.glob("logs/download/*/*.log")]
        return sum("waiting" in log.read_text() for log in logs)

    until(lambda: waiting() == len(barriers), runs[0], "a job of the other run that waits")
    for barrier in barriers.values():
        barrier.open()
    for run in runs:
        assert run.end() == 0, run.printed
    assert {name: http.requests[name] for name in barriers} == dict.fromkeys(barriers, 1)
    assert one.rows("SELECT name, videos_extracted FROM projects ORDER BY 1") == [
        ("birds", 2),
        ("fish", 2),
    ]
    # one claim for the download, one for the extraction
    assert one.rows("SELECT DISTINCT status, lease, attempts FROM videos") == [("EXTRACTED", 2, 0)]


def test_ctrl_c_gives_everything_back(
    new_site: Callable[..., Site], start: Callable[..., Run], http: Server, clips: Path
) -> None:
    site, barrier = new_site("site"), Barrier(clips / "short.mp4")
    patient = {"socket_timeout": 2 * PATIENCE}
    link = http.add("/clip.mp4", barrier)
    populate(site, {"urls": [link]}, download=patient)
    run = start(site, "only_download")
    until(barrier.requested.is_set, run)
    run.signal(signal.SIGINT)
    assert run.end() != 0
    assert story(site) == ("PENDING", 0, None, None, None)
    assert contents(site) == {}
    barrier.open()
    site.mine("only_download")
    assert story(site) == ("DOWNLOADED", 0, None, None, None)
