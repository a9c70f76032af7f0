"""From red, green and blue to the numbers in a file, by the published matrices and curves.

ITU-T H.273 for matrices and ranges, BT.2100 for HLG and PQ, BT.2408 for the reference white of
203 cd/m2, BT.1886 for what standard pictures show, BT.2087 for BT.709 in BT.2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from av.video.format import VideoFormat
from numpy.typing import NDArray

from tests.support.matrix.pictures import Image

Floats = NDArray[np.float64]

# Kr and Kb of H.273, by libav's name of the matrix
WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
WHITE = 203.0
"""cd/m2 of reference white."""
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2


@dataclass(frozen=True)
class Colour:
    """How pictures become numbers."""

    matrix: str = "bt470bg"
    """A key of ``WEIGHTS``, or ``ycgco``."""
    full: bool = False
    """Whether all code values are used."""
    hdr: str = ""
    """``hlg`` or ``pq``, or ``bt2020`` for its SDR; each with the primaries of BT.2020."""


def code_planes(image: Image, colour: Colour, pixel_format: str) -> list[NDArray[np.uint16]]:
    """Return the planes of a picture in a planar format, in the order of libav.

    Parameters
    ----------
    image : ndarray of uint8, (height, width, 3)
        Red, green, blue.
    colour : Colour
        How they become numbers.
    pixel_format : str
        A planar format of libav; a fourth plane is alpha, opaque.
    """
    layout = VideoFormat(pixel_format, image.shape[1], image.shape[0])
    bits = layout.components[0].bits
    signal = hdr_signal(image, colour.hdr) if colour.hdr else image / 255
    if pixel_format.startswith("gbr"):
        planes = [
            _quantised(signal[..., channel], bits, colour.full, is_chroma=False)
            for channel in (1, 2, 0)
        ]
    else:
        luma, *chroma = difference_signals(signal, colour.matrix)
        planes = [_quantised(luma, bits, colour.full, is_chroma=False)]
        if len(layout.components) >= 3:
            width, height = layout.chroma_width(), layout.chroma_height()
            planes += [
                _quantised(_shrunk(part, height, width), bits, colour.full, is_chroma=True)
                for part in chroma
            ]
    if len(layout.components) in (2, 4):
        planes.append(np.full(image.shape[:2], 2.0**bits - 1))
    return [np.clip(np.rint(plane), 0, 2**bits - 1).astype(np.uint16) for plane in planes]


def difference_signals(rgb: Floats, matrix: str) -> tuple[Floats, Floats, Floats]:
    """Return luma (0 to 1) and the two colour differences (-0.5 to 0.5)."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    if matrix == "ycgco":
        return (
            red / 4 + green / 2 + blue / 4,
            -red / 4 + green / 2 - blue / 4,
            red / 2 - blue / 2,
        )
    kr, kb = WEIGHTS[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    return luma, (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)


def _quantised(part: Floats, bits: int, full: bool, *, is_chroma: bool) -> Floats:
    if full:
        middle = 2.0 ** (bits - 1) if is_chroma else 0.0
        return np.asarray(part * (2.0**bits - 1) + middle)
    span, base = (224, 128) if is_chroma else (219, 16)
    return np.asarray((part * span + base) * 2.0 ** (bits - 8))


def _shrunk(plane: Floats, height: int, width: int) -> Floats:
    """Average a plane into one of subsampled chroma."""
    down, right = -(-plane.shape[0] // height), -(-plane.shape[1] // width)
    edges = ((0, height * down - plane.shape[0]), (0, width * right - plane.shape[1]))
    padded = np.pad(plane, edges, mode="edge")
    averaged: Floats = padded.reshape(height, down, width, right).mean((1, 3))
    return averaged


def hdr_signal(image: Image, curve: str) -> Floats:
    """Return the BT.2020 signal of a picture whose white is reference white."""
    light = ((image / 255) ** 2.4) @ TO_2020.T * WHITE
    if curve == "bt2020":
        return np.asarray((light / WHITE) ** (1 / 2.4))
    return pq(light) if curve == "pq" else hlg(hlg_scene(light))


def pq(light: Floats) -> Floats:
    """Apply the inverse EOTF of PQ to cd/m2 (BT.2100, table 4)."""
    power = (light / 10000) ** (2610 / 16384)
    signal: Floats = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    return signal


def hlg_scene(light: Floats) -> Floats:
    """Apply the inverse of HLG's system gamma to cd/m2.

    The system gamma applies to each colour, as in zimg, by which ffmpeg makes HLG of SDR. By
    BT.2100 it applies to luminance, which gives the same greys and other saturated colours.
    """
    return np.asarray((light / _HLG_PEAK) ** (1 / _HLG_GAMMA))


def hlg(scene: Floats) -> Floats:
    """Apply the OETF of HLG to light of the scene, 0 to 1 (BT.2100, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    dark, bright = np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.asarray(np.where(scene <= 1 / 12, dark, bright))


def is_planar(pixel_format: str) -> bool:
    """Return whether :func:`code_planes` knows a format of libav: planar YUV, GBR and grey."""
    known = ("yuv4", "yuva4", "yuvj4", "gbrp", "gbrap", "gray")
    return pixel_format.startswith(known) and not pixel_format.endswith("be")
