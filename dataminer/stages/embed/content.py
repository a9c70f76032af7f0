"""Objects in all frames of many videos, and which frames show what they must or must not."""

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
from dataminer.files.hashing import fingerprint
from dataminer.frames.boxes import Box
from dataminer.frames.image_decoding import MAX_PIXELS_AT_ONCE, decode_image
from dataminer.frames.table import read_model_output_meta, read_table, write_table
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.embed.pending import PendingVideo
from dataminer.stages.embed.prefetch import DecodedImage, batches, by_video, decode_ahead, pictures
from dataminer.stages.filter.scores import FrameScores
from dataminer.vision.detectors import Detector, opened
from dataminer.vision.weights import weights_sha256

VERSION = VERSIONS["content"]
BOXES_SCHEMA = pa.schema(
    [
        pa.field("frame_index", pa.int32(), nullable=False),
        pa.field("category", pa.int32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        # share of the picture's area that the box takes
        pa.field("size", pa.float32(), nullable=False),
    ]
)
_Progress = Callable[[str], None]
_Boxes = NDArray[np.float32]  # (k, 3): category, confidence, size


def find_boxes(
    videos: Sequence[PendingVideo],
    settings: ContentConfig,
    weights: Path,
    *,
    threads: int,
    progress: _Progress,
) -> int:
    """Find objects in all frames of those videos that lack it, loading the model once.

    Every box of at least ``LEAST_CONFIDENCE`` is kept, so that other thresholds need no model.

    Parameters
    ----------
    videos : sequence of PendingVideo
        The videos' frames, and where their boxes go.
    settings : ContentConfig
        Batch, device, picture size; and class names, which the model must know.
    weights : Path
        The detector's file or folder, as rule detect takes it.
    threads : int
        For reading and decoding images ahead of the model.
    progress : callable
        Told of each video.

    Returns
    -------
    int
        How many videos were looked at; 0 where the model was not loaded.

    Raises
    ------
    TransientError
        The model knows no class of a name that is asked for, or a library or device is missing.
    """
    mark = fingerprint(weights_sha256(weights), settings.image_size)
    lacking = [todo for todo in videos if todo.lacks("content", VERSION, mark)]
    if not lacking:
        return 0
    how = DetectConfig(
        model=settings.model,
        confidence=LEAST_CONFIDENCE,
        image_size=settings.image_size,
        batch=settings.batch,
        device=settings.device,
    )
    with opened(weights, how) as detector:
        progress(f"loaded the content model {weights}")
        names = list(detector.names)
        _known(settings, names)
        left = {todo.video_id: todo for todo in lacking}
        found = _boxes(detector, pictures(lacking), settings.batch, threads)
        about = {"stage": "content", "version": VERSION, "names": names}
        for video_id, rows in by_video(found):
            _write(left.pop(video_id), rows, about, mark, progress)
        for todo in left.values():  # without a single frame
            _write(todo, [], about, mark, progress)
    return len(lacking)


_Row = tuple[DecodedImage, _Boxes | None]


def _boxes(
    detector: Detector, wanted: Iterable[DecodedImage], batch: int, threads: int
) -> Iterator[_Row]:
    """Yield the boxes of pictures in their order; None for one that cannot be read."""
    decoded = decode_ahead(wanted, decode_image, threads=threads, window=2 * batch + threads)
    order: deque[tuple[DecodedImage, tuple[int, ...] | None]] = deque()

    def fed() -> Iterator[list[NDArray[np.uint8]]]:
        # of one size each: a batch of unlike ones is padded, and boxes would depend on neighbours
        for group in batches(decoded, batch, lambda image: image.shape, MAX_PIXELS_AT_ONCE):
            order.extend(
                (item.picture, None if item.value is None else item.value.shape) for item in group
            )
            if images := [item.value for item in group if item.value is not None]:
                yield images

    for boxes in detector.predict(fed()):
        while order[0][1] is None:
            yield order.popleft()[0], None
        picture, shape = order.popleft()
        assert shape
        yield picture, _rows(boxes, shape[0] * shape[1])
    yield from ((picture, None) for picture, _ in order)


def _rows(boxes: Sequence[Box], area: int) -> _Boxes:
    rows = [(box.category, box.score, box.width * box.height / area) for box in boxes]
    return np.array(rows, np.float32).reshape(len(rows), 3)


def _write(
    todo: PendingVideo,
    rows: Sequence[_Row],
    about: Mapping[str, Any],
    model: str,
    progress: _Progress,
) -> None:
    seen = [(picture.frame_index, boxes) for picture, boxes in rows if boxes is not None]
    flat = np.concatenate([np.zeros((0, 3), np.float32), *(boxes for _, boxes in seen)])
    columns = {
        "frame_index": np.repeat(
            np.array([place for place, _ in seen], np.int32), [len(boxes) for _, boxes in seen]
        ),
        "category": flat[:, 0].astype(np.int32),
        "confidence": flat[:, 1],
        "size": flat[:, 2],
    }
    arrays = [pa.array(columns[field.name], field.type) for field in BOXES_SCHEMA]
    meta = {
        **about,
        "model": model,
        "mark": todo.mark("content", VERSION, model),
        # a frame without boxes has no row above
        "frames": [place for place, _ in seen],
    }
    write_table(todo.out, pa.Table.from_arrays(arrays, schema=BOXES_SCHEMA), BOXES_SCHEMA, meta)
    progress(f"found {len(flat)} objects in {len(seen)} frames of video {todo.video_id}")


def read_look(path: Path, settings: ContentConfig) -> FrameScores:
    """Hold a video's boxes against the settings.

    Parameters
    ----------
    path : Path
        A file that :func:`find_boxes` made.
    settings : ContentConfig
        What is required and excluded; a value on a threshold passes.

    Returns
    -------
    Look
        Columns ``required`` (of the entry that is worst off, the score of its best object) and
        ``excluded`` (the score of the best object that must not be there); 0 without one.

    Raises
    ------
    DamagedFile
        It is something else.
    TransientError
        The model knows no class of a name that is asked for.
    """
    meta, table = read_model_output_meta(path), read_table(path, schema=BOXES_SCHEMA)
    if not meta.get("names") or not {"frames", "mark"} <= meta.keys():
        raise DamagedFile(path, "it does not say what was looked at")
    frames = np.array(meta["frames"], np.int32)
    boxes = {name: table[name].to_numpy() for name in BOXES_SCHEMA.names}
    boxes["frame"] = np.searchsorted(frames, boxes["frame_index"])
    listed = np.isin(boxes["frame_index"], frames) & np.isin(
        boxes["category"], np.arange(len(meta["names"]))
    )
    if (frames[1:] <= frames[:-1]).any() or not listed.all():
        raise DamagedFile(path, "it has objects of frames or classes that it does not list")
    _known(settings, meta["names"])
    big = boxes["size"] >= np.float32(settings.min_size)
    numbers = {name.casefold(): number for number, name in enumerate(meta["names"])}

    def best(entries: Sequence[str]) -> NDArray[np.float32]:
        wanted = [numbers[name] for entry in entries for name in _alternatives(entry)]
        chosen = big & np.isin(boxes["category"], wanted)
        scores = np.zeros(len(frames), np.float32)
        np.maximum.at(scores, boxes["frame"][chosen], boxes["confidence"][chosen])
        return scores

    least = np.float32(settings.confidence)
    scores: dict[str, NDArray[np.float32]] = {}
    passes: dict[str, NDArray[np.bool_]] = {}
    if settings.require:
        scores["required"] = np.minimum.reduce([best([entry]) for entry in settings.require])
        passes["content.require"] = scores["required"] >= least
    if settings.exclude:
        scores["excluded"] = best(settings.exclude)
        passes["content.exclude"] = scores["excluded"] < least
    return FrameScores(frames, scores, passes, str(meta["mark"]))


def _alternatives(entry: str) -> list[str]:
    return [name.strip().casefold() for name in entry.split("|")]


def _known(settings: ContentConfig, names: Sequence[str]) -> None:
    """Refuse class names that the model does not know: no frame could ever show them."""
    known = {name.casefold(): name for name in names}
    for entry in (*settings.require, *settings.exclude):
        for name in _alternatives(entry):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                listed = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
                hint = f"did you mean {known[near[0]]}?" if near else f"it knows {listed}"
                raise TransientError(
                    f"filter.content: {settings.model} knows no class {name!r}",
                    ErrorClass.MISSING_TOOL,
                    f"correct filter.content; {hint}",
                )
