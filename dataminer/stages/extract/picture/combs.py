"""Combs: the traces of motion between the two fields of an interlaced frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.stages.extract.quality.arrays import GreyImage

# as in ffmpeg's fieldmatch and TIVTC: cthresh, combpel, and blocks of 16 x 16 pixels
_THRESHOLD = 9
_COMBED_PIXELS = 24
_BLOCK = 16
# a comb's lines differ from their neighbours by more than from the next ones of their field
_LEAST_RATIO = 1.5
_MAX_AREAS = 64
_MAX_BLOCKS = 16  # of an area that are examined, the most combed ones
_CONTEXT = 8  # columns at each side of a block
_MAX_SHIFT = 8  # lines of a field
_MAX_MOTION = 64  # pixels
_MAX_LINES, _MAX_WIDTH = 48, 96  # of an area that is searched for, in a field
_LEAST_PATTERN = 8.0  # standard deviation
_LEAST_DIFFERENCE = 20.0  # of a pixel, squared
_UNEXPLAINED = 0.25  # share of the difference of two fields that is left if it is explained

_Profile = NDArray[np.float64]


def shows_combs(grey: GreyImage) -> bool:
    """Return whether a frame shows combs.

    Combed blocks are found as by ffmpeg's fieldmatch. Lines in the picture itself, as of blinds or
    of a woven cloth, look the same to it; but there one field follows from the other by a change
    of brightness. What moved between two fields has its edges elsewhere. Areas of combed blocks
    are judged one by one, by the majority of their blocks.

    Parameters
    ----------
    grey : ndarray of uint8, (height, width)
        The luma of a frame with both fields.
    """
    if grey.shape[0] < 2 * _BLOCK or grey.shape[1] < _BLOCK:
        return False
    counts = _combed_blocks(grey)
    if counts is None:
        return False
    areas, labels = cv2.connectedComponents((counts > 0).astype(np.uint8))
    for area in range(1, min(areas, _MAX_AREAS + 1)):
        rows, columns = np.nonzero(labels == area)
        order = np.argsort(-counts[rows, columns], kind="stable")[:_MAX_BLOCKS]
        blocks = [_block_at(rows[i], columns[i]) for i in order]
        if 2 * sum(_is_motion(grey, block) for block in blocks) > len(blocks):
            return True
        if _has_moved(grey, blocks[0], (int(np.ptp(rows)) + 2, int(np.ptp(columns)) + 2)):
            return True
    return False


def _block_at(row: int, column: int) -> tuple[int, int]:
    """Return top and left of a block that is given in units of half a block."""
    return int(row) * _BLOCK // 2 + 2, int(column) * _BLOCK // 2


def _combed_blocks(grey: GreyImage) -> NDArray[np.float64] | None:
    """Return the combed pixels of each block that is combed; None if there is none.

    Blocks overlap by half in both directions.
    """
    luma = grey.astype(np.int16)
    above2, above, line, below, below2 = (luma[i : len(luma) - 4 + i] for i in range(5))
    up, down = line - above, line - below
    limit = _THRESHOLD
    stands_out = ((up > limit) & (down > limit)) | ((up < -limit) & (down < -limit))
    if np.count_nonzero(stands_out) <= _COMBED_PIXELS:
        return None
    weight = np.abs(above2 + 4 * line + below2 - 3 * (above + below))
    counts = _block_sums(stands_out & (weight > 6 * limit))
    found = counts > _COMBED_PIXELS
    if not found.any():
        return None
    between = _block_sums(np.minimum(np.abs(up), np.abs(down)))
    within = _block_sums(np.maximum(np.abs(line - above2), np.abs(line - below2)))
    return np.where(between > _LEAST_RATIO * within, counts * found, 0)


def _block_sums(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the sums over blocks that overlap by half, in both directions."""
    half = _BLOCK // 2
    height, width = (size // half * half for size in values.shape)
    cells = values[:height, :width].astype(np.float32)
    cells = cells.reshape(height // half, half, width // half, half).sum(axis=(1, 3))
    return np.asarray(cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:], np.float64)


def _is_motion(grey: GreyImage, block: tuple[int, int]) -> bool:
    """Return whether the fields of a combed block are of different moments."""
    top, left = block[0] - block[0] % 2, block[1]
    columns = slice(max(0, left - _CONTEXT), left + _BLOCK + _CONTEXT)
    lines = grey[top : top + _BLOCK, columns].astype(np.float64)
    # columns are averaged, as noise is not: it would look like motion
    if not _differ_by_brightness(lines[::2].mean(axis=0), lines[1::2].mean(axis=0)):
        return True
    around = grey[max(0, top - 4 * _CONTEXT) : top + _BLOCK + 4 * _CONTEXT, columns]
    around = around[: len(around) // 2 * 2]
    return _is_shifted(around[::2], around[1::2])


def _has_moved(grey: GreyImage, block: tuple[int, int], extent: tuple[int, int]) -> bool:
    """Return whether what one field shows around a block is elsewhere in the other field.

    Parameters
    ----------
    grey : GreyImage
        Both fields.
    block : tuple of int
        Top and left of the block.
    extent : tuple of int
        Rows and columns of the combed area around it, in units of half a block.
    """
    fields = (grey[: len(grey) // 2 * 2][::2], grey[1::2])
    half = _BLOCK // 2
    # a frame around the area belongs to it, so that it has edges
    lines = min(extent[0] * half // 2, _MAX_LINES) + half
    width = min(extent[1] * half, _MAX_WIDTH) + _BLOCK
    height, full_width = fields[0].shape
    top = min(max(0, block[0] // 2 - (lines - half) // 2), height - lines)
    left = min(max(0, block[1] - (width - _BLOCK) // 2), full_width - width)
    if top < 0 or left < 0:
        return False
    found = [
        _is_found(a[top : top + lines, left : left + width], b, top, left)
        for a, b in (fields, fields[::-1])
    ]
    # without an edge or a texture it is found wherever the same colour is
    patterned = [
        float(field[top : top + lines, left : left + width].std()) > _LEAST_PATTERN
        for field in fields
    ]
    return all(found) or any(a and b for a, b in zip(found, patterned, strict=True))


def _is_found(part: GreyImage, field: GreyImage, top: int, left: int) -> bool:
    """Return whether a part of one field is in the other, but neither here nor next to here."""
    first_line, first_column = max(0, top - _MAX_SHIFT), max(0, left - _MAX_MOTION)
    last_line, last_column = top + len(part) + _MAX_SHIFT, left + part.shape[1] + _MAX_MOTION
    around = field[first_line:last_line, first_column:last_column]
    differences = cv2.matchTemplate(around, part, cv2.TM_SQDIFF)
    row, column = top - first_line, left - first_column
    near = differences[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    least = float(near.min())
    return least > _LEAST_DIFFERENCE * part.size and differences.min() < _UNEXPLAINED * least


def _differ_by_brightness(first: _Profile, second: _Profile) -> bool:
    """Return whether two profiles are the same up to a linear change of values."""
    difference = float(((second - first) ** 2).sum())
    first, second = first - first.mean(), second - second.mean()
    energy = float((first**2).sum())
    slope = float((first * second).sum()) / energy if energy else 0.0
    rest = float(((second - slope * first) ** 2).sum())
    return rest < _UNEXPLAINED * difference


def _is_shifted(first: GreyImage, second: GreyImage) -> bool:
    """Return whether two fields match once one of them is shifted by whole lines."""
    lines = len(first)
    margin = min(_MAX_SHIFT, lines // 3)
    middle = first[margin : lines - margin]
    differences = cv2.matchTemplate(second, middle, cv2.TM_SQDIFF)[:, 0]
    # lines of the second field lie half a line of a field below those of the first
    unshifted = min(differences[margin], differences[margin - 1])
    return bool(differences.min() < _UNEXPLAINED * unshifted)
