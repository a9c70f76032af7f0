"""The job of dedup: over the database, again after news, by force, by embeddings."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from dataminer.config import Config
from dataminer.frames.embeddings import model_key, write_embeddings
from dataminer.frames.table import CLUSTERS_FILE, FRAMES_FILE, read_meta, read_table
from dataminer.store.layout import Store
from dataminer.sync.claims import projects
from dataminer.sync.deletion.delete import carry_out
from dataminer.sync.deletion.plan import plan_videos
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.repair.redo import redo
from dataminer.sync.tasks import run
from tests.support.postgres import execute
from tests.support.rows import Given, force
from tests.support.stores import make_video, stage, sync

COUNTED = ("frames", "unique", "pinned", "carried", "judged")


class Project:
    """Project p of a store, and its database."""

    def __init__(self, url: str, folder: Any, **settings: Any) -> None:
        self.url, self.store = url, Store(folder / "data")
        settings = {"dedup": {"min_object": 0}} | settings  # the images are none
        self.config = Config(project="p", store=str(folder / "data"), **settings)

    def add(self, video_id: str, *passed: int) -> None:
        make_video(self.store, video_id, passed)
        projects.add_videos("p", [Given(video_id)])
        sync(self.store)

    def dedup(self) -> tuple[int, ...]:
        dedup_project(self.config, "p")
        assert stage(self.url) == "DETECT_READY"
        meta = read_meta(self.store.dedup("p") / FRAMES_FILE)
        return tuple(meta[key] for key in COUNTED)

    @property
    def clusters(self) -> list[dict[str, Any]]:
        return list(read_table(self.store.dedup("p") / CLUSTERS_FILE).to_pylist())


@pytest.fixture
def project(database: str, tmp_path: Any) -> Project:
    """A project of two frames that are near each other, deduplicated."""
    made = Project(database, tmp_path)
    made.add("v2", 1, 2)
    assert made.dedup() == (2, 1, 0, 0, 2)
    return made


def test_news_are_compared_with_what_was_kept(project: Project) -> None:
    project.add("v1", 0, 1, 2)
    assert project.dedup() == (5, 1, 1, 1, 3)
    assert {row["kept_video_id"] for row in project.clusters} == {"v2"}
    before = project.clusters
    assert project.dedup() == (5, 1, 1, 1, 3), "what is there is left alone"
    redo(project.store, "p", "dedup")
    assert project.dedup() == (5, 1, 1, 4, 0)
    assert project.clusters == before
    redo(project.store, "p", "dedup", rebuild=True)
    assert project.dedup() == (5, 1, 0, 0, 5)
    assert {row["kept_video_id"] for row in project.clusters} == {"v1"}


def test_a_job_that_broke_off_has_the_result_of_one_that_did_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise KeyboardInterrupt

    project.add("v1", 0, 1, 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "publish_dir", breaks)
        project.dedup()
    assert project.dedup() == (5, 1, 1, 1, 3)


def test_a_video_that_was_deleted_leaves_its_frames_to_others(project: Project) -> None:
    project.add("v1", 0, 1, 2)
    project.dedup()
    plan = plan_videos(project.store, ["v2"], files=False, all_projects=False)
    carry_out(plan, project.config.monitor)
    assert project.dedup() == (3, 1, 0, 0, 3)
    assert {row["kept_video_id"] for row in project.clusters} == {"v1"}


def test_a_video_that_failed_has_no_frames_whatever_lies_there(project: Project) -> None:
    """An older dump came back, or the folder that recorded the failure is gone."""
    project.add("v1", 0, 1, 2)
    error = "error = 'no bytes', error_class = 'empty'"
    force(
        project.url, f"UPDATE project_videos SET status = 'FAILED', {error} WHERE video_id = 'v1'"
    )
    assert project.dedup() == (2, 1, 1, 1, 0)
    shutil.rmtree(project.store.filtered("p", "v1"))
    redo(project.store, "p", "dedup")
    assert project.dedup() == (2, 1, 1, 1, 0)


def test_sync_leaves_a_dataset_alone_whose_new_video_waits_for_a_retry(project: Project) -> None:
    projects.add_videos("p", [Given("v1")])
    force(project.url, "UPDATE videos SET failing_since = now() WHERE video_id = 'v1'")
    assert stage(project.url) == "FILTERING"
    repairs = sync(project.store).repairs
    assert stage(project.url) == "DETECT_READY" and not any(each.removed for each in repairs)
    assert sync(project.store, deep=True).repairs == []


def test_embeddings_of_the_semantic_filters_model_are_compared(
    database: str, tmp_path: Any
) -> None:
    semantic = {"model": "models/siglip", "prompts": {"positive": ["x"], "negative": ["y"]}}
    project = Project(
        database, tmp_path, filter={"semantic": semantic}, dedup={"method": "embedding"}
    )
    project.add("v1", 0, 1, 2)
    execute(database, "UPDATE project_videos SET filtered_from = 'r'")
    path = project.store.embeddings(model_key("models/siglip"), "v1", "r")
    vectors = np.array([[1, 0], [0, 1], [0.01, 1]], np.float16)
    write_embeddings(path, "v1", np.arange(3, dtype=np.int32), vectors, {"model": "m"})
    assert project.dedup() == (3, 2, 0, 0, 3)
    assert [row["kept_frame_index"] for row in project.clusters] == [0, 1, 1]
    assert read_meta(project.store.dedup("p") / CLUSTERS_FILE)["model"] == "m"
    assert sync(project.store, deep=True).repairs == [], "the result stands"
    assert stage(database) == "DETECT_READY"


def test_another_model_of_dedup_judges_the_frames_anew(database: str, tmp_path: Any) -> None:
    """Without a run of any other stage: the filtered frames, and what follows them, stay."""
    by_model = {"method": "embedding", "model": "models/first"}
    project = Project(database, tmp_path, dedup=by_model)
    project.add("v1", 0, 1, 2)
    execute(database, "UPDATE project_videos SET filtered_from = 'r'")
    near = {"first": [[1, 0], [0, 1], [0.01, 1]], "second": [[1, 0], [1, 0.01], [0, 1]]}
    for name, rows in near.items():
        path = project.store.embeddings(model_key(f"models/{name}"), "v1", "r")
        vectors = np.array(rows, np.float16)
        write_embeddings(path, "v1", np.arange(3, dtype=np.int32), vectors, {"model": name})

    assert project.dedup() == (3, 2, 0, 0, 3)
    assert [row["kept_frame_index"] for row in project.clusters] == [0, 1, 1]
    before = execute(database, "SELECT filter_fingerprint FROM project_videos")
    project.config = Config(
        project="p", store=project.config.store, dedup=by_model | {"model": "models/second"}
    )
    assert project.dedup() == (3, 2, 0, 0, 3), "no choice by the other model is carried over"
    assert [row["kept_frame_index"] for row in project.clusters] == [0, 0, 2]
    assert execute(database, "SELECT filter_fingerprint FROM project_videos") == before
