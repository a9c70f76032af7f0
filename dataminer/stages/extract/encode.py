"""From decoded frames to image files and the rows of their table, beside the decoder."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError, os_error_class
from dataminer.frames.columns import make_table
from dataminer.frames.image_decoding import opencv_memory_errors
from dataminer.frames.images import FrameWriter, ImageLocation
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, PROVENANCE, frame_name, write_table
from dataminer.stages.extract.decode import DecodedFrame
from dataminer.stages.extract.quality.metrics import FrameMetrics, GreyImage, measure, table_columns
from dataminer.video.decoder import convert_frame
from dataminer.video.orientation import Orientation, orientation_of

_WAITING_BYTES = 80 << 20  # decoded pictures that may wait to be encoded; one always may
_TOGETHER = 8  # pictures that one thread measures in a row, and the bytes that they may take:
_TOGETHER_BYTES = 16 << 20  # in between, decoding empties the processor's caches
_BYTES_A_PIXEL = 8  # of a picture on its way: as decoded, as blue-green-red, as grey
_LARGE_BUFFER = 8 << 20
_KEPT_MEMORY = 24 << 20  # what one 1080p frame takes on its way to an image
_NOTHING = np.empty(0, np.uint8)


@dataclass(frozen=True)
class _Encoded:
    """A frame as an image file's bytes, and what was measured on it."""

    index: int
    seconds: float
    size: tuple[int, int]
    metrics: FrameMetrics
    data: NDArray[np.uint8]


