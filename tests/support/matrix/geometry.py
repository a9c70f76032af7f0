"""Cells of geometry: shapes of pixels, rotation, mirroring and cropping."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.matrix.boxes import add_clean_aperture, add_video_fields
from tests.support.matrix.cell import Cell
from tests.support.matrix.encoding import Clip, encode
from tests.support.matrix.pictures import Image, picture

_MAGENTA = (255, 0, 255)
_SQUARED = frozenset({"squared"})
_CROPPED = frozenset({"cropped"})
_STORED = {"geometry": "stored"}
_NO_CHECKSUMS = (("write_crc32", "0"),)


@dataclass(frozen=True)
class Crop:
    """What is left of stored pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Stored:
    """Draws pictures as they are stored, so that they are upright once they are displayed."""

    quarters: int = 0
    """Quarters of a turn, counter-clockwise, by which a player turns what is stored."""
    mirrored: bool = False
    crop: Crop | None = None

    def __call__(self, number: int, width: int, height: int) -> Image:
        """Draw the stored pixels of a number."""
        crop = self.crop or Crop(0, 0, width, height)
        size = (crop.width, crop.height)
        shown = picture(number, *(size[::-1] if self.quarters % 2 else size))
        turned = np.rot90(shown, -self.quarters)
        if self.mirrored:
            turned = turned[:, ::-1]
        image = np.full((height, width, 3), _MAGENTA, np.uint8)
        image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width] = turned
        return image


def cells() -> Iterator[Cell]:
    """Yield the cells of geometry."""
    yield from _aspects()
    yield from _rotations()
    yield from _apertures()
    yield from _matroska_crops()
    yield from _combinations()


def _cell(
    container: str,
    trouble: str,
    clip: Clip,
    size: tuple[int, int],
    then: Callable[[Path], Path] | None = None,
    **right: Any,
) -> Cell:
    make = functools.partial(make_then, clip=clip, then=then)
    return Cell(
        *("geometry", container, clip.codec, trouble, make),
        **{"numbers": (0, 10, 20), "size": size, **right},
    )


def make_then(path: Path, clip: Clip, then: Callable[[Path], Path] | None) -> Path:
    """Encode a clip, and change the file."""
    video = encode(path, clip)
    return then(video) if then else video


