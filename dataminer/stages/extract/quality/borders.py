"""Black bars around a picture: letterbox, pillarbox, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

GreyImage = NDArray[np.uint8]
_Any = TypeVar("_Any", bound=np.generic)

# in grey levels, black 0 and white 255
_BLACK = 10.0  # ffmpeg's cropdetect takes 24 of video range, which is 9
_SMOOTH = 6.0  # a bar varies by less: what compression adds
_STEP = 8.0  # by which the picture's first lines are brighter or livelier than a bar may be
_SAMPLES = 256  # pixels of a line to look at, or up to twice as many
_LEAST_PICTURE = 0.25  # of each side: with less left, the frame is dark and not framed


@dataclass(frozen=True)
class Borders:
    """How many lines of pixels at each side are a black bar."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def crop(self, image: NDArray[_Any]) -> NDArray[_Any]:
        """Return the picture within the bars; a view.

        Parameters
        ----------
        image : ndarray, (height, width, ...)
            Of the size that the borders were found at.
        """
        height, width = image.shape[:2]
        return image[self.top : height - self.bottom, self.left : width - self.right]

    def share(self, height: int, width: int) -> float:
        """Return what part of a picture's area the bars take: 0 to 1."""
        inner = (height - self.top - self.bottom) * (width - self.left - self.right)
        return 1 - inner / (height * width)


def find_borders(grey: GreyImage) -> Borders:
    """Find black bars, in pairs: above and below, or left and right.

    As ffmpeg's cropdetect, a bar is lines from the edge inwards whose mean is black. Beyond it,
    because one dark frame shall not be cut: they must be smooth, the picture must begin with a
    step, at least a quarter of each side must be left, and the bar across must be there too, at
    least half as wide. Where in doubt, there is no bar.

    Parameters
    ----------
    grey : ndarray of uint8, (height, width)
        At full size, so that a border is right to the pixel.

    Returns
    -------
    Borders
        In pixels of ``grey``; all 0 for most pictures, which costs a look at the edges only.
    """
    top, bottom = _pair(grey, axis=1)
    left, right = _pair(grey[top : grey.shape[0] - bottom], axis=0)
    return Borders(left, top, right, bottom)


def _pair(grey: GreyImage, axis: int) -> tuple[int, int]:
    """Widths of the bars at both ends of the lines that lie along ``axis``."""
    edges = (grey[:1], grey[-1:]) if axis == 1 else (grey[:, :1], grey[:, -1:])
    if any(cv2.mean(edge)[0] > _BLACK for edge in edges):
        return 0, 0
    mean, deviation = _lines(grey, axis)
    dark = (mean <= _BLACK) & (deviation <= _SMOOTH)
    if dark.all():
        return 0, 0
    first = int(np.argmin(dark))
    last = int(np.argmin(dark[::-1]))
    if len(dark) - first - last < _LEAST_PICTURE * len(dark):
        return 0, 0
    if 2 * min(first, last) < max(first, last):
        return 0, 0
    near = max(2, len(dark) // 100)
    begin, end = slice(first, first + near), slice(last, last + near)
    if _steps(mean[begin], deviation[begin]) and _steps(mean[::-1][end], deviation[::-1][end]):
        return first, last
    return 0, 0


def _steps(mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> bool:
    """Tell whether lines are clearly brighter or livelier than a bar may be."""
    return bool(mean.max() > _BLACK + _STEP or deviation.max() > _SMOOTH + _STEP)


def _lines(grey: GreyImage, axis: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each line, from a few hundred pixels of it."""
    step = max(1, grey.shape[axis] // _SAMPLES)
    levels = (grey[:, ::step] if axis == 1 else grey[::step]).astype(np.float32)
    mean = levels.mean(axis=axis)
    variance = np.einsum("ij,ij->i" if axis == 1 else "ij,ij->j", levels, levels)
    variance = variance / levels.shape[axis] - mean**2
    return mean, np.sqrt(np.maximum(variance, 0))
