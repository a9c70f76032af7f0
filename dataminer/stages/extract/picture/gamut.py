"""Conversion of linear light between colour primaries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataminer.stages.extract.picture.tags import PrimariesCode

Rgb = NDArray[np.float64]

_D65 = (0.3127, 0.3290)
_DCI_WHITE = (0.314, 0.351)
_ILLUMINANT_C = (0.310, 0.316)
# CIE 1931 x, y of red, green, blue and white (ITU-T H.273, table 2)
_CHROMATICITIES = {
    PrimariesCode.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    PrimariesCode.BT470M: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _ILLUMINANT_C),
    PrimariesCode.BT470BG: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    PrimariesCode.SMPTE170M: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    PrimariesCode.SMPTE240M: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    PrimariesCode.FILM: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _ILLUMINANT_C),
    PrimariesCode.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    PrimariesCode.DCI_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI_WHITE),
    PrimariesCode.DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    PrimariesCode.EBU3213: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
WIDE_GAMUTS = frozenset({PrimariesCode.BT2020, PrimariesCode.DCI_P3, PrimariesCode.DISPLAY_P3})
"""Primaries of which SDR pictures look pale unless they are converted."""
KNOWN_PRIMARIES = frozenset(_CHROMATICITIES)
"""Primaries that can be converted."""


def luma_weights(primaries: int) -> tuple[float, float]:
    """Return the weights of red and blue in luminance: KR and KB of H.273."""
    red, _, blue = _rgb_to_xyz(primaries)[1]
    return float(red), float(blue)


def to_bt709(primaries: int) -> Rgb:
    """Return the matrix, (3, 3), that converts linear light of some primaries to BT.709's.

    White stays white (BT.2087 for BT.2020): a white other than D65 is scaled to it.
    """
    matrix = np.linalg.inv(_rgb_to_xyz(PrimariesCode.BT709)) @ _rgb_to_xyz(primaries)
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True), np.float64)


def _rgb_to_xyz(primaries: int) -> Rgb:
    *corners, white = (_xyz(x, y) for x, y in _CHROMATICITIES[PrimariesCode(primaries)])
    columns = np.stack(corners, axis=1)
    return np.asarray(columns * np.linalg.solve(columns, white), np.float64)


def _xyz(x: float, y: float) -> Rgb:
    return np.array([x / y, 1.0, (1 - x - y) / y])
