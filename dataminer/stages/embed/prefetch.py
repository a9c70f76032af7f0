"""Frames of many videos, decoded on threads ahead of the model that takes them."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from dataminer.errors import PermanentError
from dataminer.frames.image_decoding import MAX_PIXELS_AT_ONCE
from dataminer.frames.images import FrameReader
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_table
from dataminer.stages.embed.pending import PendingVideo

T = TypeVar("T")


@dataclass(frozen=True)
class StoredFrame:
    """One frame of a video, and the reader of its image."""

    video: PendingVideo
    frame_index: int
    name: str
    reader: FrameReader
    pixels: int


@dataclass(frozen=True)
class Decoded(Generic[T]):
    """A frame and its decoded image; None if the image cannot be read."""

    frame: StoredFrame
    value: T | None


def stored_frames(videos: Iterable[PendingVideo]) -> Iterator[StoredFrame]:
    """Yield all frames of some videos, in the order of their index."""
    for video in videos:
        reader = FrameReader(video.frames_dir)  # rows_by_video closes it
        columns = ["frame_index", "file_name", "width", "height"]
        table = read_table(video.frames_dir / FRAMES_FILE, columns, schema=FRAMES_SCHEMA)
        rows = table.sort_by("frame_index").to_pylist()
        with contextlib.suppress(PermanentError):
            # opens an archive once, here, and not in several threads at the same time
            if rows and reader.archive:
                reader.read(rows[0]["file_name"])
        for row in rows:
            pixels = row["width"] * row["height"]
            yield StoredFrame(video, row["frame_index"], row["file_name"], reader, pixels)


def rows_by_video(
    rows: Iterable[tuple[StoredFrame, T]], videos: Sequence[PendingVideo]
) -> Iterator[tuple[PendingVideo, list[tuple[StoredFrame, T]]]]:
    """Group the results of frames by video; at the end come the videos without a single frame."""
    left = dict.fromkeys(videos)
    for video, group in itertools.groupby(rows, key=lambda row: row[0].video):
        of_video = list(group)
        with of_video[0][0].reader:
            yield video, of_video
        del left[video]
    for video in left:
        yield video, []


def decode_ahead(
    frames: Iterable[StoredFrame], decode: Callable[[bytes], T], *, threads: int, window: int
) -> Iterator[Decoded[T]]:
    """Read and decode images on threads, and yield them in their order.

    Parameters
    ----------
    frames : iterable of StoredFrame
        Consumed as the window has room.
    decode : callable
        From a file's bytes to the model's input; called by several threads at the same time.
    threads : int
        The number of threads.
    window : int
        The most images that are in memory or being read; fewer if they are large.

    Raises
    ------
    OSError
        The disk or the network fails. An image that is damaged or missing is yielded as None.
    """
    waiting: deque[tuple[StoredFrame, Future[T | None]]] = deque()
    pixels = 0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for frame in itertools.chain(frames, [None]):
                while waiting and (
                    frame is None
                    or len(waiting) >= window
                    or pixels + frame.pixels > MAX_PIXELS_AT_ONCE
                ):
                    first, future = waiting.popleft()
                    pixels -= first.pixels
                    yield Decoded(first, future.result())
                if frame:
                    pixels += frame.pixels
                    waiting.append((frame, pool.submit(_decode, frame, decode)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(frame: StoredFrame, decode: Callable[[bytes], T]) -> T | None:
    try:
        return decode(frame.reader.read_checked(frame.name))
    except (PermanentError, ValueError):
        return None


def group_into_batches(
    decoded: Iterable[Decoded[T]],
    size: int,
    kind_of: Callable[[T], object],
    most_pixels: float = math.inf,
) -> Iterator[list[Decoded[T]]]:
    """Divide images into batches of one kind each, across videos; unreadable ones join any batch.

    Parameters
    ----------
    decoded : iterable of Decoded
        In their order, which the batches keep.
    size : int
        The most readable images of a batch.
    kind_of : callable
        Images with different values share no batch.
    most_pixels : float
        The most pixels of a batch, unless a single image has more.
    """
    batch: list[Decoded[T]] = []
    count, pixels, kind = 0, 0, None
    for item in decoded:
        if item.value is not None:
            full = count == size or pixels + item.frame.pixels > most_pixels
            if count and (full or kind_of(item.value) != kind):
                yield batch
                batch, count, pixels = [], 0, 0
            kind, count = kind_of(item.value), count + 1
            pixels += item.frame.pixels
        batch.append(item)
    if batch:
        yield batch
