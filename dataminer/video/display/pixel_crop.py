"""The cropping of a video track in Matroska and WebM files.

PixelCropTop and its like say which part of the stored frames is the picture (RFC 9559, 5.1.4.1.28).
libav reads them, too, but PyAV does not pass them on.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from dataminer.video.display.cropping import Cropping, checked_cropping

_MAX_ELEMENTS = 4096  # side by side; a longer list is not searched further
_MAX_TRACKS_BYTES = 4 << 20

_EBML, _SEGMENT, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK, _TRACK_TYPE, _VIDEO = 0xAE, 0x83, 0xE0
_WIDTH, _HEIGHT = 0xB0, 0xBA
_BOTTOM, _TOP, _LEFT, _RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD
_VIDEO_TRACK = 1


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
    tracks = [fields for fields in _video_tracks(file) if fields]
    fields = tracks[ordinal] if ordinal < len(tracks) else {}
    sides = tuple(fields.get(side, 0) for side in (_LEFT, _TOP, _RIGHT, _BOTTOM))
    if not any(sides):
        return None
    left, top, right, bottom = sides
    size = fields.get(_WIDTH, 0), fields.get(_HEIGHT, 0)
    return checked_cropping((left, top, right, bottom), size)


def _video_tracks(file: BinaryIO) -> Iterator[dict[int, int]]:
    """Yield the numbers in the video settings of each video track."""
    end = file.seek(0, io.SEEK_END)
    for kind, start, size in _elements(file, 0, end):
        if kind != _SEGMENT:
            continue
        segment_end = end if size is None else min(end, start + size)
        for inner, tracks_start, tracks_size in _elements(file, start, segment_end):
            if inner == _TRACKS and tracks_size is not None and tracks_size <= _MAX_TRACKS_BYTES:
                file.seek(tracks_start)
                yield from _parse_tracks(file.read(tracks_size))
                return
        return


def _parse_tracks(data: bytes) -> Iterator[dict[int, int]]:
    for kind, content in _children(data):
        if kind != _TRACK:
            continue
        entry = dict(_children(content))
        if _number(entry.get(_TRACK_TYPE, b"")) == _VIDEO_TRACK:
            settings = _children(entry.get(_VIDEO, b""))
            yield {name: _number(value) for name, value in settings if len(value) <= 8}


def _children(data: bytes) -> list[tuple[int, bytes]]:
    found = _elements(io.BytesIO(data), 0, len(data))
    return [(kind, data[start : start + size]) for kind, start, size in found if size is not None]


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield kind, position and size of elements side by side; ends at one of unknown size."""
    for _ in range(_MAX_ELEMENTS):
        if start >= end:
            return
        file.seek(start)
        kind = _variable_number(file, keep_length_bit=True)
        size = _variable_number(file, keep_length_bit=False)
        start = file.tell()
        yield kind or 0, start, size
        if kind is None or size is None:
            return
        start += size


def _variable_number(file: BinaryIO, *, keep_length_bit: bool) -> int | None:
    """Read a number whose first bits give its length (RFC 8794, 4); None if all others are 1."""
    first = file.read(1)
    if not first or not first[0]:
        raise ValueError("no element begins here")
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        raise ValueError("an element is cut off")
    value = int.from_bytes(first + rest)
    if keep_length_bit:
        return value
    bits = (1 << (7 * length)) - 1
    return None if value & bits == bits else value & bits


def _number(data: bytes) -> int:
    return int.from_bytes(data)
