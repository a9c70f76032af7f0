"""Black bars around an image: letterbox, pillarbox, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.stages.extract.quality.arrays import GreyImage

_Pixel = TypeVar("_Pixel", bound=np.generic)

# in grey levels, black 0 and white 255
_BLACK = 10.0  # cropdetect of ffmpeg uses 24 of video range, which is 9
_SMOOTH = 6.0  # a bar varies by less, due to compression
_STEP = 8.0  # how much brighter or livelier than a bar the content's first lines must be
_SAMPLES = 256  # pixels of a line that are examined, or up to twice as many
_MIN_CONTENT = 0.25  # of each side; with less left, the frame is dark rather than framed


@dataclass(frozen=True)
class Borders:
    """The width of the black bar at each side, in pixels."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def crop(self, image: NDArray[_Pixel]) -> NDArray[_Pixel]:
        """Return a view of the image without the bars.

        Parameters
        ----------
        image : ndarray, (height, width, ...)
            Of the size at which the borders were found.
        """
        height, width = image.shape[:2]
        return image[self.top : height - self.bottom, self.left : width - self.right]

    def share(self, height: int, width: int) -> float:
        """Return the share of an image's area that the bars cover: 0 to 1."""
        inner = (height - self.top - self.bottom) * (width - self.left - self.right)
        return 1 - inner / (height * width)


def find_borders(grey: GreyImage) -> Borders:
    """Find black bars, in pairs: above and below, or left and right.

    As in ffmpeg's cropdetect, a bar consists of lines from the edge inwards whose mean is black.
    So that a dark frame is not cropped, more is required: its lines are smooth, the content starts
    with a step, at least a quarter of each side is left, and the opposite bar is at least half as
    wide. In case of doubt there is no bar.

    Parameters
    ----------
    grey : ndarray of uint8, (height, width)
        At full size, so that a border is exact to the pixel.

    Returns
    -------
    Borders
        In pixels of ``grey``. Most images have none, which the outermost lines show already.
    """
    top, bottom = _pair(grey, axis=1)
    left, right = _pair(grey[top : grey.shape[0] - bottom], axis=0)
    return Borders(left, top, right, bottom)


def _pair(grey: GreyImage, axis: int) -> tuple[int, int]:
    """Return the widths of both bars whose lines lie along ``axis``."""
    edges = (grey[:1], grey[-1:]) if axis == 1 else (grey[:, :1], grey[:, -1:])
    if any(cv2.mean(edge)[0] > _BLACK for edge in edges):
        return 0, 0
    mean, deviation = _line_statistics(grey, axis)
    dark = (mean <= _BLACK) & (deviation <= _SMOOTH)
    if dark.all():
        return 0, 0
    first = int(np.argmin(dark))
    last = int(np.argmin(dark[::-1]))
    if len(dark) - first - last < _MIN_CONTENT * len(dark):
        return 0, 0
    if 2 * min(first, last) < max(first, last):
        return 0, 0
    near = max(2, len(dark) // 100)
    for width, means, deviations in ((first, mean, deviation), (last, mean[::-1], deviation[::-1])):
        inner = slice(width, width + near)
        if not _starts_with_step(means[inner], deviations[inner]):
            return 0, 0
    return first, last


def _starts_with_step(mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> bool:
    """Return whether lines are clearly brighter or livelier than a bar may be."""
    return bool(mean.max() > _BLACK + _STEP or deviation.max() > _SMOOTH + _STEP)


def _line_statistics(grey: GreyImage, axis: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each line, from a few hundred of its pixels."""
    step = max(1, grey.shape[axis] // _SAMPLES)
    levels = (grey[:, ::step] if axis == 1 else grey[::step]).astype(np.float32)
    mean = levels.mean(axis=axis)
    variance = np.einsum("ij,ij->i" if axis == 1 else "ij,ij->j", levels, levels)
    variance = variance / levels.shape[axis] - mean**2
    return mean, np.sqrt(np.maximum(variance, 0))
