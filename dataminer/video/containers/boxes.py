"""The boxes of MP4 and MOV files (ISO/IEC 14496-12): tracks, encryption, and boxes that are cut."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dataminer.video.containers.chunked import MAX_END_ZEROS, MIN_ZEROS, zeros_begin

_MAX_BOXES = 200_000  # two per fragment: a day of fragments of a second
_MAX_TRACKS = 256
_MAX_POSITION = 1 << 62  # files can be sought no further
_ENCRYPTED = {b"encv", b"drmi"}  # common encryption (ISO/IEC 23001-7), and Apple's own
_TO_DESCRIPTIONS = (b"mdia", b"minf", b"stbl", b"stsd")
_TRACK_ID_OFFSETS = {0: 12, 1: 20}  # in `tkhd`, by its version
_TIMESCALE_OFFSETS = {0: 12, 1: 20}  # in `mdhd`, by its version
_INDEX_TAIL = 16  # bytes of `mfro`, which ends a file with an index of its fragments
_DESCRIPTION_HEADER = 8  # bytes of `stsd` in front of its entries


@dataclass(frozen=True)
class Mp4Box:
    """A box: its type, and the positions where its header, its content and the next box begin."""

    kind: bytes
    start: int
    content: int
    end: int


def read_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Mp4Box]:
    """Yield the boxes between two positions; the last one may claim to end beyond them."""
    for _ in range(_MAX_BOXES):
        if start + 8 > min(end, _MAX_POSITION):
            return
        file.seek(start)
        header = file.read(16)
        size, kind, content = int.from_bytes(header[:4]), header[4:8], start + 8
        if size == 1 and len(header) == 16:
            size, content = struct.unpack(">Q", header[8:])[0], start + 16
        elif size == 0:
            size = end - start
        if size < content - start:
            return
        yield Mp4Box(kind, start, content, start + size)
        start += size


def boxes_of_kind(file: BinaryIO, start: int, end: int, kind: bytes) -> Iterator[Mp4Box]:
    """Yield the boxes of one kind between two positions."""
    return (box for box in read_boxes(file, start, end) if box.kind == kind)


def _child(file: BinaryIO, box: Mp4Box, kind: bytes) -> Mp4Box | None:
    return next(boxes_of_kind(file, box.content, box.end, kind), None)


def tracks(file: BinaryIO, size: int) -> Iterator[Mp4Box]:
    """Yield the tracks of a file of some size in bytes."""
    movie = next(boxes_of_kind(file, 0, size, b"moov"), None)
    if movie is not None:
        found = boxes_of_kind(file, movie.content, movie.end, b"trak")
        yield from itertools.islice(found, _MAX_TRACKS)


def track_id(file: BinaryIO, track: Mp4Box) -> int | None:
    """Return the id of a track; None if its header is missing or cut."""
    header = _child(file, track, b"tkhd")
    if header is None:
        return None
    file.seek(header.content)
    data = file.read(24)
    offset = _TRACK_ID_OFFSETS.get(data[0] if data else -1, 12)
    return int.from_bytes(data[offset : offset + 4]) if len(data) >= offset + 4 else None


def sample_descriptions(file: BinaryIO, track: Mp4Box) -> tuple[int, int] | None:
    """Return where the sample entries of a track begin and end; None if it has none."""
    found: Mp4Box | None = track
    for kind in _TO_DESCRIPTIONS:
        found = _child(file, found, kind) if found else None
    return (found.content + _DESCRIPTION_HEADER, found.end) if found else None


def encrypted_track_ids(file: BinaryIO, size: int) -> set[int]:
    """Return the ids of the tracks whose pictures are encrypted; 0 for a track without one."""
    return {track_id(file, b) or 0 for b in tracks(file, size) if _is_encrypted(file, b)}


def _is_encrypted(file: BinaryIO, track: Mp4Box) -> bool:
    entries = sample_descriptions(file, track)
    return entries is not None and any(e.kind in _ENCRYPTED for e in read_boxes(file, *entries))


def is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether the last box ends beyond the end of the file, or zeros follow it.

    Zeros after whole fragments are padding; the boxes of other files may lack those that follow.
    It is None if there are no boxes.
    """
    end, has_fragments = None, False
    for box in read_boxes(file, 0, size):
        has_fragments |= box.kind == b"moof"
        if box.kind == bytes(4) and size - box.start >= MIN_ZEROS:
            missing = box.start - zeros_begin(file, size)
            return missing > (MAX_END_ZEROS if has_fragments else -1)
        end = box.end
    if end is None:
        return None
    return end > size or 0 < size - end < 8  # fewer bytes than a box's header are the rest of one


def is_fragmented(file: BinaryIO, size: int) -> bool:
    """Return whether each fragment declares only its own frames."""
    return any(box.kind == b"moof" for box in read_boxes(file, 0, size))


def count_samples(file: BinaryIO, fragment: Mp4Box) -> int:
    """Return how many samples the first track of a fragment has (ISO/IEC 14496-12, 8.8.8)."""
    track, count = _child(file, fragment, b"traf"), 0
    for run in boxes_of_kind(file, track.content, track.end, b"trun") if track else ():
        file.seek(run.content + 4)
        count += int.from_bytes(file.read(4))
    return count


def first_indexed_seconds(file: BinaryIO, size: int, position: int) -> float | None:
    """Return the time of the first keyframe in the index of fragments; None if there is none.

    Parameters
    ----------
    file, size
        The file, and its bytes.
    position : int
        The track's among all of the file.
    """
    track = next(itertools.islice(tracks(file, size), position, None), None)
    scale = _timescale(file, track) if track else None
    if track is None or not scale or size < _INDEX_TAIL:
        return None
    file.seek(size - _INDEX_TAIL)
    tail = file.read(_INDEX_TAIL)
    start = size - int.from_bytes(tail[12:])
    index = next(boxes_of_kind(file, start, size, b"mfra"), None) if start >= 0 else None
    if tail[4:8] != b"mfro" or index is None or index.start != start:
        return None
    for box in boxes_of_kind(file, index.content, index.end, b"tfra"):
        file.seek(box.content)
        data = file.read(24)
        if int.from_bytes(data[4:8]) == track_id(file, track) and int.from_bytes(data[12:16]):
            return int.from_bytes(data[16 : 24 if data[0] == 1 else 20]) / scale
    return None


def _timescale(file: BinaryIO, track: Mp4Box) -> int | None:
    media = _child(file, track, b"mdia")
    header = _child(file, media, b"mdhd") if media else None
    if header is None:
        return None
    file.seek(header.content)
    data = file.read(24)
    offset = _TIMESCALE_OFFSETS.get(data[0] if data else -1, 12)
    return int.from_bytes(data[offset : offset + 4])
