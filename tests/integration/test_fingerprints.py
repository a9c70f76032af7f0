"""What each stage's result is made from: a change of it, and no other, makes the result again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dataminer.config import load
from dataminer.frames.embeddings import model_key, write_embeddings
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.provenance import fingerprints
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import Store
from dataminer.sync.jobs import dedup, detect, filter
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.jobs.detect import detect_project
from dataminer.sync.jobs.download import download_task
from dataminer.sync.jobs.extract import extract_task
from dataminer.sync.jobs.filter import filter_video
from dataminer.sync.tasks.task import StageTask
from tests.support import rows

STAGES = ("download", "extract", "filter", "dedup", "detect")
Change = Callable[["World"], object]


class Described(BaseException):
    """Carries what a job was about to do."""

    def __init__(self, work: StageTask) -> None:
        super().__init__()
        self.fingerprint = work.fingerprint


@dataclass
class World:
    """Everything that a job of project p and video v is given."""

    folder: Path
    config: dict[str, Any]
    info: dict[str, Any]
    scores: list[str]
    patch: pytest.MonkeyPatch
    downloaded: str = "v"

    @property
    def store(self) -> Store:
        return Store(self.folder / "data")

    @property
    def frames(self) -> Path:
        extract = load({"project": "p"}).extract.result_settings()
        return self.store.recipe("v", fingerprints.of_extract(extract, None))

    @property
    def weights(self) -> Path:
        return self.folder / "model.pt"

    def table(self, folder: Path, fingerprint: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        empty = FRAMES_SCHEMA.empty_table()
        write_table(folder / FRAMES_FILE, empty, FRAMES_SCHEMA, {"fingerprint": fingerprint})

    def embeddings(self, model: str) -> None:
        """Have the pictures compared by what this model made of them."""
        self.settings("dedup", method="embedding")
        path = self.store.embeddings(model_key("google/siglip2-base-patch16-224"), "v", "r")
        none = np.zeros((0, 2), np.float16)
        write_embeddings(path, "v", np.zeros(0, np.int32), none, {"model": model})

    def settings(self, section: str, **values: Any) -> None:
        self.config[section] = {**self.config.get(section, {}), **values}

    def newer(self, stage: str) -> None:
        """Raise the version of a stage."""
        self.patch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)

    def fingerprint(self, stage: str) -> str:
        config = load({"project": "p", "store": str(self.store.root), **self.config})
        if stage == "download":
            return download_task(config, self.downloaded).fingerprint
        if stage == "extract":
            return extract_task(config, "v", self.info, 1).fingerprint
        call: dict[str, Callable[[], None]] = {
            "filter": lambda: filter_video(config, "p", "v"),
            "dedup": lambda: dedup_project(config, "p"),
            "detect": lambda: detect_project(config, "p", self.weights, self.folder / "sheet.jpg"),
        }
        with pytest.raises(Described) as caught:
            call[stage]()
        return caught.value.fingerprint


@pytest.fixture
def world(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    def described(describe: Callable[[], StageTask], _: Any, **how: Any) -> None:
        raise Described(describe())

    for job in (filter, dedup, detect):
        monkeypatch.setattr(job, "describe_and_run", described)
    (tmp_path / "v.mp4").write_bytes(b"abc")
    project = rows.add("p", "v", url=str(tmp_path / "v.mp4"))
    rows.extracted("v")
    rows.filtered("v", project, recipe="r")
    made = World(tmp_path, {}, {"sha256": "s", "title": "t", "video": "v.mp4"}, [], monkeypatch)
    scores = lambda *_: [SimpleNamespace(fingerprint=digest) for digest in made.scores]  # noqa: E731
    monkeypatch.setattr(FrameModels, "frame_scores", scores)
    made.weights.write_bytes(b"weights")
    for folder in (made.frames, made.store.filtered("p", "v"), made.store.dedup("p")):
        made.table(folder, "of its source")
    return made


def source(world: World) -> Path:
    return world.folder / "v.mp4"


def earlier(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 1))


def replaced(path: Path, content: bytes) -> None:
    """Write other bytes, in the same second."""
    stat = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def remote(world: World, name: str = "x") -> None:
    rows.add("p", name, url=f"http://host/{name}.mp4")
    world.downloaded = name


def one_more(world: World) -> None:
    project = rows.add("p", "w")
    rows.extracted("w")
    rows.filtered("w", project)
    world.table(world.store.filtered("p", "w"), "f")


COUNTS: dict[str, dict[str, Change]] = {
    "download": {
        "version": lambda w: w.newer("download"),
        "size of a local file": lambda w: replaced(source(w), b"abcd"),
        "time of a local file": lambda w: earlier(source(w)),
        "a local file that is gone": lambda w: source(w).unlink(),
        "another source": remote,
    },
    "extract": {
        "version": lambda w: w.newer("extract"),
        "the video's bytes": lambda w: w.info.update(sha256="another"),
        "interval": lambda w: w.settings("extract", every_seconds=2),
        "size cap": lambda w: w.settings("extract", max_output_gb=1),
    },
    "filter": {
        "version": lambda w: w.newer("filter"),
        "frames": lambda w: w.table(w.frames, "another"),
        "what a model saw": lambda w: w.scores.append("look"),
        "what two models saw": lambda w: w.scores.extend(["look", "other"]),
        "threshold": lambda w: w.settings("filter", min_contrast=0.03),
    },
    "dedup": {
        "version": lambda w: w.newer("dedup"),
        "frames": lambda w: w.table(w.store.filtered("p", "v"), "another"),
        "one video more": one_more,
        "threshold": lambda w: w.settings("dedup", threshold=7),
        "a model": lambda w: w.embeddings("m1"),
        "another model": lambda w: w.embeddings("m2"),
    },
    "detect": {
        "version": lambda w: w.newer("detect"),
        "frames": lambda w: w.table(w.store.dedup("p"), "another"),
        "weights of the same name": lambda w: replaced(w.weights, b"WEIGHTS"),
        "confidence": lambda w: w.settings("detect", confidence=0.31),
        "prompts": lambda w: w.settings("detect", prompts=["a disc"]),
    },
}
DOES_NOT: dict[str, list[Change]] = {
    "download": [
        # a local file is taken as it is, and so is a video that is there already
        lambda w: w.settings("download", max_height=720, retries=9, timeout_minutes=1),
        lambda w: w.settings("download", policy={"max_duration": 9}, budget={}),
        lambda w: w.newer("extract"),
    ],
    "extract": [
        lambda w: w.info.update(title="another", video="w.mp4"),
        lambda w: w.settings("extract", every_frames=9, timeout_minutes=1),
    ],
    "filter": [
        lambda w: w.settings("filter", videos_per_job=1, semantic={"batch": 1}),
        lambda w: w.table(w.store.filtered("p", "v"), "another"),
    ],
    "dedup": [
        lambda w: w.settings("dedup", similarity=0.9),
        lambda w: rows.add("p", "late"),
        lambda w: w.table(w.frames, "another"),
    ],
    "detect": [
        lambda w: earlier(w.weights),
        lambda w: w.settings("detect", batch=1, device="cpu", shard_images=9, jobs=2),
        lambda w: w.table(w.store.filtered("p", "v"), "another"),
    ],
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_result_is_of_all_that_it_is_made_from(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    for change in DOES_NOT[stage]:
        before = world.fingerprint(stage)
        change(world)
        assert world.fingerprint(stage) == before
    seen = {world.fingerprint(stage): "as it was"}
    for what, change in COUNTS[stage].items():
        change(world)
        found = world.fingerprint(stage)
        assert found not in seen, f"{what}: as if it were {seen.get(found)}"
        seen[found] = what


def test_a_download_from_elsewhere_is_of_its_link_and_settings(world: World) -> None:
    remote(world)
    before = world.fingerprint("download")
    world.settings("download", retries=9, policy={"max_duration": 9}, proxy="http://h:1")
    assert world.fingerprint("download") == before
    world.settings("download", max_height=720)
    lower = world.fingerprint("download")
    remote(world, "y")
    assert len({before, lower, world.fingerprint("download")}) == 3
