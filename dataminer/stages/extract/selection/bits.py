"""Numbers in the headers of video streams, bit by bit."""

from __future__ import annotations


class BitReader:
    """Reads bits from the first; after the last of them there are only zeros."""

    __slots__ = ("_left", "_number")

    def __init__(self, data: bytes | memoryview) -> None:
        self._number = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """Read an unsigned number of some bits."""
        self._left = left = self._left - count
        if left >= 0:
            return self._number >> left & (1 << count) - 1
        return self._number << -left & (1 << count) - 1

    def read_exp_golomb(self) -> int:
        """Read an unsigned Exp-Golomb code: ue(v) of ITU-T H.264, 9.1; uvlc() of AV1, 4.10.3."""
        left = max(0, self._left)
        zeros = left - (self._number & (1 << left) - 1).bit_length()
        self.read(min(zeros, 32))
        return max(0, self.read(min(zeros, 32) + 1) - 1)
