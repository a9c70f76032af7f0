"""What the numbers of MPEG-1 and MPEG-2 pictures say about those that are missing.

Section numbers are those of ISO/IEC 13818-2.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass

from av.video.stream import VideoStream

_CODECS = {"mpeg1video", "mpeg2video"}
_PICTURE, _GROUP = b"\0\0\1\0", b"\0\0\1\xb8"
_MODULUS = 1 << 10  # of temporal_reference
_BIDIRECTIONAL = 3  # a picture_coding_type; pictures of others may be referred to
_STEADY_SHARE = 0.9  # of distances between reference pictures that are equal
_USUAL_SHARE, _FEW = 0.05, 2  # of distances that occur without a loss
_MISSING_SHARE = 0.1  # of pictures; if more numbers are missing, they count something else
UNKNOWN = -1


def picture_numbers(stream: VideoStream) -> PictureNumbers | None:
    """Return a record of a stream's picture numbers; None if its codec has none."""
    return PictureNumbers() if stream.codec.canonical_name in _CODECS else None


class PictureNumbers:
    """Records the temporal_reference of pictures, in decoding order.

    It numbers the pictures of a group in the order in which they are shown (6.3.9).
    """

    def __init__(self) -> None:
        self._numbers: array[int] = array("h")
        self._groups: array[int] = array("q")
        self._kinds = bytearray()
        self._group = 0

    def add(self, data: memoryview) -> None:
        """Append the first picture of the next packet."""
        raw = data.tobytes()
        begin = raw.find(_PICTURE)
        self._group += _GROUP in raw[: max(begin, 0)]
        head = raw[begin + 4 : begin + 6]
        is_picture = begin >= 0 and len(head) == 2
        self._numbers.append(head[0] << 2 | head[1] >> 6 if is_picture else UNKNOWN)
        self._kinds.append(head[1] >> 3 & 7 if is_picture else 0)
        self._groups.append(self._group)

    def follows(self, before: int, after: int) -> bool:
        """Return whether no picture is missing between two that are shown one after the other.

        Parameters
        ----------
        before, after : int
            Indices of their packets.
        """
        step = (self._numbers[after] - self._numbers[before]) % _MODULUS
        return self.are_of_one_group(before, after) and step == 1

    def are_of_one_group(self, before: int, after: int) -> bool:
        """Return whether the numbers of two packets' pictures can be compared."""
        is_known = UNKNOWN not in (self._numbers[before], self._numbers[after])
        return is_known and self._groups[before] == self._groups[after]

    def missing(self) -> int:
        """Return how many pictures are missing within groups, after their first keyframes."""
        firsts: dict[int, int] = {}
        numbers: defaultdict[int, set[int]] = defaultdict(set)
        for group, number, kind in zip(self._groups, self._numbers, self._kinds, strict=True):
            if number != UNKNOWN and kind != _BIDIRECTIONAL:
                firsts.setdefault(group, number)
            if number >= firsts.get(group, _MODULUS):
                numbers[group].add(number)
        count = sum(max(those) + 1 - firsts[group] - len(those) for group, those in numbers.items())
        return count if count <= len(self._numbers) * _MISSING_SHARE else 0

    def orphans(self) -> list[int]:
        """Return the indices of packets before which a reference picture is missing."""
        anchors = self._anchors()
        common = Counter(anchor.step for anchor in anchors).most_common()
        few = max(_FEW, len(anchors) * _USUAL_SHARE)
        longest = max((step for step, count in common if count > few), default=1)
        is_steady = common and common[0][1] >= len(anchors) * _STEADY_SHARE
        steady = common[0][0] if is_steady else 1
        found = []
        for anchor in anchors:
            is_odd = anchor.step > longest or not (anchor.between or anchor.step in (1, steady))
            if anchor.stray is not None:
                found.append(anchor.stray)
            elif is_odd and anchor.between < anchor.step - 1:
                found.append(anchor.index)
        return found

    def displaced(self) -> list[int]:
        """Return the indices of packets whose pictures are shown late: the next one is missing."""
        return [anchor.before for anchor in self._anchors() if anchor.stray is not None]

    def _anchors(self) -> list[_Anchor]:
        """Return the reference pictures that follow others of their groups."""
        anchors: list[_Anchor] = []
        last = before = UNKNOWN
        last_index = 0
        stray: int | None = None
        for index, number in enumerate(self._numbers):
            if index and self._groups[index] != self._groups[index - 1]:
                last, before, stray = UNKNOWN, UNKNOWN, None
            if number in {UNKNOWN, last}:  # the second field
                continue
            if self._kinds[index] != _BIDIRECTIONAL:
                if last != UNKNOWN:
                    step = (number - last) % _MODULUS
                    anchors.append(_Anchor(index, last_index, step, stray))
                last, before, stray, last_index = number, last, None, index
            elif _is_between(before, number, last):
                if before != UNKNOWN:
                    anchors[-1].between += 1
            elif last != UNKNOWN:
                stray = index if stray is None else stray
        return anchors


def _is_between(before: int, number: int, last: int) -> bool:
    """Return whether a picture is shown between the two reference pictures decoded last."""
    if UNKNOWN in {before, last}:
        return (number - last) % _MODULUS > _MODULUS // 2
    return 0 < (number - before) % _MODULUS < (last - before) % _MODULUS


@dataclass
class _Anchor:
    index: int
    before: int
    """Index of the reference picture before it, in decoding order."""
    step: int
    """Its distance from that one, in the order in which they are shown."""
    stray: int | None
    """The first bidirectional picture before it that is not shown between the two before."""
    between: int = 0
    """Bidirectional pictures that are shown between the two."""