class FrameEncoder:
    """Turns, measures and encodes frames; a context that ends when all of them are written.

    Images are written, and rows added, in the order in which frames were added, by the caller's
    thread.

    Parameters
    ----------
    out : Path
        The folder for images and table.
    video_id : str
        Goes into file names and the table.
    settings : ExtractConfig
        The image format, and how much may be written.
    threads : int
        With more than one, so many frames are worked on beside the caller; else in its thread.
    """

    def __init__(self, out: Path, video_id: str, settings: ExtractConfig, threads: int) -> None:
        self._out = out
        self._video_id = video_id
        self._format = settings.image_format
        self._options = _encoder_options(settings)
        self._most_bytes = settings.max_output_gb * 1e9
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._together: list[tuple[DecodedFrame, Orientation]] = []
        self._waiting: deque[tuple[Future[_Encoded], int]] = deque()
        self._local = threading.local()
        self._turn: tuple[int, Orientation] | None = None
        self._bytes = 0
        self._crop = settings.crop_borders
        with _disk_errors(out):
            self._writer = FrameWriter(out, settings.frame_store)
        self._taken: list[tuple[_Encoded, ImageLocation]] = []
        self.orientation = Orientation()
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
        """Frames written so far, or about to be measured."""
        return len(self._taken) + len(self._together)

    def add(self, shown: DecodedFrame) -> None:
        """Take up the next frame; ``full`` says afterwards whether more are welcome.

        Raises
        ------
        PermanentError
            UNSUPPORTED when a picture is too large for the image format.
        TransientError
            DISK_FULL or PERMISSION when the folder takes no more.
        """
        turn = self._orientation(shown.frame)
        pixels = shown.frame.width * shown.frame.height
        if self._pool is None:
            self._together.append((shown, turn))
            count = len(self._together)
            if count >= _TOGETHER or (count + 1) * pixels * 3 // 2 > _TOGETHER_BYTES:
                self._encode_together()
            return
        size = pixels * _BYTES_A_PIXEL
        while self._waiting and sum(s for _, s in self._waiting) + size > _WAITING_BYTES:
            self._settle()
        self._waiting.append((self._pool.submit(self._encode, shown, turn), size))

    def write_table(self, meta: dict[str, Any], source: Mapping[str, Any]) -> None:
        """Write the table of all images, once the context has ended.

        Parameters
        ----------
        meta : dict
            What is known of the table as a whole.
        source : mapping
            What is known of where the video comes from.
        """
        frames, places = [frame for frame, _ in self._taken], [place for _, place in self._taken]
        columns: dict[str, Any] = {
            "video_id": [self._video_id] * self.count,
            "frame_index": [frame.index for frame in frames],
            "pts_time": [frame.seconds for frame in frames],
            "file_name": [self._name(frame.index) for frame in frames],
            "width": [frame.size[0] for frame in frames],
            "height": [frame.size[1] for frame in frames],
            **table_columns([frame.metrics for frame in frames]),
            **{
                field: [getattr(place, field) for place in places]
                for field in ImageLocation._fields
            },
            **{name: [_text(source.get(name))] * self.count for name in PROVENANCE},
        }
        table = make_table(columns, FRAMES_SCHEMA)
        with _disk_errors(self._out):
            known = {**meta, **self._writer.meta, "frames": self.count}
            write_table(self._out / FRAMES_FILE, table, FRAMES_SCHEMA, known, ready=True)

    def _encode_together(self) -> None:
        for shown, turn in self._together:
            self._keep(self._encode(shown, turn))
        self._together.clear()

    def _finish(self) -> None:
        self._encode_together()
        while self._waiting:
            self._settle()
        with _disk_errors(self._out):
            self._writer.close()

    def _settle(self) -> None:
        future, _ = self._waiting.popleft()
        self._keep(future.result())

    def _keep(self, encoded: _Encoded) -> None:
        """Write an image and note its row, unless the folder holds all that it may."""
        self.full = self.full or self._bytes + encoded.data.nbytes > self._most_bytes
        if self.full:
            return
        self._bytes += encoded.data.nbytes
        # not cv2.imwrite, which only says False when the disk is full
        with _disk_errors(self._out):
            place = self._writer.add(self._name(encoded.index), encoded.data.data)
        self._taken.append((replace(encoded, data=_NOTHING), place))

    def _name(self, index: int) -> str:
        return frame_name(self._video_id, index, self._format)

    def _encode(self, shown: DecodedFrame, turn: Orientation) -> _Encoded:
        with opencv_memory_errors():
            image = turn.apply(self._picture(shown.frame))
            metrics = measure(image)
            if self._crop:
                image = metrics.borders.crop(image)
            height, width = image.shape[:2]
            done, data = cv2.imencode(f".{self._format}", image, self._options)
        if not done:
            raise PermanentError(
                f"a frame of {width}x{height} pixels cannot be encoded as {self._format}",
                ErrorClass.UNSUPPORTED,
                "choose another extract.image_format",
            )
        size = width, height
        return _Encoded(shown.index, shown.seconds, size, metrics, np.asarray(data, np.uint8))

    def _picture(self, frame: VideoFrame) -> GreyImage:
        """Return a frame as it is stored: (height, width, 3), blue, green, red."""
        if not hasattr(self._local, "reformatter"):
            self._local.reformatter = VideoReformatter()
        return convert_frame(self._local.reformatter, frame, format="bgr24")

    def _orientation(self, frame: VideoFrame) -> Orientation:
        # Only where it changed: reading it binds a frame in a reference cycle, and frames that
        # wait for the garbage collector took 400 MB of a 1080p video
        if self._turn is None or frame.rotation != self._turn[0]:
            turn = orientation_of(frame)
            if self._turn is None:
                self.orientation = turn
            self._turn = frame.rotation, turn
        return self._turn[1]


def give_back_large_buffers() -> None:
    """Have the C library return large pictures' memory at once (glibc; mallopt(3)).

    By itself it learns to keep them, each thread its own: 100 MB for 4K. Told so (M_MMAP_THRESHOLD,
    -3) it would return that of small ones too, and fetch it page by page for the next frame, which
    took a tenth of all time: so it may keep some (M_TRIM_THRESHOLD, -1).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, _LARGE_BUFFER)
        libc.mallopt(-1, _KEPT_MEMORY)


def _text(value: Any) -> str | None:
    """Make text that a table can hold: half a surrogate pair, as some titles have, becomes a ?."""
    return None if value is None else str(value).encode(errors="replace").decode()


def _encoder_options(settings: ExtractConfig) -> list[int]:
    if settings.image_format == "jpg":
        return [cv2.IMWRITE_JPEG_QUALITY, settings.quality]
    if settings.image_format == "webp":
        return [cv2.IMWRITE_WEBP_QUALITY, settings.quality]
    return []


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """Say of a failed write whether the disk is full or closed: neither is the video's fault."""
    try:
        yield
    except OSError as error:
        error_class = os_error_class(error)
        if error_class is ErrorClass.DISK_FULL:
            raise TransientError(f"no space left under {out}", error_class) from error
        if error_class is ErrorClass.PERMISSION:
            raise TransientError(f"{out} cannot be written", error_class) from error
        raise
