"""The boxes of a project's frames in shards: made by one job or many, and reused by the next run.

A shard is a run of frames, in the order of video and frame, and its file is named after everything
that its boxes depend on. So a killed job leaves complete shards, and parallel jobs cannot disagree.
If a video is added, only the shards that its frames fall into are made again: the names of frames
decide where shards end, and not their position in the project.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.config.models import DetectConfig
from dataminer.errors import ErrorClass, InputChanged, PermanentError
from dataminer.files.links import ABSENT_ERRORS, lstat_or_none
from dataminer.files.publishing import STAGING_SUFFIX, atomic_write, remove_file
from dataminer.files.reading import list_names
from dataminer.frames.boxes import Box, LabelledImage
from dataminer.frames.image_decoding import MAX_PIXELS_AT_ONCE
from dataminer.frames.images import FrameReader
from dataminer.frames.result_files import missing_error
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_table
from dataminer.provenance import fingerprints
from dataminer.store.documents import read_shard
from dataminer.store.file_stats import FileState, states
from dataminer.vision.detectors import Detector, open_detector
from dataminer.vision.prefetch import decode_batches
from dataminer.vision.weights import weights_sha256

_REMAKE = "remove {}, then run snakemake again, which makes it"
_FRAME = ("file_name", "width", "height", "video_id", "frame_index", "pts_time")
# with the size of the file, these differ between two images of one name
_CONTENT = ("width", "height", "sharpness", "brightness", "contrast", "entropy", "phash", "dhash")

Boxes = dict[str, tuple[Box, ...]]


@dataclass(frozen=True)
class Shard:
    """Some frames, and the name of the file for their boxes."""

    key: str
    frames: tuple[LabelledImage, ...]


@dataclass(frozen=True)
class BoxesFound:
    """The content of a shard's file: the model's classes, and boxes by file name."""

    names: list[str]
    boxes: Boxes


@dataclass(frozen=True)
class ShardPlan:
    """A project's frames in shards.

    Parameters
    ----------
    dedup_dir : Path
        The unique frames and their ``frames.parquet``.
    folder : Path
        The folder of the shards' files.
    weights : Path
        The detector's weights.
    settings : DetectConfig
        Least score, prompts, batch, device.
    shards : tuple of Shard
        In the order of video and frame.
    table : FileState
        The state of the table of frames.
    forced_since : float
        Files written before this time, in seconds since the epoch, count as absent.
    """

    dedup_dir: Path
    folder: Path
    weights: Path
    settings: DetectConfig
    shards: tuple[Shard, ...]
    table: FileState
    forced_since: float = 0.0

    @property
    def frames(self) -> list[LabelledImage]:
        """All frames in the order of video and frame, without boxes."""
        return [frame for shard in self.shards for frame in shard.frames]


def divide_into_shards(
    dedup_dir: Path, folder: Path, weights: Path, settings: DetectConfig
) -> ShardPlan:
    """Divide a project's unique frames into shards.

    Raises
    ------
    PermanentError
        The table or a frame is missing.
    """
    (table,) = states([dedup_dir / FRAMES_FILE])
    used, model = settings.result_settings(), weights_sha256(weights)
    shards = tuple(
        Shard(
            fingerprints.of_shard(used, model, [content for _, content in run]),
            tuple(frame for frame, _ in run),
        )
        for run in _runs(_read(dedup_dir), settings.shard_images)
    )
    return ShardPlan(dedup_dir, folder, weights, settings, shards, table)


def make(
    plan: ShardPlan,
    *,
    part: int = 0,
    parts: int = 1,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Make the missing shards, and return the model's classes (none if no shard of it is missing).

    Each file appears complete or not at all.

    Parameters
    ----------
    plan : ShardPlan
        From :func:`divide_into_shards`.
    part, parts : int
        Only every ``parts``-th shard, from the ``part``-th on (from 0).
    threads : int
        Number of threads that decode images.
    progress : callable, optional
        Gets a message now and then.

    Raises
    ------
    PermanentError
        The weights cannot be loaded, or a frame cannot be read.
    TransientError
        The device or a library is missing, or the frames were replaced (``InputChanged``).
    """
    remaining = [shard for shard in plan.shards[part::parts] if read_boxes(plan, shard) is None]
    if not remaining and (plan.shards or parts > 1):
        return []
    with open_detector(plan.weights, plan.settings, part=part) as detector:
        try:
            _detect(plan, remaining, detector, threads, progress or (lambda _: None))
        except PermanentError:
            _refuse_change(plan)
            raise
        return list(detector.names)


