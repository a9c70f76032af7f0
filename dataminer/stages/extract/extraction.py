"""One video's extraction: its limits, its deadline and its progress reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, TransientError
from dataminer.stages.extract.decode_stats import DecodedFrame
from dataminer.stages.extract.encode import FrameEncoder
from dataminer.stages.extract.neighbours import with_neighbours
from dataminer.stages.extract.picture.deinterlacing import declared_parity
from dataminer.stages.extract.picture.rendering import StreamPicture
from dataminer.stages.extract.picture.tags import DeclaredColours
from dataminer.video.display.geometry import StreamGeometry
from dataminer.video.info import VideoInfo, read_headers
from dataminer.video.limits import FileLimits
from dataminer.video.opening import open_video

_REPORT_EVERY = 5.0  # seconds between two progress reports
_LARGE_PIXELS = 5e6  # of a frame; each of a decoder's threads holds a few frames
_MAX_THREADS_IF_LARGE = 2
_HUGE_BYTES = 64e6  # of a decoded frame: 8K with more than 8 bits per colour


class Extraction:
    """The state that all steps of one video's extraction share.

    Parameters
    ----------
    video : Path
        The video file.
    settings : ExtractConfig
        Which frames, and how much at most.
    threads : int
        For decoding and encoding.
    progress : callable, optional
        Called with one line of text every few seconds; an exception from it ends the extraction.
    """

    def __init__(
        self,
        video: Path,
        settings: ExtractConfig,
        threads: int,
        progress: Callable[[str], None] | None,
    ) -> None:
        self.video = video
        self.settings = settings
        self.limits = FileLimits("extract", settings.max_megapixels, settings.max_memory_mb)
        self.threads = threads
        self._progress = progress
        self._reported = time.monotonic()
        self._state = "reading the packets"
        self._deadline = self._reported + settings.timeout_minutes * 60
        self._stream: StreamPicture | None = None

    def check(self) -> None:
        """Report progress every few seconds, and raise an error if the time is up."""
        now = time.monotonic()
        if now - self._reported > _REPORT_EVERY:
            self._report()
        if now > self._deadline:
            minutes = self.settings.timeout_minutes
            raise TransientError(
                f"{self.video.name} was not extracted within {minutes:g} minutes",
                ErrorClass.TIMEOUT,
                "raise extract.timeout_minutes, or give the job more threads",
            )

    def open(
        self, *, fast_open: bool = False
    ) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
        """Open the video within its limits; see :func:`dataminer.video.opening.open_video`."""
        return open_video(self.video, self.threads, fast_open=fast_open, limits=self.limits)

    def describe(self, container: InputContainer, stream: VideoStream) -> VideoInfo:
        """Describe an opened video, refuse too large a file, and limit the decoder's threads."""
        info = read_headers(container, stream, self.video.stat().st_size)
        geometry = StreamGeometry(self.video, container, stream)
        self._stream = StreamPicture(geometry, DeclaredColours.of(stream), declared_parity(stream))
        if info.size_bytes > self.settings.max_video_gb * 1e9:
            what = f"{self.video.name} has {info.size_bytes / 1e9:.3g} GB, more"
            raise self.limits.exceeded(what, "max_video_gb", self.settings.max_video_gb)
        pixels = info.width * info.height
        if pixels > _LARGE_PIXELS:
            stream.thread_count = min(self.threads, _MAX_THREADS_IF_LARGE)
        if pixels * _bytes_per_pixel(stream) > _HUGE_BYTES:
            stream.thread_count = 1
        return info

    def encode(
        self,
        frames: Iterable[tuple[DecodedFrame, bool]],
        info: VideoInfo,
        encoder: FrameEncoder,
        *,
        has_neighbours: bool,
    ) -> None:
        """Pass selected frames of the described stream to the encoder until it is full.

        Parameters
        ----------
        frames, has_neighbours
            See :func:`with_neighbours`.
        info, encoder
            Of the video; where frames go.
        """
        assert self._stream
        all_interlaced = self._stream.parity is not None
        selected = with_neighbours(frames, has_neighbours, all_interlaced=all_interlaced)
        total = f" of {info.duration:.1f}" if info.duration else ""
        start = None
        for frame in selected:
            start = frame.seconds if start is None else start
            encoder.add(frame, self._stream)
            self._state = f"at {frame.seconds - start:.1f}{total} s, {encoder.count} frames taken"
            if encoder.full:
                break
        self._report()

    def _report(self) -> None:
        self._reported = time.monotonic()
        if self._progress:
            self._progress(self._state)


def _bytes_per_pixel(stream: VideoStream) -> float:
    """Return the bytes of a decoded pixel; some codecs do not declare them before a frame."""
    pixel_format = stream.codec_context.format
    return pixel_format.padded_bits_per_pixel / 8 if pixel_format else 1.5
