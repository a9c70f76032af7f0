from __future__ import annotations

from array import array
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataminer.config.models import ExtractConfig
from dataminer.stages.extract.selection.av1 import Av1Picture
from dataminer.stages.extract.selection.av1_references import find_required
from dataminer.stages.extract.selection.bitstream import (
    MalformedPacketError,
    PacketFacts,
    RandomAccessPoint,
    inspector,
)
from dataminer.stages.extract.selection.order_hints import OrderHints
from dataminer.stages.extract.selection.plan import SelectedFrame, plan_decoding
from dataminer.stages.extract.selection.scan import Scan


@dataclass(frozen=True)
class Stream:
    """A made-up stream: what is known of its packets, and what each is really built on."""

    scan: Scan
    needs: list[set[int]]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Draw groups of pictures: an entry, leading pictures, and others, in decoding order."""
    leading_unreferenced = draw(st.booleans())
    stamps: list[int] = []
    facts: list[PacketFacts] = []
    needs: list[set[int]] = []
    referable: list[int] = []  # of the group before, then of this one

    def add(pts: int, fact: PacketFacts, on: set[int]) -> None:
        stamps.append(pts)
        facts.append(fact)
        needs.append(on)

    for group in range(draw(st.integers(1, 5))):
        is_open = group > 0 and draw(st.booleans())
        entry, base = len(stamps), 100 * group + 50
        add(
            base, PacketFacts(RandomAccessPoint.OPEN if is_open else RandomAccessPoint.CLEAN), set()
        )
        before, referable = referable, [entry]
        lead_references: list[int] = []
        for number in range(draw(st.integers(0, 4)) if is_open else 0):
            droppable = draw(st.booleans())
            on = {*before[-2:], entry, *lead_references}
            if not droppable:
                lead_references.append(len(stamps))
            add(base - 10 + number, PacketFacts(droppable=droppable), on)
        counted = [] if leading_unreferenced else lead_references
        highest = draw(st.integers(0, 1))
        for number in range(draw(st.integers(0, 6))):
            layer, droppable = draw(st.integers(0, highest)), draw(st.booleans())
            on = {draw(st.sampled_from(referable)), entry, *counted}
            position = len(stamps)
            # as H.265 has it: unused in its own layer, but not by those above it
            add(base + 1 + number, PacketFacts(droppable=droppable, temporal_layer=layer), on)
            if not droppable or layer == 0 == highest - 1:
                referable.append(position)
    top = max(fact.temporal_layer for fact in facts)
    if top == 0:  # then what is droppable is so indeed
        for on in needs:
            on -= {position for position, fact in enumerate(facts) if fact.droppable}
    return Stream(Scan(array("q", stamps), facts, leading_unreferenced=leading_unreferenced), needs)


@given(streams(), st.data())
def test_all_that_a_wanted_frame_is_built_on_is_decoded(
    stream: Stream, data: st.DataObject
) -> None:
    order = stream.scan.presentation_order()
    picked = data.draw(st.sets(st.sampled_from(range(len(order))), min_size=1))
    wanted = [SelectedFrame(i, order[i], stream.scan.pts[order[i]], False) for i in sorted(picked)]
    plan = plan_decoding(stream.scan, wanted)
    decoded = {position for position, used in enumerate(plan.decoded) if used}
    assert {w.packet_index for w in wanted} <= decoded
    since = 0
    for position in range(len(order)):
        if position in decoded:
            # the decoder was emptied at each end: what came before it is gone
            kept = {p for p in decoded if since <= p < position}
            assert stream.needs[position] <= kept, position
        if position in plan.flush_points:
            since = position + 1


def test_nothing_is_decoded_that_no_wanted_frame_needs() -> None:
    gop = [
        PacketFacts(RandomAccessPoint.CLEAN),
        PacketFacts(),
        PacketFacts(droppable=True),
        PacketFacts(),
        PacketFacts(droppable=True),
    ]
    scan = Scan(array("q", [0, 2, 1, 4, 3, 5, 7, 6, 9, 8, 10, 12, 11, 14, 13]), gop * 3)
    plan = plan_decoding(scan, [SelectedFrame(1, 2, 1, False), SelectedFrame(10, 10, 10, True)])
    assert list(plan.decoded) == [1, 1, 1, 0, 0, *[0] * 5, 1, 0, 0, 0, 0]
    assert plan.flush_points == {2, 10}


def test_leading_pictures_are_decoded_from_the_group_before() -> None:
    facts = [
        PacketFacts(RandomAccessPoint.CLEAN),
        PacketFacts(),
        PacketFacts(RandomAccessPoint.OPEN),
        PacketFacts(droppable=True),
        PacketFacts(),
    ]
    scan = Scan(array("q", [0, 1, 5, 4, 6]), facts)
    assert list(plan_decoding(scan, [SelectedFrame(2, 3, 4, False)]).decoded) == [1, 1, 1, 1, 0]
    assert list(plan_decoding(scan, [SelectedFrame(4, 4, 6, False)]).decoded) == [0, 0, 1, 0, 1]
    assert list(plan_decoding(scan, [SelectedFrame(3, 2, 5, True)]).decoded) == [0, 0, 1, 0, 0]


class _Codec:
    def __init__(self, name: str) -> None:
        self.canonical_name, self.intra_only = name, False


class _Context:
    def __init__(self, extradata: bytes) -> None:
        self.extradata = extradata


class _Stream:
    """As much of a stream as an inspector looks at."""

    def __init__(self, name: str, extradata: bytes = b"") -> None:
        self.codec, self.codec_context = _Codec(name), _Context(extradata)


SEI_RECOVERS, SEI_LATER = b"\0\0\1\x06\x06\x01\xc4\x80", b"\0\0\1\x06\x06\x01\x34\x80"
SEI_OTHER_FIRST = b"\0\0\1\x06\x05\x02ab\x06\x01\xc4\x80"


def obu(kind: int, bits: str) -> bytes:
    """Pack an AV1 OBU with a size from bits, most significant first."""
    payload = int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes((len(bits) + 7) // 8)
    return bytes([kind << 3 | 2, len(payload)]) + payload


# profile 000, not still, not reduced, no timing, no delays, 1 operating point of level 4, 10-bit
# sizes, no frame ids, tools 111 1111, order hints with tools 11, screen content and integer
# motion chosen by frame, 7-bit order hints
AV1_SEQUENCE = obu(
    1,
    "000" + "0" + "0" + "0" + "0" + "00000" + "0" * 12 + "00100" + "1001" * 2 + "1" * 20
    + "0" + "1" * 7 + "1" + "11" + "1" + "1" + "110",
)  # fmt: skip


def av1_frame(refresh: int, references: str = "1", shown: bool = True) -> bytes:
    """Make an inter frame: not resilient, both tools, no size, hint 5, primary_ref_frame 2."""
    bits = "0" + "01" + ("1" if shown else "01") + "0" + "0" + "1" + "1" + "0" + "0000101" + "010"
    return obu(6, bits + f"{refresh:08b}" + references.ljust(40, "0"))


@pytest.mark.parametrize(
    ("codec", "data", "facts"),
    [
        ("h264", b"\0\0\0\1\x09\x10\0\0\0\1\x67a\0\0\1\x68b\0\0\1\x65c", (2, False, False, True)),
        ("h264", SEI_RECOVERS + b"\0\0\1\x41c", (1, False, False, False)),
        ("h264", SEI_OTHER_FIRST + b"\0\0\1\x41c", (1, False, False, False)),
        ("h264", SEI_LATER + b"\0\0\1\x41c", (0, False, False, False)),
        ("h264", b"\0\0\1\x01c\0\0\1\x01d", (0, True, False, False)),
        ("h264", b"\0\0\1\x01c\0\0\1\x41d", (0, False, False, False)),  # fields
        ("hevc", b"\0\0\1\x40\x01a\0\0\1\x26\x01b", (2, False, False, True)),
        ("hevc", b"\0\0\1\x2a\x01b", (1, False, False, False)),
        ("hevc", b"\0\0\1\x00\x01b", (0, True, False, False)),
        ("hevc", b"\0\0\1\x02\x01b", (0, False, False, False)),
        ("vp8", b"\x10", (2, False, False, False)),
        ("vp8", b"\x11", (0, False, False, False)),
        ("vp8", b"\x01", (0, False, True, False)),
        ("vp9", b"\x82\x49", (2, False, False, False)),
        ("vp9", b"\x86\x00", (0, False, False, False)),
        ("vp9", b"\x84\x00", (0, False, True, False)),
        ("vp9", b"\x84\x00\xc0", (0, False, False, False)),  # a superframe
        ("vp9", b"\x88", (0, False, False, False)),  # show_existing_frame
        ("av1", b"\x12\x00\x0a\x01x\x32\x02\x10y", (2, False, False, True)),
        ("av1", b"\x12\x00\x32\x02\x30y", (0, False, False, False)),
        ("av1", b"\x12\x00\x32\x02\x00y", (0, False, False, False)),  # a key frame shown later
        ("av1", AV1_SEQUENCE + av1_frame(refresh=0), (0, True, False, True)),
        ("av1", AV1_SEQUENCE + av1_frame(refresh=4), (0, False, False, True)),
        ("av1", AV1_SEQUENCE + av1_frame(refresh=0) * 2, (0, False, False, True)),
        ("av1", AV1_SEQUENCE + b"\x32\x02\x90y", (0, False, False, True)),  # shown again
        ("av1", av1_frame(refresh=0), (0, False, False, False)),  # no telling without a sequence
        ("mpeg2video", b"\0\0\1\xb3ab\0\0\1\0\0\x08", (1, False, False, True)),
        ("mpeg2video", b"\0\0\1\0\0\x18", (0, True, False, False)),
        ("mpeg4", b"\0\0\1\xb6\x00", (1, False, False, False)),
        ("mpeg4", b"\0\0\1\xb6\x80", (0, True, False, False)),
    ],
)
def test_what_a_packet_says(codec: str, data: bytes, facts: tuple[int, bool, bool, bool]) -> None:
    stream: object = _Stream(codec)
    inspect = inspector(stream)  # type: ignore[arg-type]
    assert inspect is not None
    found = inspect(memoryview(data))
    assert (found.random_access, found.droppable, found.hidden, found.has_parameters) == facts


@pytest.mark.parametrize(
    ("codec", "extradata", "data"),
    [
        ("h264", b"", b"\0\0\1\x06"),
        ("h264", b"\x01\0\0\0\xff", b"\0\0\0\x09\x65"),  # longer than the packet
        ("hevc", b"", b"\0\0\1\x40\x01"),
        ("vp8", b"", b""),
        ("vp9", b"", b"\x02"),
        ("av1", b"", b"\x12\x00"),
        ("mpeg2video", b"", b"\0\0\1\xb3"),
        ("mpeg4", b"", b""),
    ],
)
def test_packets_without_a_picture(codec: str, extradata: bytes, data: bytes) -> None:
    stream: object = _Stream(codec, extradata)
    inspect = inspector(stream)  # type: ignore[arg-type]
    assert inspect is not None
    with pytest.raises(MalformedPacketError):
        inspect(memoryview(data))


@given(st.binary(max_size=60), st.sampled_from(["h264", "hevc", "vp8", "vp9", "av1", "mpeg4"]))
def test_any_bytes_can_be_inspected(data: bytes, codec: str) -> None:
    for extradata in (b"", b"\x01" + b"\xff" * 30):
        stream: object = _Stream(codec, extradata)
        inspect = inspector(stream)  # type: ignore[arg-type]
        assert inspect is not None
        with suppress(MalformedPacketError):
            inspect(memoryview(data))


def test_order_hints_tell_whether_a_picture_is_missing() -> None:
    def unit(hint: int, *, shown: bool = True, slots: int = 0, is_key: bool = False) -> Av1Picture:
        return Av1Picture(0, 0, is_key, shown, False, 0, slots, hint)

    hints = OrderHints()
    existing = Av1Picture(0, 0, False, True, True, 1 << 3, 0)
    for pictures in (
        (unit(0, is_key=True, slots=0xFF),),
        (unit(2, shown=False, slots=1 << 3), unit(1)),
        (existing,),  # 2
        (unit(4),),
        None,
        (unit(127),),
        (unit(0),),  # of 7 bits
        (unit(1, is_key=True),),
    ):
        hints.add(pictures)
    pairs = [hints.follows(index, index + 1) for index in range(7)]
    assert pairs == [True, True, False, False, False, True, False]


def test_what_av1_headers_say_of_each_picture() -> None:
    stream: object = _Stream("av1")
    inspect = inspector(stream)  # type: ignore[arg-type]
    assert inspect is not None
    named = "0" + "".join(f"{slot:03b}" for slot in (1, 1, 3, 3, 3, 3, 6))
    hidden, plain = av1_frame(4, named, shown=False), av1_frame(0, "1")
    data = AV1_SEQUENCE + hidden + plain
    assert inspect(memoryview(data)).pictures == (
        Av1Picture(
            len(AV1_SEQUENCE), len(AV1_SEQUENCE + hidden), False, False, False, 0b1001010, 4
        ),
        # short signalling says nothing of which slots are used
        Av1Picture(len(AV1_SEQUENCE + hidden), len(data), False, True, False, 0xFF, 0),
    )
    again = inspect(memoryview(obu(3, "1" + "101"))).pictures
    assert again == (Av1Picture(0, 3, False, True, True, 1 << 5, 0xFF),)
    layered = bytes([plain[0] | 4, 0]) + plain[1:]
    for apart in (plain * 2, plain + obu(4, "1"), layered, obu(3, "0" + "01" + "1")):
        assert inspect(memoryview(apart)).pictures is None


def picture(begin: int, references: int, refreshed_slots: int, **more: bool) -> Av1Picture:
    """Describe a picture of ten bytes, a shown one unless told otherwise."""
    kinds = {"is_key": False, "is_shown": True, "shows_existing": False, **more}
    return Av1Picture(
        begin, begin + 10, references=references, refreshed_slots=refreshed_slots, **kinds
    )


def test_av1_pictures_that_the_wanted_ones_are_not_built_on_are_cut_out() -> None:
    key = (picture(0, 0, 0xFF, is_key=True),)
    # one for later in slot 1, one in slot 2 that is built on it; then one that is shown at once
    pyramid = (
        picture(0, 0b1, 0b10, is_shown=False),
        picture(10, 0b11, 0b100, is_shown=False),
        picture(20, 0b101, 0),
    )
    # keeps nothing: it is no key frame
    again = (picture(0, 0b100, 0xFF, shows_existing=True),)
    units = [key, pyramid, again, (picture(0, 0b10, 0),)]
    runs = [(0, 3)]
    found = find_required(units, runs, {3}, ())
    assert (found.packets, found.packets_without_output) == ({0, 1, 3}, {1})
    assert found.cuts == {1: [(10, 20), (20, 30)]}
    found = find_required(units, runs, {2}, ())
    assert (found.packets, found.cuts) == ({0, 1, 2}, {1: [(20, 30)]})
    assert find_required(units, runs, {1}, ()).cuts == {}
    whole = find_required(units, runs, {3}, {1})
    assert (whole.packets, whole.cuts, whole.packets_without_output) == ({0, 1, 3}, {}, set())
    # a key frame for later is kept everywhere once it is shown
    late = (picture(0, 0, 0b10, is_key=True, is_shown=False), picture(10, 0b1, 0))
    shown = (picture(0, 0b10, 0xFF, shows_existing=True),)
    found = find_required([key, late, shown, (picture(0, 0b10000, 0),)], runs, {3}, ())
    assert (found.packets, found.cuts) == ({1, 2, 3}, {1: [(10, 20)]})


def test_caps_do_not_depend_on_how_it_is_decoded() -> None:
    assert "timeout_minutes" not in ExtractConfig().result_settings()
