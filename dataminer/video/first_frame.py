"""What only the first frames of a stream tell: how it is turned, and whether it moves."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import islice

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from dataminer.video.display.orientation import Orientation, orientation_of
from dataminer.video.libav_messages import captured_messages, logged_message
from dataminer.video.limits import FileLimits

_PROBE_PACKETS = 64  # packets to try before giving up on a first frame
_LEAST_PICTURES = 3  # of a sequence; a photo may hold two of one size, for both eyes
_REFUSED_SIZE = re.compile(r"Picture size (\d+)x(\d+) exceeds")  # libavutil/imgutils.c


def first_orientation(
    container: InputContainer, stream: VideoStream, name: str, limits: FileLimits
) -> Orientation:
    """Return how the first frame must be turned.

    A stream whose frames cannot be decoded is taken as upright: extract reports what is wrong.

    Raises
    ------
    PermanentError
        UNSUPPORTED if the decoder refused a frame as larger than the limits allow.
    """
    with captured_messages(), suppress(av.FFmpegError, IndexError, MemoryError):
        for _, packet in zip(range(_PROBE_PACKETS), container.demux(stream), strict=False):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                limits.check_megapixels(_refused_megapixels(error), name)
                continue
            for frame in frames:
                return orientation_of(frame)
    return Orientation()


def is_picture_sequence(
    reopen: Callable[[], AbstractContextManager[InputContainer]], limits: FileLimits
) -> bool:
    """Return whether what libav takes for an image is several of one size, such as raw MJPEG.

    Previews and gain maps, which cameras add to photos, are smaller than these.

    Parameters
    ----------
    reopen : callable
        Opens the file once more.
    limits : FileLimits
        How large its pictures may be.
    """
    sizes: list[tuple[int, int]] = []
    with reopen() as container, captured_messages(), suppress(av.FFmpegError, MemoryError):
        stream = container.streams.video[0]
        if stream.codec_context is None or not container.format.name.endswith("_pipe"):
            return False
        stream.thread_count = 1
        stream.codec_context.options = limits.decoder_options
        packets = list(islice(container.demux(stream), _LEAST_PICTURES))
        if not all(packet.size for packet in packets):  # the last one is empty
            return False
        for packet in packets:
            with suppress(av.FFmpegError):  # one may be damaged
                sizes += [(frame.width, frame.height) for frame in stream.decode(packet)]
    return len(sizes) >= _LEAST_PICTURES - 1 and len(set(sizes)) == 1


def _refused_megapixels(error: av.FFmpegError) -> float:
    """Return the size of a frame that the decoder refused as too large; 0 for other errors."""
    size = _REFUSED_SIZE.search(logged_message(error))
    return int(size[1]) * int(size[2]) / 1e6 if size else 0.0
