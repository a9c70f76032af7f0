"""Reading a video's packets without decoding them, and whether a plan can rely on them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dataminer.stages.extract.selection.bitstream import (
    Inspector,
    MalformedPacketError,
    PacketFacts,
    RandomAccessPoint,
    inspector,
)
from dataminer.stages.extract.selection.h264_frame_numbers import ReferenceCounter
from dataminer.stages.extract.selection.picture_numbers import picture_numbers
from dataminer.stages.extract.timing.gaps import find_gaps, has_long_steps, usual_step
from dataminer.stages.extract.timing.timeline import (
    BROADCAST,
    EQUAL_WITHIN,
    LEAST_STEP,
    STORED,
    JumpLimit,
)
from dataminer.video.alpha import has_alpha_stream
from dataminer.video.decoder import MAX_REORDER_DEPTH

VideoPacket: TypeAlias = "Packet[VideoStream]"

_STATES_TIMES = ("mov,", "matroska", "mpegts", "flv")  # others, like AVI, derive or guess them
_TS_DISCONT = 0x200  # AVFMT_TS_DISCONT of libavformat/avformat.h: stamps may begin again
_CHECK_EVERY = 64  # packets, which are read in a fraction of a millisecond
MAX_CACHED_BYTES = 32 << 20  # smaller streams stay in memory and are not read a second time
_PACKET_OVERHEAD = 1024  # bytes that a packet takes besides its data
_MAX_PACKETS = 4_000_000  # 18 hours of 60 frames per second


class NotPlannableError(Exception):
    """All of the video must be decoded; the message is the reason and follows "because"."""


class DamagedError(NotPlannableError):
    """Something is broken: packets are decoded one by one, so that it is known in which."""


@dataclass
class Scan:
    """All packets of a stream, in decoding order. Each packet that is shown gives one frame.

    Attributes
    ----------
    pts : array of int
        Presentation time stamps, in units of the stream's time base.
    facts : list of PacketFacts
        What the bitstream says about each packet's picture.
    discarded : set of int
        Indices of packets that are decoded and never shown: an edit list cuts them off.
    leading_unreferenced : bool
        Whether the codec forbids what follows a random access point to refer to its leading
        pictures.
    keyframe_flags_differ : bool
        Whether the container marks other packets as keyframes than the random access points.
    cached_packets : list of Packet or None
        The packets themselves; None if they exceed ``MAX_CACHED_BYTES`` in all.
    durations : array of int
        For how long each is shown, in the units of ``pts``; 0 if that is not stated.
    dts : array of int
        Decoding time stamps, in the units of ``pts``.
    position : int
        Where the last packet begins in the file, in bytes; 0 if that is unknown.
    """

    pts: array[int] = field(default_factory=lambda: array("q"))
    facts: list[PacketFacts] = field(default_factory=list)
    discarded: set[int] = field(default_factory=set)
    leading_unreferenced: bool = False
    keyframe_flags_differ: bool = False
    cached_packets: list[VideoPacket] | None = field(default_factory=list)
    durations: array[int] = field(default_factory=lambda: array("q"))
    position: int = 0
    dts: array[int] = field(default_factory=lambda: array("q"))
    _counter: ReferenceCounter | None = field(default=None, init=False, repr=False, compare=False)
    _order: list[int] | None = field(default=None, init=False, repr=False, compare=False)
    _bytes: int = field(default=0, init=False, repr=False, compare=False)

    def add(self, packet: VideoPacket, pts: int, facts: PacketFacts) -> None:
        """Append the next packet in decoding order."""
        self.pts.append(pts)
        self.dts.append(pts if packet.dts is None else packet.dts)
        self.durations.append(packet.duration or 0)
        self.facts.append(facts)
        self.position = packet.pos or self.position
        self.keyframe_flags_differ |= packet.is_keyframe != bool(facts.random_access)
        self._bytes += packet.size + _PACKET_OVERHEAD
        if self.cached_packets is not None and self._bytes <= MAX_CACHED_BYTES:
            self.cached_packets.append(packet)
        else:
            self.cached_packets = None

    def is_shown(self, packet_index: int) -> bool:
        """Return whether a packet's picture is ever displayed."""
        return not self.facts[packet_index].hidden and packet_index not in self.discarded

    def check_references(self, extradata: bytes) -> None:
        """Make sure that no reference picture of an H.264 stream is missing.

        Packets that are not cached are checked when they are read again.
        """
        self._counter = ReferenceCounter(extradata)
        if self.cached_packets is not None:
            for _ in self.without_lost_references(self.cached_packets):
                pass

    def without_lost_references(self, packets: Iterable[VideoPacket]) -> Iterator[VideoPacket]:
        """Yield all packets of the stream, if they are to be checked up to a lost reference."""
        for packet in packets:
            if self._counter and self._counter.lacks_reference(memoryview(packet)):
                raise NotPlannableError("reference pictures are missing")
            yield packet

    def presentation_order(self) -> list[int]:
        """Return the indices of the packets that are shown, in presentation order.

        Call it only when all packets have been added: the order is cached.
        """
        if self._order is None:
            discarded, facts = self.discarded, enumerate(self.facts)
            shown = [index for index, fact in facts if not fact.hidden and index not in discarded]
            self._order = sorted(shown, key=self.pts.__getitem__)
        return self._order

    @property
    def reorder_depth(self) -> int:
        """How many frames are decoded before a frame that is shown earlier, at most."""
        order = np.array(self.presentation_order())
        rank = np.argsort(np.argsort(order))  # among those shown, in decoding order
        return int((rank - np.arange(len(order))).max(initial=0))


