"""Whatever is lost or moved, a plain run makes what is missing, and nothing else."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import videos
from tests.support.paths import ROOT
from tests.support.postgres import create, drop, fresh_database, name_of
from tests.support.site import Site, copied, jobs

DATASET = {"dedup": 1, "only_dedup": 1}
ONE_VIDEO = {"download": 1, "extract": 1, "filter": 1, **DATASET}


@pytest.fixture(scope="module")
def once_mined(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A project of three short videos that is mined up to its unique frames."""
    with fresh_database(server, template, "small") as url:
        site = Site(tmp_path_factory.mktemp("small"), url)
        (site.folder / "clips").mkdir()
        for number in range(3):
            videos.make_video(site.folder / "clips" / f"c{number}.mp4", frames=30, size=(96, 64))
        site.configure(project="p", input={"files": ["clips"]}, filter={"min_sharpness": 0})
        assert site.dataminer("populate").returncode == 0
        site.mine("only_dedup")
        yield site


@pytest.fixture
def small(server: str, once_mined: Site, tmp_path: Path) -> Iterator[Site]:
    """A copy of it; its sources stay where they are."""
    with copied(server, once_mined.folder, once_mined.database, tmp_path / "site") as site:
        yield site


def add(site: Site, name: str) -> str:
    """Add a video to the project; return its id."""
    clip = site.folder / f"{name}.mp4"
    videos.make_video(clip, frames=30, size=(96, 64))
    done = site.dataminer("add-video", str(clip), "--project", "p")  # keeps no connection
    assert done.returncode == 0, done.stderr
    ((video_id,),) = site.rows(f"SELECT video_id FROM videos WHERE video_id LIKE '{name}-%'")
    return str(video_id)


def goes_on(site: Site, expected: dict[str, int]) -> None:
    """See that a run makes exactly this, and that nothing is left then."""
    before = site.listing("data")
    done = site.mine("only_dedup")
    assert jobs(done) == expected, done.stderr
    after = site.listing("data")
    own = {path: it for path, it in before.items() if path.endswith((".jpg", ".mp4"))}
    kept = {path: it for path, it in own.items() if "/dedup" not in path}
    assert {path: after.get(path) for path in kept} == kept, "made again"
    assert site.rows("SELECT count(*) FROM project_videos WHERE status <> 'FILTERED'") == [(0,)]
    again = site.snakemake("-n", "only_dedup")
    assert "Nothing to be done" in again.stdout + again.stderr, again.stderr
    notes = (site.folder / ".snakemake" / "metadata").rglob("*")
    requested = [base64.urlsafe_b64decode(note.name) for note in notes if note.is_file()]
    assert not [path for path in requested if path.startswith(b".snakemake")], (
        "never asked for again"
    )


def test_snakemakes_notes_are_lost_and_links_are_in_the_way(small: Site) -> None:
    shutil.rmtree(small.folder / ".snakemake")
    add(small, "late")
    unique = small.folder / "data" / "projects" / "p" / "dedup"
    shutil.rmtree(unique)
    unique.symlink_to(small.folder / "gone")
    goes_on(small, ONE_VIDEO)
    shutil.rmtree(small.folder / ".snakemake")
    small.configure(**{**small.config(), "filter": {"min_sharpness": 0, "min_contrast": 0.001}})
    shutil.rmtree(unique)
    unique.symlink_to(unique)  # a loop
    done = small.mine("only_dedup")
    assert jobs(done) == {"filter": 4, **DATASET}
    assert "4 made with other settings: filter.min_contrast 0.0" in done.stderr


def test_the_store_is_moved_and_another_folder_works_on_it(small: Site, tmp_path: Path) -> None:
    moved = tmp_path / "big" / "data"
    moved.parent.mkdir()
    (small.folder / "data").rename(moved)
    (small.folder / "data").symlink_to(moved)  # for the listing alone
    small.configure(**{**small.config(), "store": str(moved)})
    add(small, "late")
    goes_on(small, ONE_VIDEO)

    elsewhere = Site(tmp_path / "clone", small.database)
    elsewhere.folder.mkdir()
    elsewhere.configure(**small.config())
    (elsewhere.folder / "data").symlink_to(moved)
    add(elsewhere, "later")
    goes_on(elsewhere, ONE_VIDEO)


def test_a_dump_is_restored(small: Site, server: str) -> None:
    """Rows record what their files say; a dry run writes nothing."""
    known = add(small, "known")
    earlier = create(server, name_of(small.database), "dump")
    small.mine("only_dedup")
    restored = Site(small.folder, earlier)
    drop(server, name_of(small.database))
    try:
        late = add(restored, "late")
        before = restored.dump()
        planned = restored.snakemake("-n", "only_dedup")
        assert jobs(planned) == {"take_up": 1, **ONE_VIDEO}, planned.stderr
        assert restored.dump() == before
        goes_on(restored, {"take_up": 1, **ONE_VIDEO})
        made = dict(restored.rows("SELECT video_id, lease FROM videos"))
        assert made[known] == made[late] == 2
    finally:
        drop(server, name_of(earlier))


def test_a_failed_video_is_tried_again_after_a_partial_target(small: Site) -> None:
    broken = small.folder / "broken.mp4"
    broken.touch()
    done = small.dataminer_here("add-video", str(broken), "--project", "p")
    assert done.returncode == 0, done.stderr
    small.mine("only_dedup")
    broken.unlink()
    videos.make_video(broken, frames=30, size=(96, 64))
    assert small.dataminer_here("retry").returncode == 0
    assert jobs(small.mine("only_extract")) == {"download": 1, "extract": 1, "only_extract": 1}
    goes_on(small, {"filter": 1, **DATASET})


def test_results_are_made_anew_when_asked_for(small: Site) -> None:
    def leases(table: str) -> set[int]:
        return {lease for (lease,) in small.rows(f"SELECT lease FROM {table}")}

    before = leases("videos"), leases("project_videos")
    done = small.mine("only_dedup", "-R", "extract")
    assert jobs(done) == {"extract": 3, "filter": 3, **DATASET}, done.stderr
    assert "extract: 3 due (3 forced)" in done.stderr
    assert (leases("videos"), leases("project_videos")) == ({3}, {2}) != before
    again = small.snakemake("-n", "only_dedup")
    assert "Nothing to be done" in again.stdout + again.stderr


MODULE = """
configfile: "config/config.yaml"

module dataminer:
    snakefile: "{root}/Snakefile"
    config: config

use rule * from dataminer as dataminer_*

rule all:
    default_target: True
    input: rules.dataminer_only_dedup.input
"""


def test_without_hooks_and_as_a_module_of_another_workflow_it_is_the_same(small: Site) -> None:
    add(small, "late")
    assert jobs(small.mine("only_dedup", "--no-hooks")) == ONE_VIDEO
    add(small, "later")
    (small.folder / "Snakefile").write_text(MODULE.format(root=ROOT))
    options = ("--workflow-profile", str(ROOT / "profiles" / "default"))
    done = small.run("snakemake", "-c2", *options)
    assert done.returncode == 0, done.stderr
    made = ("download", "extract", "filter", "dedup")
    assert jobs(done) == {f"dataminer_{rule}": 1 for rule in (*made, "batches")} | {"all": 1}
    assert small.rows("SELECT count(*) FROM project_videos WHERE status <> 'FILTERED'") == [(0,)]
    for again in (small.run("snakemake", "-n", *options), small.snakemake("-n", "only_dedup")):
        assert "Nothing to be done" in again.stdout + again.stderr, again.stderr
