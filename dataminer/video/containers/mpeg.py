"""MPEG transport streams and program streams (ISO/IEC 13818-1): scrambling, and cut packets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from dataminer.video.containers.chunked import MAX_END_ZEROS, zeros_begin

_SYNC = 0x47
_PACKET_SIZES = {188: 0, 192: 4, 204: 0}  # bytes, and where in a packet the sync byte stands
_SYNCED = 5  # packets in a row that must begin with a sync byte
_MAX_JUNK = 1 << 16  # bytes in front of the first packet
_HAS_PAYLOAD, _SCRAMBLED = 0x10, 0x80  # in a packet's fourth byte
_SAMPLE = 1 << 20  # bytes in which scrambled packets are counted
_SAMPLES = (0.0, 0.3, 0.6, 0.9)  # where, as shares of the file
_PACK, _END, _FIRST_STREAM = 0xBA, 0xB9, 0xBB
_VIDEO_STREAMS = range(0xE0, 0xF0)
_SCRAMBLED_SHARE = 0.1  # of a DVD's packets of pictures, of which some are always left clear
_SECTORED = 192  # bytes of the packets of Blu-ray discs, of which whole numbers fill sectors
_LONG_PADDING = 1 << 20  # bytes of zeros that no writer adds to sectors
_PADDING_SHARE = 1 / 8  # of a file, at most
_PROGRAM_TAIL = 1 << 18
_MAX_CANDIDATES = 64  # start codes from which packets are followed
_LONGEST_PACKET = 6 + 0xFFFF


def packet_layout(data: bytes) -> tuple[int, int] | None:
    """Return the size of transport packets, and the position of the first one."""
    for size, offset in _PACKET_SIZES.items():
        end = min(_MAX_JUNK, len(data) - size * (_SYNCED - 1))
        for start in range(offset, min(end, size * 2)):
            if all(data[start + size * i] == _SYNC for i in range(_SYNCED)):
                return size, start - offset
    return None


def transport_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether a transport stream ends within a packet, also if zeros follow it.

    It is None if no packet is found. Recordings begin and end anywhere between packets, which
    therefore says nothing.
    """
    end = zeros_begin(file, size)
    start = max(0, end - 204 * 64)
    file.seek(start)
    tail = file.read(end - start)
    layout = packet_layout(tail)
    if layout is None:
        return True if end < size else None
    packet, first = layout
    missing = -(len(tail) - first) % packet
    if end == size:
        return missing != 0
    return missing > MAX_END_ZEROS or _is_no_padding(size - end, size, packet == _SECTORED)


def _is_no_padding(zeros: int, size: int, has_sectors: bool) -> bool:
    """Return whether zeros after whole packets are too many for padding."""
    return zeros > size * _PADDING_SHARE or (has_sectors and zeros > _LONG_PADDING)


def transport_is_scrambled(file: BinaryIO, size: int, pid: int) -> bool:
    """Return whether all packets of a stream are scrambled, wherever they are sampled."""
    found = False
    for share in _SAMPLES:
        file.seek(int(size * share))
        data = file.read(_SAMPLE)
        layout = packet_layout(data)
        if layout is None:
            continue
        packet, first = layout
        first += _PACKET_SIZES[packet]
        packets = zip(*(data[first + byte :: packet] for byte in range(4)), strict=False)
        flags = {
            flag
            for sync, high, low, flag in packets
            if sync == _SYNC and (high & 0x1F) << 8 | low == pid and flag & _HAS_PAYLOAD
        }
        if any(flag < _SCRAMBLED for flag in flags):
            return False
        found |= bool(flags)
    return found


def program_is_scrambled(file: BinaryIO, size: int) -> bool:
    """Return whether the pictures of a program stream, such as a DVD's, are scrambled."""
    scrambled = count = 0
    for share in _SAMPLES:
        file.seek(int(size * share))
        data = file.read(_SAMPLE)
        position = data.find(b"\0\0\1\xba")
        for kind, at, _ in _program_packets(data, position) if position >= 0 else ():
            if kind in _VIDEO_STREAMS and at + 6 < len(data) and data[at + 6] >> 6 == 2:
                count += 1
                scrambled += bool(data[at + 6] & 0x30)
    return scrambled > count * _SCRAMBLED_SHARE


def _program_packets(data: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield the stream ids of packets that follow each other, their positions and ends."""
    while position + 4 <= len(data) and data[position : position + 3] == b"\0\0\1":
        kind = data[position + 3]
        if kind == _PACK:
            end = position + _pack_bytes(data, position)
        elif kind == _END:
            end = position + 4
        elif kind >= _FIRST_STREAM and position + 6 <= len(data):
            end = position + 6 + int.from_bytes(data[position + 4 : position + 6])
        else:
            return
        yield kind, position, end
        position = end
        if data[position : position + 3] == b"\0\0\0":  # the rest of a sector
            position = max(position, data.find(b"\0\0\1", position))


def _pack_bytes(data: bytes, position: int) -> int:
    if position + 14 > len(data):
        return 14 if data[position + 4 : position + 5] >= b"\x40" else 12
    if data[position + 4] >> 6 == 1:  # MPEG-2
        return 14 + (data[position + 13] & 7)
    return 12


def program_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether a program stream ends within a packet, also if zeros follow it.

    It is None if no packet is found. Sectors of a DVD are packets, and downloads end with sectors:
    many zeros after a whole one are a cut, too.
    """
    zeros = zeros_begin(file, size)
    if _is_no_padding(size - zeros, size, True):
        return True
    start = max(0, zeros - _PROGRAM_TAIL)
    file.seek(start)
    data = file.read(zeros - start)
    slack = MAX_END_ZEROS if zeros < size else 0
    position = -1
    for _ in range(_MAX_CANDIDATES):
        position = data.find(b"\0\0\1\xba", position + 1)
        if position < 0:
            break
        end = max((end for _, _, end in _program_packets(data, position)), default=position)
        rest = data[end:]
        if end > len(data) or (end > position and len(rest) < 6):
            return end > len(data) + slack or bool(rest.strip(b"\0"))
        if not rest.strip(b"\0"):  # padding
            return False
        if len(data) - position < _LONGEST_PACKET:
            break
    return None
