"""References in the job of dedup and in plans: what is left out, and when it is judged again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dataminer import planning
from dataminer.config import Config, load
from dataminer.errors import DataminerError
from dataminer.frames.table import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    read_meta,
    read_table,
    write_table,
)
from dataminer.monitor.story import story
from dataminer.provenance import fingerprints
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.stages.dedup.references.table import read_excluded
from dataminer.store.layout import Store
from dataminer.sync.claims import projects
from dataminer.sync.jobs.dedup import dedup_project
from tests.support import finished_videos
from tests.support.drawn_scenes import scene, write_frames
from tests.support.postgres import execute
from tests.support.references import altered, write_image
from tests.support.rows import Given, force
from tests.support.stores import make_video, stage, sync


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with the scene 0."""
    write_image(tmp_path / "bench" / "0.png", scene(0))
    return tmp_path / "bench"


# ---- the job -------------------------------------------------------------------------------------


class Project:
    """Project p, with a video that shows the mirror image of scene 0, and scene 1."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.store = url, Store(folder / "data")
        make_video(self.store, "v1", (0, 1))
        filtered = self.store.filtered("p", "v1")
        meta = read_meta(filtered / FRAMES_FILE)
        shutil.rmtree(filtered)
        write_frames(filtered, [altered(scene(0), "all"), scene(1)])
        table = read_table(filtered / FRAMES_FILE, schema=FRAMES_SCHEMA)
        write_table(filtered / FRAMES_FILE, table, FRAMES_SCHEMA, meta)
        projects.add_videos("p", [Given("v1")])
        sync(self.store)

    def dedup(self, *exclude: Path, **settings: Any) -> dict[str, Any]:
        """Run the job, and return the metadata of its result."""
        given = {"exclude": [str(path) for path in exclude], **settings}
        dedup_project(load({"project": "p", "store": str(self.store.root), "dedup": given}), "p")
        assert stage(self.url) == "DETECT_READY"
        return read_meta(self.store.dedup("p") / FRAMES_FILE)

    @property
    def excluded(self) -> list[int]:
        table = read_excluded(self.store.dedup("p"))
        return [] if table is None else table["frame_index"].to_pylist()


@pytest.fixture
def project(database: str, tmp_path: Path) -> Project:
    return Project(database, tmp_path)


def test_the_job_leaves_out_what_is_near_a_reference(project: Project, bench: Path) -> None:
    without = project.dedup()
    assert (without["unique"], project.excluded) == (2, [])
    assert "references" not in without
    found = project.dedup(bench)
    assert (found["unique"], found["excluded"], project.excluded) == (1, 1, [0])
    assert found["fingerprint"] != without["fingerprint"]
    assert execute(project.url, "SELECT unique_frames FROM projects") == [(1,)]
    assert len(list(project.store.references.iterdir())) == 1
    (reported,) = story("v1", project.store).projects
    assert (reported["unique"], reported["excluded"]) == (1, 1)
    assert sync(project.store, deep=True).repairs == [], "the result stands"
    assert stage(project.url) == "DETECT_READY"
    assert project.dedup()["fingerprint"] == without["fingerprint"]
    assert project.excluded == []


def test_an_added_picture_is_found_by_the_next_job(project: Project, bench: Path) -> None:
    project.dedup(bench)
    write_image(bench / "1.png", scene(1))
    assert project.dedup(bench)["unique"] == 0
    assert project.excluded == [0, 1]


def test_the_state_has_the_settings_by_which_pictures_are_compared(
    project: Project, bench: Path
) -> None:
    first, second = (project.dedup(bench, threshold=bits)["references"] for bits in (8, 7))
    assert first != second


def test_an_earlier_result_survives_a_reference_that_is_gone(project: Project, bench: Path) -> None:
    before = project.dedup(bench)
    with pytest.raises(DataminerError, match=r"dedup\.exclude: .* does not exist"):
        project.dedup(bench / "absent")
    assert read_meta(project.store.dedup("p") / FRAMES_FILE) == before
    own = project.store.dedup("p")
    with pytest.raises(DataminerError, match="holds results of project p itself"):
        project.dedup(own)


# ---- plans ---------------------------------------------------------------------------------------


@pytest.fixture
def finished(database: str, tmp_path: Path, bench: Path) -> Config:
    """Settings with references, by which a project was finished."""
    root = tmp_path / "data"
    config = load({"project": "p", "store": str(root), "dedup": {"exclude": [str(bench)]}})
    finished_videos.add(database, "p", ["a"])
    finished_videos.finish(database, root, config, "p", ["a"])
    references = ReferencePictures.of(config.dedup)
    assert references
    settings, filtered = config.dedup.result_settings(), [("a", "filtered frames of a")]
    unique = fingerprints.of_dedup(settings, filtered, references=references.fingerprint)
    folder = Store(root).dedup("p")
    folder.mkdir()
    meta = {
        "fingerprint": unique,
        "settings": settings,
        "exclude": references.given,
        "references": references.fingerprint,
    }
    for name, schema in ((FRAMES_FILE, FRAMES_SCHEMA), (CLUSTERS_FILE, CLUSTERS_SCHEMA)):
        write_table(folder / name, schema.empty_table(), schema, meta)
    force(
        database,
        "UPDATE projects SET project_stage = 'DETECT_READY', dedup_dir = 'x',"
        f" dedup_fingerprint = '{unique}'",
    )
    return config


def reasons(config: Config, **dedup: Any) -> list[str]:
    changed = config.model_copy(update={"dedup": config.dedup.model_copy(update=dedup)})
    return planning.plan(changed, ["p"], upto="dedup").reasons()


def test_a_plan_notices_what_changed(finished: Config, bench: Path) -> None:
    assert reasons(finished) == []
    due = "dedup of project p: due (made with other settings: dedup.exclude"
    assert reasons(finished, exclude=[]) == [f"{due} {[str(bench)]} -> [])"]
    assert reasons(finished, threshold=7) != []
    write_image(bench / "1.png", scene(1))
    changed = ["dedup of project p: due (a picture of dedup.exclude has changed)"]
    assert reasons(finished) == changed
    (bench / "1.png").unlink()
    assert reasons(finished) == []
    write_image(bench / "0.png", scene(1))
    assert reasons(finished) == changed


def test_a_plan_refuses_a_reference_that_is_missing(finished: Config, bench: Path) -> None:
    shutil.rmtree(bench)
    with pytest.raises(DataminerError, match=r"dedup\.exclude: .*bench does not exist"):
        reasons(finished)
    assert planning.plan(finished, ["p"], upto="filter").is_done, "which does not need it"