def _detect(
    plan: ShardPlan,
    remaining: Sequence[Shard],
    detector: Detector,
    threads: int,
    progress: Callable[[str], None],
) -> None:
    """Write each shard as soon as the detector has processed its frames."""
    groups = [list(_batches(shard, plan.settings.batch)) for shard in remaining]
    files = ([frame.file_name for frame in batch] for batch in itertools.chain(*groups))
    names = list(detector.names)
    done, total = 0, sum(len(shard.frames) for shard in remaining)
    with (
        FrameReader(plan.dedup_dir) as reader,
        closing(detector.predict(decode_batches(reader, files, threads=threads))) as found,
    ):
        for shard, group in zip(remaining, groups, strict=True):
            boxes = {frame.file_name: next(found) for frame in itertools.chain(*group)}
            in_order = {frame.file_name: boxes[frame.file_name] for frame in shard.frames}
            _refuse_change(plan)
            _write(plan.folder / f"{shard.key}.json", names, in_order)
            done += len(shard.frames)
            progress(f"detect: {done} of {total} frames")


def _refuse_change(plan: ShardPlan) -> None:
    """Stop if the frames are no longer the planned ones: boxes may be of other images."""
    if states([plan.dedup_dir / FRAMES_FILE]) != [plan.table]:
        raise InputChanged(plan.folder)


def read_boxes(plan: ShardPlan, shard: Shard) -> BoxesFound | None:
    """Return the content of a shard's file; None if it is absent or damaged."""
    path = plan.folder / f"{shard.key}.json"
    try:
        status = lstat_or_none(path)
        if status is None or status.st_mtime < plan.forced_since:
            return None
        content = read_shard(path)
        boxes = {name: tuple(Box(*row) for row in rows) for name, rows in content["boxes"].items()}
        found = BoxesFound(content["names"], boxes)
    except ABSENT_ERRORS:
        return None
    categories = {box.category for of_frame in boxes.values() for box in of_frame}
    if not categories <= {*range(len(found.names))}:
        return None
    return found if list(boxes) == [frame.file_name for frame in shard.frames] else None


def prune(plan: ShardPlan) -> None:
    """Delete the shards of other frames or settings, and partial files of killed jobs."""
    current = {f"{shard.key}.json" for shard in plan.shards}
    for name in list_names(plan.folder):
        if (name.endswith(".json") and name not in current) or STAGING_SUFFIX in name:
            remove_file(plan.folder / name)


def _write(path: Path, names: Sequence[str], boxes: Mapping[str, Iterable[Box]]) -> None:
    # not dataclasses.astuple, which copies each number: 3 % of the stage's time
    rows = {name: [list(vars(box).values()) for box in found] for name, found in boxes.items()}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps({"names": list(names), "boxes": rows}), encoding="utf-8")


def _read(dedup_dir: Path) -> list[tuple[LabelledImage, list[Any]]]:
    """Return each frame and the values that identify its image, in the order of video and frame."""
    path = dedup_dir / FRAMES_FILE
    if not path.is_file():
        raise PermanentError(
            f"there is no {path}", ErrorClass.MISSING_SOURCE, _REMAKE.format(dedup_dir)
        )
    columns = dict.fromkeys((*_FRAME, *_CONTENT, "byte_size"))
    rows = read_table(path, list(columns), schema=FRAMES_SCHEMA).to_pylist()
    with FrameReader(dedup_dir) as reader:
        archived = reader.archive is not None
    found = []
    for row in sorted(rows, key=lambda row: (row["video_id"], row["frame_index"])):
        size = row["byte_size"] if archived else _size(dedup_dir, row["file_name"])
        frame = LabelledImage(**{name: row[name] for name in _FRAME})
        found.append((frame, [frame.file_name, size, *(row[name] for name in _CONTENT)]))
    return found


def _size(dedup_dir: Path, name: str) -> int:
    try:
        return (dedup_dir / name).stat().st_size
    except FileNotFoundError as error:
        raise missing_error(dedup_dir / name, dedup_dir) from error


def _runs(
    frames: Iterable[tuple[LabelledImage, list[Any]]], about: int
) -> Iterator[list[tuple[LabelledImage, list[Any]]]]:
    """Divide frames into runs of about ``about`` frames, at most twice as many.

    The name of the frame that follows decides where a run ends, and not its number. So frames that
    are added or removed change only the runs that they are in.
    """
    run: list[tuple[LabelledImage, list[Any]]] = []
    for frame in frames:
        digest = hashlib.sha256(frame[0].file_name.encode()).digest()
        begins = int.from_bytes(digest[:8], "big") % about == 0
        if run and (begins or len(run) >= 2 * about):
            yield run
            run = []
        run.append(frame)
    if run:
        yield run


def _batches(shard: Shard, size: int) -> Iterator[tuple[LabelledImage, ...]]:
    """Divide a shard's frames into batches of one image size each.

    A batch of mixed sizes is padded to squares, which is slower and makes a frame's boxes depend on
    its neighbours.
    """

    def image_size(frame: LabelledImage) -> tuple[int, int]:
        return frame.width, frame.height

    for (width, height), group in itertools.groupby(
        sorted(shard.frames, key=image_size), key=image_size
    ):
        most = max(1, min(size, MAX_PIXELS_AT_ONCE // (width * height)))
        while batch := tuple(itertools.islice(group, most)):
            yield batch
