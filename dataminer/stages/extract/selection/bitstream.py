"""What a packet's first bytes say about its picture, without decoding it.

A container's flags are not enough to leave pictures out: an MP4 without a table of sync samples
marks every picture as a keyframe, and no container says which pictures are referred to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, partial

from av.video.stream import VideoStream

from dataminer.stages.extract.selection.av1 import Av1Picture, Av1Reader


class MalformedPacketError(ValueError):
    """A packet does not follow the rules of its codec."""


class RandomAccessPoint(IntEnum):
    """Whether decoding may start at a picture."""

    NONE = 0
    OPEN = 1
    """What follows decodes correctly, except leading pictures: shown before, decoded after it."""
    CLEAN = 2
    """Nothing after it refers to anything before it."""


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """What is known about the picture in a packet."""

    random_access: RandomAccessPoint = RandomAccessPoint.NONE
    droppable: bool = False
    """No other picture refers to it, unless its ``temporal_layer`` is below the highest in use."""
    hidden: bool = False
    """It is never shown; others refer to it."""
    has_parameters: bool = False
    """The packet carries parameter sets (SPS, PPS, sequence headers)."""
    temporal_layer: int = 0
    """0 if the codec has no layers."""
    pictures: tuple[Av1Picture, ...] | None = None
    """All that an AV1 packet holds; None if they cannot be separated."""


Inspector = Callable[[memoryview], PacketFacts]
"""Takes a packet's bytes; raises MalformedPacketError if they hold no picture."""

_cached_facts = cache(PacketFacts)  # many packets have few different facts
_INTER = PacketFacts()
_DROPPABLE = PacketFacts(droppable=True)
_HIDDEN = PacketFacts(hidden=True)
_CLEAN = PacketFacts(random_access=RandomAccessPoint.CLEAN)
_INTRA_ONLY = PacketFacts(random_access=RandomAccessPoint.CLEAN, droppable=True)
_START_CODE = b"\0\0\1"
_UNIT_HEAD = struct.Struct(">IB").unpack_from  # its size, the first byte of its header


def inspector(stream: VideoStream) -> Inspector | None:
    """Return the inspector of a stream's packets; None if its codec is not supported.

    Parameters
    ----------
    stream : VideoStream
        Its extradata tell whether NAL units are length-prefixed (in MP4 and Matroska) or follow
        start codes.
    """
    name = stream.codec.canonical_name
    extradata = stream.codec_context.extradata or b""
    if name == "h264":
        return partial(_h264, prefix=h264_prefix(extradata))
    if name == "hevc":
        prefix = (extradata[21] & 3) + 1 if len(extradata) > 22 and extradata[0] == 1 else 0
        return partial(_hevc, prefix=prefix)
    if name == "av1":
        return _av1(extradata)
    if name in _SIMPLE:
        return _SIMPLE[name]
    return (lambda data: _INTRA_ONLY) if stream.codec.intra_only else None


