"""The cropping of a video track in Matroska and WebM files.

PixelCropTop and its like say which part of the stored frames is the picture (RFC 9559, 5.1.4.1.28).
libav reads them, too, but PyAV does not pass them on.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from dataminer.video.containers.cropping import Cropping, checked_cropping
from dataminer.video.containers.ebml import VIDEO_TRACK, children, read_numbers, tracks

_VIDEO = 0xE0
_WIDTH, _HEIGHT = 0xB0, 0xBA
_BOTTOM, _TOP, _LEFT, _RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD


def read_pixel_crop(file: BinaryIO, ordinal: int) -> Cropping | None:
    """Return what a video track crops; None if it crops nothing.

    Parameters
    ----------
    file : binary file
        Of any content; little of it is read.
    ordinal : int
        The track's position among the video tracks of the file, from 0.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or its elements are broken.
    """
    found = [fields for fields in _video_settings(file) if fields]
    fields = found[ordinal] if ordinal < len(found) else {}
    sides = tuple(fields.get(side, 0) for side in (_LEFT, _TOP, _RIGHT, _BOTTOM))
    if not any(sides):
        return None
    left, top, right, bottom = sides
    size = fields.get(_WIDTH, 0), fields.get(_HEIGHT, 0)
    return checked_cropping((left, top, right, bottom), size)


def _video_settings(file: BinaryIO) -> Iterator[dict[int, int]]:
    """Yield the numbers in the video settings of each video track."""
    size = file.seek(0, io.SEEK_END)
    for track, kind in tracks(file, size):
        if kind == VIDEO_TRACK:
            settings = children(file, track, _VIDEO)[-1:]
            yield read_numbers(file, settings[0]) if settings else {}
