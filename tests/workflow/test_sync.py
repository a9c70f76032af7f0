"""`dataminer sync` on a really mined project: whatever was deleted by hand is whole again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dataminer.frames import read_table
from tests.support.postgres import fresh_database
from tests.support.site import Site, counters, jobs, recount, stage


def frames_of(site: Site, name: str) -> Path:
    (folder,) = (site.folder / "data" / "frames").glob(f"{name}-*")
    return folder


def synced(site: Site, *arguments: str) -> str:
    done = site.dataminer("sync", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen(site: Site) -> dict[str, object]:
    """Return the size of each file, and of dedup's tables the rows.

    Beside the rows, these say how much was compared; the report tells how long jobs took.
    """
    found: dict[str, object] = {}
    for path, (size, *_) in site.listing().items():
        table = re.search(r"/dedup/\w+\.parquet$", path)
        rows = read_table(site.folder / path).to_pylist() if table else size
        found[path] = None if path.endswith("/report/index.html") else rows
    return found


def assert_whole(site: Site, before: dict[str, object], project: str = "birds") -> None:
    assert stage(site, project) == "COMPLETE"
    assert counters(site, project) == recount(site, project)
    assert seen(site) == before
    assert synced(site, "--deep") == "nothing to mend\n"
    assert jobs(site.snakemake("-n")) == {}


def test_a_finished_project_has_nothing_to_mend(mined: Site):
    before = (mined.dump(), mined.listing())
    assert synced(mined) == "nothing to mend\n"
    assert synced(mined, "--deep", "--project", "birds") == "nothing to mend\n"
    assert (mined.dump(), mined.listing()) == before


def test_a_deleted_frames_folder(mined: Site):
    before = seen(mined)
    shutil.rmtree(frames_of(mined, "cars"))
    assert "EXTRACTED -> DOWNLOADED" in synced(mined)
    assert counters(mined, "birds")[3] == 2
    made = jobs(mined.mine())
    assert made == {"extract": 1, "filter": 1, "dedup": 1, "detect": 1, "report": 1, "all": 1}
    assert_whole(mined, before)


@pytest.mark.parametrize("folder", ["frames", "filtered", "dedup", "detect/images"])
def test_one_deleted_image(mined: Site, folder):
    before = seen(mined)
    place = mined.folder / "data" / "projects" / "birds" / folder
    place = frames_of(mined, "cars") if folder == "frames" else place
    place = next(place.glob("cars-*")) if folder == "filtered" else place
    sorted(place.glob("*.jpg"))[0].unlink()
    assert synced(mined) == "nothing to mend\n"
    assert "removed" in synced(mined, "--deep")
    made = jobs(mined.mine())
    assert "download" not in made
    assert_whole(mined, before)


def test_deleted_rows(mined: Site):
    before, files = seen(mined), mined.listing()
    mined.rows("DELETE FROM project_videos WHERE video_id LIKE 'cars-%'")
    mined.rows("DELETE FROM project_videos WHERE video_id LIKE 'bottles-%'")
    mined.rows("DELETE FROM videos WHERE video_id LIKE 'cars-%' OR video_id LIKE 'bottles-%'")
    synced(mined)
    assert stage(mined, "birds") == "COMPLETE"
    again = mined.mine()
    assert jobs(again) == {}
    assert mined.listing() == files
    assert_whole(mined, before)
    types = mined.rows("SELECT split_part(video_id, '-', 1), source_type FROM videos"
        " WHERE source_info->>'origin' = 'files' ORDER BY 1")  # fmt: skip
    assert types == [("bottles", "URL"), ("cars", "FILE")]


def test_a_new_database_takes_up_a_finished_store(mined: Site, server, template):
    before, files = seen(mined), mined.listing()
    with fresh_database(server, template, "site") as url:
        fresh = Site(mined.folder, url)
        assert fresh.dataminer("populate").returncode == 0
        synced(fresh)
        assert stage(fresh, "birds") == "COMPLETE"
        assert jobs(fresh.mine()) == {}
        assert fresh.listing() == files
        told = "SELECT video_id, status, video_path, frames_dir, frame_count, error FROM videos"
        told += " ORDER BY video_id"
        assert fresh.rows(told) == mined.rows(told)
        assert_whole(fresh, before)


def test_a_deleted_project_leaves_the_other_whole(mined: Site):
    config = mined.config()
    before, files = seen(mined), mined.listing()
    config["project"] = "fish"
    config["input"] = {"files": [config["input"]["files"][0]]}
    mined.configure(**config)
    assert mined.dataminer("populate").returncode == 0
    mined.mine()
    refused = mined.dataminer("delete-project", "fish", "--files")
    assert refused.returncode == 1
    assert "say --yes" in refused.stderr
    done = mined.dataminer("delete-project", "fish", "--files", "--videos", "--yes")
    assert done.returncode == 0, done.stderr
    config["project"] = "birds"
    mined.configure(**config)
    assert mined.rows("SELECT name FROM projects") == [("birds",)]
    assert mined.listing() == {
        **files,
        **{p: s for p, s in mined.listing().items() if p == "data/projects"},
    }
    assert_whole(mined, before)


def test_a_forced_stage_runs_again(mined: Site):
    before = seen(mined)
    clusters = mined.folder / "data/projects/birds/dedup/clusters.parquet"
    assert mined.dataminer("force-dedup", "birds", "--yes").returncode == 0
    assert clusters.exists(), "what was kept stays kept"
    assert mined.dataminer("force-dedup", "birds", "--rebuild", "--yes").returncode == 0
    assert not clusters.exists()
    assert stage(mined, "birds") == "DEDUP_READY"
    made = jobs(mined.mine())
    assert made == {"dedup": 1, "detect": 1, "report": 1, "all": 1}
    assert mined.dataminer("force-detect", "birds", "--yes").returncode == 0
    assert jobs(mined.mine()) == {"detect": 1, "report": 1, "all": 1}
    assert_whole(mined, before)


def test_a_deleted_video_leaves_its_project_which_is_made_again(mined: Site):
    (cars,) = mined.rows("SELECT video_id FROM videos WHERE video_id LIKE 'cars-%'")[0]
    done = mined.dataminer("delete-videos", cars, "--files", "--yes")
    assert done.returncode == 0, done.stderr
    assert stage(mined, "birds") == "DEDUP_READY"
    assert jobs(mined.mine()) == {"dedup": 1, "detect": 1, "report": 1, "all": 1}
    assert not any(cars in path for path in mined.listing())
    assert_whole(mined, seen(mined))
