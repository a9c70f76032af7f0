"""From HDR and wide-gamut pictures to SDR in BT.709."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dataminer.stages.extract.picture.gamut import to_bt709
from dataminer.stages.extract.picture.transfer import (
    DISPLAY_GAMMA,
    HLG_PEAK,
    PQ_PEAK,
    REFERENCE_WHITE,
    bt1886_to_light,
    hlg_to_light,
    pq_to_light,
    roll_off,
)
from dataminer.stages.extract.quality.arrays import BgrImage

DeepBgrImage = NDArray[np.uint16]
"""(height, width, 3): blue, green, red, of 16 bits each."""
_Plane = NDArray[np.float32]

_USUAL_PEAK = 1000.0  # cd/m2, of PQ that does not say; most of it is mastered on such displays
_LEAST_WHITE = 100.0  # cd/m2, of SDR displays (BT.2035)
_STRIP_PIXELS = 1 << 17  # fit into the processor's cache
_LAST = (1 << 16) - 1
_CODES = np.arange(_LAST + 1) / _LAST
_CODE_OF_ROOT = np.rint(_CODES ** (2 / DISPLAY_GAMMA) * 255).astype(np.uint8)
_CURVE_STEPS = 1 << 14


class ToneMapper:
    """Maps pictures of one transfer function and gamut to SDR in BT.709.

    Code values become light (PQ's EOTF; HLG's inverse OETF and system gamma; BT.1886 for SDR) and
    are converted to BT.709's primaries (BT.2087); colours outside of them move to their edge. Light
    near reference white and above is compressed (:func:`roll_off`) by the largest of red, green and
    blue, which keeps the hue. The rest becomes code values again (BT.1886). Nothing depends on the
    picture, so that nothing flickers.

    Parameters
    ----------
    light : ndarray
        Light of each 16-bit code value, white being 1; shape (65536,).
    primaries : int
        Of the pictures, as in H.273.
    peak : float
        Light of the brightest pixel, white being 1.
    """

    def __init__(self, light: NDArray[np.float64], primaries: int, peak: float) -> None:
        self._light = light.astype(np.float32)
        # OpenCV's pictures are blue, green, red
        self._matrix = np.ascontiguousarray(to_bt709(primaries)[::-1, ::-1], np.float32)
        self._peak = max(peak, 1.0)
        steps = np.linspace(0, self._peak, _CURVE_STEPS)
        curve = roll_off(steps, self._peak)
        changed = np.flatnonzero(curve < steps - 1e-6)
        self._knee = float(steps[changed[0] - 1]) if len(changed) else np.inf
        self._scale = np.divide(curve, steps, where=steps > 0, out=np.ones_like(steps))
        self._scale = self._scale.astype(np.float32)

    @classmethod
    def of_pq(cls, primaries: int, declared_peak: float | None) -> ToneMapper:
        """Return the mapper of PQ pictures.

        Parameters
        ----------
        primaries : int
            As in H.273.
        declared_peak : float or None
            Light of the brightest pixel in cd/m2, if the video says it; if that is less than
            reference white, it becomes white. Less than SDR has is not believed.
        """
        believed = declared_peak if (declared_peak or 0) >= _LEAST_WHITE else None
        peak = min(believed or _USUAL_PEAK, PQ_PEAK)
        white = min(peak, REFERENCE_WHITE)
        return cls(pq_to_light(_CODES) / white, primaries, peak / white)

    @classmethod
    def of_hlg(cls, primaries: int) -> ToneMapper:
        """Return the mapper of HLG pictures, for the reference display of 1,000 cd/m2."""
        light = hlg_to_light(_CODES) / REFERENCE_WHITE
        return cls(light, primaries, HLG_PEAK / REFERENCE_WHITE)

    @classmethod
    def of_sdr(cls, primaries: int) -> ToneMapper:
        """Return the mapper of SDR pictures in a wide gamut."""
        return cls(bt1886_to_light(_CODES), primaries, 1.0)

    def apply(self, image: DeepBgrImage) -> BgrImage:
        """Map a picture."""
        height, width = image.shape[:2]
        mapped = np.empty((height, width, 3), np.uint8)
        rows = max(1, _STRIP_PIXELS // width)
        for top in range(0, height, rows):
            mapped[top : top + rows] = self._map(image[top : top + rows])
        return mapped

    def _map(self, image: DeepBgrImage) -> BgrImage:
        light = cv2.transform(np.take(self._light, image, mode="clip"), self._matrix)
        planes = [np.maximum(plane, 0, dtype=np.float32) for plane in cv2.split(light)]
        largest = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
        if largest.max() > self._knee:
            scale = self._scale_of(largest)
            planes = [plane * scale for plane in planes]
        return np.asarray(cv2.merge([_encoded(plane) for plane in planes]), np.uint8)

    def _scale_of(self, largest: _Plane) -> _Plane:
        """Return what light is multiplied by, for the largest component of each pixel."""
        beyond = np.maximum(largest / self._peak, 1)
        steps = np.minimum(largest * ((_CURVE_STEPS - 1) / self._peak) + 0.5, _CURVE_STEPS - 1)
        scale = np.take(self._scale, steps.astype(np.uint16), mode="clip")
        return np.asarray(scale / beyond, np.float32)


def _encoded(light: _Plane) -> NDArray[np.uint8]:
    """Return the SDR codes of light, white being 1 (the inverse EOTF of BT.1886)."""
    # by a table of square roots: a power takes three times as long, and dark steps are finer
    roots = np.minimum(cv2.sqrt(light) * _LAST + 0.5, _LAST)
    return np.asarray(np.take(_CODE_OF_ROOT, roots.astype(np.uint16), mode="clip"), np.uint8)


def declared_peak(frame: VideoFrame) -> float | None:
    """Return the light of a video's brightest pixel in cd/m2, as declared; None if it is not.

    MaxCLL of its content if it is there, otherwise the peak of the display that it was mastered
    on (SMPTE ST 2086). Read it once per video: reading side data makes a reference cycle.
    """
    try:
        content: Any = frame.side_data.get("CONTENT_LIGHT_LEVEL")
        display: Any = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    except ValueError:  # side data of a kind that libav knows and PyAV does not
        return None
    if content is not None and (brightest := struct.unpack_from("=I", bytes(content))[0]):
        return float(brightest)
    if display is not None:
        # AVMasteringDisplayMetadata: ten fractions, the last of them max_luminance; two flags
        *_, numerator, denominator, _, has_luminance = struct.unpack_from("=22i", bytes(display))
        if has_luminance and numerator > 0 and denominator > 0:
            return float(numerator / denominator)
    return None


def has_dolby_vision(frame: VideoFrame) -> bool:
    """Return whether a frame has data for a Dolby Vision decoder; see :func:`declared_peak`."""
    try:
        return frame.side_data.get("DOVI_METADATA") is not None
    except ValueError:
        return False