def h264_prefix(extradata: bytes) -> int:
    """Return the bytes of the length before each NAL unit; 0 if they follow start codes."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def nal_units(data: memoryview, prefix: int) -> Iterator[memoryview]:
    """Split a packet into its NAL units: by their lengths, or at start codes (prefix 0)."""
    if not prefix:
        yield from _after_start_codes(data)
        return
    position, end = 0, len(data)
    while position + prefix < end:
        size = int.from_bytes(data[position : position + prefix])
        position += prefix
        if position + size > end:
            raise MalformedPacketError
        if size:
            yield data[position : position + size]
        position += size


def _after_start_codes(data: memoryview) -> Iterator[memoryview]:
    raw = data.tobytes()
    start = raw.find(_START_CODE)
    while start >= 0:
        following = raw.find(_START_CODE, start + 3)
        unit = data[start + 3 : following if following >= 0 else len(raw)]
        if len(unit):
            yield unit
        start = following


def _h264(data: memoryview, prefix: int) -> PacketFacts:
    """ITU-T H.264, 7.3.1 and 7.4.1: nal_ref_idc and nal_unit_type; D.1.8: recovery point."""
    if prefix == 4 and len(data) > 4:
        size, head = _UNIT_HEAD(data)
        if size == len(data) - 4 and head & 31 == 1:  # one slice: most packets of most videos
            return _INTER if head & 0x60 else _DROPPABLE
    idr = recovers = has_parameters = referenced = has_picture = False
    for unit in nal_units(data, prefix):
        kind = unit[0] & 31
        if kind in (1, 2, 5):
            has_picture = True
            idr |= kind == 5
            referenced |= bool(unit[0] & 0x60)
        elif kind == 6:
            recovers |= _recovers_at_once(unit)
        elif kind in (7, 8):
            has_parameters = True
    if not has_picture:
        raise MalformedPacketError
    point = RandomAccessPoint.OPEN if recovers else RandomAccessPoint.NONE
    if idr:
        point = RandomAccessPoint.CLEAN
    return _cached_facts(point, not referenced, False, has_parameters)


def _recovers_at_once(unit: memoryview) -> bool:
    """Return whether an SEI unit has a recovery point (payload 6) with recovery_frame_cnt 0."""
    payload = unit[1:].tobytes().replace(b"\0\0\3", b"\0\0")
    position = 0
    while position + 2 < len(payload):
        numbers = []
        for _ in range(2):  # its type, its size
            number = 0
            while position < len(payload) and payload[position] == 0xFF:
                number += 255
                position += 1
            if position >= len(payload):
                return False
            numbers.append(number + payload[position])
            position += 1
        if numbers[0] == 6:
            return payload[position : position + 1] >= b"\x80"  # Exp-Golomb: a first bit 1 is 0
        position += numbers[1]
    return False


def _hevc(data: memoryview, prefix: int) -> PacketFacts:
    """ITU-T H.265, 7.3.1.2 and table 7-1: nal_unit_type and nuh_temporal_id_plus1."""
    has_parameters = False
    for unit in nal_units(data, prefix):
        if len(unit) < 2:
            continue
        kind, layer = unit[0] >> 1 & 63, unit[0] << 5 & 32 | unit[1] >> 3
        if layer or kind > 34:
            continue
        if kind >= 32:
            has_parameters = True
            continue
        point = RandomAccessPoint.NONE
        if 16 <= kind <= 23:
            point = RandomAccessPoint.CLEAN if kind in (19, 20) else RandomAccessPoint.OPEN
        droppable = kind <= 14 and kind % 2 == 0
        # all slices of a picture have the same type
        return _cached_facts(point, droppable, False, has_parameters, (unit[1] & 7) - 1)
    raise MalformedPacketError


def _mpeg12(data: memoryview) -> PacketFacts:
    """ISO/IEC 13818-2, 6.2.2 and 6.2.3: picture_coding_type 1 I, 2 P, 3 B."""
    kinds, has_parameters = [], False
    for unit in _after_start_codes(data):
        if unit[0] == 0xB3:
            has_parameters = True
        elif unit[0] == 0 and len(unit) > 2:
            kinds.append(unit[2] >> 3 & 7)
    if not kinds:
        raise MalformedPacketError
    point = RandomAccessPoint.OPEN if kinds[0] == 1 else RandomAccessPoint.NONE
    return _cached_facts(point, all(kind == 3 for kind in kinds), False, has_parameters)


def _mpeg4(data: memoryview) -> PacketFacts:
    """ISO/IEC 14496-2, 6.2.5: vop_coding_type 0 I, 1 P, 2 B, 3 S."""
    kinds, has_parameters = [], False
    for unit in _after_start_codes(data):
        if 0x20 <= unit[0] <= 0x2F:
            has_parameters = True
        elif unit[0] == 0xB6 and len(unit) > 1:
            kinds.append(unit[1] >> 6)
    if not kinds:
        raise MalformedPacketError
    point = RandomAccessPoint.OPEN if kinds[0] == 0 else RandomAccessPoint.NONE
    return _cached_facts(point, all(kind == 2 for kind in kinds), False, has_parameters)


def _vp8(data: memoryview) -> PacketFacts:
    """RFC 6386, 9.1: frame tag."""
    if not len(data):
        raise MalformedPacketError
    if not data[0] & 1:
        return _CLEAN
    return _INTER if data[0] & 0x10 else _HIDDEN


def _vp9(data: memoryview) -> PacketFacts:
    """VP9 bitstream specification, 6.2 (uncompressed header) and annex B (superframes).

    No picture counts as droppable, because others inherit more from it than pixels:
    probabilities, motion vectors, segmentation.
    """
    if not len(data) or data[0] >> 6 != 2:
        raise MalformedPacketError
    shift = 3 - (data[0] >> 4 & 3 == 3)  # profile 3 has one more bit before show_existing_frame
    if data[0] >> shift & 1:
        return _INTER
    if not data[0] >> shift - 1 & 1:
        return _CLEAN
    superframe = data[len(data) - 1] & 0xE0 == 0xC0
    return _INTER if superframe or data[0] >> shift - 2 & 1 else _HIDDEN


def _av1(extradata: bytes) -> Inspector:
    """See :mod:`dataminer.stages.extract.selection.av1`.

    A random access point shows its key frame at once: other frames may come before a key frame
    that is shown later. A unit of one frame that no slot stores is droppable, because others
    inherit from slots only.
    """
    reader = Av1Reader(extradata)

    def inspect(data: memoryview) -> PacketFacts:
        unit = reader.read(data)
        if not unit.frames:
            raise MalformedPacketError
        point = RandomAccessPoint.CLEAN if unit.is_key else RandomAccessPoint.NONE
        droppable = unit.frames == 1 and not unit.may_be_referenced
        return PacketFacts(point, droppable, False, unit.has_sequence, pictures=unit.pictures)

    return inspect


_SIMPLE: dict[str, Inspector] = {
    "mpeg1video": _mpeg12,
    "mpeg2video": _mpeg12,
    "mpeg4": _mpeg4,
    "vp8": _vp8,
    "vp9": _vp9,
}
