"""Combs: the traces of motion between the two fields of an interlaced frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.stages.extract.quality.arrays import GreyImage

# a block is 2 x 2 cells: 16 x 16 pixels of a frame
_CELL_LINES, _CELL_COLUMNS = 4, 8  # lines of a field
_LEAST_BLOCKS = 3  # of an area
_LEAST_CHANGE, _CHANGE_OF_NOISE = 4.0, 1.5  # levels, from frame to frame; share of the noise
_LEAST_COMB, _COMB_OF_NOISE = 3.0, 1.2
_NOISE_PERCENTILE = 5  # of the blocks: those that show little but noise
_MOST_NOISE = 12.0  # levels
_MAX_LINES, _MAX_WIDTH = 48, 96  # of an area that is searched for, in a field
_MAX_SHIFT, _MAX_MOTION = 8, 64  # lines of a field, columns
_MOST_PIXELS = 20_000  # of an area, by which a fade is judged

Blocks = NDArray[np.float32]
"""A mean per block; blocks overlap by half in both directions."""
Levels = NDArray[np.floating[Any]]
"""Of pixels."""
Area = NDArray[np.bool_]
"""Whether a block belongs to it."""
Fields = tuple[GreyImage, GreyImage]
"""The even and the odd lines, equally many."""


class _Neighbour(NamedTuple):
    """How a frame compares with the one shown before or after it."""

    change: Blocks
    """Of lines of the same parity."""
    pairs: tuple[Blocks, Blocks]
    """The combs of two fields, one of each frame: those that are adjacent in time if top fields
    come first, and those that are if bottom fields do."""
    combs: Blocks
    """Of the neighbour itself."""


class _Match(Enum):
    """How well an area's own fields match, compared with pairs of one and a neighbour's."""

    STILL = auto()
    BEST = auto()
    BETTER = auto()
    ALIKE = auto()
    TOP_FIRST = auto()  # as well as the pair that is adjacent in this order; the other differs
    BOTTOM_FIRST = auto()
    WORSE = auto()
    WORST = auto()


def shows_combs(frame: GreyImage, before: GreyImage | None, after: GreyImage | None) -> bool:
    """Return whether a frame consists of fields of different moments, and shows it.

    The two fields of an interlaced frame are as far apart in time as its first and the second of
    the frame before. Where something moves, combs of both pairs are alike, and those of fields
    that are farther apart differ. In a progressive frame, the own fields match best, whatever
    lines the picture has. ffmpeg's ``idet`` compares the same fields, over whole frames.

    Parameters
    ----------
    frame : ndarray of uint8, (height, width)
        The luma of both fields.
    before, after : ndarray of uint8, (height, width), optional
        That of the frames shown directly before and after. Without any, nothing is seen to move.
    """
    others = [other for other in (before, after) if other is not None]
    if not others or frame.shape[0] < 4 * _CELL_LINES or frame.shape[1] < 2 * _CELL_COLUMNS:
        return False
    fields, others_fields = _fields(frame), [_fields(other) for other in others]
    if not any((_change(fields, other) > _LEAST_CHANGE).any() for other in others_fields):
        return False
    neighbours = [
        _compare(fields, other_fields, is_later=other is after)
        for other, other_fields in zip(others, others_fields, strict=True)
    ]
    return any(
        (are_combs and not _are_fading_lines(fields, others_fields, area))
        or (not are_combs and _has_moved(fields, others_fields, area))
        for area, are_combs in _suspicious_areas(fields, neighbours)
    )


def _suspicious_areas(fields: Fields, neighbours: list[_Neighbour]) -> Iterator[tuple[Area, bool]]:
    """Yield areas whose lines differ, and whether neighbours show that these are combs.

    If not, parts that stand still may hide it.
    """
    combs, detail = _combs(*fields), _detail(fields)
    noise = _noise(detail, neighbours)
    least_comb = _LEAST_COMB + _COMB_OF_NOISE * noise
    for neighbour in neighbours:
        area = _moment_of_its_own(combs, detail, neighbour, 2 * least_comb)
        if np.count_nonzero(area) > 1:
            yield area, True
    least_change = _LEAST_CHANGE + _CHANGE_OF_NOISE * noise
    moving = np.logical_or.reduce([neighbour.change > least_change for neighbour in neighbours])
    for area in _areas(moving & (combs > least_comb)):
        height = float(combs[area].sum() / max(float(detail[area].sum()), 1e-6))
        matches = [_match(combs, neighbour, area, least_change) for neighbour in neighbours]
        if _are_combs(matches, height):
            yield area, True
        elif height > 0.6 and not {_Match.ALIKE, _Match.WORSE}.isdisjoint(matches):
            yield area, False


def _fields(frame: GreyImage) -> Fields:
    lines = len(frame) // 2 * 2
    return np.ascontiguousarray(frame[:lines:2]), np.ascontiguousarray(frame[1:lines:2])


def _change(fields: Fields, others: Fields) -> Blocks:
    """Return by how much lines differ from the same lines of a neighbour."""
    changes = [cv2.absdiff(field, other) for field, other in zip(fields, others, strict=True)]
    return _block_means(changes, len(fields[0]))


def _compare(fields: Fields, others: Fields, *, is_later: bool) -> _Neighbour:
    (top, bottom), (other_top, other_bottom) = fields, others
    pairs = _combs(top, other_bottom), _combs(other_top, bottom)
    pairs = pairs[::-1] if is_later else pairs
    return _Neighbour(_change(fields, others), pairs, _combs(*others))


def _combs(top: GreyImage, bottom: GreyImage) -> Blocks:
    """Return by how much lines differ from the mean of the other field's lines around them."""
    upper = cv2.absdiff(cv2.addWeighted(top[:-1], 0.5, top[1:], 0.5, 0), bottom[:-1])
    lower = cv2.absdiff(cv2.addWeighted(bottom[:-1], 0.5, bottom[1:], 0.5, 0), top[1:])
    return _block_means((upper, lower), len(top))


