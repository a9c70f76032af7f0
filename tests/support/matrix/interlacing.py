"""Cells of interlaced videos, and of progressive ones that are only flagged as interlaced."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from tests.support.matrix.cell import Cell, Result
from tests.support.matrix.colour import Colour
from tests.support.matrix.encoding import Clip, encode
from tests.support.matrix.pictures import Image, combing, picture

_DEINTERLACED = frozenset({"deinterlaced"})
_BAR, _SPEED = 20, 6  # pixels: width of a bar, and how far it moves from field to field
_MAX_COMBING = 2.0  # levels of 255; of bars in motion that are not deinterlaced, 20 and more
_MAX_BAR_ERROR = 12.0  # levels of 255, on average: what interpolation and coding may change

# encoder: what makes it encode fields, the first of which is the upper or the lower one
_FIELDS: dict[tuple[str, str], Clip] = {
    ("libx264", "top"): Clip(options=(("x264-params", "tff=1"),)),
    ("libx264", "bottom"): Clip(options=(("x264-params", "bff=1"),)),
    ("mpeg2video", "top"): Clip(options=(("flags", "+qscale+ildct+ilme"), ("field_order", "tt"))),
    ("mpeg2video", "bottom"): Clip(
        options=(("flags", "+qscale+ildct+ilme"), ("field_order", "bb"))
    ),
    ("mpeg4", "top"): Clip(options=(("flags", "+qscale+ildct+ilme"),)),
    ("prores_ks", "top"): Clip(pixel_format="yuv422p10le", options=(("flags", "+ildct"),)),
    ("dnxhd", "top"): Clip(
        pixel_format="yuv422p",
        size=(1920, 1080),
        options=(("flags", "+ildct"), ("b", "120M")),
        frames=2,
        colour=Colour("bt709"),
    ),
    ("dvvideo", "bottom"): Clip(size=(720, 576), frames=11),
}


def moving_bars(moment: int, width: int, height: int) -> Image:
    """Draw a band of bars as they are at a moment; two moments make a frame."""
    position = (np.arange(width) - _SPEED * moment) // _BAR % 2
    line = np.where(position, 190, 60).astype(np.uint8)
    return np.dstack([np.tile(line, (height, 1))] * 3)


def _band(height: int) -> slice:
    return slice(round(height * 0.5), round(height * 0.8))


def two_fields(number: int, width: int, height: int, upper_first: bool = True) -> Image:
    """Draw a numbered picture with moving bars, whose two fields show two moments."""
    image = picture(number, width, height).copy()
    band = _band(height)
    image[band] = moving_bars(2 * number, width, height)[band]
    later = moving_bars(2 * number + 1, width, height)[band]
    parity = (band.start + (1 if upper_first else 0)) % 2
    image[band][parity::2] = later[parity::2]
    return image


def one_moment(number: int, width: int, height: int) -> Image:
    """Draw a numbered picture with bars, both fields of which show one moment."""
    image = picture(number, width, height).copy()
    band = _band(height)
    image[band] = moving_bars(2 * number, width, height)[band]
    return image


def fine_lines(number: int, width: int, height: int) -> Image:
    """Draw a numbered picture with horizontal lines of two pixels, as on a printed page."""
    image = picture(number, width, height).copy()
    band = _band(height)
    bright = np.arange(band.stop - band.start) // 2 % 2
    image[band] = (20 + 210 * bright).astype(np.uint8)[:, None, None]
    return image


def cells() -> Iterator[Cell]:
    """Yield the cells of interlaced videos."""
    containers = {
        "libx264": ("mp4", "ts"),
        "mpeg2video": ("mpg", "ts"),
        "mpeg4": ("avi",),
        "prores_ks": ("mov",),
        "dnxhd": ("mxf",),
        "dvvideo": ("dv", "avi"),
    }
    for (codec, first), clip in _FIELDS.items():
        for container in containers[codec]:
            drawn = functools.partial(two_fields, upper_first=first == "top")
            trouble = f"interlaced, {first} field first"
            yield _interlaced(container, trouble, replace(clip, codec=codec, draw=drawn))
    for pixel_format in ("yuv420p10le", "yuv422p", "yuv422p10le"):
        clip = replace(_FIELDS["libx264", "top"], draw=two_fields, pixel_format=pixel_format)
        yield _interlaced("mkv", f"interlaced, {pixel_format}", clip)
    clip = replace(_FIELDS["mpeg2video", "top"], codec="mpeg2video", draw=two_fields, frames=11)
    clip = replace(clip, size=(720, 576), aspect=Fraction(64, 45))
    yield _interlaced("vob", "interlaced, picture of 16:9", clip, (1024, 576))
    yield from _flagged(containers)
    yield from _declared()


def _declared() -> Iterator[Cell]:
    """Yield cells of codecs that do not flag their frames: the container says what they are."""
    codecs = {
        "mjpeg": ("yuvj422p", Colour(full=True), ("mov", "mkv")),
        "png": ("rgb24", Colour(), ("mov",)),
        "jpeg2000": ("rgb24", Colour(), ("mov",)),
        "qtrle": ("rgb24", Colour(), ("mov",)),
    }
    for codec, (pixel_format, colour, containers) in codecs.items():
        for container in containers:
            for first, order in (("top", "tt"), ("bottom", "bb")):
                drawn = functools.partial(two_fields, upper_first=first == "top")
                clip = Clip(codec, pixel_format, colour=colour, draw=drawn, frames=21)
                clip = replace(clip, options=(("field_order", order),))
                trouble = f"interlaced, {first} field first, says the container"
                yield _interlaced(container, trouble, clip)
            clip = Clip(codec, pixel_format, colour=colour, draw=one_moment, frames=21)
            clip = replace(clip, options=(("field_order", "tt"),))
            yield _cell(
                *(container, "progressive, the container says interlaced", clip, clip.size),
                columns={"deinterlaced": False},
                check=_is_untouched,
            )


def _cell(container: str, trouble: str, clip: Clip, size: tuple[int, int], **right: Any) -> Cell:
    squared = frozenset({"squared"} if size != clip.size else ())
    make = functools.partial(encode, clip=clip)
    return Cell(
        *("interlaced", container, clip.codec, trouble, make),
        numbers=tuple(range(0, clip.frames, 10)),
        size=size,
        **{**right, "converts": right.get("converts", frozenset()) | squared},
    )


def _interlaced(
    container: str, trouble: str, clip: Clip, size: tuple[int, int] | None = None
) -> Cell:
    clip = replace(clip, frames=min(clip.frames, 21))
    return _cell(
        *(container, trouble, clip, size or _shown(clip)),
        converts=_DEINTERLACED,
        columns={"deinterlaced": True},
        check=_shows_one_moment,
    )


def _shown(clip: Clip) -> tuple[int, int]:
    return (768, 576) if clip.codec == "dvvideo" else clip.size


def _flagged(containers: Mapping[str, tuple[str, ...]]) -> Iterator[Cell]:
    """Yield cells of progressive pictures with the flag of interlaced ones."""
    for (codec, first), clip in _FIELDS.items():
        if (first == "bottom" and codec != "dvvideo") or codec == "dnxhd":
            continue
        for drawn, name in ((one_moment, "progressive"), (fine_lines, "fine lines")):
            flagged = replace(clip, codec=codec, draw=drawn, frames=min(clip.frames, 21))
            squared = _shown(flagged) != flagged.size
            yield _cell(
                *(containers[codec][0], f"{name}, only flagged as interlaced"),
                *(flagged, _shown(flagged)),
                columns={"deinterlaced": False},
                check=None if squared else _is_untouched,
            )


def _shows_one_moment(cell: Cell, result: Result) -> None:
    """See that no frame is combed, and that its bars are where they were at one moment."""
    for number, image in zip(cell.numbers or (), result.images, strict=True):
        assert combing(image) <= _MAX_COMBING
        height, width = image.shape[:2]
        band = _band(height)
        inner = slice(band.start + 6, band.stop - 6)
        stored_width = 720 if width in (768, 1024) else width
        errors = []
        for moment in (2 * number, 2 * number + 1):
            line = moving_bars(moment, stored_width, 2)
            bars = cv2.resize(line, (width, 2), interpolation=cv2.INTER_LINEAR)
            errors.append(float(np.abs(image[inner].astype(float) - bars[0]).mean()))
        assert min(errors) <= _MAX_BAR_ERROR, errors


def _is_untouched(cell: Cell, result: Result) -> None:
    """See that images are what libav makes of the frames, byte for byte."""
    with av.open(str(result.video)) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    for number, image in zip(cell.numbers or (), result.images, strict=True):
        assert np.array_equal(image[..., ::-1], frames[number])
