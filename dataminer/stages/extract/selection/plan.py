"""Which packets must be decoded to get the wanted frames, exactly as if all were decoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import compress, count

from dataminer.stages.extract.selection.av1_references import needs
from dataminer.stages.extract.selection.bitstream import RandomAccessPoint
from dataminer.stages.extract.selection.sampling import Sampler
from dataminer.stages.extract.selection.scan import Scan


@dataclass(frozen=True)
class SelectedFrame:
    """A frame that was chosen."""

    index: int
    """0-based place in presentation order."""
    packet_index: int
    """0-based place of its packet in decoding order."""
    pts: int
    is_key: bool


@dataclass(frozen=True)
class DecodePlan:
    """What to decode.

    Attributes
    ----------
    decoded : bytearray
        1 for each packet that is decoded, else 0, in decoding order.
    ends : frozenset of int
        Places of packets after which the decoder is emptied: what comes next is built on nothing
        of what came before.
    wanted : list of SelectedFrame
        The frames, in presentation order.
    cuts : dict of int to list of (int, int)
        Bytes, from and up to, to leave out of a packet.
    silent : set of int
        Places of packets that show nothing without these bytes.
    """

    decoded: bytearray
    flush_points: frozenset[int]
    wanted: list[SelectedFrame]
    cuts: Mapping[int, list[tuple[int, int]]] = field(default_factory=dict)
    packets_without_output: Collection[int] = ()

    @property
    def steps(self) -> list[int]:
        """Places of the packets at which there is anything to do, in decoding order."""
        return sorted({*compress(count(), self.decoded), *self.flush_points})


def choose(scan: Scan, sampler: Sampler, order: list[int]) -> list[SelectedFrame]:
    """Ask a sampler about frames in presentation order.

    Parameters
    ----------
    scan : Scan
        The packets.
    sampler : Sampler
        A fresh one.
    order : list of int
        Places of the packets in question, in presentation order from the video's first frame on.
    """
    wanted = []
    for index, packet_index in enumerate(order):
        pts, is_key = (
            scan.pts[packet_index],
            scan.facts[packet_index].entry is not RandomAccessPoint.NONE,
        )
        if sampler.wants(index, pts, is_key):
            wanted.append(SelectedFrame(index, packet_index, pts, is_key))
    return wanted


def make_plan(scan: Scan, wanted: list[SelectedFrame]) -> DecodePlan:
    """Find the packets that the wanted frames are built on, or may be.

    Decoding begins at the last entry before a wanted frame from which it comes out right, and ends
    with the frame. In between, pictures that no other is built on are left out; of AV1, whose
    headers name them, all that the wanted ones are not built on.

    Parameters
    ----------
    scan : Scan
        The packets.
    wanted : list of SelectedFrame
        From :func:`choose`.
    """
    entries = _Entries(scan)
    decode_ranges = _merged(sorted((entries.start(w.packet_index), w.packet_index) for w in wanted))
    ends = frozenset(end for _, end in decode_ranges)
    decoded, droppable = bytearray(len(scan.pts)), _droppable(scan)
    units = [facts.pictures for facts in scan.facts if facts.pictures]
    if len(units) == len(scan.facts):
        found = needs(
            units, decode_ranges, {chosen.packet_index for chosen in wanted}, scan.discarded
        )
        for packet_index in found.packets:
            decoded[packet_index] = True
        return DecodePlan(decoded, ends, wanted, found.cuts, found.packets_without_output)
    for begin, end in decode_ranges:
        leading = entries.leading(begin)
        for packet_index in range(begin, end + 1):
            decoded[packet_index] = not (droppable[packet_index] or packet_index in leading)
    for chosen in wanted:
        decoded[chosen.packet_index] = True
    return DecodePlan(decoded, ends, wanted)


class _Entries:
    """Where decoding may begin, and what comes out right from there."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._places = [
            packet_index for packet_index, facts in enumerate(scan.facts) if facts.entry
        ]

    def start(self, packet_index: int) -> int:
        """Return the last entry from which a packet's picture comes out right."""
        rank = bisect_right(self._places, packet_index) - 1
        entry = self._places[rank]
        leads = packet_index != entry and self._scan.pts[packet_index] < self._scan.pts[entry]
        if (
            entry == packet_index
            or self._is_clean(rank)
            or (not leads and self._is_independent(rank))
        ):
            return entry
        rank -= 1
        while rank > 0 and not self._is_independent(rank):
            rank -= 1
        return self._places[max(rank, 0)]

    def leading(self, entry: int) -> range:
        """Return the packets that follow an open entry at once and are shown before it."""
        end = entry + 1
        if self._scan.facts[entry].entry is RandomAccessPoint.OPEN:
            while end < len(self._scan.pts) and self._scan.pts[end] < self._scan.pts[entry]:
                end += 1
        return range(entry + 1, end)

    def _is_clean(self, rank: int) -> bool:
        return self._scan.facts[self._places[rank]].entry is RandomAccessPoint.CLEAN

    def _is_independent(self, rank: int) -> bool:
        """Say whether what is shown after an entry does without its leading pictures.

        By H.265's rules it always does. In H.264 a decoder counts reference pictures, and misses
        those that were left out.
        """
        if self._is_clean(rank):
            return True
        entry, scan = self._places[rank], self._scan
        leading = self.leading(entry)
        following = [*self._places[rank + 1 : rank + 2], len(scan.pts)][0]
        if any(
            scan.pts[packet_index] < scan.pts[entry]
            for packet_index in range(leading.stop, following)
        ):
            return False
        return scan.leads_nothing or all(
            scan.facts[packet_index].droppable for packet_index in leading
        )


def _merged(decode_ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in decode_ranges:
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _droppable(scan: Scan) -> list[bool]:
    """Say of each packet whether no other picture is built on it.

    What H.265 calls a sub-layer non-reference picture may serve those of higher layers.
    """
    highest = max(facts.layer for facts in scan.facts)
    return [facts.droppable and facts.layer == highest for facts in scan.facts]
