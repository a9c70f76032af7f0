"""A tiny finished project, made by all stages in this process; and its next run."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dataminer import planning
from dataminer.config import load_files
from dataminer.frames.boxes import Box
from dataminer.stages.detect import shards
from dataminer.stages.embed import content
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import Store
from dataminer.sync.jobs import candidate_frames
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.jobs.detect import detect_project
from dataminer.sync.jobs.download import download_video
from dataminer.sync.jobs.extract import extract_video
from dataminer.sync.jobs.filter import filter_video
from dataminer.sync.jobs.report import report_project
from dataminer.sync.repair.record_results import record_results
from dataminer.sync.repair.run_hooks import bring_up_to_date
from tests.support.site import Site
from tests.support.videos import make_video

PROJECT = "birds"
SIZES = ((96, 64), (128, 96))


class _Middle:
    """A detector that finds one thing in the middle of each picture."""

    names = ("thing",)

    def predict(self, groups: Iterator[Sequence[NDArray[np.uint8]]]) -> Iterator[tuple[Box, ...]]:
        for images in groups:
            for image in images:
                height, width = image.shape[:2]
                yield (Box(0, width / 4, height / 4, width / 2, height / 2, 0.75),)


@contextmanager
def detecting() -> Iterator[None]:
    """Have detect and content load no model, which would take longer than all other stages."""

    @contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[_Middle]:
        yield _Middle()

    with pytest.MonkeyPatch.context() as patch:
        for module in (shards, content):
            patch.setattr(module, "open_detector", opened)
        yield


def configure(site: Site) -> None:
    """Add two tiny clips to a project, to be mined."""
    clips = [site.folder / f"clip{number}.mp4" for number in range(len(SIZES))]
    for clip, size in zip(clips, SIZES, strict=True):
        make_video(clip, frames=8, size=size)
    (site.folder / "weights.pt").write_bytes(b"weights")
    site.configure(
        project=PROJECT,
        input={"files": [str(clip) for clip in clips]},
        extract={"every_seconds": 0.1},
        filter={"min_sharpness": 0},
        dedup={"threshold": 0},
        detect={"model": "weights.pt"},
    )
    site.populate()


def mine(site: Site) -> planning.Plan:
    """Do what a run of snakemake would do, in this process; return what it found to do."""
    with site.inside(), detecting(), redirect_stderr(io.StringIO()):
        config = load_files()
        store = Store(config.store_path)
        if planning.plan(config, [PROJECT]).to_adopt:
            record_results(config)
        found = planning.plan(config, [PROJECT])
        bring_up_to_date([PROJECT], config.monitor, store)
        for video_id in found.due("download"):
            download_video(config, video_id)
        for video_id in found.due("extract"):
            extract_video(config, video_id)
        project_models = FrameModels.of(config)
        if project_models.on:
            frames = candidate_frames.folders_of(config, found.due("filter", PROJECT))
            project_models.run_models(frames, 1, lambda _: None)
        for video_id in found.due("filter", PROJECT):
            filter_video(config, PROJECT, video_id)
        if found.is_due(PROJECT, "dedup"):
            dedup_project(config, PROJECT)
        if found.is_due(PROJECT, "detect"):
            sheet = store.report(PROJECT) / "contact_sheet.jpg"
            sheet.parent.mkdir(exist_ok=True)
            detect_project(config, PROJECT, Path(config.detect.model), sheet)
        if found.is_due(PROJECT, "report"):
            report_project(config, PROJECT, store.report(PROJECT) / "index.html")
        return found
