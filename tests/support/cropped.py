"""Boxes and elements that say how a file's frames are cropped, put into files that exist."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.support.matrix.boxes import add_sample_box

_SEGMENT, _TRACKS, _TRACK, _VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"


def add_clean_aperture(path: Path, values: Sequence[int]) -> Path:
    """Add a ``clap`` box to the first track of an MP4 whose ``moov`` is last.

    Parameters
    ----------
    values : sequence of int
        Width, height, horizontal and vertical offset, as fractions.
    """
    return add_sample_box(path, b"clap", struct.pack(f">{len(values)}i", *values))


def add_pixel_aspect(path: Path, width: int, height: int) -> Path:
    """Add a ``pasp`` box."""
    return add_sample_box(path, b"pasp", struct.pack(">2i", width, height))


def add_pixel_crop(path: Path, left: int, top: int, right: int, bottom: int) -> Path:
    """Add a cropping to the first video track of a Matroska file."""
    crop = b"".join(
        identifier + b"\x82" + value.to_bytes(2)
        for identifier, value in (
            (b"\x54\xaa", bottom),
            (b"\x54\xbb", top),
            (b"\x54\xcc", left),
            (b"\x54\xdd", right),
        )
    )
    path.write_bytes(_with_crop(path.read_bytes(), crop, (_SEGMENT, _TRACKS, _TRACK, _VIDEO)))
    return path


def _with_crop(data: bytes, crop: bytes, route: tuple[bytes, ...]) -> bytes:
    """Return elements with others added at the end of the first one at a route of kinds."""
    if not route:
        return data + crop
    at = 0
    while at < len(data):
        kind_end = at + 9 - data[at].bit_length()
        size_end = kind_end + 9 - data[kind_end].bit_length()
        bits = 7 * (size_end - kind_end)
        size = int.from_bytes(data[kind_end:size_end]) & ((1 << bits) - 1)
        end = min(len(data), size_end + size)  # a size of all ones is unknown
        content = data[size_end:end]
        is_video = route[0] != _TRACK or b"\x83\x81\x01" in content
        if data[at:kind_end] == route[0] and is_video:
            content = _with_crop(content, crop, route[1:])
            length = (len(content) | 1 << 56).to_bytes(8)
            return data[:kind_end] + length + content + data[end:]
        at = end
    raise AssertionError(f"no {route[0]!r}")
