"""Metrics of a frame: quality at one working size, and hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.frames.table import STILL
from dataminer.frames.thumbnails import Thumbnail
from dataminer.stages.extract.quality.arrays import BgrImage, GreyImage
from dataminer.stages.extract.quality.borders import Borders, find_borders
from dataminer.stages.extract.quality.hashes import HashPixels, dhashes, phashes
from dataminer.stages.extract.quality.sharpness import sharpness
from dataminer.stages.extract.quality.thumbnails import make_thumbnail

WORKING_LINES = 360
_HASH_LINES = 90
_DARK = 0.1  # ffmpeg's blackdetect: pixel_black_th
_MAX_FLAT_STEP = 2  # grey levels by which neighbouring cells of a flat area may differ


@dataclass(frozen=True)
class FrameMetrics:
    """Metrics of one frame, named as the columns of the frame table.

    From ``cells``, :func:`table_columns` computes the hashes and the metrics that compare a frame
    with its neighbours. The ``thumbnail`` is no column: it has a file of its own.
    """

    sharpness: float
    brightness: float
    contrast: float
    entropy: float
    black: float
    blank: float
    border: float
    border_left: int
    border_top: int
    border_right: int
    border_bottom: int
    cells: HashPixels
    thumbnail: Thumbnail

    @property
    def borders(self) -> Borders:
        """The black bars around the content."""
        return Borders(self.border_left, self.border_top, self.border_right, self.border_bottom)


def measure(image: BgrImage) -> FrameMetrics:
    """Compute the metrics of a frame that do not need its neighbours.

    All but the borders themselves are measured within the borders, so that a letterboxed copy
    has the metrics and hashes of its original.

    Parameters
    ----------
    image : ndarray of uint8, (height, width, 3)
        In OpenCV's order, blue first, as displayed.

    Returns
    -------
    FrameMetrics
        Equal pixels give equal values, in any thread and in any order.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    borders = find_borders(grey)
    small = to_working_size(borders.crop(grey))
    brightness, contrast = brightness_and_contrast(small)
    quarter = hash_grey(small)
    cells = HashPixels.of(quarter)
    counts = _histogram(small)
    return FrameMetrics(
        sharpness=sharpness(small),
        brightness=brightness,
        contrast=contrast,
        entropy=entropy(counts),
        black=float(counts[: int(_DARK * 255) + 1].sum() / counts.sum()),
        blank=blank(cells.square),
        border=borders.share(*grey.shape),
        border_left=borders.left,
        border_top=borders.top,
        border_right=borders.right,
        border_bottom=borders.bottom,
        cells=cells,
        thumbnail=make_thumbnail(borders.crop(image), quarter),
    )


def table_columns(metrics: Sequence[FrameMetrics]) -> dict[str, NDArray[Any]]:
    """Return every metric column of the frame table for the frames of one video.

    Parameters
    ----------
    metrics : sequence of FrameMetrics
        In presentation order.

    Returns
    -------
    dict of str to ndarray, each (n,)
        Those of :class:`FrameMetrics`, and ``phash``, ``dhash``, ``flash`` and ``change``.
    """
    columns = {
        field.name: np.array([getattr(frame, field.name) for frame in metrics])
        for field in fields(FrameMetrics)
        if field.name not in ("cells", "thumbnail")
    }
    cells = [frame.cells for frame in metrics]
    squares = [each.square for each in cells]
    return {
        **columns,
        "flash": flashes(squares),
        "change": changes(squares),
        "phash": phashes(cells),
        "dhash": dhashes(cells),
    }


def to_working_size(grey: GreyImage) -> GreyImage:
    """Reduce a grey image to the working size: 360 pixels on its shorter side.

    The shorter side makes portrait and landscape clips comparable. Smaller images are not
    enlarged, because interpolated pixels would make a sharp small clip look blurred. Averaging in
    integer steps and then interpolating bilinearly, which below a ratio of two uses every pixel,
    costs a fifth of averaging in one step, and is as stable over sizes.

    Parameters
    ----------
    grey : ndarray of uint8, (height, width)

    Returns
    -------
    ndarray of uint8, (h, w)
    """
    while min(grey.shape) >= 2 * WORKING_LINES:
        grey = _thirded(grey) if min(grey.shape) == 3 * WORKING_LINES else _halved(grey)
    scale = WORKING_LINES / min(grey.shape)
    if scale < 1:
        size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
    return grey


