"""A labelled dataset of unique frames: COCO, YOLO and the images themselves."""

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
from dataminer.stages.detect import shards
from dataminer.store.layout import ANNOTATIONS_FILE, DATA_FILE
from dataminer.vision.detectors import model_info

IMAGES_FOLDER = "images"
_DESCRIPTION = "Frames of videos with objects found by a detector"


@dataclass(frozen=True)
class DetectResult:
    """Number of images, of boxes, and of boxes by class name."""

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
    """Detect objects in a project's unique frames and write the dataset.

    Parameters
    ----------
    plan : shards.ShardPlan
        The frames and the detector. Existing shards are reused, the others are made.
    out : Path
        An existing empty folder, for ``images/``, ``annotations.json`` (COCO), ``labels/*.txt`` and
        ``data.yaml`` (YOLO). The same input gives the same bytes.
    meta : dict, optional
        More keys for COCO's ``info``.
    videos : mapping, optional
        By video_id: title, url, licence, uploader; repeated in every image of that video.
    threads : int
        Number of threads that decode images.
    progress : callable, optional
        Gets a message now and then.

    Raises
    ------
    PermanentError, TransientError
        As :func:`dataminer.stages.detect.shards.make`.
    """
    _put_images(plan.frames, plan.dedup_dir, out / IMAGES_FOLDER)
    names, images = _labelled(plan, shards.make(plan, threads=threads, progress=progress))
    info = {"description": _DESCRIPTION, **(meta or {}), **model_info(plan.weights, plan.settings)}
    write_coco(out / ANNOTATIONS_FILE, coco_dataset(images, names, info=info, videos=videos))
    write_labels(out / "labels", images)
    write_data_yaml(out / DATA_FILE, names)
    counts = Counter(names[box.category] for image in images for box in image.boxes)
    return DetectResult(len(images), counts.total(), {name: counts[name] for name in names})


def _put_images(frames: Sequence[LabelledImage], dedup_dir: Path, folder: Path) -> None:
    """Link each frame, or copy it from its archive: readers of COCO and YOLO need files."""
    folder.mkdir()
    with FrameReader(dedup_dir) as reader:
        for frame in frames:
            reader.link(frame.file_name, folder / frame.file_name)


def _labelled(plan: shards.ShardPlan, names: list[str]) -> tuple[list[str], list[LabelledImage]]:
    """Return the classes, and all frames in their order with their boxes."""
    images = []
    for shard in plan.shards:
        found = shards.read_boxes(plan, shard)
        if found is None:
            raise TransientError(
                f"shard {shard.key} of {plan.folder} was removed in the meantime",
                ErrorClass.INTERNAL,
                "run snakemake again",
            )
        names = found.names
        images += [replace(frame, boxes=found.boxes[frame.file_name]) for frame in shard.frames]
    return names, images