def _detail(fields: Fields) -> Blocks:
    """Return by how much lines differ from the mean of their own field's lines around them."""
    differences = [
        cv2.absdiff(cv2.addWeighted(field[:-2], 0.5, field[2:], 0.5, 0), field[1:-1])
        for field in fields
    ]
    return _block_means(differences, len(fields[0]))


def _block_means(values: Sequence[NDArray[Any]], lines: int) -> Blocks:
    """Return the means per block over two images, which may have fewer lines than the field."""
    size = values[0].shape[1] // _CELL_COLUMNS, lines // _CELL_LINES
    cells = np.zeros(size[::-1], np.float32)
    for image in values:
        whole = image[: size[1] * _CELL_LINES, : size[0] * _CELL_COLUMNS].astype(np.float32)
        cells += cv2.resize(whole, size, interpolation=cv2.INTER_AREA) / 2
    pairs = cells[:-1] + cells[1:]
    return np.asarray((pairs[:, :-1] + pairs[:, 1:]) / 4, np.float32)


def _noise(detail: Blocks, neighbours: list[_Neighbour]) -> float:
    """Return the level of noise, as detail shows it; changes are 1.13 times as large."""
    plainest = [np.percentile(detail, _NOISE_PERCENTILE)]
    plainest += [np.percentile(n.change, _NOISE_PERCENTILE) / 1.13 for n in neighbours]
    return min(_MOST_NOISE, *map(float, plainest))


def _areas(blocks: Area) -> Iterator[Area]:
    """Yield all blocks, and then each group of connected ones."""
    count, labels = cv2.connectedComponents(blocks.astype(np.uint8))
    groups = [blocks] * (count > 2) + [labels == label for label in range(1, count)]
    yield from (group for group in groups if np.count_nonzero(group) >= _LEAST_BLOCKS)


def _moment_of_its_own(combs: Blocks, detail: Blocks, neighbour: _Neighbour, least: float) -> Area:
    """Return where one field goes on with a neighbour that has no combs, and the other does not.

    A cut or a flash between two fields shows itself so, and a thing that moves by more than its
    own size.
    """
    sudden = (combs > least) & (combs > detail) & (neighbour.combs < combs / 2)
    first, second = neighbour.pairs
    found = sudden & (np.minimum(first, second) < 0.4 * combs)
    return np.asarray(found & (np.maximum(first, second) > 0.75 * combs), np.bool_)


