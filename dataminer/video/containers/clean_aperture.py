"""The clean aperture of a video track in MP4 and QuickTime files.

It says which part of the stored frames is the picture (ISO/IEC 14496-12, 12.1.4; QuickTime File
Format, "Clean aperture"). libav reads it, too, but PyAV does not pass it on.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import BinaryIO

from dataminer.video.containers.boxes import (
    Mp4Box,
    boxes_of_kind,
    sample_descriptions,
    track_id,
    tracks,
)
from dataminer.video.containers.cropping import Cropping, checked_cropping

_SAMPLE_ENTRY_BYTES = 86  # of a video sample entry, before the boxes in it
_MAX_ENTRY_BYTES = 1 << 20


def read_clean_aperture(file: BinaryIO, wanted_id: int) -> Cropping | None:
    """Return what a track's clean aperture crops; None if it has none.

    Parameters
    ----------
    file : binary file
        Of any content; little of it is read.
    wanted_id : int
        Of the track: libav's ``stream.id``.

    Raises
    ------
    OSError, ValueError, struct.error
        The file cannot be read, or its boxes are broken.
    """
    size = file.seek(0, io.SEEK_END)
    for track in tracks(file, size):
        if track_id(file, track) == wanted_id:
            return _cropping_of(file, track)
    return None


def _cropping_of(file: BinaryIO, track: Mp4Box) -> Cropping | None:
    entries = sample_descriptions(file, track)
    if entries is None:
        return None
    entry_start, entries_end = entries
    file.seek(entry_start)
    (size,) = struct.unpack(">I", file.read(4))
    end = min(entry_start + min(size, _MAX_ENTRY_BYTES), entries_end)
    file.seek(entry_start + 32)
    frame_size = struct.unpack(">2H", file.read(4))
    aperture = next(boxes_of_kind(file, entry_start + _SAMPLE_ENTRY_BYTES, end, b"clap"), None)
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
