"""Whole runs that are killed, stopped, interrupted or robbed of their database: all of it heals."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataminer.db import embedded
from tests.support import videos
from tests.support.http_server import File, Reply, Server, serve
from tests.support.postgres import fresh_database
from tests.support.runs import (
    FILTER,
    PATIENCE,
    Gate,
    contents,
    detector,
    facts,
    half_written,
    held,
    job_of,
    leftovers,
    pid_of,
    populate,
    story,
    until,
)
from tests.support.site import Site, jobs

pytestmark = pytest.mark.slow

# what a killed job was doing last: its files lie in place, and the COMMIT that says so never comes
_SLOW_RECORD = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON {table} FOR EACH ROW
    WHEN (OLD.{status} = '{running}' AND NEW.{status} <> OLD.{status}) EXECUTE FUNCTION slow()
"""
_SLOW_CLAIM = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON {table} FOR EACH ROW
    WHEN (NEW.{status} = '{running}' AND NEW.{status} <> OLD.{status}) EXECUTE FUNCTION slow()
"""
_RECORDING = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'
"""
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short clip, and one whose 400 frames take a second or two to write."""
    folder = tmp_path_factory.mktemp("clips")
    videos.make_video(folder / "short.mp4", frames=60)
    videos.make_video(folder / "long.mp4", frames=400, size=(640, 360), gop=50)
    return folder


@pytest.fixture(scope="module")
def http() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.mark.parametrize("status", ["DOWNLOADING", "EXTRACTING"])
def test_a_killed_job_is_done_again_by_the_same_run(new_site, start, http, clips, status):
    gate = Gate(clips / "long.mp4")
    site = new_site("site")
    populate(site, {"urls": [http.add("/clip.mp4", [clips / "long.mp4", gate])]})
    run = start(site, "only_extract")
    if status == "EXTRACTING":
        gate.open()
        until(lambda: half_written(site), run)
    until(lambda: held(site, status), run)
    os.kill(pid_of(held(site, status)), signal.SIGKILL)
    gate.open()
    assert run.end() == 0, run.said
    assert "SIGKILL" in run.said
    assert story(site) == ("EXTRACTED", 0, None, None, None)
    assert leftovers(site) == []
    ((frames, folder),) = site.rows("SELECT frame_count, frames_dir FROM videos")
    assert frames == 400 == len(list((site.folder / folder).glob("*.jpg")))


@pytest.mark.parametrize("moment", ["claims", "records"])
@pytest.mark.parametrize(
    ("table", "column", "running"),
    [
        ("videos", "status", "DOWNLOADING"),
        ("videos", "status", "EXTRACTING"),
        ("project_videos", "status", "FILTERING"),
        ("projects", "project_stage", "DEDUPING"),
        ("projects", "project_stage", "DETECTING"),
    ],
)
def test_a_job_killed_while_it_speaks_to_the_database_is_done_again_by_the_same_run(
    new_site, start, clips, shapes_weights, table, column, running, moment
):
    site = new_site("site")
    populate(site, {"files": [str(clips / "short.mp4")]}, detect=detector(shapes_weights))
    slow = _SLOW_RECORD if moment == "records" else _SLOW_CLAIM
    # not long: what the run itself writes for the dead job is slow as well
    site.rows(slow.format(table=table, status=column, running=running, seconds=3))
    run = start(site)
    until(lambda: site.rows(_RECORDING), run)
    ((name,),) = site.rows(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'PgSleep'"
    )
    os.kill(job_of(run, name.split()[0]), signal.SIGKILL)
    site.rows(_END_OTHERS)
    site.rows("DROP FUNCTION slow() CASCADE")
    assert run.end() == 0, run.said
    assert "SIGKILL" in run.said
    assert site.rows("SELECT project_stage, attempts, error FROM projects") == [
        ("COMPLETE", 0, None)
    ]
    assert site.rows("SELECT status, attempts, error FROM project_videos") == [
        ("FILTERED", 0, None)
    ]
    assert story(site) == ("EXTRACTED", 0, None, None, None)
    assert leftovers(site) == []


def test_the_run_says_how_a_job_died_that_could_not(new_site, start, http, clips):
    """Killed in the middle of a download: the next run asks for the rest, and for no more."""
    site = new_site("site")
    clip = clips / "long.mp4"
    half = clip.stat().st_size // 2
    link = http.add("/half.mp4", [clip, File(clip, '"1"', stop_after=half), File(clip, '"1"')])
    populate(site, {"urls": [link]}, download={"min_bytes_per_second": 1})  # small blocks
    run = start(site, "only_download", "--retries", "0")

    def there() -> int:
        return sum(part.stat().st_size for part in site.folder.rglob(".*.resume/*.part"))

    until(lambda: there() > half - 10_000, run)
    os.kill(pid_of(held(site, "DOWNLOADING")), signal.SIGKILL)
    assert run.end() == 1
    status, attempts, owner, error, error_class = story(site)
    assert (status, attempts, owner, error_class) == ("PENDING", 1, None, "killed")
    assert error.startswith("the job died: SIGKILL. Next: run snakemake again")
    assert "the job died: SIGKILL" in run.said  # in the table that ends the run
    came = there()
    assert start(site, "only_download").end() == 0
    assert story(site) == ("DOWNLOADED", 0, None, None, None)
    assert http.ranges["/half.mp4"][-1] == f"bytes={came}-"
    ((path,),) = site.rows("SELECT video_path FROM videos")
    assert (site.folder / path).read_bytes() == clip.read_bytes()
    assert there() == 0


@pytest.fixture(scope="module")
def undisturbed(
    server: str,
    template: str,
    http: Server,
    clips: Path,
    shapes_weights: Path,
    tmp_path_factory: Any,
) -> tuple[dict[str, str], dict[str, list[dict[str, Any]]]]:
    """What a run leaves in which nothing happens: its files and its rows."""
    with fresh_database(server, template, "site") as url:
        site = Site(tmp_path_factory.mktemp("undisturbed"), url)
        populate(site, both(http, clips, clips / "long.mp4"), detect=detector(shapes_weights))
        site.mine()
        return contents(site), facts(site)


def both(http: Server, clips: Path, last: Path | Gate) -> dict[str, list[str]]:
    url = http.add("/clip.mp4", [clips / "long.mp4", last])
    return {"urls": [url], "files": [str(clips / "short.mp4")]}


@pytest.mark.parametrize(
    ("table", "column", "running"),
    [
        (None, None, "DOWNLOADING"),
        (None, None, "EXTRACTING"),
        ("project_videos", "status", "FILTERING"),
        ("projects", "project_stage", "DEDUPING"),
        ("projects", "project_stage", "DETECTING"),
    ],
)
def test_a_killed_run_is_finished_by_the_next(
    new_site, start, http, clips, undisturbed, shapes_weights, table, column, running
):
    site, gate = new_site("site"), Gate(clips / "long.mp4")
    populate(site, both(http, clips, gate), detect=detector(shapes_weights))
    if running != "DOWNLOADING":
        gate.open()
    if table:
        names = {"table": table, "status": column, "running": running}
        site.rows(_SLOW_RECORD.format(**names, seconds=60))
    run = start(site)
    struck = {
        "DOWNLOADING": lambda: held(site, running) and http.requests["/clip.mp4"] > 1,
        "EXTRACTING": lambda: half_written(site),
    }
    until(struck.get(running, lambda: site.rows(_RECORDING)), run)
    run.signal(signal.SIGKILL)
    run.end()
    gate.open()
    site.rows(_END_OTHERS)
    site.rows("DROP FUNCTION IF EXISTS slow() CASCADE")
    unlocked = site.snakemake("--unlock")
    assert unlocked.returncode == 0, unlocked.stderr
    site.mine()
    files, rows = undisturbed
    assert contents(site) == files
    assert facts(site) == rows
    assert leftovers(site) == []


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Name a folder for an embedded database; stopped and removed after the test's runs."""
    place = tmp_path / "postgres"
    yield place
    embedded.stop(place)
    shutil.rmtree(place.resolve(), ignore_errors=True)


