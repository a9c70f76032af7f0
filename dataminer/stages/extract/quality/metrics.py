"""What a frame's picture says about itself: quality at one working size, and hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.frames.table import STILL
from dataminer.stages.extract.quality.borders import Borders, find_borders
from dataminer.stages.extract.quality.hashes import HashPixels, dhashes, phashes
from dataminer.stages.extract.quality.sharpness import sharpness

WORKING_LINES = 360
_HASH_LINES = 90
_DARK = 0.1  # ffmpeg's blackdetect: pixel_black_th
_EVEN = 2  # grey levels by which neighbouring cells of nothing differ at most

GreyImage = NDArray[np.uint8]


@dataclass(frozen=True)
class FrameMetrics:
    """What one frame says by itself; the columns of the frame table with the same names.

    Beside them ``cells``, from which :func:`table_columns` takes the hashes, and what a frame is
    among its neighbours.
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

    @property
    def borders(self) -> Borders:
        """The black bars: what to cut away to keep only the picture."""
        return Borders(self.border_left, self.border_top, self.border_right, self.border_bottom)


def measure(image: GreyImage) -> FrameMetrics:
    """Compute all that the frame table says about a picture, except what needs its neighbours.

    All but the borders themselves is measured within the borders, so that a letterboxed copy
    is judged, and hashed, like its original.

    Parameters
    ----------
    image : ndarray of uint8, (height, width, 3)
        A picture in OpenCV's order, blue first, as it is displayed.

    Returns
    -------
    FrameMetrics
        Pure: the same pixels give the same values, in any thread and in any order.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    borders = find_borders(grey)
    small = reduced(borders.crop(grey))
    brightness, contrast = light(small)
    cells = HashPixels.of(hash_grey(small))
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
    )


def table_columns(metrics: Sequence[FrameMetrics]) -> dict[str, NDArray[Any]]:
    """Return every metric column of the frame table for the frames taken out of one video.

    Parameters
    ----------
    metrics : sequence of FrameMetrics
        In the order in which the frames are shown, whatever order they were measured in.

    Returns
    -------
    dict of str to ndarray, each (n,)
        Those of :class:`FrameMetrics`, and ``phash``, ``dhash``, ``flash`` and ``change``.
    """
    columns = {
        field.name: np.array([getattr(frame, field.name) for frame in metrics])
        for field in fields(FrameMetrics)
        if field.name != "cells"
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


def working_grey(image: GreyImage) -> GreyImage:
    """Return a picture in grey, by ITU-R BT.601's weights, at the working size.

    Parameters
    ----------
    image : ndarray of uint8, (height, width, 3)
        Blue, green, red.
    """
    return reduced(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8))


def reduced(grey: GreyImage) -> GreyImage:
    """Reduce a grey picture to 360 pixels on its shorter side; smaller ones keep their size.

    The shorter side, not the height, so that a clip held upright is judged like one held
    across. Never enlarged, because interpolated pixels would make a sharp small clip look blurred.
    In whole steps as far as they lead, then by bilinear interpolation, which at less than two to
    one sees every pixel: a fifth of what averaging in one step costs, and as steady over sizes.

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
    """Reduce a working picture to a quarter (90 lines): the pixels that the hashes are made of.

    Lanczos from there costs a tenth of what it costs from 360 lines. Smaller pictures are reduced
    less: never below 90 lines.
    """
    factor = max(1, min(4, min(grey.shape) // _HASH_LINES))
    if factor == 4:  # twice is five times as fast as once
        return _halved(_halved(grey))
    height, width = (side // factor for side in grey.shape)
    return _averaged(grey[: factor * height, : factor * width], height, width)


def light(grey: GreyImage) -> tuple[float, float]:
    """Return the mean and the standard deviation of grey, where black is 0 and white 1.

    The latter is the root-mean-square contrast of Peli, "Contrast in complex images",
    J. Opt. Soc. Am. A 7, 1990.
    """
    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]) / 255, float(deviation[0, 0]) / 255


def entropy(counts: NDArray[np.float64]) -> float:
    """Return the bits that a pixel's grey level holds: 0 for a flat picture, 8 at most.

    Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948.

    Parameters
    ----------
    counts : ndarray, (256,)
        How many pixels have each grey level.
    """
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -float((shares * np.log2(shares)).sum()))


def blank(cells: GreyImage) -> float:
    """Return what part of a picture shows nothing: 1 for a lens cap, a slate, a fade's end.

    Cells that hardly differ from their neighbours, of 32x32: as much light everywhere, noise or
    not. This project's own.

    Parameters
    ----------
    cells : ndarray of uint8, (32, 32)
    """
    busy = np.zeros(cells.shape, np.bool_)
    across = cv2.absdiff(cells[:, 1:], cells[:, :-1]) > _EVEN
    down = cv2.absdiff(cells[1:], cells[:-1]) > _EVEN
    busy[:, 1:] |= across
    busy[:, :-1] |= across
    busy[1:] |= down
    busy[:-1] |= down
    return 1 - np.count_nonzero(busy) / busy.size


def flashes(cells: Sequence[GreyImage]) -> NDArray[np.float64]:
    """Return how far each picture is lit up by a flash: 0 for most, 1 for black turned white.

    The mean brightening over the brighter one of both neighbours, cell by cell, as far as the
    picture still looks like them (times its correlation with their mean): a flash lights up one
    picture of a scene, while a short shot of something bright looks different. Two such jumps in
    a row as the sign of a flash: Yeo and Liu, "Rapid scene analysis on compressed video", IEEE
    Transactions on Circuits and Systems for Video Technology 5, 1995. The first and the last
    picture have one neighbour and get 0.

    Parameters
    ----------
    cells : sequence of ndarray of uint8, each (32, 32)
        In the order in which they are shown.
    """
    found = np.zeros(len(cells))
    for place in range(1, len(cells) - 1):
        before, here, after = cells[place - 1 : place + 2]
        brighter = (cv2.mean(here)[0] - cv2.mean(cv2.max(before, after))[0]) / 255
        if brighter > 0:
            around = cv2.add(before, after, dtype=cv2.CV_16S)
            found[place] = brighter * max(0.0, _correlation(here, around))
    return found


def changes(cells: Sequence[GreyImage]) -> NDArray[np.float64]:
    """Return how far each picture differs from the last one that was no repeat; 1 for the first.

    The greatest difference of a cell, where black and white differ by 1: one small object that
    moved is a change, noise and a codec's flicker are none. Below ``STILL`` a picture counts as a
    repeat, and the next one is compared with the same again, so that slow drift adds up.
    Differences cell by cell: Zhang, Kankanhalli and Smoliar, "Automatic partitioning of
    full-motion video", Multimedia Systems 1, 1993.

    Parameters
    ----------
    cells : sequence of ndarray of uint8, each (32, 32)
        In the order in which they are shown.
    """
    found = np.ones(len(cells))
    last = np.empty(0, np.uint8)
    for place, here in enumerate(cells):
        if place:
            found[place] = cv2.norm(here, last, cv2.NORM_INF) / 255
        if found[place] >= STILL:
            last = here
    return found


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's; 0 where one of the two is flat."""
    first, second = one - one.mean(), other - other.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size else 0.0


def _histogram(grey: GreyImage) -> NDArray[np.float64]:
    """Count grey levels on every other line, which costs half of what all of them do."""
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
