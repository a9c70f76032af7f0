"""What only the first frame of a stream tells: how it is turned."""

from __future__ import annotations

import re
from contextlib import suppress

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from dataminer.video.display.orientation import Orientation, orientation_of
from dataminer.video.libav_messages import captured_messages, logged_message
from dataminer.video.limits import FileLimits

_PROBE_PACKETS = 64  # packets to try before giving up on a first frame
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


def _refused_megapixels(error: av.FFmpegError) -> float:
    """Return the size of a frame that the decoder refused as too large; 0 for other errors."""
    size = _REFUSED_SIZE.search(logged_message(error))
    return int(size[1]) * int(size[2]) / 1e6 if size else 0.0
