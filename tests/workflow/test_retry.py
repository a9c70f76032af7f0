"""After `dataminer retry`, the next run makes what failed, and what depends on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import videos
from tests.support.site import Site, counters, jobs, recount, stage

CHAIN = {"download": 1, "extract": 1, "filter": 1, "dedup": 1, "detect": 1, "report": 1, "all": 1}


@pytest.fixture
def broken(site: Site, footage: Path, shapes_weights: Path, tmp_path: Path) -> tuple[Site, Path]:
    """A mined project of a good video and an empty one, which may be replaced."""
    sources = tmp_path / "sources"
    sources.mkdir()
    shutil.copy(footage / "cars.mp4", sources / "cars.mp4")
    (sources / "late.mp4").touch()
    site.configure(
        project="birds",
        input={"files": [str(sources)]},
        detect={"model": str(shapes_weights), "image_size": 320},
    )
    assert site.dataminer("populate").returncode == 0
    site.mine()
    assert stage(site, "birds") == "COMPLETE"
    return site, sources / "late.mp4"


def test_a_replaced_file_runs_its_own_chain_and_dedup_and_detect(broken):
    site, source = broken
    ((video_id,),) = site.rows("SELECT video_id FROM videos WHERE status = 'FAILED'")
    before = {**site.listing("data/videos"), **site.listing("data/frames")}
    source.unlink()
    videos.make_video(source, frames=60, size=(320, 240))
    assert jobs(site.snakemake("-n")) == {}
    done = site.dataminer("retry", "--class", "empty")
    assert done.returncode == 0, done.stderr
    assert f"{video_id}: FAILED -> PENDING [empty]" in done.stdout
    assert "[empty] permanent: replace the file: it has no bytes" in done.stdout
    assert "dedup and detect run again: birds" in done.stdout
    assert "Next: `snakemake`" in done.stdout
    assert stage(site, "birds") == "FILTERING"
    planned = site.snakemake("-n")
    assert jobs(planned) == CHAIN
    assert jobs(site.mine()) == CHAIN
    after = {**site.listing("data/videos"), **site.listing("data/frames")}
    untouched = {path: seen for path, seen in before.items() if video_id not in path}
    folders = {"data/videos", "data/frames"}
    assert {path: after[path] for path in untouched if path not in folders} == untouched
    assert site.rows(f"SELECT status, error FROM videos WHERE video_id = '{video_id}'") == [
        ("EXTRACTED", None)
    ]
    assert stage(site, "birds") == "COMPLETE"
    assert counters(site, "birds") == recount(site, "birds")
    assert jobs(site.snakemake("-n")) == {}


def test_what_is_still_broken_fails_again_and_the_project_completes(mined: Site):
    before = mined.listing("data/frames")
    told = mined.dataminer("retry", "--class", "no_video", "--dry-run")
    assert "Nothing was changed" in told.stdout
    assert jobs(mined.snakemake("-n")) == {}
    assert mined.dataminer("retry", "--class", "no_video").returncode == 0
    done = jobs(mined.mine())
    assert {rule: count for rule, count in done.items() if rule != "download"} == {
        rule: count for rule, count in CHAIN.items() if rule != "download"
    }
    ((audio,),) = mined.rows("SELECT video_id FROM videos WHERE error_class = 'no_video'")
    after = mined.listing("data/frames")
    assert {path for path in before if before[path] != after[path]} <= {
        path for path in before if audio in path
    }
    assert stage(mined, "birds") == "COMPLETE"
    assert counters(mined, "birds") == recount(mined, "birds")


def test_nothing_to_try_again_is_said(mined: Site):
    done = mined.dataminer("retry", "--class", "network")
    assert (done.returncode, done.stdout) == (0, "Nothing to try again.\n")
    unknown = mined.dataminer("retry", "--video", "carrs")
    assert unknown.returncode == 1
    assert "there is no video carrs. Next: did you mean cars-" in unknown.stderr