@pytest.mark.parametrize(
    ("table", "column", "running"),
    [
        (None, None, "DOWNLOADING"),
        (None, None, "EXTRACTING"),
        ("project_videos", "status", "FILTERING"),
        ("projects", "project_stage", "DEDUPING"),
        ("projects", "project_stage", "DETECTING"),
    ],
)
def test_a_killed_database_does_not_stop_the_run(
    home, start, http, clips, tmp_path, shapes_weights, table, column, running
):
    place = {"DATAMINER_PGDATA": str(home)}
    site, gate = Site(tmp_path, ""), Gate(clips / "long.mp4")
    url = http.add("/clip.mp4", [clips / "long.mp4", gate])
    if running != "DOWNLOADING":
        gate.open()
    site.configure(
        project="birds",
        input={"urls": [url]},
        filter=FILTER,
        extract={"every_seconds": 0.04},
        detect=detector(shapes_weights),
    )
    populated = site.dataminer("populate", **place)
    assert populated.returncode == 0, populated.stderr
    seen = Site(tmp_path, embedded.url(home))
    if table:
        names = {"table": table, "status": column, "running": running}
        seen.rows(_SLOW_RECORD.format(**names, seconds=2))
    run = start(site, "all" if running == "DETECTING" else "only_dedup", **place)
    struck = {
        "DOWNLOADING": lambda: held(seen, running),
        "EXTRACTING": lambda: half_written(site),
    }
    until(struck.get(running, lambda: seen.rows(_RECORDING)), run)
    postmaster = home.resolve() / "data" / "postmaster.pid"
    os.kill(int(postmaster.read_text().split()[0]), signal.SIGKILL)
    gate.open()
    assert run.end() == 0, run.said
    again = Site(tmp_path, embedded.start(home, create=False))
    assert story(again) == ("EXTRACTED", 0, None, None, None)
    last = "COMPLETE" if running == "DETECTING" else "DETECT_READY"
    assert again.rows("SELECT project_stage FROM projects") == [(last,)]
    assert leftovers(site) == []


