"""Numbered pictures whose colours and number can be read back from any image of them.

Upper half: eight colour patches. Below: blocks of noise that change every five frames. Lowest
fifth: a counter of twelve bits, the lowest at the left, white for 1.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

PATCHES = np.array(
    [
        [(200, 30, 30), (30, 180, 40), (30, 40, 200), (210, 200, 40)],
        [(200, 150, 120), (128, 128, 128), (30, 30, 30), (235, 235, 235)],
    ],
    np.uint8,
)
"""The colours of the upper half, (2, 4, 3), red, green, blue."""
BITS = 12
_COUNTER_TOP = 0.8  # of the height
_NOISE_TOP = 0.5
_NOISE_BLOCK = 8  # pixels
_NOISE_LASTS = 5  # frames
_MIN_CONTRAST = 20
_CLEAR = 0.25  # of the way from dark to bright: a bit nearer to the middle cannot be read


@functools.lru_cache(maxsize=512)
def picture(number: int, width: int = 160, height: int = 120) -> Image:
    """Draw the picture of a number.

    Returns
    -------
    ndarray of uint8, (height, width, 3)
        Red, green, blue; read-only.
    """
    image = np.empty((height, width, 3), np.uint8)
    noise_top, counter_top = round(height * _NOISE_TOP), round(height * _COUNTER_TOP)
    for row in range(2):
        for column in range(4):
            top, bottom = round(row * height / 4), round((row + 1) * height / 4)
            left, right = round(column * width / 4), round((column + 1) * width / 4)
            image[top:bottom, left:right] = PATCHES[row, column]
    rng = np.random.default_rng(number // _NOISE_LASTS)
    blocks = rng.integers(40, 200, (height // _NOISE_BLOCK + 1, width // _NOISE_BLOCK + 1))
    noise = blocks.repeat(_NOISE_BLOCK, 0).repeat(_NOISE_BLOCK, 1).astype(np.uint8)
    image[noise_top:counter_top] = noise[: counter_top - noise_top, :width, None]
    for bit in range(BITS):
        left, right = round(bit * width / BITS), round((bit + 1) * width / BITS)
        image[counter_top:, left:right] = 255 * (number >> bit & 1)
    image.flags.writeable = False
    return image


def read_number(image: Image) -> int | None:
    """Read the counter of an image of any size; None if a bit cannot be read.

    The dark and the bright patch tell what is dark and bright: colours may be converted wrongly.
    """
    height, width = image.shape[:2]
    dark, bright = patch_colours(image)[1, 2:].mean(1)
    if bright - dark < _MIN_CONTRAST:
        return None
    band = image[round(height * 0.86) : round(height * 0.94)]
    number = 0
    for bit in range(BITS):
        left, right = round((bit + 0.3) * width / BITS), round((bit + 0.7) * width / BITS)
        level = float(band[:, left:right].mean())
        share = (level - dark) / (bright - dark)
        if abs(share - 0.5) < _CLEAR:
            return None
        number |= int(share > 0.5) << bit
    return number


def patch_colours(image: Image) -> NDArray[np.float64]:
    """Return the mean colour in the middle of each patch, (2, 4, 3)."""
    height, width = image.shape[:2]
    colours = np.empty((2, 4, 3))
    for row in range(2):
        for column in range(4):
            top, bottom = round((row + 0.3) * height / 4), round((row + 0.7) * height / 4)
            left, right = round((column + 0.3) * width / 4), round((column + 0.7) * width / 4)
            colours[row, column] = image[top:bottom, left:right].mean((0, 1))
    return colours


def patch_error(image: Image, truth: NDArray[np.uint8] = PATCHES) -> float:
    """Return the largest difference between a patch and its true colour, of 255."""
    return float(np.abs(patch_colours(image) - truth).max())


def combing(image: Image) -> float:
    """Measure how much lines differ from both neighbours, while these resemble each other.

    Returns
    -------
    float
        The mean, in levels of 255, over the noise: near 0 if both fields show one moment.
    """
    height = image.shape[0]
    grey = image[round(height * 0.55) : round(height * 0.78)].mean(2)
    above, line, below = grey[:-2], grey[1:-1], grey[2:]
    same_side = np.minimum(np.abs(line - above), np.abs(line - below))
    same_side[(line > above) != (line > below)] = 0
    return float(np.maximum(same_side - np.abs(above - below), 0).mean())
