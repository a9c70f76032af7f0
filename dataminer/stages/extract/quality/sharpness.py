"""Sharpness of an image, independent of noise, light and content."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.stages.extract.quality.arrays import GreyImage

_Field = NDArray[np.float32]

_MARGIN = 3.0  # standard errors subtracted from fine detail, so that noise alone is no detail
_MIN_COARSE = 0.1  # coarse detail, in squared half grey levels; with less, the image is flat
_MIN_SHARE = 0.01  # an axis with less of the other's coarse detail is not judged
_SECOND_DERIVATIVE = np.array([[1.0, -2.0, 1.0]], np.float32)


def sharpness(grey: GreyImage) -> float:
    """Return how much of the detail at eight pixels exists at two pixels too; 0 if there is none.

    The energy of second derivatives at the finest scale is divided by that at four times the
    scale. The smaller ratio of both axes counts, because motion blur leaves detail across it. The
    ratio does not depend on contrast or content: sharp images of all kinds have 0.15 to 1.3, the
    same ones blurred by three pixels have 0.005 to 0.03.

    Each energy is the covariance of two halves of the image, its black and its white chessboard
    fields, less a margin of error: they share detail, but not noise that differs from pixel to
    pixel. Noise in grains of several pixels at the working size counts as detail.

    Ratios of fine to coarse bands: Xie, Rong and Sun, "Wavelet-based focus measure and 3-D
    surface reconstruction method for microscopy images", IROS 2006 (WAVR in Pertuz et al.,
    "Analysis of focus measure operators", Pattern Recognition 46, 2013). The minimum of both axes
    is this project's. Chessboard halves: Koho et al., "Fourier ring correlation simplifies image
    restoration in fluorescence microscopy", Nature Communications 10, 2019.

    Parameters
    ----------
    grey : ndarray of uint8, (height, width)
        At the working size, on which the value depends. Below 16 pixels per side it is 0.
    """
    if min(grey.shape) < 16:
        return 0.0
    one, other = _halves(grey)
    coarse_one, coarse_other = _quartered(one), _quartered(other)
    axes = (_SECOND_DERIVATIVE, _SECOND_DERIVATIVE.T)
    coarse = [_shared(coarse_one, coarse_other, axis)[0] for axis in axes]
    strong = max(*coarse, _MIN_COARSE)
    ratios = [
        max(mean - _MARGIN * error, 0.0) / energy
        for energy, (mean, error) in zip(
            coarse, (_shared(one, other, axis) for axis in axes), strict=True
        )
        if energy >= max(_MIN_COARSE, _MIN_SHARE * strong)
    ]
    return min(ratios, default=0.0)


def _halves(grey: GreyImage) -> tuple[_Field, _Field]:
    """Add up either diagonal of each 2x2 pixels: the same content twice, with independent noise."""
    height, width = (side - side % 2 for side in grey.shape)
    # two pixels per number, the left one in the lower byte, take half the time
    pairs = np.ascontiguousarray(grey[:height, :width]).view("<u2")
    above, below = pairs[0::2], pairs[1::2]
    one, other = (above & 255) + (below >> 8), (above >> 8) + (below & 255)
    return one.astype(np.float32), other.astype(np.float32)


def _quartered(field: _Field) -> _Field:
    for _ in range(2):
        height, width = (side - side % 2 for side in field.shape)
        size = (width // 2, height // 2)
        field = np.asarray(
            cv2.resize(field[:height, :width], size, interpolation=cv2.INTER_AREA), np.float32
        )
    return field


def _shared(one: _Field, other: _Field, axis: NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean product of two fields' second derivatives, and its standard error."""
    product = cv2.filter2D(one, -1, axis) * cv2.filter2D(other, -1, axis)
    # a third of the time of cv2.meanStdDev
    mean, square = cv2.mean(product)[0], cv2.norm(product) ** 2 / product.size
    return mean, math.sqrt(max(0.0, square - mean**2) / product.size)
