"""What `snakemake -n` plans of a project of more videos than are planned whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dataminer.config import load
from dataminer.store import Store
from dataminer.targets import PLANNED_WHOLE
from tests.support import finished_videos
from tests.support.postgres import execute, fresh_database
from tests.support.site import Site, jobs

VIDEOS = [f"v{number:03d}" for number in range(PLANNED_WHOLE + 1)]
NEW = "new"
PROJECT_JOBS = {"all": 1, "dedup": 1, "detect": 1, "report": 1}


@pytest.fixture(scope="module")
def large(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A finished project; each test leaves it as it was."""
    with fresh_database(server, template, "large") as url:
        site = Site(tmp_path_factory.mktemp("large"), url)
        site.configure(project="p", detect={"model": "weights.pt"})
        finished_videos.make(site.folder / "weights.pt", 0)
        root = site.folder / "data"
        finished_videos.add(site.database, "p", VIDEOS)
        finished_videos.finish(site.database, root, load(site.config()), "p", VIDEOS)
        store = Store(root)
        for file in (
            *(store.dedup("p") / name for name in ("frames.parquet", "clusters.parquet")),
            *(store.detect("p") / name for name in ("annotations.json", "data.yaml")),
            *(store.report("p") / name for name in ("contact_sheet.jpg", "index.html")),
        ):
            finished_videos.make(
                file, finished_videos.BEGAN - 1
            )  # too old: Snakemake touches it and takes notes
        touched = site.snakemake("-c2", "--touch", "--no-hooks")
        assert jobs(touched) == PROJECT_JOBS, touched.stderr
        yield site


@pytest.fixture
def joined(large: Site) -> Iterator[Site]:
    """The same, to which one video has been added."""
    finished_videos.add(large.database, "p", [NEW])
    yield large
    execute(large.database, f"DELETE FROM project_videos WHERE video_id = '{NEW}'")


def planned(site: Site, *options: str) -> dict[str, int]:
    """Return the jobs of a plan, by rule."""
    done = site.snakemake("-n", "-q", "rules", *options)
    assert done.returncode == 0, done.stderr
    return jobs(done)


def test_a_finished_project_has_nothing_left(large: Site):
    assert planned(large) == {}


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        (("-R", "filter"), {"download": 1, "extract": 1, "filter": len(VIDEOS) + 1}),
        (("--forceall",), dict.fromkeys(("download", "extract", "filter"), len(VIDEOS) + 1)),
    ],
    ids=["-R filter", "--forceall"],
)
def test_every_video_is_planned_when_asked_for(joined: Site, options, stages):
    assert planned(joined, *options) == {**PROJECT_JOBS, **stages}


def test_a_new_video_and_a_filtered_table_that_is_gone_are_all_that_is_planned(joined: Site):
    table = finished_videos.results(joined.folder / "data", "p", VIDEOS[7])[2]
    changed = table.stat().st_mtime
    table.unlink()
    try:
        stages = {"download": 1, "extract": 1, "filter": 2}
        assert planned(joined) == {**PROJECT_JOBS, **stages}
    finally:
        finished_videos.make(table, changed)


def test_a_video_that_left_is_taken_out_of_the_dataset(large: Site):
    member = f"project_videos WHERE video_id = '{VIDEOS[3]}'"
    execute(large.database, f"CREATE TABLE left_it AS SELECT * FROM {member}; DELETE FROM {member}")
    try:
        assert planned(large) == PROJECT_JOBS
    finally:
        back = "INSERT INTO project_videos SELECT * FROM left_it; DROP TABLE left_it"
        execute(large.database, back)
