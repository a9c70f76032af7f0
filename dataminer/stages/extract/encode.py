"""From decoded frames to image files and the rows of their table, in parallel to decoding."""

from __future__ import annotations

import ctypes
import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError, os_error_class
from dataminer.frames.arrays import make_table
from dataminer.frames.image_decoding import opencv_memory_errors
from dataminer.frames.images import FrameWriter, ImageLocation
from dataminer.frames.table import (
    FRAMES_FILE,
    FRAMES_SCHEMA,
    PICTURE_FIELDS,
    PROVENANCE,
    frame_name,
    write_table,
)
from dataminer.frames.thumbnails import THUMBNAILS_FILE, VideoThumbnails, write_thumbnails
from dataminer.stages.extract.decode_stats import DecodedFrame
from dataminer.stages.extract.picture.rendering import (
    Renderer,
    Rendering,
    RenderingPlanner,
    StreamPicture,
)
from dataminer.stages.extract.picture.stored import StoredPicture
from dataminer.stages.extract.quality.metrics import FrameMetrics, measure, table_columns
from dataminer.text import whole_characters
from dataminer.video.display.geometry import Geometry

_MAX_WAITING_BYTES = 80 << 20  # of decoded frames that wait to be encoded; one always may
# a single thread encodes frames in groups, because decoding evicts the processor's caches
_GROUP_FRAMES = 8
_GROUP_BYTES = 16 << 20
_BYTES_PER_PIXEL = 8  # of a frame in work: as decoded, as blue-green-red, as grey
_LARGE_BUFFER_BYTES = 8 << 20
_KEPT_BYTES = 24 << 20  # what one 1080p frame needs until it is an image
_NO_DATA = np.empty(0, np.uint8)


@dataclass(frozen=True)
class _EncodedFrame:
    """The encoded image of a frame, and its metrics."""

    index: int
    seconds: float
    size: tuple[int, int]
    metrics: FrameMetrics
    data: NDArray[np.uint8]
    stored: StoredPicture
    notes: tuple[str, ...]


