"""Colour patches as luma and chroma, and as HDR, from the published equations.

Independent of the code under test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.patches import patches_picture

RGB = NDArray[np.float64]
TRUE = patches_picture() / 255
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 6: (0.299, 0.114), 7: (0.212, 0.087)}
WEIGHTS |= {5: WEIGHTS[6], 9: (0.2627, 0.0593)}
# BT.2087, and P3 with D65 from its chromaticities
BT709_TO_BT2020 = np.array(
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)
BT709_TO_P3 = np.array([[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]])
PQ, HLG, BT2020 = 16, 18, 9


def quantised(yuv: RGB, bits: int, *, full: bool = False) -> list[NDArray[Any]]:
    """Return planes of luma in 0..1 and chroma in -0.5..0.5 (H.273, equations 20 to 31)."""
    unit = 1 << (bits - 8)
    top = (1 << bits) - 1
    scales = (top, top, top) if full else (219 * unit, 224 * unit, 224 * unit)
    zeros = (0 if full else 16 * unit, 128 * unit, 128 * unit)
    kind = np.uint8 if bits == 8 else np.uint16
    planes = [np.rint(yuv[..., i] * scales[i] + zeros[i]) for i in range(3)]
    return [np.clip(plane, 0, top).astype(kind) for plane in planes]


def to_yuv(rgb: RGB, matrix: int) -> RGB:
    red, blue = WEIGHTS[matrix]
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    blue_difference = (rgb[..., 2] - luma) / (2 * (1 - blue))
    red_difference = (rgb[..., 0] - luma) / (2 * (1 - red))
    return np.stack([luma, blue_difference, red_difference], axis=-1)


def ycgco(rgb: RGB) -> RGB:
    red, green, blue = np.moveaxis(rgb, -1, 0)
    rest = (red + blue) / 2
    return np.stack([(green + rest) / 2, (green - rest) / 2, (red - blue) / 2], axis=-1)


def pq(light: RGB) -> RGB:
    """BT.2100, table 4: the inverse EOTF, of cd/m2."""
    power = (light / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(scene: RGB) -> RGB:
    """BT.2100, table 5: the OETF."""
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def hdr_signal(transfer: int, white: float = 203.0, primaries: RGB = BT709_TO_BT2020) -> RGB:
    """Return the patches as an HDR signal, white being of some cd/m2."""
    light = TRUE**2.4 @ primaries.T * white
    return pq(light) if transfer == PQ else hlg((light / 1000) ** (1 / 1.2))
