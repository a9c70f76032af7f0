"""Unique frames in, a labelled dataset out: COCO, YOLO and the pictures themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataminer.errors import ErrorClass, TransientError
from dataminer.formats.coco import coco_dataset, write_coco
from dataminer.formats.yolo import write_data_yaml, write_labels
from dataminer.frames.boxes import LabelledImage
from dataminer.frames.images import FrameReader
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.detect import shards
from dataminer.store.layout import ANNOTATIONS_FILE, DATA_FILE
from dataminer.vision.detectors import describe

VERSION = VERSIONS["detect"]
IMAGES_FOLDER = "images"


@dataclass(frozen=True)
class DetectResult:
    """What was found: pictures, boxes, and boxes by class name."""

    images: int
    annotations: int
    per_class: dict[str, int]


def detect(
    plan: shards.ShardPlan,
    out: Path,
    *,
    meta: dict[str, Any] | None = None,
    videos: Mapping[str, Mapping[str, Any]] | None = None,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> DetectResult:
    """Look for objects in a project's unique frames and write the dataset.

    Parameters
    ----------
    plan : shards.ShardPlan
        The frames and the detector, from :func:`dataminer.stages.detect.shards.plan`. Shards
        that are there already are taken, the others are made.
    out : Path
        An existing, empty folder, which gets ``images/`` (files: hard links, or copies out of an
        archive), ``annotations.json`` (COCO), ``labels/*.txt`` and ``data.yaml`` (YOLO). The same
        input gives the same bytes.
    meta : dict, optional
        Goes into COCO's ``info``: the project, settings, fingerprints.
    videos : mapping, optional
        By video_id: title, url, licence, uploader; goes to every image of that video.
    threads : int
        How many decode pictures.
    progress : callable, optional
        Told a line now and then.

    Returns
    -------
    DetectResult
        Counts, with every class of the model in ``per_class``.

    Raises
    ------
    PermanentError
        The weights cannot be loaded, or a frame is missing or unreadable.
    TransientError
        This machine lacks the device or a library that is asked for.
    """
    _put_images(plan.frames, plan.dedup_dir, out / IMAGES_FOLDER)
    names = shards.make(plan, threads=threads, progress=progress)
    names, images = _labelled(plan, names)
    info = {
        "description": "Frames of videos with objects found by a detector",
        **(meta or {}),
        **describe(plan.weights, plan.settings),
    }
    write_coco(out / ANNOTATIONS_FILE, coco_dataset(images, names, info=info, videos=videos))
    write_labels(out / "labels", images)
    write_data_yaml(out / DATA_FILE, names)
    counts = Counter(names[box.category] for image in images for box in image.boxes)
    return DetectResult(len(images), counts.total(), {name: counts[name] for name in names})


def _put_images(frames: Sequence[LabelledImage], dedup_dir: Path, folder: Path) -> None:
    """Make each frame a file: what reads COCO or YOLO reads files."""
    folder.mkdir()
    with FrameReader(dedup_dir) as reader:
        for frame in frames:
            reader.link(frame.file_name, folder / frame.file_name)


def _labelled(plan: shards.ShardPlan, names: list[str]) -> tuple[list[str], list[LabelledImage]]:
    """Return the classes, and all frames in their order with the boxes of their shards."""
    images = []
    for shard in plan.shards:
        found = shards.read(plan, shard)
        if found is None:
            raise TransientError(
                f"shard {shard.key} of {plan.folder} was removed meanwhile",
                ErrorClass.INTERNAL,
                "run snakemake again",
            )
        names = found.names
        images += [replace(frame, boxes=found.boxes[frame.file_name]) for frame in shard.frames]
    return names, images
