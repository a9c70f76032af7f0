"""Videos that come later, and failed ones after `dataminer retry`: what the next run makes."""

from __future__ import annotations

from pathlib import Path

from dataminer.frames.table import FRAMES_FILE, read_meta
from tests.support import videos
from tests.support.site import Site, counters, jobs, recount, stage

PROJECT = {"dedup": 1, "detect": 1, "report": 1, "all": 1}


def id_of(site: Site, name: str) -> str:
    ((video_id,),) = site.rows(f"SELECT video_id FROM videos WHERE video_id LIKE '{name}-%'")
    return str(video_id)


def test_failures_that_are_tried_again_and_a_video_that_came_later(
    mined: Site, tmp_path: Path
) -> None:
    """One file is replaced and the other one still broken; the project completes again."""
    audio, kept = id_of(mined, "audio"), set(mined.listing("data/projects/birds/dedup"))
    reported = mined.dataminer_here("retry", "--class", "no_video", "--dry-run")
    assert "Nothing was changed" in reported.stdout
    assert stage(mined, "birds") == "COMPLETE"
    done = mined.dataminer_here("retry", "--class", "no_video")
    assert done.returncode == 0, done.stderr
    assert "Dedup and detect will run again too: birds" in done.stdout
    assert "Next: `snakemake --config project=birds`" in done.stdout
    assert stage(mined, "birds") == "FILTERING"

    source = tmp_path / "late.mp4"
    source.touch()
    added = mined.dataminer_here("add-video", str(source), "--project", "birds")
    assert added.returncode == 0, added.stderr
    late = id_of(mined, "late")
    failed = mined.mine("only_download")
    assert f"video {late} FAILED" in failed.stderr
    before = {**mined.listing("data/videos"), **mined.listing("data/frames")}
    source.unlink()
    videos.make_video(source, frames=60, size=(320, 240))
    assert "download" not in jobs(mined.snakemake("-n", "only_download"))
    done = mined.dataminer_here("retry", "--class", "empty")
    assert f"{late}: FAILED -> PENDING [empty]" in done.stdout
    assert "[empty] permanent: replace the file, which has no bytes" in done.stdout
    assert jobs(mined.mine()) == {"download": 1, "extract": 1, "filter": 2, **PROJECT}

    after = {**mined.listing("data/videos"), **mined.listing("data/frames")}
    untouched = {
        path: seen
        for path, seen in before.items()
        if path not in {"data/videos", "data/frames"} and late not in path and audio not in path
    }
    assert {path: after[path] for path in untouched} == untouched
    assert kept <= set(mined.listing("data/projects/birds/dedup"))
    judged = read_meta(mined.folder / "data/projects/birds/dedup" / FRAMES_FILE)["judged"]
    row = "SELECT status, error, source_type FROM videos"
    assert mined.rows(f"{row} WHERE video_id = '{late}'") == [("EXTRACTED", None, "MANUAL")]
    passed = f"SELECT passed_frames FROM project_videos WHERE video_id = '{late}'"
    assert mined.rows(passed) == [(judged,)], "only what is new is compared"
    failures = "SELECT video_id, error_class FROM videos WHERE status = 'FAILED'"
    assert mined.rows(failures) == [(audio, "no_video")]
    assert stage(mined, "birds") == "COMPLETE"
    assert counters(mined, "birds") == recount(mined, "birds")
    assert jobs(mined.snakemake("-n")) == {}


def test_nothing_to_try_again_is_said(mined: Site) -> None:
    done = mined.dataminer_here("retry", "--class", "network")
    assert (done.returncode, done.stdout) == (0, "Nothing to retry.\n")
    unknown = mined.dataminer_here("retry", "--video", "carrs")
    assert unknown.returncode == 1
    assert "there is no video carrs. Next: did you mean cars-" in unknown.stderr
