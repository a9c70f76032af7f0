"""Elements of MP4 and Matroska files that no muxer at hand writes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_PATH_TO_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_ENTRY_FIELDS = 86  # bytes of a visual sample entry before its own boxes
_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = (
    0x18538067,
    0x114D9B74,
    0x4DBB,
    0x53AB,
    0x53AC,
)
_INFO, _TRACKS, _TRACK_ENTRY, _VIDEO, _VOID = 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0xEC
_DISPLAY_UNIT = 0x54B2  # that of libav says that the displayed size means nothing
_VIDEO_FIELDS = {
    "crop_bottom": 0x54AA,
    "crop_top": 0x54BB,
    "crop_left": 0x54CC,
    "crop_right": 0x54DD,
    "display_width": 0x54B0,
    "display_height": 0x54BA,
}


def add_clean_aperture(
    path: Path, stored: tuple[int, int], left: int, top: int, width: int, height: int
) -> Path:
    """Write the box ``clap`` into the first track of an MP4 whose index is at its end."""
    offsets = (2 * left + width - stored[0], 2 * top + height - stored[1])  # in halves of a pixel
    values = struct.pack(">IIIIiIiI", width, 1, height, 1, offsets[0], 2, offsets[1], 2)
    return add_sample_box(path, b"clap", values)


def add_sample_box(path: Path, kind: bytes, values: bytes) -> Path:
    """Append a box to the first sample entry of an MP4 whose index is at its end."""
    data = bytearray(path.read_bytes())
    parents, start, end = [], 0, len(data)
    for name in _PATH_TO_ENTRY:
        start, end = next(
            (at, at + size) for at, size, box in _boxes(data, start, end) if box == name
        )
        parents.append(start)
        start += 16 if name == b"stsd" else 8
    size = int.from_bytes(data[start : start + 4])
    assert size >= _ENTRY_FIELDS
    box = (8 + len(values)).to_bytes(4) + kind + values
    for parent in [*parents, start]:
        grown = int.from_bytes(data[parent : parent + 4]) + len(box)
        data[parent : parent + 4] = grown.to_bytes(4)
    data[start + size : start + size] = box
    assert data.index(b"moov") > data.index(b"mdat"), "positions in the index would be wrong"
    path.write_bytes(data)
    return path


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while start < end:
        size = int.from_bytes(data[start : start + 4])
        if size == 1:
            size = int.from_bytes(data[start + 8 : start + 16])
        yield start, size, bytes(data[start + 4 : start + 8])
        start += size


def add_video_fields(path: Path, **fields: int) -> Path:
    """Write elements into the first track of a Matroska file without checksums.

    Parameters
    ----------
    path : Path
        With an empty element between its table of positions and its tracks.
    fields : int
        By the keys of ``_VIDEO_FIELDS``: what is cropped, and the size of what is displayed.
    """
    data = path.read_bytes()
    segment = next(e for e in _elements(data, 0, len(data)) if e[0] == _SEGMENT)
    parts = list(_elements(data, segment[2], segment[3]))
    tracks = next(e for e in parts if e[0] == _TRACKS)
    void = next(e for e in parts if e[0] == _VOID and e[3] <= tracks[1])
    added = b"".join(_field(_VIDEO_FIELDS[name], value) for name, value in fields.items())
    rebuilt = _with_added(data, tracks, (_TRACK_ENTRY, _VIDEO), added)
    growth = len(rebuilt) - (tracks[3] - tracks[1])
    shrunk = void[3] - void[1] - growth - 5
    assert shrunk >= 0
    head = bytearray(data[: void[1]])
    _move_positions(head, parts, segment[2], void[1], growth)
    empty = _element(_VOID, bytes(shrunk))
    path.write_bytes(bytes(head) + empty + data[void[3] : tracks[1]] + rebuilt + data[tracks[3] :])
    return path


Element = tuple[int, int, int, int]
"""Its identifier, where it begins, where its content begins, and where it ends."""


def _elements(data: bytes | bytearray, start: int, end: int) -> Iterator[Element]:
    while start < end:
        first = data[start]
        length = 9 - first.bit_length()
        name = int.from_bytes(data[start : start + length])
        at = start + length
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width]) - (1 << 7 * width)
        content = at + width
        yield name, start, content, min(content + size, end)
        start = content + size


def _element(name: int, content: bytes) -> bytes:
    identifier = name.to_bytes((name.bit_length() + 7) // 8)
    return identifier + (len(content) + (1 << 28)).to_bytes(4) + content


def _field(name: int, value: int) -> bytes:
    return name.to_bytes(2) + b"\x82" + value.to_bytes(2)


def _with_added(data: bytes, element: Element, inner: tuple[int, ...], added: bytes) -> bytes:
    """Return an element with something appended to the first of the innermost elements."""
    name, _, content, end = element
    if not inner:
        parts = _elements(data, content, end)
        kept = b"".join(data[e[1] : e[3]] for e in parts if e[0] != _DISPLAY_UNIT)
        return _element(name, kept + added)
    part = next(e for e in _elements(data, content, end) if e[0] == inner[0])
    changed = _with_added(data, part, inner[1:], added)
    return _element(name, data[content : part[1]] + changed + data[part[3] : end])


def _move_positions(
    head: bytearray, parts: list[Element], base: int, void: int, growth: int
) -> None:
    """Correct the table of positions: what is between the empty element and the end of the tracks.

    The empty element shrinks as much as the tracks grow, so what follows the tracks stays.
    """
    table = next(e for e in parts if e[0] == _SEEK_HEAD)
    for seek in _elements(head, table[2], table[3]):
        if seek[0] != _SEEK:
            continue
        fields = {e[0]: e for e in _elements(head, seek[2], seek[3])}
        position = fields[_SEEK_POSITION]
        value = int.from_bytes(head[position[2] : position[3]])
        target = next((e for e in parts if e[1] == base + value), None)
        if target and target[1] > void and target[0] in (_INFO, _TRACKS):
            moved = (value - growth).to_bytes(position[3] - position[2])
            head[position[2] : position[3]] = moved
