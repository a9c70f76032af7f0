"""Pictures of many videos, decoded on threads ahead of the model that looks at them."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
class DecodedImage:
    """One frame of a video, and where to read it."""

    video_id: str
    frame_index: int
    name: str
    reader: FrameReader
    pixels: int


@dataclass(frozen=True)
class Decoded(Generic[T]):
    """A picture and what was made of it; None where its file cannot be read."""

    picture: DecodedImage
    value: T | None


def pictures(videos: Iterable[PendingVideo]) -> Iterator[DecodedImage]:
    """Yield all frames of some videos, of each in the order of their place in it."""
    for todo in videos:
        reader = FrameReader(todo.frames_dir)  # closed by by_video, when all of it was read
        columns = ["frame_index", "file_name", "width", "height"]
        table = read_table(todo.frames_dir / FRAMES_FILE, columns, schema=FRAMES_SCHEMA).sort_by(
            "frame_index"
        )
        rows = table.to_pylist()
        with contextlib.suppress(PermanentError):
            # an archive is opened here, once, and not by several threads at a time
            if rows and reader.archive:
                reader.read(rows[0]["file_name"])
        for row in rows:
            pixels = row["width"] * row["height"]
            yield DecodedImage(todo.video_id, row["frame_index"], row["file_name"], reader, pixels)


def by_video(
    rows: Iterable[tuple[DecodedImage, T]],
) -> Iterator[tuple[str, list[tuple[DecodedImage, T]]]]:
    """Gather what was made of each video's pictures, one video after the other."""
    for video_id, group in itertools.groupby(rows, key=lambda row: row[0].video_id):
        whole = list(group)
        with whole[0][0].reader:
            yield video_id, whole


def decode_ahead(
    wanted: Iterable[DecodedImage],
    decode: Callable[[bytes], T],
    *,
    threads: int,
    window: int,
) -> Iterator[Decoded[T]]:
    """Read and decode pictures on threads, and yield them in their order.

    Parameters
    ----------
    wanted : iterable of DecodedImage
        Taken from it as room comes free.
    decode : callable
        From a file's bytes to what the model takes; called from several threads at once.
    threads : int
        How many of them.
    window : int
        How many pictures may be read, decoded or waiting at once; of large ones fewer.

    Raises
    ------
    OSError
        When the disk or the network fails; a picture that is damaged or missing is yielded with
        None.
    """

    def work(picture: DecodedImage) -> T | None:
        try:
            return decode(picture.reader.read_checked(picture.name))
        except (PermanentError, ValueError):
            return None

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[DecodedImage, Future[T | None]]] = deque()
        pixels = 0

        def first() -> Decoded[T]:
            nonlocal pixels
            picture, future = waiting.popleft()
            pixels -= picture.pixels
            return Decoded(picture, future.result())

        try:
            for picture in wanted:
                while waiting and (
                    len(waiting) >= window or pixels + picture.pixels > MAX_PIXELS_AT_ONCE
                ):
                    yield first()
                pixels += picture.pixels
                waiting.append((picture, pool.submit(work, picture)))
            while waiting:
                yield first()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def batches(
    decoded: Iterable[Decoded[T]],
    size: int,
    alike: Callable[[T], object],
    most_pixels: float = math.inf,
) -> Iterator[list[Decoded[T]]]:
    """Part pictures into batches of one kind, across videos; unreadable ones go along in any.

    Parameters
    ----------
    decoded : iterable of Decoded
        In their order, which the batches keep.
    size : int
        The most readable pictures of a batch.
    alike : callable
        Pictures for which it gives different values share no batch.
    most_pixels : float
        Of a batch, unless one picture has more.
    """
    batch: list[Decoded[T]] = []
    count, pixels, kind = 0, 0, None
    for item in decoded:
        if item.value is not None:
            full = count == size or pixels + item.picture.pixels > most_pixels
            if count and (full or alike(item.value) != kind):
                yield batch
                batch, count, pixels = [], 0, 0
            kind, count = alike(item.value), count + 1
            pixels += item.picture.pixels
        batch.append(item)
    if batch:
        yield batch
