"""Whether a picture is missing between two AV1 pictures, by their order hints.

Section numbers are those of the AV1 Bitstream & Decoding Process Specification.
"""

from __future__ import annotations

from array import array

from dataminer.stages.extract.selection.av1 import SLOTS, UNKNOWN_HINT, Av1Picture

_LEAST_RANGE = 8  # of order hints, which is a power of two; shorter ones tell nothing


class OrderHints:
    """Records the order hints of the pictures that are shown, in decoding order.

    Encoders number their pictures with them, in the order in which they are shown (6.8.2).
    """

    def __init__(self) -> None:
        self._hints: array[int] = array("h")
        self._groups: array[int] = array("q")
        self._slots = [UNKNOWN_HINT] * SLOTS
        self._group = 0

    def add(self, pictures: tuple[Av1Picture, ...] | None) -> None:
        """Append the next temporal unit; None if its pictures are unknown."""
        shown = UNKNOWN_HINT
        if pictures is None:
            self._slots = [UNKNOWN_HINT] * SLOTS
        for picture in pictures or ():
            hint = picture.order_hint
            if picture.shows_existing:
                shown = self._slots[picture.references.bit_length() - 1]
                continue
            self._group += picture.is_key
            shown = hint if picture.is_shown else shown
            for slot in range(SLOTS):
                if picture.refreshed_slots >> slot & 1:
                    self._slots[slot] = hint
        self._hints.append(shown)
        self._groups.append(self._group)

    def follows(self, before: int, after: int) -> bool:
        """Return whether no picture is missing between two that are shown one after the other.

        Parameters
        ----------
        before, after : int
            Indices of their packets.
        """
        first, second = self._hints[before], self._hints[after]
        if self._groups[before] != self._groups[after] or UNKNOWN_HINT in {first, second}:
            return False
        is_last = first + 1 >= _LEAST_RANGE and not (first + 1) & first
        return second == first + 1 or (is_last and second == 0)
