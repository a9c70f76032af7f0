"""How stored frames are turned for display."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray


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