def scan_packets(container: InputContainer, stream: VideoStream, check: Callable[[], None]) -> Scan:
    """Read all packets of a stream.

    Parameters
    ----------
    container, stream
        From :func:`dataminer.video.opening.open_video`, at their beginning.
    check : callable
        Called every few packets; an exception from it ends the scan.

    Raises
    ------
    NotPlannableError
        If the packets do not tell which frames to choose, or which to leave out.
    """
    inspect = _packet_inspector(container, stream)
    scan = Scan(leading_unreferenced=stream.codec.canonical_name == "hevc")
    numbers = picture_numbers(stream)
    previous_dts: int | None = None
    for packet_index, packet in enumerate(undamaged_packets(container, stream)):
        if not packet_index % _CHECK_EVERY:
            check()
        pts = _checked(packet, packet_index)
        previous_dts = _increasing(packet.dts, previous_dts)
        if packet.is_discard:
            scan.discarded.add(packet_index)
        try:
            facts = inspect(memoryview(packet))
        except MalformedPacketError:
            raise DamagedError("a packet holds no picture") from None
        scan.add(packet, pts, facts)
        if numbers:
            numbers.add(memoryview(packet))
    if numbers and (numbers.missing() or numbers.orphans()):
        raise NotPlannableError("frames are missing")
    _check_order(scan)
    _check_times(scan, jump_limit(container), stream)
    return scan


def _checked(packet: VideoPacket, packet_index: int) -> int:
    """Return a packet's presentation time stamp, if a plan may rely on the packet."""
    if packet_index == _MAX_PACKETS:
        raise NotPlannableError("it has too many packets")
    if packet.pts is None:
        raise NotPlannableError("packets lack presentation time stamps")
    if packet_index and _brings_parameters(packet):
        raise NotPlannableError("the codec's parameters change on the way")
    return packet.pts


def jump_limit(container: InputContainer) -> JumpLimit:
    """Return how far time may step forward in a format."""
    return BROADCAST if container.format.flags & _TS_DISCONT else STORED


def _packet_inspector(container: InputContainer, stream: VideoStream) -> Inspector:
    if not container.format.name.startswith(_STATES_TIMES):
        raise NotPlannableError(f"{container.format.name} does not state when frames are shown")
    if has_alpha_stream(stream):
        raise NotPlannableError("opacity is stored beside its frames")
    inspect = inspector(stream)
    if inspect is None:
        raise NotPlannableError(f"packets of {stream.codec.canonical_name} tell too little")
    return inspect


def undamaged_packets(container: InputContainer, stream: VideoStream) -> Iterator[VideoPacket]:
    """Read the packets of a stream up to its end.

    Raises
    ------
    NotPlannableError
        At the first packet that is damaged or cannot be read.
    """
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise DamagedError("a packet is damaged")
            if packet.size:
                yield packet
    except IndexError:  # see dataminer.stages.extract.decode
        raise NotPlannableError("a stream appears on the way") from None
    except av.FFmpegError as error:
        raise NotPlannableError(f"a packet cannot be read ({error.strerror})") from error


def _increasing(dts: int | None, previous: int | None) -> int | None:
    """Return the latest decoding time stamp that is known."""
    if dts is None:
        return previous
    if previous is not None and dts <= previous:
        raise NotPlannableError("decoding time stamps repeat or jump back")
    return dts


def _brings_parameters(packet: VideoPacket) -> bool:
    # a loop, because any() with a generator per packet takes half as long again
    for side in packet.iter_sidedata():  # noqa: SIM110
        if side.data_type == "new_extradata":
            return True
    return False


def _check_order(scan: Scan) -> None:
    """Make sure that random access points and the order of presentation can be relied on."""
    if not scan.pts:
        raise NotPlannableError("there are no packets")
    starts = [index for index, facts in enumerate(scan.facts) if facts.random_access]
    if not starts or starts[0]:
        raise NotPlannableError("it does not begin with a keyframe")
    if scan.facts[0].random_access is RandomAccessPoint.OPEN and scan.pts[0] > min(scan.pts):
        raise NotPlannableError("it begins in the midst of an open group of pictures")
    stamps = [scan.pts[index] for index in scan.presentation_order()]
    if not stamps or len(set(stamps)) < len(stamps):
        raise NotPlannableError("presentation time stamps repeat")
    later = {index for index, facts in enumerate(scan.facts) if facts.has_parameters} - {0}
    if later and later != set(starts) - {0}:
        raise NotPlannableError("parameter sets stand elsewhere than at all keyframes")


def _are_too_near(steps: NDArray[np.int64], time_base: float) -> bool:
    return steps.min() * time_base < LEAST_STEP or usual_step(steps) * time_base <= EQUAL_WITHIN


def _check_times(scan: Scan, limit: JumpLimit, stream: VideoStream) -> None:
    """Make sure that all frames are shown when they say so, and that none is missing."""
    depth = scan.reorder_depth
    if depth > MAX_REORDER_DEPTH:
        raise NotPlannableError("frames are shown far from where they are decoded")
    order = scan.presentation_order()
    times = np.asarray(scan.pts, np.int64)[order]
    durations = np.asarray(scan.durations, np.int64)[order]
    steps = np.diff(times)
    time_base = float(stream.time_base or Fraction(1, av.time_base))
    longest = max(limit.seconds / time_base, limit.steps * usual_step(steps))
    if np.any(steps > longest):
        raise NotPlannableError("presentation time stamps jump")
    if len(steps) and _are_too_near(steps, time_base):
        raise NotPlannableError("presentation time stamps are too near to each other")
    decoding_times = np.asarray(scan.dts, np.int64)[order]
    if len(find_gaps(times, durations, depth, decoding_times)[0]):
        raise NotPlannableError("frames are missing")
    if stream.codec.canonical_name == "h264" and has_long_steps(times):
        scan.check_references(stream.codec_context.extradata or b"")
