"""`dataminer sync` on a really mined project: whatever was deleted by hand is whole again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from dataminer.frames.table import read_table
from dataminer.sync.pairing.records import STORE_FILE
from tests.support.postgres import fresh_database
from tests.support.site import Site, counters, jobs, recount, stage

ROWS = """
SELECT p::text, pv::text FROM projects p JOIN project_videos pv USING (project_id)
WHERE p.name = '{}' ORDER BY 2
"""


def frames_of(site: Site, name: str) -> Path:
    (folder,) = (site.folder / "data" / "frames").glob(f"{name}-*/*/")
    return folder


def command(site: Site, *arguments: str) -> str:
    done = site.dataminer_here(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def synced(site: Site, *arguments: str) -> str:
    return command(site, "sync", *arguments)


def seen(site: Site) -> dict[str, object]:
    """Return the size of each file, and of dedup's tables the rows.

    Beside the rows, these say how much was compared; the report tells how long jobs took.
    """
    found: dict[str, object] = {}
    for path, (size, *_) in site.listing().items():
        if path.endswith(f"/{STORE_FILE}"):
            continue
        table = re.search(r"/dedup/\w+\.parquet$", path)
        rows = read_table(site.folder / path).to_pylist() if table else size
        found[path] = None if path.endswith("/report/index.html") else rows
    return found


def assert_whole(site: Site, before: dict[str, object], project: str = "birds") -> None:
    assert stage(site, project) == "COMPLETE"
    assert counters(site, project) == recount(site, project)
    assert seen(site) == before
    assert synced(site, "--deep") == "nothing to repair\n"


def test_a_finished_project_has_nothing_to_mend(mined: Site) -> None:
    before = (mined.dump(), mined.listing())
    assert synced(mined) == "nothing to repair\n"
    assert synced(mined, "--deep", "--project", "birds") == "nothing to repair\n"
    assert (mined.dump(), mined.listing()) == before


def test_deleted_images_and_a_deleted_folder(mined: Site) -> None:
    before = seen(mined)
    project = mined.folder / "data" / "projects" / "birds"
    made = {"dedup": 1, "detect": 1, "report": 1, "all": 1}

    def delete_an_image(folder: Path) -> None:
        sorted(folder.glob("*.jpg"))[0].unlink()
        assert synced(mined) == "nothing to repair\n"
        assert "removed" in synced(mined, "--deep")

    delete_an_image(project / "detect" / "images")
    assert stage(mined, "birds") == "DETECT_READY"
    delete_an_image(project / "dedup")
    assert jobs(mined.snakemake("-n")) == made
    delete_an_image(next((project / "filtered").glob("cars-*")))
    delete_an_image(frames_of(mined, "cut"))
    shutil.rmtree(frames_of(mined, "bottles"))
    assert "EXTRACTED -> DOWNLOADED" in synced(mined)
    assert counters(mined, "birds")[3] == 1
    assert jobs(mined.mine()) == {"extract": 2, "filter": 3, **made}
    assert_whole(mined, before)


def test_deleted_rows(mined: Site) -> None:
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


def test_a_new_database_takes_up_a_finished_store(mined: Site, server: str, template: str) -> None:
    before = seen(mined)
    with fresh_database(server, template, "site") as url:
        fresh = Site(mined.folder, url)
        command(fresh, "adopt")
        files = fresh.listing()
        fresh.populate()
        synced(fresh)
        assert stage(fresh, "birds") == "COMPLETE"
        assert jobs(fresh.mine()) == {}
        assert fresh.listing() == files
        query = "SELECT video_id, status, video_path, frames_dir, frame_count, error FROM videos"
        query += " ORDER BY video_id"
        assert fresh.rows(query) == mined.rows(query)
        assert_whole(fresh, before)


def test_a_deleted_project_leaves_the_other_whole(mined: Site) -> None:
    config = mined.config()
    before, files = seen(mined), mined.listing()
    mined.configure(
        **{**config, "project": "fish", "input": {"files": [config["input"]["files"][0]]}}
    )
    mined.populate()
    made = jobs(mined.mine("only_dedup"))
    assert made == {"filter": 1, "dedup": 1, "only_dedup": 1}
    assert stage(mined, "fish") == "DETECT_READY"
    refused = mined.dataminer_here("delete-project", "fish", "--files")
    assert refused.returncode == 1
    assert "add --yes" in refused.stderr
    command(mined, "delete-project", "fish", "--files", "--videos", "--yes")
    mined.configure(**config)
    assert mined.rows("SELECT name FROM projects") == [("birds",)]
    assert mined.listing() == {
        **files,
        **{p: s for p, s in mined.listing().items() if p == "data/projects"},
    }
    assert_whole(mined, before)


def test_a_forced_stage_is_due_again(mined: Site) -> None:
    clusters = mined.folder / "data/projects/birds/dedup/clusters.parquet"
    command(mined, "force-detect", "birds", "--yes")
    assert jobs(mined.snakemake("-n")) == {"detect": 1, "report": 1, "all": 1}
    command(mined, "force-dedup", "birds", "--yes")
    assert clusters.exists(), "what was kept stays kept"
    command(mined, "force-dedup", "birds", "--rebuild", "--yes")
    assert not clusters.exists()
    assert stage(mined, "birds") == "DEDUP_READY"
    planned = jobs(mined.snakemake("-n"))
    assert planned == {"dedup": 1, "detect": 1, "report": 1, "all": 1}


def test_a_video_leaves_one_of_two_projects_for_good(mined: Site) -> None:
    """The other has all as before; runs and sync do not bring it back, populate does."""
    config = mined.config()
    (cars,) = mined.rows("SELECT video_id FROM videos WHERE video_id LIKE 'cars-%'")[0]
    files = [name for name in config["input"]["files"] if "cars" in name or "cut" in name]
    mined.configure(**{**config, "project": "fish", "input": {"files": files}})
    mined.populate()
    mined.mine("only_dedup")

    def of_birds() -> tuple[object, ...]:
        listing = mined.listing()
        own = {p: listing[p] for p in listing if not p.startswith("data/projects/fish")}
        return own, mined.rows(ROWS.format("birds")), mined.rows("SELECT v::text FROM videos v")

    before = of_birds()
    reported = command(mined, "delete-videos", cars[:6], "--project", "fish", "--yes")
    assert f"video {cars} out of project fish" in reported
    assert of_birds() == before
    for made in ({"dedup": 1, "only_dedup": 1}, {}):
        assert jobs(mined.mine("only_dedup")) == made
        assert cars not in str(mined.rows(ROWS.format("fish")))
        assert counters(mined, "fish")[0] == 1
        assert not any(p.startswith("data/projects/fish") and cars in p for p in mined.listing())
        synced(mined, "--deep")
    assert of_birds() == before
    mined.populate()
    assert jobs(mined.mine("only_dedup")) == {"filter": 1, "dedup": 1, "only_dedup": 1}
    assert counters(mined, "fish")[0] == 2
    mined.configure(**config)
    assert jobs(mined.mine()) == {}


def test_a_deleted_video_leaves_its_project_which_is_made_again(mined: Site) -> None:
    (cars,) = mined.rows("SELECT video_id FROM videos WHERE video_id LIKE 'cars-%'")[0]
    command(mined, "delete-videos", cars, "--files", "--yes")
    assert stage(mined, "birds") == "DEDUP_READY"
    assert jobs(mined.mine()) == {"dedup": 1, "detect": 1, "report": 1, "all": 1}
    assert not any(cars in path for path in mined.listing())
    assert_whole(mined, seen(mined))