@pytest.mark.parametrize("made_before", [False, True])
def test_a_job_that_wakes_up_too_late_changes_nothing(
    new_site, start, http, clips, tmp_path, made_before
):
    settings: dict[str, Any] = {
        "store": str(tmp_path / "store"),
        "monitor": {"heartbeat_seconds": 0.5, "stale_threshold_minutes": 0.05},
    }
    one = new_site("one")
    two = new_site("two", one.database)
    short, gate, store = clips / "short.mp4", Gate(clips / "short.mp4"), Site(tmp_path, "")
    inputs = {"urls": [http.add("/clip.mp4", short)]}
    populate(one, inputs, **settings)
    if made_before:
        one.mine("only_download")
        settings["download"] = {"max_height": 720}
        one.configure(**{**one.config(), **settings})
    populate(two, inputs, **settings)
    http.add("/clip.mp4", [short, gate, short])
    asked = http.requests["/clip.mp4"]
    late = start(one, "only_download", "--retries", "0")
    until(lambda: http.requests["/clip.mp4"] >= asked + 2, late)
    sleeper = pid_of(held(one, "DOWNLOADING"))
    os.kill(sleeper, signal.SIGSTOP)
    second = start(two, "only_download", "--forcerun", "download")
    assert second.end() == 0, second.said
    before, rows = store.listing("store"), one.dump()
    assert story(one) == ("DOWNLOADED", 0, None, None, None)
    os.kill(sleeper, signal.SIGCONT)
    gate.open()
    assert late.end() == 1, late.said
    assert "was taken over by another job, so this one stopped and changed nothing" in late.said
    assert store.listing("store") == before
    assert one.dump()["videos"] == rows["videos"]


def test_a_repetition_that_failed_is_still_due(new_site, start, http, clips):
    site = new_site("site")
    short = clips / "short.mp4"
    inputs = {"urls": [http.add("/clip.mp4", short)]}
    populate(site, inputs)
    site.mine("only_download")
    good = contents(site)
    site.configure(**{**site.config(), "download": {"max_height": 720}})
    http.add("/clip.mp4", Reply(status=503))
    assert start(site, "only_download", "--retries", "0").end() == 1
    assert contents(site) == good
    http.add("/clip.mp4", short)
    assert jobs(site.mine("only_download")) == {"download": 1, "only_download": 1}
    assert jobs(site.mine("only_download")) == {}
    assert story(site) == ("DOWNLOADED", 0, None, None, None)


def test_two_runs_share_three_videos(new_site, start, http, clips, tmp_path, shapes_weights):
    def slow(target: str) -> Reply:
        time.sleep(0.5)
        return Reply(200, (clips / "short.mp4").read_bytes(), "video/mp4")

    names = [f"/shared{number}.mp4" for number in range(3)]
    urls = [http.add(name, slow) for name in names]
    one = new_site("one")
    two = new_site("two", one.database)
    for site, project in ((one, "birds"), (two, "fish")):
        shared = {"store": str(tmp_path / "store"), "detect": detector(shapes_weights)}
        populate(site, {"urls": urls}, project=project, **shared)
    runs = [start(site) for site in (one, two)]
    for run in runs:
        assert run.end() == 0, run.said
    # yt-dlp looks at a direct link once, and then fetches it
    assert {name: http.requests[name] for name in names} == dict.fromkeys(names, 2)
    assert one.rows("SELECT name, project_stage, videos_extracted FROM projects ORDER BY 1") == [
        ("birds", "COMPLETE", 3),
        ("fish", "COMPLETE", 3),
    ]
    # one claim for the download, one for the extraction
    assert one.rows("SELECT DISTINCT status, lease, attempts FROM videos") == [("EXTRACTED", 2, 0)]


def test_ctrl_c_gives_everything_back(new_site, start, http, clips):
    site, gate = new_site("site"), Gate(clips / "short.mp4")
    patient = {"socket_timeout": 2 * PATIENCE}
    link = http.add("/clip.mp4", [clips / "short.mp4", gate])
    populate(site, {"urls": [link]}, download=patient)
    run = start(site, "only_filter")
    asked = http.requests["/clip.mp4"]
    until(lambda: http.requests["/clip.mp4"] >= asked + 2, run)
    run.signal(signal.SIGINT)
    assert run.end() != 0
    assert story(site) == ("PENDING", 0, None, None, None)
    assert contents(site) == {}
    gate.open()
    site.mine("only_filter")
    assert story(site) == ("EXTRACTED", 0, None, None, None)
    assert site.rows("SELECT status, passed_frames FROM project_videos") == [("FILTERED", 60)]
