"""What `snakemake -n` plans of a project of many videos."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dataminer.config import load
from tests.support import finished_videos
from tests.support.paths import ROOT
from tests.support.postgres import execute, fresh_database
from tests.support.site import Site, jobs

VIDEOS = [f"v{number:03d}" for number in range(600)]
NEW = "new"
PROJECT_JOBS = {"all": 1, "dedup": 1, "detect": 1, "report": 1}


@pytest.fixture(scope="module")
def large(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A finished project; each test leaves it as it was."""
    with fresh_database(server, template, "large") as url:
        site = Site(tmp_path_factory.mktemp("large"), url)
        site.configure(project="p", detect={"model": "weights.pt"})
        finished_videos.make(site.folder / "weights.pt", 0)
        root, config = site.folder / "data", load(site.config())
        finished_videos.add(site.database, "p", VIDEOS)
        finished_videos.finish(site.database, root, config, "p", VIDEOS)
        finished_videos.finish_project(site.database, root, config, "p")
        assert site.dataminer_here("adopt").returncode == 0
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


def test_a_finished_project_has_nothing_left(large: Site) -> None:
    assert planned(large) == {}


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        (("-R", "filter"), ("download", "extract", "filter")),
        (("--forceall",), ("download", "extract", "filter")),
    ],
    ids=["-R filter", "--forceall"],
)
def test_every_video_is_planned_when_asked_for(
    joined: Site, options: tuple[str, ...], rules: tuple[str, ...]
) -> None:
    done = joined.snakemake("-n", "-c2", *options)
    planned = jobs(done)
    assert PROJECT_JOBS.items() <= planned.items()
    assert set(planned) == {*PROJECT_JOBS, *rules}
    assert f"filter for project p: {len(VIDEOS) + 1} due" in done.stdout


@pytest.mark.parametrize(
    ("options", "jobs_of_filter"),
    [
        ((), 7),  # 601 videos of an unknown length, which counts as ten minutes: 152 s of work
        (("--resources", "job_minutes=30", "job_slots=4"), 13),
        (("--resources", "job_minutes=60", "job_slots=1"), 26),
        # as in the profiles of earlier versions
        (("--group-components", "download=50", "frames=50", "filter=50"), 13),
        (("--config", "batch_videos=40"), 16),
    ],
)
def test_a_profile_says_how_large_the_jobs_of_a_cluster_are(
    joined: Site, options: tuple[str, ...], jobs_of_filter: int
) -> None:
    profile = ROOT / "profiles" / "slurm"
    done = joined.snakemake("-n", "--profile", str(profile), "-R", "filter", *options)
    assert done.returncode == 0, done.stderr
    assert jobs(done)["filter"] == jobs_of_filter


def test_a_new_video_and_a_filtered_table_that_is_gone_are_all_that_is_planned(
    joined: Site,
) -> None:
    table = finished_videos.results(joined.folder / "data", "p", VIDEOS[7])[2]
    table.unlink()
    try:
        stages = {"download": 1, "extract": 1, "filter": 2}
        assert planned(joined) == {**PROJECT_JOBS, **stages}
    finally:
        finished_videos.make(table, finished_videos.BEGAN)


def test_a_video_that_left_is_taken_out_of_the_dataset(large: Site) -> None:
    member = f"project_videos WHERE video_id = '{VIDEOS[3]}'"
    execute(large.database, f"CREATE TABLE left_it AS SELECT * FROM {member}; DELETE FROM {member}")
    try:
        assert planned(large) == PROJECT_JOBS
    finally:
        back = "INSERT INTO project_videos SELECT * FROM left_it; DROP TABLE left_it"
        execute(large.database, back)
