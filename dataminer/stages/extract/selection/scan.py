"""Reading a video's packets without decoding them, and whether a plan can be built on them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from dataminer.stages.extract.selection.bitstream import (
    MalformedError,
    PacketFacts,
    RandomAccessPoint,
    inspector,
)

VideoPacket: TypeAlias = "Packet[VideoStream]"

_STATE_TIMES = ("mov,", "matroska", "mpegts", "flv")  # others, like AVI, derive or guess them
_CHECK_EVERY = 64  # packets, which are read in a fraction of a millisecond
HELD_BYTES = 32 << 20  # packets of a stream up to this size stay in memory: no second reading
_PACKET_BYTES = 1024  # that a packet takes besides its data
_MOST_PACKETS = 4_000_000  # that are remembered: 18 hours of 60 frames a second


class NotPlannableError(Exception):
    """All of the video must be decoded; the message says why, and follows "because"."""


@dataclass
class Scan:
    """All packets of a stream, in decoding order, of which each that is shown gives one frame.

    Attributes
    ----------
    pts : array of int
        Presentation time stamps, in units of the stream's time base.
    facts : list of PacketFacts
        What the bitstream says of each packet's picture.
    discarded : set of int
        Places of packets that are decoded and never shown: an edit list cuts them off.
    last_duration : int
        Of the packet that is shown last, in units of the time base; 0 where it does not say.
    leads_nothing : bool
        Whether the codec forbids to build on leading pictures what is shown after their entry.
    flags_differ : bool
        Whether the container calls other packets keyframes than those where decoding may begin.
    held : list of Packet
        The packets themselves, unless they are larger than ``HELD_BYTES`` in all.
    """

    pts: array[int] = field(default_factory=lambda: array("q"))
    facts: list[PacketFacts] = field(default_factory=list)
    discarded: set[int] = field(default_factory=set)
    last_duration: int = 0
    leads_nothing: bool = False
    flags_differ: bool = False
    cached_packets: list[VideoPacket] | None = field(default_factory=list)
    _order: list[int] | None = field(default=None, init=False, repr=False, compare=False)

    def is_shown(self, packet_index: int) -> bool:
        """Say whether a packet's picture is ever displayed."""
        return not self.facts[packet_index].hidden and packet_index not in self.discarded

    def hold(self, packet: VideoPacket | None) -> None:
        """Keep the next packet in memory; with None, none at all."""
        if self.cached_packets is not None and packet is not None:
            self.cached_packets.append(packet)
        else:
            self.cached_packets = None

    def presentation(self) -> list[int]:
        """Return the places of the packets that are shown, in the order of presentation.

        Found once, when all packets are known.
        """
        if self._order is None:
            cut, facts = self.discarded, enumerate(self.facts)
            shown = [
                packet_index
                for packet_index, fact in facts
                if not fact.hidden and packet_index not in cut
            ]
            self._order = sorted(shown, key=self.pts.__getitem__)
        return self._order

    @property
    def reorder_depth(self) -> int:
        """By how many pictures one is decoded before it is shown, at most."""
        order = np.array(self.presentation())
        rank = np.argsort(np.argsort(order))  # among those shown, in decoding order
        return int((rank - np.arange(len(order))).max(initial=0))


def scan(container: InputContainer, stream: VideoStream, check: Callable[[], None]) -> Scan:
    """Read all packets of a stream.

    Parameters
    ----------
    container, stream
        From :func:`dataminer.video.opening.open_video`, at their beginning.
    check : callable
        Called every few packets; what it raises ends the work.

    Raises
    ------
    NotPlannableError
        When frames cannot be chosen, or left out, by what the packets say.
    """
    if not container.format.name.startswith(_STATE_TIMES):
        raise NotPlannableError(f"{container.format.name} does not state when frames are shown")
    inspect = inspector(stream)
    if inspect is None:
        raise NotPlannableError(f"packets of {stream.codec.canonical_name} tell too little")
    found, size, latest = Scan(leads_nothing=stream.codec.canonical_name == "hevc"), 0, None
    previous: int | None = None
    for packet_index, packet in enumerate(sound_packets(container, stream)):
        if not packet_index % _CHECK_EVERY:
            check()
        if packet_index == _MOST_PACKETS:
            raise NotPlannableError("it has too many packets")
        pts, dts = packet.pts, packet.dts
        if pts is None:
            raise NotPlannableError("packets lack presentation time stamps")
        if dts is not None:
            if previous is not None and dts <= previous:
                raise NotPlannableError("decoding time stamps repeat or jump back")
            previous = dts
        if packet_index and _brings_parameters(packet):
            raise NotPlannableError("the codec's parameters change on the way")
        if packet.is_discard:
            found.discarded.add(packet_index)
        elif latest is None or pts > latest:
            latest, found.last_duration = pts, packet.duration or 0
        try:
            facts = inspect(memoryview(packet))
        except MalformedError:
            raise NotPlannableError("a packet holds no picture") from None
        found.flags_differ |= packet.is_keyframe != bool(facts.entry)
        found.pts.append(pts)
        found.facts.append(facts)
        size += packet.size + _PACKET_BYTES
        found.hold(packet if size <= HELD_BYTES else None)
    _check(found)
    return found


def sound_packets(container: InputContainer, stream: VideoStream) -> Iterator[VideoPacket]:
    """Read the packets of a stream up to its end.

    Raises
    ------
    NotPlannableError
        At the first packet that is damaged or cannot be read.
    """
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise NotPlannableError("a packet is damaged")
            if packet.size:
                yield packet
    except IndexError:
        raise NotPlannableError("a stream appears on the way") from None  # see decode.packets
    except av.FFmpegError as error:
        raise NotPlannableError(f"a packet cannot be read ({error.strerror})") from error


def _brings_parameters(packet: VideoPacket) -> bool:
    # a loop, not any(), whose generator for each packet takes half as much again
    for side in packet.iter_sidedata():  # noqa: SIM110
        if side.data_type == "new_extradata":
            return True
    return False


def _check(found: Scan) -> None:
    """Make sure that entries and the order of presentation can be relied on."""
    if not found.pts:
        raise NotPlannableError("there are no packets")
    entries = [packet_index for packet_index, facts in enumerate(found.facts) if facts.entry]
    if not entries or entries[0]:
        raise NotPlannableError("it does not begin with a keyframe")
    first = found.facts[0]
    if first.entry is RandomAccessPoint.OPEN and found.pts[0] > min(found.pts):
        raise NotPlannableError("it begins in the midst of an open group of pictures")
    shown = found.presentation()
    stamps = [found.pts[packet_index] for packet_index in shown]
    if not shown or len(set(stamps)) < len(stamps):
        raise NotPlannableError("presentation time stamps repeat")
    later = {packet_index for packet_index, facts in enumerate(found.facts) if facts.parameters} - {
        0
    }
    if later and later != set(entries) - {0}:
        raise NotPlannableError("parameter sets stand elsewhere than at all keyframes")
