"""Which pictures of an AV1 stream the selected ones refer to; its headers name them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from dataminer.stages.extract.selection.av1 import Av1Picture

Node = tuple[int, int]
"""A picture: the index of its packet, and its own index in the packet."""
_SLOTS = range(8)


@dataclass
class RequiredPackets:
    """What to decode of some packets.

    Attributes
    ----------
    packets : set of int
        Indices of those with a required picture.
    cuts : dict of int to list of (int, int)
        Byte ranges to remove from a packet.
    packets_without_output : set of int
        Indices of packets that show nothing once these bytes are removed.
    """

    packets: set[int] = field(default_factory=set)
    cuts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    packets_without_output: set[int] = field(default_factory=set)

    def add(
        self, packet_index: int, pictures: tuple[Av1Picture, ...], required: Sequence[bool]
    ) -> None:
        """Record which pictures of a packet are required."""
        if not any(required):
            return
        self.packets.add(packet_index)
        for picture, stays in zip(pictures, required, strict=True):
            if not stays:
                self.cuts.setdefault(packet_index, []).append((picture.begin, picture.end))
                if picture.is_shown:
                    self.packets_without_output.add(packet_index)


def find_required(
    units: Sequence[tuple[Av1Picture, ...]],
    decode_ranges: Iterable[tuple[int, int]],
    selected: Collection[int],
    uncuttable: Collection[int],
) -> RequiredPackets:
    """Follow references back from the selected packets.

    Parameters
    ----------
    units : sequence of tuple of Av1Picture
        The pictures of each packet, in decoding order.
    decode_ranges : iterable of (int, int)
        Indices of the first and last packet to decode; each range starts with a key frame.
    selected : collection of int
        Indices of packets whose shown picture is selected.
    uncuttable : collection of int
        Indices of packets that must stay whole.
    """
    result = RequiredPackets()
    for begin, end in decode_ranges:
        sources = _sources(units, begin, end)
        required: set[Node] = set()
        for index in range(end, begin - 1, -1):
            nodes = [(index, number) for number in range(len(units[index]))]
            if index in selected:
                required |= {node for node in nodes if units[index][node[1]].is_shown}
            if index in uncuttable and not required.isdisjoint(nodes):
                required.update(nodes)
            for node in reversed(nodes):
                if node in required:
                    required |= sources[node]
            result.add(index, units[index], [node in required for node in nodes])
    return result


def _sources(
    units: Sequence[tuple[Av1Picture, ...]], begin: int, end: int
) -> dict[Node, set[Node]]:
    """Return the pictures that each picture refers to, by the content of the decoder's slots."""
    slots: list[Node | None] = [None for _ in _SLOTS]
    sources: dict[Node, set[Node]] = {}
    for packet_index in range(begin, end + 1):
        for number, picture in enumerate(units[packet_index]):
            node = packet_index, number
            in_slots = {slots[slot] for slot in _SLOTS if picture.references >> slot & 1}
            sources[node] = {source for source in in_slots if source}
            if picture.shows_existing and not any(units[p][n].is_key for p, n in sources[node]):
                continue
            for slot in _SLOTS:
                if picture.refreshed_slots >> slot & 1:
                    slots[slot] = node
    return sources
