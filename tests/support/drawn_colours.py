"""Colour patches as luma and chroma, and as HDR, from the published equations.

Independent of the code under test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.matrix.colour import TO_2020, difference_signals, hlg, hlg_scene, pq
from tests.support.patches import patches_picture

RGB = NDArray[np.float64]
TRUE = patches_picture() / 255
# H.273's numbers of matrices
MATRICES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
# P3 with D65, from its chromaticities
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
    return np.stack(difference_signals(rgb, MATRICES[matrix]), axis=-1)


def ycgco(rgb: RGB) -> RGB:
    return np.stack(difference_signals(rgb, "ycgco"), axis=-1)


def hdr_signal(transfer: int, white: float = 203.0, primaries: RGB = TO_2020) -> RGB:
    """Return the patches as an HDR signal, white being of some cd/m2."""
    light = TRUE**2.4 @ primaries.T * white
    return pq(light) if transfer == PQ else hlg(hlg_scene(light))
