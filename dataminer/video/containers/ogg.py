"""Pages of Ogg files (RFC 3533): those of pictures that are lost, and ends that are."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from dataminer.video.containers.chunked import MIN_ZEROS, find_pattern

_MAX_PAGES = 2_000_000
_HEADER = 27  # bytes of a page's header, without its table of segments
_TAIL = 1 << 17  # twice the longest page
_SIGN = b"OggS"
_BEGINS_STREAM, _ENDS_STREAM = 2, 4  # flags of a page
_NUMBERS = 1 << 32
_VIDEO = (b"\x80theora", b"OVP80", b"BBCD", b"\x80daala", b"\x01video")  # how streams begin
_CRC = slice(22, 26)  # of a page, where it is computed with zeros in its place
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ALL_BITS = 0xFFFFFFFF


@dataclass(frozen=True)
class OggPages:
    """What the pages of a file's pictures tell."""

    gaps: int
    """Jumps of their numbers, as others are lost, and pages that are broken."""
    is_cut: bool
    """Whether what follows them is lost, or the last one is broken."""


@dataclass
class _Stream:
    number: int  # of the last page
    is_header: bool = True
    has_ended: bool = False
    is_broken: bool = False  # the last page


def read_pages(file: BinaryIO, size: int) -> OggPages | None:
    """Read the pages of pictures, and the headers of others.

    It is None if there are too many, or no pictures.

    Parameters
    ----------
    file, size
        The file, and its bytes.
    """
    streams: dict[bytes, _Stream] = {}
    gaps, position, end = 0, 0, 0
    for _ in range(_MAX_PAGES):
        found = find_pattern(file, position, re.compile(re.escape(_SIGN)))
        page = None if found is None else _page_at(file, found)
        if found is None or page is None:
            return OggPages(gaps, _ends_too_early(streams, size - end)) if streams else None
        position = end = found + len(page[0]) + page[1]
        gaps += _follow(file, streams, page[0], found, end)
    return None


def is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether the last page of an Ogg file is incomplete, or does not end its stream."""
    start = max(0, size - _TAIL)
    file.seek(start)
    tail = file.read(size - start)
    position = tail.find(_SIGN)
    while position >= 0:
        page = position
        header = tail[page : page + _HEADER]
        if len(header) < _HEADER:
            return True
        segments = tail[page + _HEADER : page + _HEADER + header[26]]
        end = page + _HEADER + header[26] + sum(segments)
        if end > len(tail) or len(segments) < header[26]:
            return True
        if end == len(tail):
            return not header[5] & _ENDS_STREAM
        position = end if tail.startswith(_SIGN, end) else tail.find(_SIGN, page + 1)
        if len(tail) - end < _HEADER and _SIGN.startswith(tail[end : end + 4]):
            return True
    return None


def _page_at(file: BinaryIO, position: int) -> tuple[bytes, int] | None:
    """Return a page's header with its table of segments, and the bytes of its content."""
    file.seek(position)
    data = file.read(_HEADER + 255)
    if len(data) < _HEADER or len(data) < _HEADER + data[26]:
        return None
    header = data[: _HEADER + data[26]]
    return header, sum(header[_HEADER:])


def _follow(
    file: BinaryIO, streams: dict[bytes, _Stream], header: bytes, begin: int, end: int
) -> bool:
    """Take note of a page; return whether others are lost before it, or it is broken."""
    serial, number = header[14:18], int.from_bytes(header[18:22], "little")
    if header[5] & _BEGINS_STREAM:
        file.seek(begin + len(header))
        streams.pop(serial, None)
        if file.read(8).startswith(_VIDEO):
            streams[serial] = _Stream(number - 1)
    stream = streams.get(serial)
    if stream is None:
        return False
    # a live stream sends its first pages, and then those of now
    is_gap = number != (stream.number + 1) % _NUMBERS and not stream.is_header
    file.seek(begin)
    was_broken, stream.is_broken = stream.is_broken, _is_broken(file.read(end - begin))
    stream.number = number
    stream.is_header = not int.from_bytes(header[6:14], "little")
    stream.has_ended = bool(header[5] & _ENDS_STREAM)
    return not was_broken and (is_gap or stream.is_broken)


def _ends_too_early(streams: dict[bytes, _Stream], rest: int) -> bool:
    if rest >= MIN_ZEROS and not all(stream.has_ended for stream in streams.values()):
        return True
    return any(stream.is_broken for stream in streams.values())


def _is_broken(page: bytes) -> bool:
    """Return whether a page's checksum is wrong: libav leaves it out."""
    data = page[: _CRC.start] + bytes(4) + page[_CRC.stop :]
    return _checksum(data) != int.from_bytes(page[_CRC], "little")


def _checksum(data: bytes) -> int:
    """Return the CRC of Ogg: that of zlib for mirrored bits, without its two inversions."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), _ALL_BITS) ^ _ALL_BITS
    return int(f"{mirrored:032b}"[::-1], 2)
