"""How one small picture has to be moved, stretched and lit to look like another.

Both are found together by weighted least squares (Gauss-Newton), as in Bartoli, "Groupwise
geometric and photometric direct image registration", IEEE Transactions on Pattern Analysis and
Machine Intelligence 30, 2008. Weights fall with the difference (Geman-McClure), at first slowly and
then fast, so that what really changed does not pull the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.frames.thumbnails import HEIGHT, WIDTH
from dataminer.stages.dedup.small_picture import GRID, GRID_SIZE, Plane, SmallPicture

_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_CENTRE = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
# Differences in luma beyond which a pixel hardly counts: at first, and at least. Three quarters of
# the picture are taken to show the same.
_FIRST_SCALE, _LEAST_SCALE, _SAME_SHARE = 1.0, 0.02, 0.75
_LIGHT_ROUNDS, _ROUNDS, _FEWEST_ROUNDS = 7, 11, 6
_CLOSE = np.array([3e-4] * 4 + [0.02] * 2 + [0.004] * 3)  # smaller steps end the search
_MOST_STRETCH, _MOST_SHIFT, _MOST_STEP = 0.12, 9.0, 1.5  # of each axis; pixels; pixels a round
# Ridges: stretch, shift, and the offset, gain and bend of the light. A picture that is flat says
# nothing about them, and black stays black unless much speaks for haze.
_MOVE_RIDGE = np.array([200.0] * 4 + [0.05] * 2)
_LIGHT_RIDGE = np.array([2.0, 0.5, 4.0])
_AS_IT_IS = np.array([0.0, 1.0, 0.0])
_STEEPENING = 0.3, 3.0
_OTHER_GAIN, _MOST_GAIN = 1.1, 2.5  # a fit that begins at 1 finds what is below the first
_WHITE, _NEAR_WHITE, _BLACK, _NEAR_BLACK = 0.97, 0.94, 0.02, 0.04
_WINDOW = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)


@dataclass(frozen=True)
class Alignment:
    """How a picture has to be changed to look like another.

    Attributes
    ----------
    linear : ndarray of float64, (2, 2)
        Stretches and turns about the centre.
    shift : ndarray of float64, (2,)
        Right and down, in pixels of a thumbnail.
    light : ndarray of float64, (3,)
        Offset, gain and bend: luma v becomes offset + gain v + bend v ln(v); near 1, a gamma.
    """

    linear: NDArray[np.float64]
    shift: NDArray[np.float64]
    light: NDArray[np.float64]

    def matrix(self, step: int = 1) -> NDArray[np.float64]:
        """Return the matrix for OpenCV, of a target with every ``step``-th pixel: (2, 3)."""
        offset = _CENTRE - self.linear @ _CENTRE + self.shift
        return np.column_stack([self.linear * step, offset])

    @property
    def is_plausible(self) -> bool:
        """Whether it is one of near-duplicates."""
        stretch = np.abs(self.linear - np.eye(2)).max()
        return bool(stretch <= _MOST_STRETCH and np.abs(self.shift).max() <= _MOST_SHIFT)

    def moved(self, picture: SmallPicture) -> Plane:
        """Return the layers of a picture, moved: (HEIGHT, WIDTH, 3); the third is 0 outside."""
        size = (WIDTH, HEIGHT)
        return np.asarray(cv2.warpAffine(picture.layers, self.matrix(), size, flags=_FLAGS))

    def moved_chroma(self, picture: SmallPicture) -> Plane:
        """Return the chroma of a picture, moved: (HEIGHT // 2, WIDTH // 2, 2)."""
        matrix = self.matrix()
        matrix[:, 2] = (matrix[:, 2] + matrix[:, :2].sum(axis=1) * 0.5 - 0.5) / 2
        size = (WIDTH // 2, HEIGHT // 2)
        border = cv2.BORDER_REPLICATE
        return np.asarray(
            cv2.warpAffine(picture.chroma, matrix, size, flags=_FLAGS, borderMode=border)
        )

    def lit(self, layers: Plane) -> Plane:
        """Return the luma of moved layers in the other picture's light; it may exceed 1."""
        offset, gain, bend = (np.float32(each) for each in self.light)
        return np.asarray(offset + gain * layers[..., 0] + bend * layers[..., 1])

    def steepening(self, layers: Plane) -> Plane:
        """Return by how much the light multiplies small differences, of luma or of colour."""
        _, gain, bend = (np.float32(each) for each in self.light)
        logarithm = layers[..., 1] / np.maximum(layers[..., 0], _NEAR_BLACK)
        return np.asarray((gain + bend * (1 + logarithm)).clip(*_STEEPENING))


def in_place(picture: SmallPicture, other: SmallPicture) -> Alignment:
    """Align the light of ``other``, the darker one, with that of ``picture``, and nothing else."""
    layers = np.ascontiguousarray(other.layers[::GRID, ::GRID]).reshape(-1, 3)
    gain = min(picture.mean / max(other.mean, 0.01), _MOST_GAIN)
    starts = [1.0] if gain < _OTHER_GAIN else [1.0, gain]
    found = [_fit_light(picture.grid_luma, layers, start) for start in starts]
    light, _ = min(found, key=lambda each: each[1])
    return Alignment(np.eye(2), np.zeros(2), light)


def align(
    picture: SmallPicture, other: SmallPicture, start: Alignment, shift: tuple[float, float]
) -> Alignment:
    """Move and light ``other`` so that it looks like ``picture``.

    Parameters
    ----------
    picture, other : SmallPicture
        The darker one should be ``other``: what is white in both says least about the light.
    start, shift
        The light to begin with, and the shift in pixels.

    Returns
    -------
    Alignment
        ``start`` if none is plausible.
    """
    columns = np.empty((9, picture.motion.shape[1]), np.float32)
    columns[:6], columns[6] = picture.motion, 1
    ridge = np.diag(np.concatenate([_MOVE_RIDGE, _LIGHT_RIDGE]))
    found = Alignment(np.eye(2), np.array(shift, np.float64), start.light)
    for number in range(_ROUNDS):
        layers = cv2.warpAffine(other.layers, found.matrix(GRID), GRID_SIZE, flags=_FLAGS)
        layers = np.asarray(layers, np.float32).reshape(-1, 3)
        difference, weight = _difference(picture.grid_luma, layers, found.light, number)
        columns[7:] = layers[:, :2].T
        weighted = columns * weight
        pull = (weighted @ difference).astype(np.float64)
        pull[6:] -= _LIGHT_RIDGE * (found.light - _AS_IT_IS)
        step = np.linalg.solve((weighted @ columns.T).astype(np.float64) + ridge, pull)
        shift_step = step[4:6].clip(-_MOST_STEP, _MOST_STEP)
        found = Alignment(
            found.linear + step[:4].reshape(2, 2), found.shift + shift_step, found.light + step[6:]
        )
        if number >= _FEWEST_ROUNDS and (np.abs(step) < _CLOSE).all():
            break
    return found if found.is_plausible else start


def estimate_shift(picture: SmallPicture, other: SmallPicture) -> tuple[float, float]:
    """Return by how many pixels ``other`` is shifted, right and down (phase correlation)."""
    one, two = picture.luma - picture.mean, other.luma - other.mean
    (across, down), _ = cv2.phaseCorrelate(one, two, _WINDOW)
    return across, down


def both_clipped(luma: Plane, expected: Plane) -> NDArray[np.bool_]:
    """Return where two pictures are white, or black, whatever the light was there."""
    white = (luma > _WHITE) & (expected > _NEAR_WHITE)
    return np.asarray(white | ((luma < _BLACK) & (expected < _NEAR_BLACK)))


def _fit_light(luma: Plane, layers: Plane, gain: float) -> tuple[NDArray[np.float64], float]:
    """Return offset, gain and bend, and what remains of the difference."""
    light = np.array([0.0, gain, 0.0])
    columns = np.stack([np.ones_like(luma), layers[:, 0], layers[:, 1]])
    remains = np.inf
    for number in range(_LIGHT_ROUNDS):
        difference, weight = _difference(luma, layers, light, number)
        weighted = columns * weight
        pull = (weighted @ difference).astype(np.float64) - _LIGHT_RIDGE * (light - _AS_IT_IS)
        matrix = (weighted @ columns.T).astype(np.float64) + np.diag(_LIGHT_RIDGE)
        light = light + np.linalg.solve(matrix, pull)
        remains = float(np.minimum(np.abs(difference), 0.1).sum())
    return light, remains


def _difference(
    luma: Plane, layers: Plane, light: NDArray[np.float64], number: int
) -> tuple[Plane, Plane]:
    """Return the difference of each pixel in a round, and its weight."""
    offset, gain, bend = (np.float32(each) for each in light)
    expected = offset + gain * layers[:, 0] + bend * layers[:, 1]
    difference = luma - expected
    ignored = (layers[:, 2] < 0.99) | both_clipped(luma, expected)
    difference[ignored] = 0
    size = np.abs(difference)
    rank = int(_SAME_SHARE * len(size))
    usual = 1.4 * float(np.partition(size, rank)[rank])
    scale = max(usual, _LEAST_SCALE, _FIRST_SCALE * 0.5**number)
    weight = 1 + (difference / np.float32(scale)) ** 2
    weight = 1 / (weight * weight)
    weight[ignored] = 0
    return difference, weight
