"""Combs: the traces of motion between the two fields of an interlaced frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.stages.extract.quality.arrays import GreyImage

# as in ffmpeg's fieldmatch and TIVTC: cthresh, combpel, and blocks of 16 x 16 pixels
_THRESHOLD = 9
_COMBED_PIXELS = 80
_BLOCK = 16
# a comb's lines differ from their neighbours by more than from the next ones of their field
_LEAST_RATIO = 1.5
_MAX_BLOCKS = 64  # that are examined further, the most combed ones
_CONTEXT = 8  # lines of a field around a block, and columns
_LEAST_DETAIL = 2.0  # mean difference of neighbouring pixels within a line
_MAX_CORRELATION = 0.5  # of the detail of two fields of different moments
_MAX_SHIFT = 8  # lines of a field
_EXPLAINED = 0.35  # share of the difference of fields that is left once they are shifted

_Plane = NDArray[np.float32]


def shows_combs(grey: GreyImage) -> bool:
    """Return whether a frame shows combs.

    Combed blocks are found as by ffmpeg's fieldmatch. Lines in the picture itself, as of
    blinds or a woven cloth, look the same to it; but there both fields have the same detail in the
    same columns. Fields of different moments have it in different columns, or, if the motion is
    vertical, match once one of them is shifted.

    Parameters
    ----------
    grey : ndarray of uint8, (height, width)
        The luma of a frame with both fields.
    """
    if grey.shape[0] < 2 * _BLOCK or grey.shape[1] < _BLOCK:
        return False
    blocks = _combed_blocks(grey)
    return any(_is_motion(grey, top, left) for top, left in blocks)


def _combed_blocks(grey: GreyImage) -> list[tuple[int, int]]:
    """Return top and left of the most combed blocks, in units of half a block."""
    luma = grey.astype(np.int16)
    above2, above, line, below, below2 = (luma[i : len(luma) - 4 + i] for i in range(5))
    up, down = line - above, line - below
    limit = _THRESHOLD
    stands_out = ((up > limit) & (down > limit)) | ((up < -limit) & (down < -limit))
    if np.count_nonzero(stands_out) <= _COMBED_PIXELS:
        return []
    weight = np.abs(above2 + 4 * line + below2 - 3 * (above + below))
    combed = stands_out & (weight > 6 * limit)
    counts = _block_sums(combed)
    found = counts > _COMBED_PIXELS
    if not found.any():
        return []
    between = _block_sums(np.minimum(np.abs(up), np.abs(down)))
    within = _block_sums(np.maximum(np.abs(line - above2), np.abs(line - below2)))
    found &= between > _LEAST_RATIO * within
    rows, columns = np.nonzero(found)
    order = np.argsort(-counts[rows, columns], kind="stable")[:_MAX_BLOCKS]
    half = _BLOCK // 2
    return [(int(rows[i]) * half + 2, int(columns[i]) * half) for i in order]


def _block_sums(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the sums over blocks that overlap by half, in both directions."""
    half = _BLOCK // 2
    height, width = (size // half * half for size in values.shape)
    cells = values[:height, :width].astype(np.float32)
    cells = cells.reshape(height // half, half, width // half, half).sum(axis=(1, 3))
    return np.asarray(cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:], np.float64)


def _is_motion(grey: GreyImage, top: int, left: int) -> bool:
    """Return whether the fields of a combed block are of different moments."""
    top -= top % 2
    rows = slice(max(0, top - 2 * _CONTEXT), top + _BLOCK + 2 * _CONTEXT)
    columns = slice(max(0, left - _CONTEXT), left + _BLOCK + _CONTEXT)
    block = grey[rows, columns].astype(np.float32)
    block = block[: len(block) // 2 * 2]
    first, second = block[::2], block[1::2]
    # in the combed lines alone: what surrounds them is the same in both fields
    inner = slice((top - rows.start) // 2, (top - rows.start + _BLOCK) // 2)
    first_detail, second_detail = (np.diff(field[inner], axis=1) for field in (first, second))
    if max(np.abs(first_detail).mean(), np.abs(second_detail).mean()) >= _LEAST_DETAIL:
        return _correlation(first_detail, second_detail) < _MAX_CORRELATION
    return _is_shifted(first, second)


def _correlation(first: _Plane, second: _Plane) -> float:
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale else 0.0


def _is_shifted(first: _Plane, second: _Plane) -> bool:
    """Return whether two fields match once one of them is shifted by whole lines."""
    lines = len(first)
    margin = min(_MAX_SHIFT, lines // 3)
    middle = first[margin : lines - margin]
    differences = cv2.matchTemplate(second, middle, cv2.TM_SQDIFF)[:, 0]
    # lines of the second field lie half a line of a field below those of the first
    unshifted = min(differences[margin], differences[margin - 1])
    return bool(differences.min() < _EXPLAINED * unshifted)