def hash_grey(grey: GreyImage) -> GreyImage:
    """Reduce an image of the working size to a quarter (90 lines), for hashes and thumbnail.

    Lanczos from there costs a tenth of what it costs from 360 lines. Smaller images are reduced
    less: never below 90 lines.
    """
    factor = max(1, min(4, min(grey.shape) // _HASH_LINES))
    if factor == 4:  # halving twice is five times as fast
        return _halved(_halved(grey))
    height, width = (side // factor for side in grey.shape)
    return _averaged(grey[: factor * height, : factor * width], height, width)


def brightness_and_contrast(grey: GreyImage) -> tuple[float, float]:
    """Return the mean and the standard deviation of grey, where black is 0 and white 1.

    The standard deviation is the root-mean-square contrast of Peli, "Contrast in complex images",
    J. Opt. Soc. Am. A 7, 1990.
    """
    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]) / 255, float(deviation[0, 0]) / 255


def entropy(counts: NDArray[np.float64]) -> float:
    """Return the entropy of a pixel's grey level in bits: 0 for a flat image, 8 at most.

    Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948.

    Parameters
    ----------
    counts : ndarray, (256,)
        Number of pixels of each grey level.
    """
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -float((shares * np.log2(shares)).sum()))


def blank(cells: GreyImage) -> float:
    """Return the share of an image that shows nothing: 1 for a lens cap or the end of a fade.

    It is the share of cells, of 32x32, that hardly differ from their neighbours, with or without
    noise. This project's own.

    Parameters
    ----------
    cells : ndarray of uint8, (32, 32)
    """
    busy = np.zeros(cells.shape, np.bool_)
    across = cv2.absdiff(cells[:, 1:], cells[:, :-1]) > _MAX_FLAT_STEP
    down = cv2.absdiff(cells[1:], cells[:-1]) > _MAX_FLAT_STEP
    busy[:, 1:] |= across
    busy[:, :-1] |= across
    busy[1:] |= down
    busy[:-1] |= down
    return 1 - np.count_nonzero(busy) / busy.size


def flashes(cells: Sequence[GreyImage]) -> NDArray[np.float64]:
    """Return how much a flash lights up each frame: 0 for most, 1 for black turned white.

    It is the mean brightening over the brighter neighbour of each cell, times the correlation with
    the mean of both neighbours: a flash lights up one frame of a scene, while a short bright shot
    looks different. Two such jumps in a row indicate a flash: Yeo and Liu, "Rapid scene analysis
    on compressed video", IEEE Transactions on Circuits and Systems for Video Technology 5, 1995.
    The first and the last frame have one neighbour and get 0.

    Parameters
    ----------
    cells : sequence of ndarray of uint8, each (32, 32)
        In presentation order.
    """
    values = np.zeros(len(cells))
    for index in range(1, len(cells) - 1):
        before, current, after = cells[index - 1 : index + 2]
        brighter = (cv2.mean(current)[0] - cv2.mean(cv2.max(before, after))[0]) / 255
        if brighter > 0:
            around = cv2.add(before, after, dtype=cv2.CV_16S)
            values[index] = brighter * max(0.0, _correlation(current, around))
    return values


def changes(cells: Sequence[GreyImage]) -> NDArray[np.float64]:
    """Return how much each frame differs from the last one that was no repeat; 1 for the first.

    It is the largest difference of a cell, where black and white differ by 1: a small object that
    moved is a change, noise and a codec's flicker are not. A frame below ``STILL`` counts as a
    repeat, and the next one is compared with the same frame, so that slow drift adds up.
    Differences cell by cell: Zhang, Kankanhalli and Smoliar, "Automatic partitioning of
    full-motion video", Multimedia Systems 1, 1993.

    Parameters
    ----------
    cells : sequence of ndarray of uint8, each (32, 32)
        In presentation order.
    """
    values = np.ones(len(cells))
    last = np.empty(0, np.uint8)
    for index, current in enumerate(cells):
        if index:
            values[index] = cv2.norm(current, last, cv2.NORM_INF) / 255
        if values[index] >= STILL:
            last = current
    return values


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return Pearson's correlation; 0 if either array is flat."""
    first, second = one - one.mean(), other - other.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size else 0.0


def _histogram(grey: GreyImage) -> NDArray[np.float64]:
    """Count grey levels on every other line, for half the cost."""
    counts = cv2.calcHist([grey[::2]], [0], None, [256], [0, 256])
    return np.asarray(counts, np.float64).ravel()


def _halved(grey: GreyImage) -> GreyImage:
    height, width = (side // 2 for side in grey.shape)
    return _averaged(grey[: 2 * height, : 2 * width], height, width)


def _thirded(grey: GreyImage) -> GreyImage:
    """Average 3x3 pixels each: 1080 lines to 360, three times as fast as cv2.resize does it."""
    height, width = (side - side % 3 for side in grey.shape)
    return np.ascontiguousarray(cv2.blur(grey, (3, 3))[1:height:3, 1:width:3], np.uint8)


def _averaged(grey: GreyImage, height: int, width: int) -> GreyImage:
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
