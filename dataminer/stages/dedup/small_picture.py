"""Thumbnails as dedup compares them: blurred, and with what an alignment needs of them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.frames.thumbnails import HEIGHT, WIDTH

Plane = NDArray[np.floating[Any]]
"""(HEIGHT, WIDTH): grey, black 0 and white 1; single precision."""
GRID = 2
"""Every other pixel of every other line takes part in an alignment."""
GRID_SIZE = (WIDTH // GRID, HEIGHT // GRID)

_BLUR = 0.8  # pixels: fine texture that moved by half a pixel would differ otherwise
_DARKEST = 0.004  # one grey level: the logarithm of black is not finite
_ACROSS = np.array([[-0.5, 0.0, 0.5]], np.float32)
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_COLUMNS, _LINES = np.meshgrid(
    np.arange(0, WIDTH, GRID, dtype=np.float32) - (WIDTH - 1) / 2,
    np.arange(0, HEIGHT, GRID, dtype=np.float32) - (HEIGHT - 1) / 2,
)


class SmallPicture:
    """A decoded thumbnail.

    Parameters
    ----------
    jpeg : bytes
        As :mod:`dataminer.frames.thumbnails` stores it.

    Attributes
    ----------
    luma : ndarray of float32, (HEIGHT, WIDTH)
        Black 0, white 1.
    chroma : ndarray of float32, (HEIGHT // 2, WIDTH // 2, 2)
        Red and blue differences (Cr, Cb of BT.601), 0 for grey, ±0.5 at most.
    mean : float
        Of luma.
    """

    def __init__(self, jpeg: bytes) -> None:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is not None and image.shape == (WIDTH, HEIGHT, 3):
            image = cv2.transpose(image)  # of an upright frame
        if image is None or image.shape != (HEIGHT, WIDTH, 3):
            raise ValueError("not a thumbnail")
        planes = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
        luma = planes[:, :, 0].astype(np.float32) / 255
        small = cv2.resize(planes, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
        chroma = small[:, :, 1:].astype(np.float32) / 255 - np.float32(128 / 255)
        self.luma: Plane = np.asarray(cv2.GaussianBlur(luma, (0, 0), _BLUR), np.float32)
        self.chroma: Plane = np.asarray(cv2.GaussianBlur(chroma, (0, 0), _BLUR / 2), np.float32)
        self.mean = float(self.luma.mean())

    @cached_property
    def layers(self) -> Plane:
        """Luma, luma times its logarithm, and 1 within the picture: (HEIGHT, WIDTH, 3)."""
        bent = self.luma * cv2.log(np.maximum(self.luma, _DARKEST))
        return np.dstack([self.luma, bent, np.ones_like(self.luma)])

    @cached_property
    def grid_luma(self) -> Plane:
        """Luma on the grid of an alignment: (n,)."""
        return np.ascontiguousarray(self.luma[::GRID, ::GRID]).ravel()

    @cached_property
    def motion(self) -> Plane:
        """How luma changes on the grid as the picture is stretched and shifted: (6, n)."""
        across, down = gradients(self.luma)
        x, y = (each[::GRID, ::GRID] for each in (across, down))
        rows = (x * _COLUMNS, x * _LINES, y * _COLUMNS, y * _LINES, x, y)
        return np.stack([row.ravel() for row in rows])

    @cached_property
    def steepness(self) -> Plane:
        """The steepest slope of luma around each pixel, per pixel: (HEIGHT, WIDTH)."""
        return steepness(self.luma)

    @cached_property
    def chroma_steepness(self) -> Plane:
        """The same of chroma, both differences together: (HEIGHT // 2, WIDTH // 2)."""
        return chroma_steepness(self.chroma)


def gradients(plane: Plane) -> tuple[Plane, Plane]:
    """Return the slopes of a plane across and down, per pixel."""
    across = cv2.filter2D(plane, -1, _ACROSS, borderType=cv2.BORDER_REPLICATE)
    down = cv2.filter2D(plane, -1, _ACROSS.T, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def steepness(plane: Plane) -> Plane:
    """Return the steepest slope in the 3x3 pixels around each, per pixel."""
    return np.asarray(cv2.dilate(cv2.magnitude(*gradients(plane)), _NEIGHBOURS), np.float32)


def chroma_steepness(chroma: Plane) -> Plane:
    """Return the steepness of both colour differences together."""
    red, blue = (np.ascontiguousarray(chroma[:, :, channel]) for channel in (0, 1))
    return steepness(red) + steepness(blue)
