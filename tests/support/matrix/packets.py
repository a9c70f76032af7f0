"""Trouble in the packets of sound videos: taken out, stamped otherwise, joined."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from tests.support.matrix.encoding import RATE

Restamp = Callable[[int, float], float | None]
"""From a packet's position in the file and its time in seconds to another time, or to none."""

_TS_PACKET, _PS_PACK = 188, 2048  # bytes
_STAMP_UNITS = 90_000  # per second, in MPEG streams
_STAMP_RANGE = 2**33
_VIDEO_START = b"\0\0\1\xe0"
_MATROSKA_CLUSTER, _CLUSTER_TIME = b"\x1f\x43\xb6\x75", 0xE7


def without_packets(
    source: Path, target: Path, taken_out: Collection[int], cut: Collection[int] = ()
) -> Path:
    """Copy a file's video packets, in their order, but for some; others lose their second half."""
    with av.open(str(source)) as file, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(file.streams.video[0], opaque=True)
        packets = [packet for packet in file.demux(video=0) if packet.size]
        for index, packet in enumerate(packets):
            if index in taken_out:
                continue
            part = _first_half(packet) if index in cut else packet
            part.stream = stream
            output.mux(part)
    return target


def _first_half(packet: Any) -> Any:
    half = av.Packet(bytes(packet)[: packet.size // 2])
    half.pts, half.dts, half.time_base = packet.pts, packet.dts, packet.time_base
    half.duration, half.is_keyframe = packet.duration, packet.is_keyframe
    return half


def filtered(source: Path, target: Path, bitstream_filter: str) -> Path:
    """Copy a file's video packets through a bitstream filter of libav."""
    with av.open(str(source)) as file, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(file.streams.video[0], opaque=True)
        chain = BitStreamFilterContext(bitstream_filter, file.streams.video[0], stream)
        for packet in file.demux(video=0):
            for changed in chain.filter(packet if packet.size else None):
                changed.stream = stream
                output.mux(changed)
    return target


def keyframes(source: Path) -> list[int]:
    """Return the positions of a file's keyframes, in decoding order."""
    with av.open(str(source)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    return [index for index, packet in enumerate(packets) if packet.is_keyframe]


def joined(target: Path, *parts: Path) -> Path:
    """Join files byte after byte, as ``cat`` does."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def restamp_transport_stream(path: Path, change: Restamp) -> Path:
    """Change the time stamps of the video packets of an MPEG-TS."""
    data = bytearray(path.read_bytes())
    for index, at in enumerate(list(_video_headers_of_ts(data))):
        if not _restamp(data, *_stamps_of_mpeg2(data, at), index, change):
            data[at + 7] &= 0x3F
    path.write_bytes(data)
    return path


def restamp_program_stream(path: Path, change: Restamp) -> Path:
    """Change the time stamps of the video packets of an MPEG-PS of 25 frames per second.

    A packet may hold several frames: the number that ``change`` gets is that of its first.
    """
    data = bytearray(path.read_bytes())
    at, first = data.find(_VIDEO_START), -1.0
    while at >= 0:
        is_mpeg2 = data[at + 6] >> 6 == 2
        stamps, count = _stamps_of_mpeg2(data, at) if is_mpeg2 else _stamps_of_mpeg1(data, at)
        if count:
            time = _stamp(data[stamps : stamps + 5]) / _STAMP_UNITS
            first = time if first < 0 else first
            number = round((time - first) * RATE)
            if not _restamp(data, stamps, count, number, change):
                assert is_mpeg2
                data[at + 7] &= 0x3F
        at = data.find(_VIDEO_START, at + 1)
    path.write_bytes(data)
    return path


def _stamps_of_mpeg2(data: bytearray, at: int) -> tuple[int, int]:
    """Return where the stamps of a header begin, and their number (ISO/IEC 13818-1, 2.4.3.6)."""
    return at + 9, {2: 1, 3: 2}.get(data[at + 7] >> 6, 0)


def _stamps_of_mpeg1(data: bytearray, at: int) -> tuple[int, int]:
    """Return where the stamps of a header begin, and their number (ISO/IEC 11172-1, 2.4.3.3)."""
    position = at + 6
    while data[position] == 0xFF:
        position += 1
    if data[position] >> 6 == 1:
        position += 2
    return position, {2: 1, 3: 2}.get(data[position] >> 4, 0)


def _video_headers_of_ts(data: bytearray) -> Iterator[int]:
    for start in range(0, len(data), _TS_PACKET):
        begins = data[start + 1] & 0x40
        has_adaptation, has_payload = data[start + 3] & 0x20, data[start + 3] & 0x10
        payload = start + 4 + (1 + data[start + 4] if has_adaptation else 0)
        prefix = data[payload : payload + 4]
        if begins and has_payload and prefix[:3] == b"\0\0\1" and prefix[3] & 0xF0 == 0xE0:
            yield payload


def _restamp(data: bytearray, at: int, count: int, index: int, change: Restamp) -> bool:
    """Change stamps; return whether they are still there, or else are replaced by stuffing."""
    times = [
        change(index, _stamp(data[position : position + 5]) / _STAMP_UNITS)
        for position in range(at, at + 5 * count, 5)
    ]
    for position, time in zip(range(at, at + 5 * count, 5), times, strict=True):
        if time is None:
            data[position : position + 5] = b"\xff" * 5
        else:
            units = round(time * _STAMP_UNITS) % _STAMP_RANGE
            data[position : position + 5] = _packed(units, data[position] >> 4)
    return None not in times


def _stamp(packed: bytearray) -> int:
    high, middle, low = packed[0] >> 1 & 7, packed[1:3], packed[3:5]
    return high << 30 | (int.from_bytes(middle) >> 1) << 15 | int.from_bytes(low) >> 1


def _packed(units: int, prefix: int) -> bytes:
    middle, low = (units >> 15 & 0x7FFF) << 1 | 1, (units & 0x7FFF) << 1 | 1
    return bytes([prefix << 4 | (units >> 30) << 1 | 1]) + middle.to_bytes(2) + low.to_bytes(2)


def restamp_flash(path: Path, change: Restamp) -> Path:
    """Change the time stamps of the pictures of an FLV."""
    data = bytearray(path.read_bytes())
    at, index = 13, 0
    while at + 11 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4])
        is_picture = data[at] == 9 and data[at + 12] == 1  # not the decoder's configuration
        if is_picture and size > 5:
            milliseconds = int.from_bytes(data[at + 4 : at + 7]) | data[at + 7] << 24
            time = change(index, milliseconds / 1000)
            index += 1
            if time is not None:
                stamp = round(time * 1000)
                data[at + 4 : at + 7] = (stamp & 0xFFFFFF).to_bytes(3)
                data[at + 7] = stamp >> 24
        at += 11 + size + 4
    path.write_bytes(data)
    return path


def restamp_matroska(path: Path, change: Restamp) -> Path:
    """Change the times of the clusters of a Matroska file that has one for each packet.

    A time must fit into the bytes of the one that it replaces: 65 s, from 0.256 s on.
    """
    data = bytearray(path.read_bytes())
    at, index = data.find(_MATROSKA_CLUSTER), 0
    while at >= 0:
        field = at + 4 + 9 - data[at + 4].bit_length()
        while data[field] != _CLUSTER_TIME:
            field += 1
        size = data[field + 1] & 0x7F
        position = slice(field + 2, field + 2 + size)
        time = change(index, int.from_bytes(data[position]) / 1000)
        assert time is not None
        data[position] = round(time * 1000).to_bytes(size)
        index += 1
        at = data.find(_MATROSKA_CLUSTER, field)
    path.write_bytes(data)
    return path


def set_sample_durations(path: Path, duration: int) -> Path:
    """Give all samples of the first track of an MP4 one duration (box ``stts``)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stts")
    for entry in range(int.from_bytes(data[at + 8 : at + 12])):
        position = at + 12 + 8 * entry + 4
        data[position : position + 4] = duration.to_bytes(4)
    path.write_bytes(data)
    return path


def cut_off(path: Path, part: float) -> Path:
    """Keep the first part (0 to 1) of a file's bytes, and never whole packets of MPEG streams.

    Between two of these, nothing in the file tells that more should follow.
    """
    data = path.read_bytes()
    size = int(len(data) * part)
    is_between = size % _TS_PACKET == 0 or size % _PS_PACK == 0
    path.write_bytes(data[: size - 7 if is_between else size])
    return path


def muxed(target: Path, *sources: Path, dispositions: Collection[Any] = ()) -> Path:
    """Mux the streams of several files into one, packet by packet in the order of their times."""
    with contextlib.ExitStack() as files, av.open(str(target), "w") as output:
        packets: list[Any] = []
        for source in sources:
            file = files.enter_context(av.open(str(source)))
            stream: Any = output.add_stream_from_template(file.streams[0], opaque=True)
            for packet in file.demux():
                if packet.size and packet.dts is not None:
                    packet.stream = stream
                    packets.append((packet.dts * packet.time_base, packet))
        for stream, disposition in zip(output.streams, dispositions, strict=False):
            stream.disposition = disposition
        for _, packet in sorted(packets, key=lambda timed: timed[0]):
            output.mux(packet)
    return target
