"""The objects of ASF files (WMV): what the header declares about length and encryption.

Advanced Systems Format specification, revision 01.20.03, sections 3.2, 3.13, 3.14 and 5.2.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dataminer.video.containers.chunked import zeros_begin

_HEADER = uuid.UUID("75B22630-668E-11CF-A6D9-00AA0062CE6C").bytes_le
_FILE_PROPERTIES = uuid.UUID("8CABDCA1-A947-11CF-8EE4-00C00C205365").bytes_le
_DATA = uuid.UUID("75B22636-668E-11CF-A6D9-00AA0062CE6C").bytes_le
_INDEX = uuid.UUID("33000890-E5B1-11CF-89F4-00A0C90349CB").bytes_le
_TAIL = 1 << 20  # bytes in which an index is searched: of 48 hours
_ENCRYPTION = {
    uuid.UUID("2211B3FB-BD23-11D2-B4B7-00A0C955FC6E").bytes_le,
    uuid.UUID("298AE614-2622-4C17-B935-DAE07EE9289C").bytes_le,  # extended
    uuid.UUID("43058533-6981-49E6-9B74-AD12CB86D58C").bytes_le,  # advanced
}
_MAX_OBJECTS = 1000
_BROADCAST = 1  # a flag of the file properties: sizes and durations are not valid
_HEADER_BYTES, _OBJECT_BYTES, _DATA_HEADER_BYTES = 30, 24, 50


@dataclass(frozen=True)
class AsfHeader:
    """What the header declares."""

    seconds: float | None = None
    file_bytes: int | None = None
    data_end: int | None = None
    """The position at which the last data packet should end."""
    encrypted: bool = False
    packet_bytes: int = 0
    """Of a data packet; 0 if they differ."""


def read_header(file: BinaryIO, size: int) -> AsfHeader | None:
    """Read the header; None if there is none."""
    file.seek(0)
    start = file.read(_HEADER_BYTES)
    if start[:16] != _HEADER:
        return None
    header_end = min(int.from_bytes(start[16:24], "little"), size)
    seconds = file_bytes = None
    packet_bytes, is_live, encrypted = 0, False, False
    for kind, content, _ in _objects(file, _HEADER_BYTES, min(header_end, size)):
        encrypted |= kind in _ENCRYPTION
        if kind == _FILE_PROPERTIES:
            file.seek(content)
            data = file.read(80)
            numbers = [int.from_bytes(data[i : i + 8], "little") for i in range(16, 64, 8)]
            file_bytes, play_duration, preroll = numbers[0], numbers[3], numbers[5]
            is_live = bool(int.from_bytes(data[64:68], "little") & _BROADCAST)
            packet_bytes = int.from_bytes(data[68:72], "little")
            seconds = play_duration / 1e7 - preroll / 1e3
    if is_live:
        first = header_end + _DATA_HEADER_BYTES
        live_end = None if _ends_with_index(file, size) else _live_end(first, packet_bytes, size)
        return AsfHeader(None, None, live_end, encrypted, packet_bytes)
    data_end = _data_end(file, header_end, packet_bytes)
    is_timed = seconds is not None and seconds > 0
    return AsfHeader(seconds if is_timed else None, file_bytes, data_end, encrypted, packet_bytes)


def _objects(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each object, and the positions of its content and its end."""
    for _ in range(_MAX_OBJECTS):
        if start + _OBJECT_BYTES > end:
            return
        file.seek(start)
        header = file.read(_OBJECT_BYTES)
        size = int.from_bytes(header[16:], "little")
        if size < _OBJECT_BYTES:
            return
        yield header[:16], start + _OBJECT_BYTES, start + size
        start += size


def _data_end(file: BinaryIO, start: int, packet_bytes: int) -> int | None:
    file.seek(start)
    header = file.read(_DATA_HEADER_BYTES)
    if header[:16] != _DATA or len(header) < _DATA_HEADER_BYTES:
        return None
    packets = int.from_bytes(header[40:48], "little")
    return start + _DATA_HEADER_BYTES + packets * packet_bytes if packets else None


def _live_end(start: int, packet_bytes: int, size: int) -> int | None:
    """Return where the last packet should end if only their size is declared."""
    if not packet_bytes or size < start:
        return None
    return start + -((start - size) // packet_bytes) * packet_bytes


def _ends_with_index(file: BinaryIO, size: int) -> bool:
    """Return whether an index follows the data packets, whose number is not declared."""
    file.seek(max(0, size - _TAIL))
    return _INDEX in file.read(_TAIL)


def is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether data packets are missing, or zeros; None if nothing says how many came."""
    header = read_header(file, size)
    if header is None:
        return None
    last_packet = min(header.data_end or size, size) - (header.packet_bytes or size)
    if zeros_begin(file, size) <= last_packet:
        return True
    if header.data_end:
        return header.data_end > size
    return header.file_bytes > size if header.file_bytes else None
