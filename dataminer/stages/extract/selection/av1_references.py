"""Which pictures of an AV1 stream the wanted ones are built on: its headers name them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from dataminer.stages.extract.selection.av1 import Av1Picture

Node = tuple[int, int]
"""A picture: the place of its packet, and its own place in there."""
_SLOTS = range(8)


@dataclass
class Needs:
    """What to decode of some packets.

    Attributes
    ----------
    packets : set of int
        Places of those that hold anything needed.
    cuts : dict of int to list of (int, int)
        What to leave out of a packet: bytes from, up to.
    silent : set of int
        Places of packets that show nothing, once what is not needed is cut out.
    """

    packets: set[int] = field(default_factory=set)
    cuts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    packets_without_output: set[int] = field(default_factory=set)


def needs(
    units: Sequence[tuple[Av1Picture, ...]],
    decode_ranges: Iterable[tuple[int, int]],
    wanted: Collection[int],
    whole: Collection[int],
) -> Needs:
    """Follow references back from the wanted packets.

    Parameters
    ----------
    units : sequence of tuple of Av1Picture
        Of each packet, in decoding order.
    runs : iterable of (int, int)
        First and last places of packets to decode in one go; each begins with a key frame.
    wanted : collection of int
        Places of packets whose shown picture is wanted.
    whole : collection of int
        Places of packets that cannot be cut.
    """
    found = Needs()
    for begin, end in decode_ranges:
        sources = _sources(units, begin, end)
        needed: set[Node] = set()
        for packet_index in range(end, begin - 1, -1):
            nodes = [(packet_index, number) for number in range(len(units[packet_index]))]
            if packet_index in wanted:
                needed |= {node for node in nodes if units[packet_index][node[1]].is_shown}
            if packet_index in whole and not needed.isdisjoint(nodes):
                needed.update(nodes)
            for node in reversed(nodes):
                if node in needed:
                    needed |= sources[node]
            _note(found, packet_index, units[packet_index], [node in needed for node in nodes])
    return found


def _sources(
    units: Sequence[tuple[Av1Picture, ...]], begin: int, end: int
) -> dict[Node, set[Node]]:
    """Say of each picture which others it is built on, by what the decoder's slots hold then."""
    slots: list[Node | None] = [None for _ in _SLOTS]
    sources: dict[Node, set[Node]] = {}
    for packet_index in range(begin, end + 1):
        for number, picture in enumerate(units[packet_index]):
            node = packet_index, number
            held = {slots[slot] for slot in _SLOTS if picture.built_on >> slot & 1}
            sources[node] = {source for source in held if source}
            if picture.again and not any(units[p][n].is_key for p, n in sources[node]):
                continue
            for slot in _SLOTS:
                if picture.kept_in >> slot & 1:
                    slots[slot] = node
    return sources


def _note(
    found: Needs, packet_index: int, pictures: tuple[Av1Picture, ...], needed: Sequence[bool]
) -> None:
    if not any(needed):
        return
    found.packets.add(packet_index)
    for picture, stays in zip(pictures, needed, strict=True):
        if not stays:
            found.cuts.setdefault(packet_index, []).append((picture.begin, picture.end))
            if picture.is_shown:
                found.packets_without_output.add(packet_index)
