"""Colour matrices that libav does not convert: from luma and chroma to blue, green, red."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from dataminer.stages.extract.picture.gamut import KNOWN_PRIMARIES, luma_weights
from dataminer.stages.extract.picture.tags import (
    ColourTags,
    MatrixCode,
    PrimariesCode,
    TransferCode,
)
from dataminer.stages.extract.picture.tone_mapping import DeepBgrImage
from dataminer.stages.extract.picture.transfer import (
    PQ_PEAK,
    Signal,
    bt2020_to_scene,
    hlg_to_scene,
    light_to_pq,
    pq_to_light,
    scene_to_bt2020,
    scene_to_hlg,
)

DeepYuvImage = NDArray[np.uint16]
"""(height, width, 3): luma and two chroma, codes in the upper bits of 16."""
Decoder = Callable[[DeepYuvImage, int], DeepBgrImage]
"""Decodes an image of a number of bits per colour."""

_LIBAV_MATRICES = frozenset(
    {
        *(
            MatrixCode.GBR,
            MatrixCode.BT709,
            MatrixCode.UNSPECIFIED,
            MatrixCode.FCC,
            MatrixCode.BT470BG,
        ),
        *(MatrixCode.SMPTE170M, MatrixCode.SMPTE240M, MatrixCode.BT2020_NCL),
    }
)
# of luma, compared with red, green and blue (H.273, table 4)
_EXTRA_BITS = {MatrixCode.YCGCO_RE: 2, MatrixCode.YCGCO_RO: 1}
_BT2020_TRANSFERS = (
    TransferCode.BT709,
    TransferCode.SMPTE170M,
    TransferCode.BT2020_10,
    TransferCode.BT2020_12,
)
# BT.2020, table 4: the largest differences of blue and red to luma, below and above 0
_BLUE_RANGE = 1.9404, 1.5816
_RED_RANGE = 1.7184, 0.9936
_LARGEST = (1 << 16) - 1
# BT.2100, table 7
_RGB_TO_LMS = np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096
_ICTCP_FROM_LMS = {
    TransferCode.PQ: np.array([[2048, 2048, 0], [6610, -13613, 7003], [17933, -17390, -543]])
    / 4096,
    TransferCode.HLG: np.array([[2048, 2048, 0], [3625, -7465, 3840], [9500, -9212, -288]]) / 4096,
}


def is_converted_by_libav(matrix: int) -> bool:
    """Return whether libav converts pictures with a matrix, a code point of H.273."""
    return matrix in _LIBAV_MATRICES


def luma_options(frame: VideoFrame) -> dict[str, Any]:
    """Return options for libav to convert a frame to grey, whatever its matrix.

    libav refuses matrices that it does not know, although luma does not depend on them.
    """
    return {} if is_converted_by_libav(frame.colorspace) else {"src_colorspace": Colorspace.ITU601}


def decoder_of(tags: ColourTags) -> Decoder | None:
    """Return what decodes pictures with a matrix that libav does not convert.

    None if the other tags do not say what it needs to know: a matrix of constant luminance is
    defined for known transfer functions only, and a matrix derived from primaries for known ones.
    """
    if tags.matrix in _EXTRA_BITS:
        return partial(_decode_ycgco_r, extra_bits=_EXTRA_BITS[MatrixCode(tags.matrix)])
    to_rgb = _conversion_to_rgb(tags)
    if to_rgb is None:
        return None

    def decode(image: DeepYuvImage, bits: int) -> DeepBgrImage:
        return _encoded(to_rgb(_normalised(image, bits, full_range=tags.full_range)))

    return decode


def _conversion_to_rgb(tags: ColourTags) -> Callable[[Signal], Signal] | None:
    """Return what converts luma in 0..1 and chroma in -0.5..0.5 to red, green, blue in 0..1."""
    if tags.matrix == MatrixCode.YCGCO:
        return _from_ycgco
    if tags.matrix == MatrixCode.ICTCP and tags.is_hdr:
        return lambda image: _from_ictcp(image, TransferCode(tags.transfer))
    has_bt2020_primaries = tags.primaries == PrimariesCode.BT2020
    if tags.matrix == MatrixCode.BT2020_CL and has_bt2020_primaries:
        return _from_constant_luminance if tags.transfer in _BT2020_TRANSFERS else None
    if tags.matrix == MatrixCode.CHROMA_DERIVED_NCL and tags.primaries in KNOWN_PRIMARIES:
        red, blue = luma_weights(tags.primaries)
        return lambda image: _from_weights(image, red, blue)
    return None


def _normalised(image: DeepYuvImage, bits: int, *, full_range: bool) -> Signal:
    """Return luma in 0..1 and chroma in -0.5..0.5 (H.273, equations 20 to 31)."""
    values = image / (1 << (16 - bits))
    if full_range:
        chroma_zero, luma_zero, luma, chroma = 1 << (bits - 1), 0, (1 << bits) - 1, (1 << bits) - 1
    else:
        unit = 1 << (bits - 8)
        chroma_zero, luma_zero, luma, chroma = 128 * unit, 16 * unit, 219 * unit, 224 * unit
    zeros = np.array([luma_zero, chroma_zero, chroma_zero])
    return np.asarray((values - zeros) / np.array([luma, chroma, chroma]), np.float64)


def _encoded(rgb: Signal) -> DeepBgrImage:
    return np.rint(np.clip(rgb[..., ::-1], 0, 1) * _LARGEST).astype(np.uint16)


def _from_ycgco(image: Signal) -> Signal:
    luma, green, orange = np.moveaxis(image, -1, 0)
    rest = luma - green
    return np.stack([rest + orange, luma + green, rest - orange], axis=-1)


def _from_weights(image: Signal, red_weight: float, blue_weight: float) -> Signal:
    luma, blue_difference, red_difference = np.moveaxis(image, -1, 0)
    red = luma + 2 * (1 - red_weight) * red_difference
    blue = luma + 2 * (1 - blue_weight) * blue_difference
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return np.stack([red, green, blue], axis=-1)


def _from_constant_luminance(image: Signal) -> Signal:
    luma, blue_difference, red_difference = np.moveaxis(image, -1, 0)
    blue = luma + blue_difference * np.where(blue_difference < 0, *_BLUE_RANGE)
    red = luma + red_difference * np.where(red_difference < 0, *_RED_RANGE)
    red_weight, blue_weight = 0.2627, 0.0593
    light = bt2020_to_scene(luma)
    light = light - red_weight * bt2020_to_scene(red) - blue_weight * bt2020_to_scene(blue)
    green = scene_to_bt2020(light / (1 - red_weight - blue_weight))
    return np.stack([red, green, blue], axis=-1)


def _from_ictcp(image: Signal, transfer: TransferCode) -> Signal:
    cone_signals = np.clip(image @ np.linalg.inv(_ICTCP_FROM_LMS[transfer]).T, 0, 1)
    lms_to_rgb = np.linalg.inv(_RGB_TO_LMS).T
    if transfer is TransferCode.PQ:
        return light_to_pq(np.clip(pq_to_light(cone_signals) @ lms_to_rgb, 0, PQ_PEAK))
    return scene_to_hlg(hlg_to_scene(cone_signals) @ lms_to_rgb)


def _decode_ycgco_r(image: DeepYuvImage, bits: int, extra_bits: int) -> DeepBgrImage:
    """Decode YCgCo-R, a transform without loss: chroma has more bits than the picture."""
    codes = (image >> (16 - bits)).astype(np.int32)
    luma, green_difference, orange = np.moveaxis(codes, -1, 0)
    middle = 1 << (bits - 1)
    green_difference, orange = green_difference - middle, orange - middle
    rest = luma - (green_difference >> 1)
    blue = rest - (orange >> 1)
    rgb = np.stack([blue + orange, rest + green_difference, blue], axis=-1)
    return _encoded(rgb / ((1 << (bits - extra_bits)) - 1))
