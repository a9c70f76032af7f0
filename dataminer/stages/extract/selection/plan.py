"""Which packets must be decoded so that the selected frames equal those of a full decode."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import compress, count

from dataminer.stages.extract.selection.av1_references import find_required
from dataminer.stages.extract.selection.bitstream import RandomAccessPoint
from dataminer.stages.extract.selection.sampling import Sampler
from dataminer.stages.extract.selection.scan import Scan


@dataclass(frozen=True)
class SelectedFrame:
    """A frame that the sampler selected."""

    index: int
    """0-based position in presentation order."""
    packet_index: int
    """0-based position of its packet in decoding order."""
    pts: int
    is_key: bool
    is_neighbour: bool = False
    """Whether it is only shown before or after a selected one."""


@dataclass(frozen=True)
class DecodePlan:
    """What to decode.

    Attributes
    ----------
    decoded : bytearray
        1 for each packet that is decoded, else 0, in decoding order.
    flush_points : frozenset of int
        Indices of packets after which the decoder is flushed: later packets refer to nothing
        before them.
    selected : list of SelectedFrame
        The frames, in presentation order, with their neighbours if these are required.
    cuts : dict of int to list of (int, int)
        Byte ranges to remove from a packet.
    packets_without_output : collection of int
        Indices of packets that show nothing without these bytes.
    has_neighbours : bool
        Whether ``selected`` includes neighbours.
    """

    decoded: bytearray
    flush_points: frozenset[int]
    selected: list[SelectedFrame]
    cuts: Mapping[int, list[tuple[int, int]]] = field(default_factory=dict)
    packets_without_output: Collection[int] = ()
    has_neighbours: bool = False

    @property
    def packets(self) -> list[int]:
        """Indices of the packets to decode or to flush after, in decoding order."""
        return sorted({*compress(count(), self.decoded), *self.flush_points})


def select_frames(scan: Scan, sampler: Sampler, order: list[int]) -> list[SelectedFrame]:
    """Select frames in presentation order.

    Parameters
    ----------
    scan : Scan
        The packets.
    sampler : Sampler
        Used for this video only.
    order : list of int
        Indices of the packets to choose from, in presentation order from the first frame on.
    """
    selected = []
    for index, packet_index in enumerate(order):
        pts = scan.pts[packet_index]
        is_key = scan.facts[packet_index].random_access is not RandomAccessPoint.NONE
        if sampler.wants(index, pts, is_key):
            selected.append(SelectedFrame(index, packet_index, pts, is_key))
    return selected


def add_neighbours(
    scan: Scan, selected: list[SelectedFrame], order: list[int]
) -> list[SelectedFrame]:
    """Return selected frames and those before and after them, in presentation order.

    Parameters
    ----------
    scan, order
        The packets, and the indices of all that are shown, in presentation order.
    selected : list of SelectedFrame
        From :func:`select_frames`.
    """
    frames = {frame.index: frame for frame in selected}
    for index in sorted({frame.index + step for frame in selected for step in (-1, 1)}):
        if index not in frames and 0 <= index < len(order):
            packet = order[index]
            frames[index] = SelectedFrame(index, packet, scan.pts[packet], False, is_neighbour=True)
    return [frames[index] for index in sorted(frames)]


def plan_decoding(scan: Scan, selected: list[SelectedFrame]) -> DecodePlan:
    """Find the packets that the selected frames refer to, or may refer to.

    Decoding starts at the last random access point from which a selected frame decodes correctly,
    and ends with the frame. Pictures in between that no other refers to are left out; AV1 headers
    name the references, so that only those of the selected frames are decoded.

    Parameters
    ----------
    scan : Scan
        The packets.
    selected : list of SelectedFrame
        From :func:`select_frames`.
    """
    points = _RandomAccessPoints(scan)
    chosen = [frame.packet_index for frame in selected]
    decode_ranges = _merged(sorted((points.start(index), index) for index in chosen))
    flush_points = frozenset(end for _, end in decode_ranges)
    decoded, droppable = bytearray(len(scan.pts)), _droppable(scan)
    units = [facts.pictures for facts in scan.facts if facts.pictures]
    if len(units) == len(scan.facts):
        required = find_required(units, decode_ranges, set(chosen), scan.discarded)
        for index in required.packets:
            decoded[index] = True
        return DecodePlan(
            decoded, flush_points, selected, required.cuts, required.packets_without_output
        )
    for begin, end in decode_ranges:
        leading = points.leading(begin)
        for index in range(begin, end + 1):
            decoded[index] = not (droppable[index] or index in leading)
    for index in chosen:
        decoded[index] = True
    return DecodePlan(decoded, flush_points, selected)


class _RandomAccessPoints:
    """Where decoding may start, and what decodes correctly from there."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._points = [index for index, facts in enumerate(scan.facts) if facts.random_access]

    def start(self, packet_index: int) -> int:
        """Return the last point from which a packet's picture decodes correctly."""
        rank = bisect_right(self._points, packet_index) - 1
        point = self._points[rank]
        is_leading = packet_index != point and self._scan.pts[packet_index] < self._scan.pts[point]
        if (
            point == packet_index
            or self._is_clean(rank)
            or (not is_leading and self._is_independent(rank))
        ):
            return point
        rank -= 1
        while rank > 0 and not self._is_independent(rank):
            rank -= 1
        return self._points[max(rank, 0)]

    def leading(self, point: int) -> range:
        """Return the packets that directly follow an open point and are shown before it."""
        end = point + 1
        if self._scan.facts[point].random_access is RandomAccessPoint.OPEN:
            while end < len(self._scan.pts) and self._scan.pts[end] < self._scan.pts[point]:
                end += 1
        return range(point + 1, end)

    def _is_clean(self, rank: int) -> bool:
        return self._scan.facts[self._points[rank]].random_access is RandomAccessPoint.CLEAN

    def _is_independent(self, rank: int) -> bool:
        """Return whether what is shown after a point decodes without its leading pictures.

        H.265 guarantees it. An H.264 decoder counts reference pictures, and misses those that
        were left out.
        """
        if self._is_clean(rank):
            return True
        point, scan = self._points[rank], self._scan
        leading = self.leading(point)
        following = [*self._points[rank + 1 : rank + 2], len(scan.pts)][0]
        if any(scan.pts[index] < scan.pts[point] for index in range(leading.stop, following)):
            return False
        return scan.leading_unreferenced or all(scan.facts[index].droppable for index in leading)


def _merged(decode_ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in decode_ranges:
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _droppable(scan: Scan) -> list[bool]:
    """Return for each packet whether no other picture refers to it.

    What H.265 calls a sub-layer non-reference picture may serve those of higher layers.
    """
    highest = max(facts.temporal_layer for facts in scan.facts)
    return [facts.droppable and facts.temporal_layer == highest for facts in scan.facts]