def _are_fading_lines(fields: Fields, others: Sequence[Fields], area: Area) -> bool:
    """Return whether combs are lines of the picture, whose brightness changes without motion.

    In a fade, two fields differ by half of the change from frame to frame. Combs of such fields
    go if one of the two is taken back by that; lines of the picture remain.
    """
    positions = _sample(area, fields[0].shape)
    now, *then = (_values_at(positions, some) for some in (fields, *others))
    if not _is_without_motion(now, then):
        return False
    least = float(_comb(*now).mean())
    for other in then:
        upper, middle, lower = ((a + b) / 2 for a, b in zip(now, other, strict=True))
        least = min(
            least,
            float(_comb(upper, now[1], lower).mean()),
            float(_comb(now[0], middle, now[2]).mean()),
        )
    return least > 0.6 * float(_comb(*now).mean())


def _sample(area: Area, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return lines and columns of some pixels of a field in an area, not those of its last line."""
    cells = np.zeros((area.shape[0] + 1, area.shape[1] + 1), np.bool_)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cells[down : down + area.shape[0], right : right + area.shape[1]] |= area
    pixels = cells.repeat(_CELL_LINES, 0).repeat(_CELL_COLUMNS, 1)
    lines, columns = np.nonzero(pixels[: shape[0] - 1])
    step = len(lines) // _MOST_PIXELS + 1
    return lines[::step], columns[::step]


def _values_at(
    positions: tuple[NDArray[np.intp], NDArray[np.intp]], fields: Fields
) -> list[Levels]:
    """Return lines of the top field, the bottom field's below them, and the top's next ones."""
    (top, bottom), (lines, columns) = fields, positions
    values = top[lines, columns], bottom[lines, columns], top[lines + 1, columns]
    return [value.astype(np.float32) for value in values]


def _comb(upper: Levels, middle: Levels, lower: Levels) -> Levels:
    return np.abs((upper + lower) / 2 - middle)


def _is_without_motion(now: list[Levels], then: list[list[Levels]]) -> bool:
    """Return whether pixels change evenly over time, or all by the same gain and offset."""
    current, *others = (np.concatenate(values[:2]) for values in (now, *then))
    if len(others) == 2:
        before, after = others
        bend, change = np.abs(2 * current - before - after), np.abs(after - before)
        if bend.mean() < 0.35 * change.mean():
            return True
    for other in others:
        deviation = other - other.mean()
        gain = (deviation * current).mean() / max(float((deviation**2).mean()), 1e-6)
        rest = np.abs(current - current.mean() - gain * deviation)
        if gain > 0 and rest.mean() < 0.25 * np.abs(current - other).mean():
            return True
    return False


def _match(combs: Blocks, neighbour: _Neighbour, area: Area, least_change: float) -> _Match:
    """Return how well the own fields match in an area."""
    if neighbour.change[area].mean() < 0.7 * least_change:
        return _Match.STILL
    own = float(combs[area].sum())
    first, second = (float(pair[area].sum()) / own for pair in neighbour.pairs)
    low, high = min(first, second), max(first, second)
    nearer, other = sorted((first, second), key=lambda ratio: abs(ratio - 1))
    is_equal = abs(nearer - 1) < 0.09 and abs(other - nearer) > 0.12
    if is_equal or (0.8 < low < 1.15 and high - low > 0.25):
        return _Match.TOP_FIRST if nearer == first else _Match.BOTTOM_FIRST
    if 0.8 < low < 1.7 and high > 1.5 * low:
        return _Match.TOP_FIRST if low == first else _Match.BOTTOM_FIRST
    if low > 1.12:
        return _Match.BETTER if low < 1.3 else _Match.BEST
    if low > 0.88 and high < 1.12:
        return _Match.ALIKE
    return _Match.WORSE if low > 0.78 else _Match.WORST


def _are_combs(matches: list[_Match], height: float) -> bool:
    """Return whether an area shows combs.

    The figures separate combs from patterns in drawn motion and in photographs; see the tests.

    Parameters
    ----------
    matches : list of _Match
        With each neighbour.
    height : float
        Of combs, as a multiple of the detail within fields.
    """
    kinds = set(matches)
    order = kinds & {_Match.TOP_FIRST, _Match.BOTTOM_FIRST}
    least, most = 1.3, np.inf
    if kinds <= {_Match.STILL, _Match.WORST}:
        least = np.inf
    elif len(kinds) == len(order) == 1 and len(matches) > 1:
        least = 0.62
    elif _Match.BEST in kinds:
        least = 1.1 if order else np.inf
    elif _Match.BETTER in kinds:
        least = 0.8 if order or kinds == {_Match.BETTER} else np.inf
    elif len(order) == 1:
        least = 0.9
    elif kinds <= {_Match.ALIKE, _Match.STILL}:
        least = 1.06
    elif kinds <= {_Match.WORSE, _Match.WORST, _Match.STILL}:
        most = 5.0  # higher ones are patterns whose lines move on
    return least < height < most


def _boxes(fields: Fields, others: Sequence[Fields], area: Area) -> Iterator[tuple[slice, slice]]:
    """Yield the lines and columns of a field that an area covers, and those between which it moves.

    Around an area, blocks also cover what stands still.
    """
    rows, columns = np.nonzero(area)
    top, left = int(rows.min()) * _CELL_LINES, int(columns.min()) * _CELL_COLUMNS
    bottom, right = (int(rows.max()) + 2) * _CELL_LINES, (int(columns.max()) + 2) * _CELL_COLUMNS
    yield slice(top, bottom), slice(left, right)
    changes = [
        cv2.absdiff(field[top:bottom, left:right], other[top:bottom, left:right])
        for other_fields in others
        for field, other in zip(fields, other_fields, strict=True)
    ]
    most = np.maximum.reduce(changes)
    means = most.mean(1), most.mean(0)
    lines, across = (np.flatnonzero(mean > 0.4 * mean.max()) for mean in means)
    if len(lines) >= _CELL_LINES and len(across) >= _CELL_COLUMNS:
        yield (
            slice(top + int(lines[0]), top + int(lines[-1]) + 1),
            slice(left + int(across[0]), left + int(across[-1]) + 1),
        )


def _has_moved(fields: Fields, others: Sequence[Fields], area: Area) -> bool:
    """Return whether what one field shows in an area is elsewhere in the other, and only there."""
    return any(
        _is_found(a[rows, columns], b, rows.start, columns.start)
        for box in _boxes(fields, others, area)
        for rows, columns in [(_shortened(box[0], _MAX_LINES), _shortened(box[1], _MAX_WIDTH))]
        for a, b in (fields, fields[::-1])
    )


def _shortened(part: slice, most: int) -> slice:
    """Return the middle of a part that is longer."""
    begin = max(part.start, (part.start + part.stop - most) // 2)
    return slice(begin, min(part.stop, begin + most))


def _is_found(part: GreyImage, field: GreyImage, top: int, left: int) -> bool:
    """Return whether a part of one field is at one place of the other, and not next to its own."""
    first_line, first_column = max(0, top - _MAX_SHIFT), max(0, left - _MAX_MOTION)
    last_line, last_column = top + len(part) + _MAX_SHIFT, left + part.shape[1] + _MAX_MOTION
    around = field[first_line:last_line, first_column:last_column]
    differences = cv2.matchTemplate(around, part, cv2.TM_SQDIFF)
    line, column = top - first_line, left - first_column
    unmoved = differences[max(0, line - 1) : line + 2, max(0, column - 1) : column + 2].min()
    least = float(differences.min())
    line, column = (int(i) for i in np.unravel_index(differences.argmin(), differences.shape))
    differences[max(0, line - 2) : line + 3, max(0, column - 3) : column + 4] = np.inf
    return least < 0.5 * unmoved and least < 0.67 * float(differences.min())
