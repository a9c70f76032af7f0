"""A record of all packets that a decoder was given, and of the frames that it returned."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import Enum, auto

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dataminer.stages.extract.selection.bitstream import (
    MalformedPacketError,
    PacketFacts,
    RandomAccessPoint,
    inspector,
)
from dataminer.stages.extract.selection.h264_frame_numbers import ReferenceCounter
from dataminer.stages.extract.selection.order_hints import OrderHints
from dataminer.stages.extract.selection.picture_numbers import PictureNumbers, picture_numbers

NO_STAMP = -(1 << 63)  # libav's AV_NOPTS_VALUE
_EMPTY_BYTES = 16  # of a packet that only repeats the picture before it, like an MPEG-4 N-VOP
_STORED = ("avi", "matroska", "mov,")  # formats where reading goes on at keyframes after damage
_NO_PICTURE = PacketFacts(hidden=True)


class References(Enum):
    """What is known about references to pictures that are missing altogether."""

    NONE = auto()
    """No picture refers to another one."""
    CHECKED = auto()
    """They leave a gap in the numbers of H.264; H.265 never shows a picture without them."""
    UNCHECKED = auto()


def _integers() -> array[int]:
    return array("q")


@dataclass
class PacketRecord:
    """What each packet is, in decoding order.

    Attributes
    ----------
    pts : array of int
        Presentation time stamps, in units of the time base; ``NO_STAMP`` if there is none.
    points : bytearray
        A ``RandomAccessPoint`` for each.
    shown : bytearray
        1 for each that must give a frame: not hidden, nor cut off by an edit list.
    unreferenced : bytearray
        1 for each that no other refers to.
    refused : list of int
        Indices of those that the decoder had got last when it failed.
    incomplete : list of int
        Indices of those that their container marks as incomplete, or before which one could not be
        read.
    concealed : list of int
        Indices of those in which the decoder met damage, and returned a frame for all that.
    unreadable : set of int
        Indices of those in which no picture was found.
    orphans : list of int
        Indices of those before which a reference picture is missing, as the codec's own numbers
        say.
    numbers : PictureNumbers or None
        Of codecs that number their pictures in the order in which they are shown.
    hints : OrderHints or None
        Of AV1.
    dts : array of int
        Decoding time stamps like ``pts``.
    second : int
        A second in units of the time base; 0 if it is unknown.
    has_declared_points : bool
        Whether ``points`` are the container's keyframes, because the packets themselves do not
        tell.
    may_pause : bool
        Whether the format stores what was encoded, so that a long gap is rather a pause than a
        loss.
    """

    pts: array[int] = field(default_factory=_integers)
    points: bytearray = field(default_factory=bytearray)
    shown: bytearray = field(default_factory=bytearray)
    unreferenced: bytearray = field(default_factory=bytearray)
    refused: list[int] = field(default_factory=list)
    incomplete: list[int] = field(default_factory=list)
    concealed: list[int] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)
    orphans: list[int] = field(default_factory=list)
    numbers: PictureNumbers | None = None
    hints: OrderHints | None = None
    dts: array[int] = field(default_factory=_integers)
    second: int = 0
    has_declared_points: bool = False
    may_pause: bool = False


@dataclass
class FrameRecord:
    """What each frame is, in the order in which they are shown.

    Attributes
    ----------
    stamps : array of int
        Presentation time stamps, as they came from the decoder: those of their packets.
    times : array of int
        On the video's time line.
    durations : array of int
        As the file states them, 0 if it does not.
    derived : bytearray
        1 for each whose time is derived, else 0.
    keys : bytearray
        1 for each that refers to no other, as the decoder says, else 0.
    corrupt : list of int
        Indices of those that the decoder marks as damaged.
    """

    stamps: array[int] = field(default_factory=_integers)
    times: array[int] = field(default_factory=_integers)
    durations: array[int] = field(default_factory=_integers)
    derived: bytearray = field(default_factory=bytearray)
    keys: bytearray = field(default_factory=bytearray)
    corrupt: list[int] = field(default_factory=list)

    def add(self, frame: VideoFrame, time: int, is_derived: bool) -> None:
        """Append the next frame in presentation order."""
        if frame.is_corrupt:
            self.corrupt.append(len(self.times))
        self.stamps.append(NO_STAMP if frame.pts is None else frame.pts)
        self.times.append(time)
        self.derived.append(is_derived)
        self.keys.append(frame.key_frame)
        self.durations.append(frame.duration or 0)


class PacketLog:
    """Records the packets of a stream.

    Attributes
    ----------
    packets : PacketRecord
        The packets so far.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.packets = PacketRecord(
            second=round(1 / stream.time_base) if stream.time_base else 0,
            may_pause=stream.container.format.name.startswith(_STORED),
        )
        self._intra_only = stream.codec.intra_only
        self._inspect = inspector(stream)
        self.packets.has_declared_points = self._inspect is None
        self._codec = stream.codec.canonical_name
        self.packets.numbers = picture_numbers(stream)
        self.packets.hints = OrderHints() if self._codec == "av1" else None
        extradata = stream.codec_context.extradata or b""
        self._counter = ReferenceCounter(extradata) if self._codec == "h264" else None
        self._part_unread = False

    @property
    def references(self) -> References:
        """What is known about references to lost pictures."""
        if self._intra_only:
            return References.NONE
        if self._codec == "hevc" or (self._counter and self._counter.is_usable):
            return References.CHECKED
        return References.UNCHECKED

    def add(self, packet: Packet[VideoStream]) -> None:
        """Append the next packet in decoding order."""
        record, index = self.packets, len(self.packets.pts)
        facts = self._facts(packet)
        if facts is _NO_PICTURE:
            record.unreadable.add(index)
        if packet.is_corrupt or self._part_unread:
            record.incomplete.append(index)
            self._part_unread = False
        if self._counter and self._counter.lacks_reference(memoryview(packet)):
            record.orphans.append(index)
        record.pts.append(NO_STAMP if packet.pts is None else packet.pts)
        record.dts.append(NO_STAMP if packet.dts is None else packet.dts)
        if record.hints:
            record.hints.add(facts.pictures)
        if record.numbers:
            record.numbers.add(memoryview(packet))
        record.points.append(facts.random_access)
        record.shown.append(not (facts.hidden or packet.is_discard))
        record.unreferenced.append(facts.droppable)

    def refuse(self) -> None:
        """Record that the decoder failed after the last packet."""
        self.packets.refused.append(max(0, len(self.packets.pts) - 1))

    def conceal(self) -> None:
        """Record that the decoder met damage in the last packet."""
        if self.packets.pts:
            self.packets.concealed.append(len(self.packets.pts) - 1)

    def skip(self) -> None:
        """Record that something before the next packet could not be read."""
        self._part_unread = True

    def _facts(self, packet: Packet[VideoStream]) -> PacketFacts:
        may_repeat = self._inspect is None or self._codec == "mpeg4"
        if may_repeat and packet.size <= _EMPTY_BYTES:
            return _NO_PICTURE
        if self._inspect is None:
            is_key = packet.is_keyframe
            return PacketFacts(RandomAccessPoint.CLEAN if is_key else RandomAccessPoint.NONE)
        try:
            return self._inspect(memoryview(packet))
        except MalformedPacketError:
            return _NO_PICTURE
