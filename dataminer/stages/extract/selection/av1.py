"""What the headers of an AV1 temporal unit say about its pictures.

Section numbers are those of the AV1 Bitstream & Decoding Process Specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dataminer.stages.extract.selection.bits import BitReader

SLOTS = 8  # reference pictures that a decoder stores
UNKNOWN_HINT = -1
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # OBU types
_SPLIT_FRAMES = {4, 7, 8}  # tile groups, repeated headers, tile lists: a frame of several OBUs
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3  # frame types; 1 is inter
_SELECT = 2  # each frame states whether it uses a tool
_HEADER_BYTES = 64  # more than what is read of any header
_ALL_SLOTS = (1 << SLOTS) - 1


@dataclass(frozen=True, slots=True)
class Av1Picture:
    """A frame in a temporal unit, or the instruction to show a stored one."""

    begin: int
    end: int
    """First byte and end of its OBU, counted from the beginning of the unit."""
    is_key: bool
    is_shown: bool
    shows_existing: bool
    """Nothing is decoded: the picture in the only slot of ``references`` is shown."""
    references: int
    """Slots, as bits, that it inherits pixels or anything else from."""
    refreshed_slots: int
    """Slots, as bits, that store it from then on."""
    order_hint: int = field(default=UNKNOWN_HINT, compare=False)
    """Its number in the order in which pictures are shown."""


class TemporalUnit(NamedTuple):
    """A temporal unit: what is shown at one time."""

    frames: int
    """Frames in it, including stored ones that are shown."""
    is_key: bool
    """Its first frame is a key frame that is shown at once."""
    may_be_referenced: bool
    """A slot stores a frame of it, which others may refer to."""
    has_sequence: bool
    pictures: tuple[Av1Picture, ...] | None
    """None if they cannot be separated, or belong to several layers."""


class Av1Reader:
    """Reads temporal units in order; sequence headers describe the units after them."""

    def __init__(self, extradata: bytes) -> None:
        self._sequence: _Sequence | None = None
        # the AV1CodecConfigurationRecord of MP4 and Matroska: 4 bytes, then OBUs
        if len(extradata) > 4 and extradata[0] == 0x81:
            self.read(memoryview(extradata)[4:])

    def read(self, data: memoryview) -> TemporalUnit:
        """Read a temporal unit, or the sequence header that a container stores."""
        has_sequence, separable = False, True
        pictures: list[Av1Picture] = []
        for obu in _obus(data):
            separable &= not obu.layered and obu.kind not in _SPLIT_FRAMES
            if obu.kind == _SEQUENCE:
                has_sequence = True
                self._sequence = _sequence(BitReader(obu.payload[:_HEADER_BYTES]))
            elif obu.kind in (_FRAME_HEADER, _FRAME) and len(obu.payload):
                picture = self._picture(obu)
                separable &= picture.shows_existing == (obu.kind == _FRAME_HEADER)
                pictures.append(picture)
        separable &= self._sequence is not None and sum(p.is_shown for p in pictures) == 1
        return TemporalUnit(
            frames=len(pictures),
            is_key=bool(pictures) and pictures[0].is_key and pictures[0].is_shown,
            may_be_referenced=any(p.refreshed_slots for p in pictures),
            has_sequence=has_sequence,
            pictures=tuple(pictures) if separable else None,
        )

    def _picture(self, obu: _Obu) -> Av1Picture:
        """Read uncompressed_header (5.9.2) up to ref_frame_idx."""
        bits, sequence = BitReader(obu.payload[:_HEADER_BYTES]), self._sequence

        def decoded(
            is_key: bool, is_shown: bool, references: int, slots: int, hint: int = UNKNOWN_HINT
        ) -> Av1Picture:
            return Av1Picture(obu.begin, obu.end, is_key, is_shown, False, references, slots, hint)

        if sequence is None:
            is_key = obu.payload[0] >> 4 == 0b0001
            return decoded(is_key, is_key, _ALL_SLOTS, _ALL_SLOTS)
        if bits.read(1):  # show_existing_frame; it stores a key frame in all slots
            return Av1Picture(obu.begin, obu.end, False, True, True, 1 << bits.read(3), _ALL_SLOTS)
        kind, shown = bits.read(2), bool(bits.read(1))
        if kind == _SWITCH:
            return decoded(False, shown, _ALL_SLOTS, _ALL_SLOTS)
        bits.read(0 if shown else 1)  # showable_frame
        resilient = 1 if kind == _KEY and shown else bits.read(1)
        bits.read(1)  # disable_cdf_update
        tools = sequence.screen_content_tools
        if bits.read(1) if tools == _SELECT else tools:
            bits.read(1 if sequence.integer_mv == _SELECT else 0)
        width = sequence.order_hint_bits
        hint = bits.read(sequence.frame_id_bits + 1 + width)  # + frame_size_override
        hint = hint & (1 << width) - 1 if width else UNKNOWN_HINT
        if kind == _KEY and shown:
            return decoded(True, True, 0, _ALL_SLOTS, hint)
        intra = kind in (_KEY, _INTRA_ONLY)
        bits.read(0 if intra or resilient else 3)  # primary_ref_frame
        slots = bits.read(SLOTS)
        if intra:
            return decoded(kind == _KEY, shown, 0, slots, hint)
        references = self._references(bits, sequence, bool(resilient))
        return decoded(False, shown, references, slots, hint)

    @staticmethod
    def _references(bits: BitReader, sequence: _Sequence, resilient: bool) -> int:
        """Read the slots that an inter frame names; it may use fewer of them."""
        if resilient:
            bits.read(SLOTS * sequence.order_hint_bits)  # ref_order_hint
        if sequence.order_hint_bits and bits.read(1):  # frame_refs_short_signaling
            return _ALL_SLOTS
        width = 3 + sequence.delta_id_bits
        named, slots = bits.read(7 * width) >> sequence.delta_id_bits, 0
        for number in range(7):
            slots |= 1 << (named >> number * width & 7)
        return slots


@dataclass(frozen=True, slots=True)
class _Sequence:
    frame_id_bits: int
    delta_id_bits: int
    order_hint_bits: int
    screen_content_tools: int
    integer_mv: int


def _sequence(bits: BitReader) -> _Sequence | None:
    """Read sequence_header_obu (5.5.1) as far as needed; None if frame headers hold more."""
    bits.read(4)  # seq_profile, still_picture
    if bits.read(1):  # reduced_still_picture_header
        return None
    if bits.read(1):  # timing_info_present_flag
        bits.read(64)
        if bits.read(1):  # equal_picture_interval
            bits.read_exp_golomb()
        if bits.read(1):  # decoder_model_info_present_flag
            return None
    delays = bits.read(1)
    for _ in range(bits.read(5) + 1):  # operating points
        bits.read(12)
        bits.read(1 if bits.read(5) > 7 else 0)  # seq_level_idx, seq_tier
        if delays and bits.read(1):
            bits.read(4)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    id_bits = delta = 0
    if bits.read(1):  # frame_id_numbers_present_flag
        delta = bits.read(4) + 2
        id_bits = bits.read(3) + delta + 1
    bits.read(3 + 4)  # superblocks and intra tools; compound, warped motion, dual filter
    hints = bits.read(1)
    bits.read(2 if hints else 0)
    tools = _SELECT if bits.read(1) else bits.read(1)
    integer_mv = _SELECT
    if tools:
        integer_mv = _SELECT if bits.read(1) else bits.read(1)
    return _Sequence(id_bits, delta, bits.read(3) + 1 if hints else 0, tools, integer_mv)


class _Obu(NamedTuple):
    kind: int
    layered: bool
    """It belongs to a temporal or spatial layer."""
    payload: memoryview
    begin: int
    end: int


def _obus(data: memoryview) -> Iterator[_Obu]:
    """Split data into OBUs (5.3)."""
    position, end = 0, len(data)
    while position < end:
        begin, header = position, data[position]
        position += 2 if header & 4 else 1
        size = end - position
        if header & 2:
            size, position = _leb128(data, position)
        payload = data[position : position + size]
        position += size
        yield _Obu(header >> 3 & 15, bool(header & 4), payload, begin, position)


def _leb128(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[position : position + 8]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    return len(data), position  # malformed: nothing more can be read
