"""Whether reference pictures of an H.264 stream are missing: its slice headers number them.

Section numbers are those of ITU-T H.264.
"""

from __future__ import annotations

from dataclasses import dataclass

from dataminer.stages.extract.selection.bits import BitReader
from dataminer.stages.extract.selection.bitstream import (
    MalformedPacketError,
    h264_prefix,
    nal_units,
)

_HEAD_BYTES = 16  # of a slice; its header's first fields need fewer
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}  # 7.3.2.1.1


class ReferenceCounter:
    """Finds where reference pictures are missing, by frame_num (7.4.3).

    Parameters
    ----------
    extradata : bytes
        Of the stream; may hold its sequence parameter set.
    """

    def __init__(self, extradata: bytes) -> None:
        self._prefix = prefix = h264_prefix(extradata)
        self._sequence: _SliceFormat | None = None
        self._previous: int | None = None
        if prefix and len(extradata) > 8:  # ISO/IEC 14496-15, 5.3.3.1
            self._read_sequence(extradata[8 : 8 + int.from_bytes(extradata[6:8])])
        elif extradata:
            self._read_parameters(memoryview(extradata))

    @property
    def is_usable(self) -> bool:
        """Whether the stream's numbers tell anything."""
        return self._sequence is not None

    def lacks_reference(self, data: memoryview) -> bool:
        """Return whether a reference picture is missing before the next packet's picture."""
        try:
            for unit in nal_units(data, self._prefix):
                kind = unit[0] & 31
                if kind == 7:
                    self._read_sequence(unit.tobytes())
                elif kind in (1, 2, 5):
                    return self._read_slice(unit, kind == 5)
        except MalformedPacketError:
            pass
        self._previous = None
        return False

    def _read_parameters(self, data: memoryview) -> None:
        for unit in nal_units(data, 0):
            if unit[0] & 31 == 7:
                self._read_sequence(unit.tobytes())

    def _read_sequence(self, unit: bytes) -> None:
        self._sequence = _parse_sequence(_bits_of(unit))

    def _read_slice(self, unit: memoryview, is_idr: bool) -> bool:
        sequence, previous = self._sequence, self._previous
        if sequence is None:
            return False
        bits = _bits_of(unit[:_HEAD_BYTES].tobytes())
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.read_exp_golomb()
        if sequence.separate_planes:
            bits.read(2)
        number = bits.read(sequence.number_bits)
        if unit[0] & 0x60:
            self._previous = number
        if is_idr or previous is None:
            return False
        return number not in (previous, (previous + 1) % (1 << sequence.number_bits))


@dataclass(frozen=True, slots=True)
class _SliceFormat:
    number_bits: int
    separate_planes: bool


def _bits_of(unit: bytes) -> BitReader:
    """Return a reader of a NAL unit behind its header, without emulation prevention bytes."""
    return BitReader(unit[1:].replace(b"\0\0\3", b"\0\0"))


def _parse_sequence(bits: BitReader) -> _SliceFormat | None:
    """Read seq_parameter_set_data (7.3.2.1.1); None if its frame_num may have gaps by design."""
    profile = bits.read(8)
    bits.read(16)  # constraints, level
    bits.read_exp_golomb()
    separate_planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.read_exp_golomb()
        separate_planes = chroma == 3 and bool(bits.read(1))
        bits.read_exp_golomb()  # bit depths
        bits.read_exp_golomb()
        bits.read(1)
        if bits.read(1):
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    number_bits = bits.read_exp_golomb() + 4
    order_type = bits.read_exp_golomb()
    if order_type == 0:
        bits.read_exp_golomb()
    elif order_type == 1:
        bits.read(1)
        bits.read_exp_golomb()  # signed ones take as many bits
        bits.read_exp_golomb()
        for _ in range(min(bits.read_exp_golomb(), 255)):
            bits.read_exp_golomb()
    bits.read_exp_golomb()  # max_num_ref_frames
    gaps_allowed = bits.read(1)
    return None if gaps_allowed or number_bits > 16 else _SliceFormat(number_bits, separate_planes)


def _skip_scaling_lists(bits: BitReader, count: int) -> None:
    """Read scaling_list (7.3.2.1.1.1) of each list that is there."""
    for number in range(count):
        if not bits.read(1):
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                code = bits.read_exp_golomb()
                following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
            last = following or last
