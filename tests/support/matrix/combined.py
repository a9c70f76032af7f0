"""Cells of several things at once, as cameras and editors combine them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tests.support.matrix.cell import HDR_ERROR, Cell
from tests.support.matrix.colour import Colour
from tests.support.matrix.encoding import Clip, encode
from tests.support.matrix.geometry import Crop, Stored, clean_aperture, make_then
from tests.support.matrix.packets import restamp_transport_stream

_WIDE = Fraction(4, 3)
_CROP = Crop(32, 16, 144, 120)
_HLG_TAGS, _PQ_TAGS = (1, 9, 18, 9), (1, 9, 16, 9)
_KEPT = {"hdr": "keep", "geometry": "stored"}


def cells() -> Iterator[Cell]:
    """Yield the cells of several things at once."""
    hlg = Clip(
        pixel_format="yuv420p10le", colour=Colour("bt2020nc", hdr="hlg"), tags=_HLG_TAGS, frames=21
    )
    turned = replace(hlg, size=(144, 120), aspect=_WIDE, rotation=90, draw=Stored(1))
    yield _cell(
        *("mp4", "HLG, pixels of 4:3, turned by 90 degrees", turned, (120, 192)),
        error=HDR_ERROR,
        converts=frozenset({"tone_mapped", "squared"}),
    )
    pq = replace(hlg, colour=Colour("bt2020nc", hdr="pq"), tags=_PQ_TAGS)
    yield _cell(
        *("mov", "PQ, clean aperture", replace(pq, size=(208, 160), draw=Stored(crop=_CROP))),
        (144, 120),
        error=HDR_ERROR,
        converts=frozenset({"tone_mapped", "cropped"}),
        crop=_CROP,
    )
    yield _cell(
        *("mp4", "PQ, pixels of 4:3, all kept as stored", replace(pq, aspect=_WIDE), (160, 120)),
        error=None,
        settings=_KEPT,
        columns={"sample_aspect_ratio": "4:3", "transfer": "smpte2084"},
    )
    opaque = Clip("prores_ks", "yuva444p10le", rotation=90, draw=Stored(1), frames=21)
    yield _cell("mov", "opaque alpha, turned by 90 degrees", opaque, (120, 160))
    full = Clip(
        *("libx264", "yuv420p"),
        size=(208, 160),
        aspect=_WIDE,
        colour=Colour("bt709", full=True),
        tags=(2, 1, 1, 1),
        draw=Stored(crop=_CROP),
        frames=21,
    )
    yield _cell(
        *("mov", "full range, clean aperture, pixels of 4:3", full, (192, 120)),
        converts=frozenset({"cropped", "squared"}),
        crop=_CROP,
    )
    wide = Clip("mpeg2video", size=(120, 90), aspect=_WIDE, frames=150)
    yield Cell(
        *("combined", "ts", "mpeg2video", "picture of 16:9, begins again every 50 frames"),
        lambda path: restamp_transport_stream(
            encode(path, wide), lambda index, time: time - index // 50 * 2.0
        ),
        numbers=(0, 25, 50, 75, 100, 125),
        size=(160, 90),
        settings={"every_seconds": 1.0},
        warns=frozenset({"joined_parts"}),
        converts=frozenset({"squared"}),
    )


def _cell(
    container: str,
    trouble: str,
    clip: Clip,
    size: tuple[int, int],
    crop: Crop | None = None,
    **right: Any,
) -> Cell:
    aperture = clean_aperture(clip, crop) if crop else None
    return Cell(
        *("combined", container, clip.codec, trouble),
        functools.partial(make_then, clip=clip, then=aperture),
        **{"numbers": (0, 10, 20), "size": size, **right},
    )
