"""How much changed between two pictures that show nearly the same: the share of their area.

A pixel changed if it differs from the other picture, aligned and lit alike, by more than
compression and an imperfect alignment explain. Colour counts beside brightness: what has its
background's tone is seen by its colour or texture. Soft differences over a large area (shadows, a
cloud before the sun) are no change, as far as they are weak. Small changes in many places, such as
those of text, count more than their pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.frames.thumbnails import HEIGHT, WIDTH
from dataminer.stages.dedup.alignment import (
    Alignment,
    align,
    both_clipped,
    estimate_shift,
    in_place,
)
from dataminer.stages.dedup.small_picture import (
    Plane,
    SmallPicture,
    chroma_steepness,
    steepness,
)

Mask = NDArray[np.bool_]

# Of full scale. The least difference, and how much more where the picture is steep: an alignment is
# right within 0.3 pixels.
_LEAST_LUMA, _LEAST_CHROMA, _MISALIGNED = 0.03, 0.04, 0.3
# A pixel at an edge counts if it differs by this share of what its neighbours do: blur makes no
# object larger.
_OF_NEIGHBOURS = 0.45
_AROUND = np.ones((5, 5), np.uint8)
_NEXT = np.ones((3, 3), np.uint8)
# Shades: what the median over 25 pixels follows, up to a tenth of full scale. A quarter of the
# picture's height is wider than objects of a few percent.
_SHADE_WINDOW, _MOST_SHADE = 25, 0.1
# Other words change few pixels each, but in many lines: a part of 6x6 pixels in which at least two
# changed counts as this share of it.
_PART, _FEWEST_OF_A_PART, _OF_A_PART = 6, 2, 0.19
_CLIPPED_AWAY = 0.7  # of how much brighter than white a neighbour would be
_MOST_GROWN = 2.0
_COLOUR_ROUNDS, _COLOUR_SCALE = 4, 0.02
_COLOUR_RIDGE, _SAME_COLOUR = np.array([5.0, 5.0, 0.3]), np.array([0.0, 0.0, 1.0])
_ALIGNED = 0.12  # of the slope a pixel
_LEAST_SHIFT = 0.7  # pixels; a smaller one is found from where the pictures are


def changed_share(one: SmallPicture, other: SmallPicture, enough: float) -> float:
    """Return which share of the picture changed between two pictures.

    Parameters
    ----------
    one, other : SmallPicture
        In either order.
    enough : float
        The search for a better alignment ends as soon as the share is at most this.

    Returns
    -------
    float
        0 to 1, of the alignment in which the least changed.
    """
    if (one.mean, one.luma.tobytes()) < (other.mean, other.luma.tobytes()):
        one, other = other, one
    start = in_place(one, other)
    share = _share(one, other, start)
    if share > enough and _is_aligned(one, other, start):
        return share
    if share > enough:
        share = min(share, _share(one, other, align(one, other, start, (0.0, 0.0))))
    if share > enough:
        shift = estimate_shift(one, other)
        if max(map(abs, shift)) > _LEAST_SHIFT:
            share = min(share, _share(one, other, align(one, other, start, shift)))
    return share


def _is_aligned(one: SmallPicture, other: SmallPicture, alignment: Alignment) -> bool:
    """Return whether pictures are aligned to a fraction of a pixel, but for what changed.

    Where most of a picture is steep, the difference would be large if it were not.
    """
    difference = np.abs(one.luma - alignment.lit(other.layers)).ravel()
    rank = 3 * difference.size // 4
    usual = np.partition(difference, rank)[rank]
    return bool(usual < _ALIGNED * np.partition(one.steepness.ravel(), rank)[rank])


def _share(one: SmallPicture, other: SmallPicture, alignment: Alignment) -> float:
    layers = alignment.moved(other)
    inside = layers[:, :, 2] > 0.99
    lit = alignment.lit(layers)
    # what compression did to the darker picture grows with its light
    grown = min(one.mean / max(other.mean, 0.01), _MOST_GROWN)
    changed = _luma_changed(one, lit, inside, grown)
    light = np.dstack([lit, alignment.steepening(layers)])
    colour = _chroma_changed(one, alignment.moved_chroma(other), light, grown)
    wide = cv2.resize(colour.astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    changed |= (wide > 0) & inside
    parts = changed.reshape(HEIGHT // _PART, _PART, WIDTH // _PART, _PART).sum(axis=(1, 3))
    return max(float(changed.mean()), _OF_A_PART * float((parts >= _FEWEST_OF_A_PART).mean()))


def _luma_changed(one: SmallPicture, lit: Plane, inside: Mask, grown: float) -> Mask:
    """Return where brightness changed."""
    over = np.maximum(cv2.dilate(lit, _NEXT) - 1, 0)
    expected = np.minimum(lit, 1)
    difference = one.luma - expected
    ignored = ~inside | both_clipped(one.luma, expected)
    difference[ignored] = 0
    size = np.maximum(np.abs(difference - _shade(difference)) - _CLIPPED_AWAY * over, 0)
    size[ignored] = 0
    steep = np.minimum(one.steepness, steepness(expected))
    return _stands_out(size, _LEAST_LUMA * grown + _MISALIGNED * steep)


def _shade(difference: Plane) -> Plane:
    """Return the part of a difference that is wide and weak."""
    levels = np.clip(difference * (127 / _MOST_SHADE) + 128, 0, 255).astype(np.uint8)
    median = cv2.medianBlur(levels, _SHADE_WINDOW)
    return np.asarray((median.astype(np.float32) - 128) * np.float32(_MOST_SHADE / 127))


def _stands_out(size: Plane, least: Plane) -> Mask:
    around = cv2.dilate(size, _AROUND)
    return np.asarray((size > least) & (size >= _OF_NEIGHBOURS * around))


def _chroma_changed(one: SmallPicture, chroma: Plane, light: Plane, grown: float) -> Mask:
    """Return where colour changed, on the smaller grid of chroma.

    Where a colour would be brighter than full scale, it was clipped, and its hue says nothing.
    """
    size = chroma.shape[1::-1]
    small = np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), np.float32)
    luma, expected = small[:, :, 0], chroma * small[:, :, 1:]
    clipped = cv2.dilate(_brightest_colour(luma, expected), _NEXT) >= 1
    difference = _colour_difference(one.chroma, expected, luma, ~clipped)
    difference[clipped] = 0
    steep = np.minimum(one.chroma_steepness, chroma_steepness(expected))
    return _stands_out(difference, _LEAST_CHROMA * grown + _MISALIGNED * steep)


def _brightest_colour(luma: Plane, chroma: Plane) -> Plane:
    """Return the largest of red, green and blue (ITU-R BT.601)."""
    red, blue = chroma[:, :, 0], chroma[:, :, 1]
    green = luma - 0.714 * red - 0.344 * blue
    return np.asarray(np.maximum(np.maximum(luma + 1.403 * red, luma + 1.773 * blue), green))


def _colour_difference(chroma: Plane, expected: Plane, luma: Plane, usable: Mask) -> Plane:
    """Return the distance of colours after white balance and saturation.

    White balance adds to colour what is proportional to the light, and saturation multiplies it.
    """
    total = np.zeros(usable.size, np.float32)
    columns = np.stack([np.ones_like(luma), luma, luma]).reshape(3, -1)
    for channel in (0, 1):
        columns[2] = expected[:, :, channel].ravel()
        target = np.ascontiguousarray(chroma[:, :, channel]).ravel()
        weight = usable.ravel().astype(np.float32)
        difference = target - columns[2]
        for _ in range(_COLOUR_ROUNDS):
            weighted = columns * weight
            matrix = (weighted @ columns.T).astype(np.float64) + np.diag(_COLOUR_RIDGE)
            pull = (weighted @ target).astype(np.float64) + _COLOUR_RIDGE * _SAME_COLOUR
            difference = target - np.linalg.solve(matrix, pull).astype(np.float32) @ columns
            weight = 1 + (difference / np.float32(_COLOUR_SCALE)) ** 2
            weight = usable.ravel() / (weight * weight)
        total += difference * difference
    return np.asarray(np.sqrt(total)).reshape(usable.shape)
