"""Objects in the frames of many videos, and which frames show required or excluded ones."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.config.models import ContentConfig, DetectConfig
from dataminer.config.semantic import LEAST_CONFIDENCE
from dataminer.errors import DamagedFile, ErrorClass, TransientError
from dataminer.frames.boxes import Box
from dataminer.frames.image_decoding import MAX_PIXELS_AT_ONCE, decode_image
from dataminer.provenance import fingerprints
from dataminer.stages.embed.pending import PendingVideo
from dataminer.stages.embed.prefetch import (
    StoredFrame,
    decode_ahead,
    group_into_batches,
    rows_by_video,
    stored_frames,
)
from dataminer.stages.embed.regions import FRAME_INDEX, Regions, read_regions, write_regions
from dataminer.stages.filter.scores import FrameScores
from dataminer.stages.filter.thresholds import CONTENT_THRESHOLDS, passes_by_reason
from dataminer.vision.detectors import Detector, open_detector
from dataminer.vision.weights import weights_sha256

BOXES_SCHEMA = pa.schema(
    [
        FRAME_INDEX,
        pa.field("category", pa.int32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        # the share of the picture's area that the box covers
        pa.field("size", pa.float32(), nullable=False),
    ]
)
_Progress = Callable[[str], None]


def find_boxes(
    videos: Sequence[PendingVideo],
    settings: ContentConfig,
    weights: Path,
    *,
    threads: int,
    progress: _Progress,
) -> int:
    """Find objects in the frames of the videos that lack them, and return how many videos did.

    Parameters
    ----------
    videos : sequence of PendingVideo
        The videos' frames, and the files for their boxes.
    settings : ContentConfig
        Batch, device, image size; and class names, which the model must know.
    weights : Path
        The detector's file or folder, as rule detect takes it.
    threads, progress : int, callable
        Threads that decode images ahead of the model; a function that gets a message per video.

    Raises
    ------
    TransientError
        The model has no class of a given name, or a library or device is missing.
    """
    model = fingerprints.of_content_model(weights_sha256(weights), settings.image_size)
    pending = [video for video in videos if video.lacks_output("content", model)]
    if not pending:
        return 0
    with open_detector(weights, _detector_settings(settings)) as detector:
        progress(f"loaded the content model {weights}")
        names = list(detector.names)
        _refuse_unknown_classes(settings, names)
        found = _boxes(detector, stored_frames(pending), settings.batch, threads)
        for video, rows in rows_by_video(found, pending):
            meta = {"names": names, "model": model}
            count, readable = write_regions(video, "content", BOXES_SCHEMA, rows, meta)
            progress(f"found {count} objects in {readable} frames of video {video.video_id}")
    return len(pending)


def _detector_settings(settings: ContentConfig) -> DetectConfig:
    return DetectConfig(
        model=settings.model,
        confidence=LEAST_CONFIDENCE,  # so that other thresholds need no model
        image_size=settings.image_size,
        batch=settings.batch,
        device=settings.device,
    )


_Row = tuple[StoredFrame, Regions | None]


def _boxes(
    detector: Detector, frames: Iterable[StoredFrame], batch: int, threads: int
) -> Iterator[_Row]:
    """Yield the boxes of frames in their order; None for one that cannot be read."""
    decoded = decode_ahead(frames, decode_image, threads=threads, window=2 * batch + threads)
    order: deque[tuple[StoredFrame, tuple[int, ...] | None]] = deque()

    def image_batches() -> Iterator[list[NDArray[np.uint8]]]:
        # of one size each: a batch of mixed sizes is padded, and boxes would depend on neighbours
        for group in group_into_batches(
            decoded, batch, lambda image: image.shape, MAX_PIXELS_AT_ONCE
        ):
            order.extend(
                (item.frame, None if item.value is None else item.value.shape) for item in group
            )
            if images := [item.value for item in group if item.value is not None]:
                yield images

    for boxes in detector.predict(image_batches()):
        while order[0][1] is None:
            yield order.popleft()[0], None
        frame, shape = order.popleft()
        assert shape
        yield frame, _rows(boxes, shape[0] * shape[1])
    yield from ((frame, None) for frame, _ in order)


def _rows(boxes: Sequence[Box], area: int) -> Regions:
    rows = [(box.category, box.score, box.width * box.height / area) for box in boxes]
    return np.array(rows, np.float32).reshape(len(rows), 3)


def score_boxes(path: Path, settings: ContentConfig) -> FrameScores:
    """Score a video's frames by its boxes, and apply the thresholds.

    Parameters
    ----------
    path : Path
        A file that :func:`find_boxes` wrote.
    settings : ContentConfig
        The required and excluded classes, and the thresholds.

    Returns
    -------
    FrameScores
        Columns ``required`` (the best score per entry, of the entry with the least) and
        ``excluded`` (the best score of an excluded object); 0 without one.

    Raises
    ------
    DamagedFile
        The file is not such a table.
    TransientError
        The model has no class of a given name.
    """
    meta, boxes = _read(path)
    _refuse_unknown_classes(settings, meta["names"])
    scores = _scores(boxes, meta, settings)
    passes = passes_by_reason(CONTENT_THRESHOLDS, settings, scores)
    return FrameScores(meta["frames"], scores, passes, str(meta["mark"]))


def _scores(
    boxes: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], settings: ContentConfig
) -> dict[str, NDArray[np.float32]]:
    big = boxes["size"] >= np.float32(settings.min_size)
    numbers = {name.casefold(): number for number, name in enumerate(meta["names"])}

    def best(entries: Sequence[str]) -> NDArray[np.float32]:
        classes = [numbers[name] for entry in entries for name in _alternatives(entry)]
        chosen = big & np.isin(boxes["category"], classes)
        scores = np.zeros(len(meta["frames"]), np.float32)
        np.maximum.at(scores, boxes["frame"][chosen], boxes["confidence"][chosen])
        return scores

    scores: dict[str, NDArray[np.float32]] = {}
    if settings.require:
        scores["required"] = np.minimum.reduce([best([entry]) for entry in settings.require])
    if settings.exclude:
        scores["excluded"] = best(settings.exclude)
    return scores


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the metadata and the columns of a file of boxes; see :func:`read_regions`."""
    meta, boxes = read_regions(path, BOXES_SCHEMA)
    if not meta.get("names"):
        raise DamagedFile(path, "it does not list its classes")
    if not np.isin(boxes["category"], np.arange(len(meta["names"]))).all():
        raise DamagedFile(path, "it has objects of classes that it does not list")
    return meta, boxes


def _alternatives(entry: str) -> list[str]:
    return [name.strip().casefold() for name in entry.split("|")]


def _refuse_unknown_classes(settings: ContentConfig, names: Sequence[str]) -> None:
    """Refuse class names that the model does not have: no frame could ever show them."""
    classes = {name.casefold(): name for name in names}
    for entry in (*settings.require, *settings.exclude):
        for name in _alternatives(entry):
            if name not in classes:
                near = difflib.get_close_matches(name, classes, n=1)
                listed = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
                hint = f"did you mean {classes[near[0]]}?" if near else f"it knows {listed}"
                raise TransientError(
                    f"filter.content: {settings.model} knows no class {name!r}",
                    ErrorClass.MISSING_TOOL,
                    f"correct filter.content; {hint}",
                )
