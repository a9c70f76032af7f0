"""How stored frames are turned for display."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dataminer.video.libav_messages import captured_messages, logged_message
from dataminer.video.limits import FileLimits

_PROBE_PACKETS = 64  # packets to try before giving up on a first frame
_REFUSED_SIZE = re.compile(r"Picture size (\d+)x(\d+) exceeds")  # libavutil/imgutils.c


@dataclass(frozen=True)
class Orientation:
    """How stored frames are turned for display: transposed first, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def degrees(self) -> int:
        """The rotation in degrees clockwise, without any mirroring."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn an image, (height, width, 3), from how it is stored to how it is displayed."""
        import cv2  # downloads only ask for the orientation and need not wait 0.2 s

        if self.transpose:
            image = np.asarray(cv2.transpose(image), np.uint8)
        if self.flip_x or self.flip_y:
            code = -1 if self.flip_x and self.flip_y else int(self.flip_x)
            image = np.asarray(cv2.flip(image, code), np.uint8)
        return image


_ROTATIONS = {  # by degrees counter-clockwise, as libav counts
    90: Orientation(transpose=True, flip_y=True),
    180: Orientation(flip_x=True, flip_y=True),
    270: Orientation(transpose=True, flip_x=True),
}


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return how a decoded frame must be turned, from its display matrix.

    The matrix (a b u, c d v, x y w, in row order; libavutil/display.h) maps a stored point (x, y)
    to (a x + c y, b x + d y). Rotations by other than right angles do not occur in practice; they
    count as the nearest right angle.
    """
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that libav knows and PyAV does not
        return _ROTATIONS.get(frame.rotation % 360, Orientation())
    if matrix is None:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)


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