class FrameEncoder:
    """Turns, measures and encodes frames; its context ends when all of them are written.

    The caller's thread writes images and adds rows, in the order in which frames were added.

    Parameters
    ----------
    out : Path
        The folder for images and table.
    video_id : str
        Part of file names and of the table.
    settings : ExtractConfig
        The image format, and how much may be written.
    threads : int
        Threads that encode; if it is 1, the caller's thread does.
    """

    def __init__(self, out: Path, video_id: str, settings: ExtractConfig, threads: int) -> None:
        self._out = out
        self._video_id = video_id
        self._format = settings.image_format
        self._options = _encoder_options(settings)
        self._max_bytes = settings.max_output_gb * 1e9
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._group: list[tuple[DecodedFrame, Rendering]] = []
        self._waiting: deque[tuple[Future[_EncodedFrame], int]] = deque()
        self._local = threading.local()
        self._planner = RenderingPlanner(settings)
        self._bytes = 0
        self._crop = settings.crop_borders
        with _disk_errors(out):
            self._writer = FrameWriter(out, settings.frame_store)
        self._written: list[tuple[_EncodedFrame, ImageLocation]] = []
        self.notes: Counter[str] = Counter()
        self.damaged: Collection[int] = ()
        self.full = False

    def __enter__(self) -> FrameEncoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._writer:
                    self._finish()
            else:
                self._writer.__exit__(kind, error, trace)
        finally:
            if self._pool:
                self._pool.shutdown(cancel_futures=True)

    @property
    def count(self) -> int:
        """Frames written so far, or in the current group."""
        return len(self._written) + len(self._group)

    @property
    def geometry(self) -> Geometry:
        """How the first frame was cropped, scaled and turned."""
        return self._planner.geometry or Geometry()

    def add(self, decoded: DecodedFrame, stream: StreamPicture) -> None:
        """Encode the next frame; afterwards ``full`` tells whether the size limit is reached.

        Raises
        ------
        PermanentError
            UNSUPPORTED if a frame is too large, for ``max_megapixels`` or for the image format.
        TransientError
            DISK_FULL or PERMISSION if the folder cannot be written.
        """
        rendering = self._planner.plan(decoded.frame, stream)
        pixels = decoded.frame.width * decoded.frame.height
        kept = 3 - decoded.neighbours.count(None)
        if self._pool is None:
            self._group.append((decoded, rendering))
            count = len(self._group)
            if count >= _GROUP_FRAMES or (count + 1) * kept * pixels * 3 // 2 > _GROUP_BYTES:
                self._encode_group()
            return
        size = pixels * (_BYTES_PER_PIXEL + (kept - 1) * 3 // 2)
        while self._waiting and sum(s for _, s in self._waiting) + size > _MAX_WAITING_BYTES:
            self._write_next()
        self._waiting.append((self._pool.submit(self._encode, decoded, rendering), size))

    def write_table(self, meta: dict[str, Any], source: Mapping[str, Any]) -> None:
        """Write the table of all images and the thumbnails, once the context has ended.

        Parameters
        ----------
        meta : dict
            The table's metadata.
        source : mapping
            What is known about the video's origin.
        """
        frames = [frame for frame, _ in self._written]
        locations = [location for _, location in self._written]
        columns: dict[str, Any] = {
            "video_id": [self._video_id] * self.count,
            "frame_index": [frame.index for frame in frames],
            "pts_time": [frame.seconds for frame in frames],
            "file_name": [self._name(frame.index) for frame in frames],
            "width": [frame.size[0] for frame in frames],
            "height": [frame.size[1] for frame in frames],
            **table_columns([frame.metrics for frame in frames]),
            **{
                field: [getattr(location, field) for location in locations]
                for field in ImageLocation._fields
            },
            **{name: [_text(source.get(name))] * self.count for name in PROVENANCE},
            **{
                field.name: [getattr(frame.stored, field.name) for frame in frames]
                for field in PICTURE_FIELDS
                if field.name != "damaged"  # which is known only when all packets are
            },
            "damaged": [frame.index in self.damaged for frame in frames],
        }
        table = make_table(columns, FRAMES_SCHEMA)
        thumbnails = VideoThumbnails.of(
            [(frame.index, frame.metrics.thumbnail) for frame in frames]
        )
        with _disk_errors(self._out):
            write_thumbnails(self._out / THUMBNAILS_FILE, thumbnails)
            meta = {**meta, **self._writer.meta, "frames": self.count}
            write_table(self._out / FRAMES_FILE, table, FRAMES_SCHEMA, meta, ready=True)

    def _encode_group(self) -> None:
        for decoded, rendering in self._group:
            self._write(self._encode(decoded, rendering))
        self._group.clear()

    def _finish(self) -> None:
        self._encode_group()
        while self._waiting:
            self._write_next()
        with _disk_errors(self._out):
            self._writer.close()

    def _write_next(self) -> None:
        future, _ = self._waiting.popleft()
        self._write(future.result())

    def _write(self, encoded: _EncodedFrame) -> None:
        """Write an image and record its row, unless that would exceed the size limit."""
        self.full = self.full or self._bytes + encoded.data.nbytes > self._max_bytes
        if self.full:
            return
        self._bytes += encoded.data.nbytes
        # not cv2.imwrite, which only returns False if the disk is full
        with _disk_errors(self._out):
            location = self._writer.add(self._name(encoded.index), encoded.data.data)
        self._written.append((replace(encoded, data=_NO_DATA), location))
        self.notes.update(encoded.notes)

    def _name(self, index: int) -> str:
        return frame_name(self._video_id, index, self._format)

    def _encode(self, decoded: DecodedFrame, rendering: Rendering) -> _EncodedFrame:
        with opencv_memory_errors():
            picture = self._renderer.render(decoded.frame, decoded.neighbours, rendering)
            image = picture.image
            metrics = measure(image)
            if self._crop:
                image = metrics.borders.crop(image)
            height, width = image.shape[:2]
            encoded, data = cv2.imencode(f".{self._format}", image, self._options)
        if not encoded:
            raise PermanentError(
                f"a frame of {width}x{height} pixels cannot be encoded as {self._format}",
                ErrorClass.UNSUPPORTED,
                "choose another extract.image_format",
            )
        size = width, height
        data = np.asarray(data, np.uint8)
        return _EncodedFrame(
            decoded.index, decoded.seconds, size, metrics, data, picture.stored, picture.notes
        )

    @property
    def _renderer(self) -> Renderer:
        """The current thread's."""
        if not hasattr(self._local, "renderer"):
            self._local.renderer = Renderer()
        renderer: Renderer = self._local.renderer
        return renderer


def return_large_buffers() -> None:
    """Make the C library return the memory of large frames at once (glibc; mallopt(3)).

    By default it learns to keep them, per thread: 100 MB for 4K. A lower M_MMAP_THRESHOLD (-3)
    alone would also return memory that the next frame needs, and fetching that page by page took a
    tenth of all time. M_TRIM_THRESHOLD (-1) lets it keep as much.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, _LARGE_BUFFER_BYTES)
        libc.mallopt(-1, _KEPT_BYTES)


def _text(value: Any) -> str | None:
    return None if value is None else whole_characters(str(value))


def _encoder_options(settings: ExtractConfig) -> list[int]:
    if settings.image_format == "jpg":
        return [cv2.IMWRITE_JPEG_QUALITY, settings.quality]
    if settings.image_format == "webp":
        return [cv2.IMWRITE_WEBP_QUALITY, settings.quality]
    return []


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """Raise an error that says if the disk is full or read-only: not the video's fault."""
    try:
        yield
    except OSError as error:
        error_class = os_error_class(error)
        if error_class is ErrorClass.DISK_FULL:
            raise TransientError(f"no space left under {out}", error_class) from error
        if error_class is ErrorClass.PERMISSION:
            raise TransientError(f"{out} cannot be written", error_class) from error
        raise
