"""Boxes and elements that say how a file's frames are cropped, put into files that exist."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

_ENTRY_BYTES = 86  # of a video sample entry, before the boxes in it
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_SEGMENT, _TRACKS, _TRACK, _VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"


def add_clean_aperture(path: Path, values: Sequence[int], kind: bytes = b"clap") -> Path:
    """Add a box of eight numbers to the first video track of an MP4 whose ``moov`` is last.

    Parameters
    ----------
    values : sequence of int
        Width, height, horizontal and vertical offset, as fractions.
    """
    data = bytearray(path.read_bytes())
    box = struct.pack(f">I4s{len(values)}i", 8 + 4 * len(values), kind, *values)
    return _insert_into_entry(path, data, box)


def add_pixel_aspect(path: Path, width: int, height: int) -> Path:
    """Add a ``pasp`` box."""
    return add_clean_aperture(path, (width, height), b"pasp")


def _insert_into_entry(path: Path, data: bytearray, box: bytes) -> Path:
    sizes, start, end = [], 0, len(data)
    for kind in _CONTAINERS:
        start = _find(data, start, end, kind)
        sizes.append(start)
        end = start + int.from_bytes(data[start : start + 4])
        start += 16 if kind == b"stsd" else 8
    sizes.append(start)
    end = start + int.from_bytes(data[start : start + 4])
    data[end:end] = box
    for at in sizes:
        size = int.from_bytes(data[at : at + 4]) + len(box)
        data[at : at + 4] = size.to_bytes(4)
    path.write_bytes(data)
    return path


def _find(data: bytearray, start: int, end: int, kind: bytes) -> int:
    """Return where the first box of a kind begins; of tracks, the first with pictures."""
    while start < end:
        size = int.from_bytes(data[start : start + 4])
        if data[start + 4 : start + 8] == kind and (
            kind != b"trak" or b"vide" in data[start : start + size]
        ):
            return start
        start += size
    raise AssertionError(f"no {kind!r}")


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