def _aspects() -> Iterator[Cell]:
    wide = Fraction(4, 3)
    for container, codec, pixel_format in (
        ("mp4", "libx264", "yuv420p"),
        ("mkv", "libx264", "yuv420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("mp4", "libx265", "yuv420p"),
        ("ts", "libx264", "yuv420p"),
        ("m2ts", "libx264", "yuv420p"),
        ("flv", "libx264", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("mp4", "mpeg4", "yuv420p"),
    ):
        clip = Clip(codec, pixel_format, size=(144, 120), aspect=wide, frames=21)
        columns = {"sample_aspect_ratio": "4:3"}
        yield _cell(
            container, "pixels of 4:3", clip, (192, 120), converts=_SQUARED, columns=columns
        )
    # MPEG-2 states the shape of the picture, 4:3 or 16:9
    for container in ("ts", "mpg", "vob", "mkv"):
        clip = Clip("mpeg2video", size=(120, 90), aspect=wide, frames=21)
        yield _cell(container, "picture of 16:9", clip, (160, 90), converts=_SQUARED)
    for container, codec in (("mp4", "libx264"), ("mp4", "mpeg4"), ("ts", "libx264")):
        clip = Clip(codec, size=(144, 120), aspect=Fraction(3, 4), frames=21)
        yield _cell(container, "pixels of 3:4", clip, (144, 160), converts=_SQUARED)
    for container in ("ts", "mp4"):
        for ratio, size, converts in (
            (Fraction(8640, 6821), (182, 120), _SQUARED),
            (Fraction(1001, 1000), (144, 120), frozenset[str]()),
        ):
            name = f"{ratio.numerator}:{ratio.denominator}"
            clip = Clip(size=(144, 120), aspect=ratio, frames=21)
            columns = {"sample_aspect_ratio": name}
            yield _cell(
                *(container, f"pixels of {name}", clip, size), converts=converts, columns=columns
            )
    clip = Clip(size=(144, 120), aspect=wide, frames=21)
    columns = {"sample_aspect_ratio": "4:3"}
    yield _cell(
        *("mp4", "pixels of 4:3, kept as stored", clip, (144, 120)),
        settings=_STORED,
        columns=columns,
    )
    clip = Clip(aspect=Fraction(1, 1), frames=21)
    square = {"sample_aspect_ratio": None}
    yield _cell("mp4", "pixels of 1:1", clip, (160, 120), columns=square)
    for container, codec in (("webm", "libvpx-vp9"), ("mkv", "ffv1"), ("mkv", "libx264")):
        clip = Clip(codec, size=(144, 120), muxer=_NO_CHECKSUMS, frames=21)
        display = functools.partial(add_video_fields, display_width=192, display_height=120)
        yield _cell(
            *(container, "displayed as 192x120", clip, (192, 120), display), converts=_SQUARED
        )
    absurd = functools.partial(add_video_fields, display_width=48000, display_height=120)
    yield _cell("mkv", "pixels of 333:1, which no camera has", clip, (144, 120), absurd)


def _rotations() -> Iterator[Cell]:
    for container, codec in (("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx264")):
        for quarters in (1, 2, 3):
            clip = Clip(codec, rotation=90 * quarters, draw=Stored(quarters), frames=21)
            size = (120, 160) if quarters % 2 else (160, 120)
            yield _cell(container, f"turned by {90 * quarters} degrees", clip, size)
    clip = Clip(mirrored=True, draw=Stored(mirrored=True), frames=21)
    yield _cell("mp4", "mirrored", clip, (160, 120))
    clip = Clip(rotation=90, frames=21)
    yield _cell("mp4", "turned by 90 degrees, kept as stored", clip, (160, 120), settings=_STORED)


def _apertures() -> Iterator[Cell]:
    crop = Crop(24, 10, 160, 120)
    for container, codec, pixel_format in (
        ("mov", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("mov", "mpeg4", "yuv420p"),
        ("mp4", "libx265", "yuv420p"),
        ("mov", "qtrle", "rgb24"),
    ):
        draw = Stored(crop=crop)
        clip = Clip(codec, pixel_format, size=(208, 160), draw=draw, frames=21)
        yield _cell(
            *(container, "clean aperture", clip, (160, 120), clean_aperture(clip, crop)),
            converts=_CROPPED,
        )
    clip = Clip(size=(208, 160), frames=21)
    yield _cell(
        *("mov", "clean aperture, kept as stored", clip, (208, 160), clean_aperture(clip, crop)),
        settings=_STORED,
    )
    clip = Clip(frames=21)
    yield _cell(
        "mov", "clean aperture of all", clip, (160, 120), clean_aperture(clip, Crop(0, 0, 160, 120))
    )
    outside = Crop(0, 0, 400, 300)
    yield _cell("mov", "clean aperture outside", clip, (160, 120), clean_aperture(clip, outside))


def clean_aperture(clip: Clip, crop: Crop) -> Callable[[Path], Path]:
    """Return what writes a clean aperture into a file of a clip."""
    return functools.partial(
        add_clean_aperture,
        stored=clip.size,
        left=crop.left,
        top=crop.top,
        width=crop.width,
        height=crop.height,
    )


def _matroska_crops() -> Iterator[Cell]:
    crop = Crop(24, 10, 160, 120)
    for container, codec in (("mkv", "libx264"), ("webm", "libvpx-vp9"), ("mkv", "ffv1")):
        draw = Stored(crop=crop)
        clip = Clip(codec, size=(208, 160), draw=draw, muxer=_NO_CHECKSUMS, frames=21)
        yield _cell(
            *(container, "cropping in the track", clip, (160, 120), _pixel_crop(clip, crop)),
            converts=_CROPPED,
        )
    clip = Clip(size=(208, 160), muxer=_NO_CHECKSUMS, frames=21)
    yield _cell(
        *("mkv", "cropping in the track, kept as stored", clip, (208, 160)),
        then=_pixel_crop(clip, crop),
        settings=_STORED,
    )
    nothing = functools.partial(add_video_fields, crop_left=104, crop_right=104)
    yield _cell("mkv", "cropping in the track that leaves nothing", clip, (208, 160), nothing)


def _pixel_crop(clip: Clip, crop: Crop, **display: int) -> Callable[[Path], Path]:
    fields = {
        "crop_left": crop.left,
        "crop_top": crop.top,
        "crop_right": clip.size[0] - crop.left - crop.width,
        "crop_bottom": clip.size[1] - crop.top - crop.height,
        **display,
    }
    return lambda path: add_video_fields(path, **fields)


def _combinations() -> Iterator[Cell]:
    wide, crop = Fraction(4, 3), Crop(32, 16, 144, 120)
    clip = Clip(size=(144, 120), aspect=wide, rotation=90, draw=Stored(1), frames=21)
    yield _cell("mp4", "pixels of 4:3, turned by 90 degrees", clip, (120, 192), converts=_SQUARED)
    clip = Clip(size=(208, 160), aspect=wide, draw=Stored(crop=crop), frames=21)
    both = _CROPPED | _SQUARED
    yield _cell(
        *("mov", "clean aperture, pixels of 4:3", clip, (192, 120), clean_aperture(clip, crop)),
        converts=both,
    )
    for quarters in (1, 3):
        clip = Clip(
            rotation=90 * quarters, size=(208, 160), draw=Stored(quarters, crop=crop), frames=21
        )
        trouble = f"clean aperture, turned by {90 * quarters} degrees"
        yield _cell(
            *("mov", trouble, clip, (120, 144), clean_aperture(clip, crop)), converts=_CROPPED
        )
    draw = Stored(1, crop=crop)
    clip = Clip(size=(208, 160), aspect=wide, rotation=90, draw=draw, frames=21)
    yield _cell(
        *("mp4", "clean aperture, pixels of 4:3, turned by 90 degrees", clip, (120, 192)),
        then=clean_aperture(clip, crop),
        converts=both,
    )
    # in Matroska, the displayed size is that of the cropped pixels
    clip = Clip(size=(208, 160), draw=Stored(crop=crop), muxer=_NO_CHECKSUMS, frames=21)
    then = _pixel_crop(clip, crop, display_width=192, display_height=120)
    trouble = "cropping in the track, displayed as 192x120"
    yield _cell("mkv", trouble, clip, (192, 120), then, converts=both)
    clip = Clip(size=(208, 160), aspect=wide, rotation=90, frames=21)
    trouble = "clean aperture, pixels of 4:3, turned, kept as stored"
    yield _cell("mp4", trouble, clip, (208, 160), clean_aperture(clip, crop), settings=_STORED)
