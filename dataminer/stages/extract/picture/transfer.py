"""Transfer functions: from code values to light and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REFERENCE_WHITE = 203.0
"""Light of white in HDR, in cd/m2 (ITU-R BT.2408-7, table 1)."""
DISPLAY_GAMMA = 2.4
"""Of SDR displays (ITU-R BT.1886)."""
HLG_PEAK = 1000.0
"""Nominal peak of the HLG reference display, in cd/m2 (BT.2100, table 5)."""
_HLG_SYSTEM_GAMMA = 1.2  # at 1,000 cd/m2
PQ_PEAK = 10000.0
"""Light of the highest PQ code value, in cd/m2."""

Signal = NDArray[np.float64]

# BT.2100, table 4
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# BT.2100, table 5
_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.5 - _A * np.log(4 * _A)
# BT.2020, table 4
_ALPHA, _BETA = 1.09929682680944, 0.018053968510807


def pq_to_light(signal: Signal) -> Signal:
    """Return the light in cd/m2 of PQ signals in 0..1 (the EOTF of BT.2100)."""
    power = np.power(np.maximum(signal, 0), 1 / _M2)
    return PQ_PEAK * np.power(np.maximum(power - _C1, 0) / (_C2 - _C3 * power), 1 / _M1)


def light_to_pq(light: Signal) -> Signal:
    """Return the PQ signal of light in cd/m2: the inverse of :func:`pq_to_light`."""
    power = np.power(np.maximum(light, 0) / PQ_PEAK, _M1)
    return np.power((_C1 + _C2 * power) / (1 + _C3 * power), _M2)


def hlg_to_scene(signal: Signal) -> Signal:
    """Return the scene's light, in 0..1, of HLG signals in 0..1 (the inverse OETF of BT.2100)."""
    signal = np.maximum(signal, 0)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)


def scene_to_hlg(scene: Signal) -> Signal:
    """Return the HLG signal of a scene's light: the inverse of :func:`hlg_to_scene`."""
    scene = np.maximum(scene, 0)
    high = _A * np.log(np.maximum(12 * scene - _B, 1e-9)) + _C
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def hlg_to_light(signal: Signal) -> Signal:
    """Return the light in cd/m2 of HLG signals in 0..1, for each colour component by itself.

    The system gamma is applied to red, green and blue, as SDR does (BT.709's camera on BT.1886's
    display) and as zimg, ffmpeg's ``zscale``, not to luminance as in BT.2100's OOTF. For greys both
    are the same; colours come out as saturated as an SDR camera's, which is what SDR images are
    compared with.
    """
    return HLG_PEAK * hlg_to_scene(signal) ** _HLG_SYSTEM_GAMMA


def bt1886_to_light(signal: Signal) -> Signal:
    """Return the light, white being 1, of SDR signals in 0..1 (the EOTF of BT.1886)."""
    return np.power(np.maximum(signal, 0), DISPLAY_GAMMA)


def bt2020_to_scene(signal: Signal) -> Signal:
    """Return the scene's light of an SDR signal, both in 0..1 (the inverse OETF of BT.2020)."""
    high = np.power((np.maximum(signal, 0) + _ALPHA - 1) / _ALPHA, 1 / 0.45)
    return np.where(signal < 4.5 * _BETA, signal / 4.5, high)


def scene_to_bt2020(scene: Signal) -> Signal:
    """Return the SDR signal of a scene's light: the inverse of :func:`bt2020_to_scene`."""
    high = _ALPHA * np.power(np.maximum(scene, 0), 0.45) - (_ALPHA - 1)
    return np.where(scene < _BETA, 4.5 * scene, high)


def roll_off(light: Signal, peak: float) -> Signal:
    """Compress bright light so that the peak becomes white; the rest stays as it is.

    The Moebius curve of mpv and of ffmpeg's filter ``tonemap``: up to a knee nothing changes; from
    there a hyperbola begins with the same slope and ends at white. Unlike with BT.2390's EETF,
    which darkens all of the picture the brighter its peak is, SDR pictures inside HDR keep their
    colours to within 3 of 255, whatever the peak.

    Parameters
    ----------
    light : ndarray
        White being 1; values above ``peak`` count as it.
    peak : float
        Light of the brightest pixel.
    """
    light = np.minimum(light, peak)
    if peak <= 1:
        return light
    # f(x) = scale (x + a) / (x + b) with f(knee) = knee, f'(knee) = 1 and f(peak) = 1
    knee = _KNEE
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    scale = (b**2 + 2 * b * knee + knee**2) / (b - a)
    return np.where(light <= knee, light, scale * (light + a) / (light + b))


_KNEE = 0.75  # of white's light: 226 of 255
