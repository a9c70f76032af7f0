"""The clean aperture of a video track in MP4 and QuickTime files.

It says which part of the stored frames is the picture (ISO/IEC 14496-12, 12.1.4; QuickTime File
Format, "Clean aperture"). libav reads it, too, but PyAV does not pass it on.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

from dataminer.video.containers.boxes import Mp4Box, read_boxes
from dataminer.video.display.cropping import Cropping, checked_cropping

_MAX_TRACKS = 256
_SAMPLE_ENTRY_BYTES = 86  # of a video sample entry, before the boxes in it
_MAX_ENTRY_BYTES = 1 << 20


def read_clean_aperture(file: BinaryIO, track_id: int) -> Cropping | None:
    """Return what a track's clean aperture crops; None if it has none.

    Parameters
    ----------
    file : binary file
        Of any content; little of it is read.
    track_id : int
        The track, as libav's ``stream.id``.

    Raises
    ------
    OSError, ValueError, struct.error
        The file cannot be read, or its boxes are broken.
    """
    size = file.seek(0, io.SEEK_END)
    movie = next(_of_kind(file, 0, size, b"moov"), None)
    if movie is None:
        return None
    tracks = _of_kind(file, movie.content, movie.end, b"trak")
    for track in itertools.islice(tracks, _MAX_TRACKS):
        if _track_id(file, track) == track_id:
            return _cropping_of(file, track)
    return None


def _of_kind(file: BinaryIO, start: int, end: int, kind: bytes) -> Iterator[Mp4Box]:
    return (box for box in read_boxes(file, start, end) if box.kind == kind)


def _first(file: BinaryIO, box: Mp4Box, *path: bytes) -> Mp4Box | None:
    """Return the first box at a path of kinds within a box."""
    for kind in path:
        found = next(_of_kind(file, box.content, box.end, kind), None)
        if found is None:
            return None
        box = found
    return box


def _track_id(file: BinaryIO, track: Mp4Box) -> int | None:
    header = _first(file, track, b"tkhd")
    if header is None:
        return None
    file.seek(header.content)
    is_long = file.read(1) == b"\x01"
    file.seek(header.content + (20 if is_long else 12))
    return int(struct.unpack(">I", file.read(4))[0])


def _cropping_of(file: BinaryIO, track: Mp4Box) -> Cropping | None:
    table = _first(file, track, b"mdia", b"minf", b"stbl", b"stsd")
    if table is None:
        return None
    file.seek(table.content + 8)
    entry_start = table.content + 8
    (size,) = struct.unpack(">I", file.read(4))
    end = min(entry_start + min(size, _MAX_ENTRY_BYTES), table.end)
    file.seek(entry_start + 32)
    frame_size = struct.unpack(">2H", file.read(4))
    aperture = next(_of_kind(file, entry_start + _SAMPLE_ENTRY_BYTES, end, b"clap"), None)
    if aperture is None:
        return None
    file.seek(aperture.content)
    return _cropping(struct.unpack(">IIIIiIiI", file.read(32)), frame_size)


def _cropping(values: tuple[int, ...], frame_size: tuple[int, int]) -> Cropping:
    """Return the cropping of an aperture: its size, and its centre from that of the frame.

    Parameters
    ----------
    values : tuple of int
        Four fractions: width, height, horizontal and vertical offset.
    frame_size : tuple of int
        Width and height of stored frames.
    """
    if not all(values[1::2]):
        raise ValueError("a fraction's denominator is 0")
    pairs = zip(values[::2], values[1::2], strict=True)
    width, height, *offsets = (Fraction(a, b) for a, b in pairs)
    sides = []
    for stored, clean, offset in zip(frame_size, (width, height), offsets, strict=True):
        first = round((stored - clean) / 2 + offset)
        sides.append((first, stored - first - round(clean)))
    (left, right), (top, bottom) = sides
    return checked_cropping((left, top, right, bottom), frame_size)
