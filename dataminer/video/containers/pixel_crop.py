"""The cropping of a video track in Matroska and WebM files.

PixelCropTop and its like say which part of the stored frames is the picture (RFC 9559, 5.1.4.1.28).
libav reads them, too, but PyAV does not pass them on.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from dataminer.video.containers.cropping import Cropping, checked_cropping
from dataminer.video.containers.ebml import (
    VIDEO_TRACK,
    Element,
    children,
    read_numbers,
    tracks,
)

_VIDEO = 0xE0
_WIDTH, _HEIGHT = 0xB0, 0xBA
_SIDES = 0x54CC, 0x54BB, 0x54DD, 0x54AA  # left, top, right, bottom


def impossible_crops(file: BinaryIO) -> list[tuple[int, int]]:
    """Return where numbers of croppings begin and end that leave nothing of a track's picture.

    libav does not open a file that has one.
    """
    found = []
    for settings in _video_elements(file):
        try:
            _cropping(read_numbers(file, settings))
        except ValueError:
            sides = [child for side in _SIDES for child in children(file, settings, side)]
            found += [(side.content, side.end or side.content) for side in sides]
    return found


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
    found = [fields for e in _video_elements(file) if (fields := read_numbers(file, e))]
    return _cropping(found[ordinal]) if ordinal < len(found) else None


def _video_elements(file: BinaryIO) -> Iterator[Element]:
    """Yield the video settings of each video track."""
    size = file.seek(0, io.SEEK_END)
    for track, kind in tracks(file, size):
        if kind == VIDEO_TRACK:
            yield from children(file, track, _VIDEO)[-1:]


def _cropping(fields: Mapping[int, int]) -> Cropping | None:
    """Return the cropping of video settings; None if there is none.

    Raises
    ------
    ValueError
        If it leaves nothing.
    """
    left, top, right, bottom = (fields.get(side, 0) for side in _SIDES)
    if not (left or top or right or bottom):
        return None
    size = fields.get(_WIDTH, 0), fields.get(_HEIGHT, 0)
    return checked_cropping((left, top, right, bottom), size)
