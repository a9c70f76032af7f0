"""A file in which some bytes read as zeros, for readers that give up because of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


class MaskedFile:
    """A file on disk, some bytes of which read as zeros.

    Parameters
    ----------
    path : Path
        The file. It is closed when nothing refers to this any more, as libav does not close it.
    masked : sequence of (int, int)
        Where each part begins and ends that reads as zeros.
    """

    def __init__(self, path: Path, masked: Sequence[tuple[int, int]]) -> None:
        self.name = str(path)
        self._masked = masked
        self._file = path.open("rb")

    def __del__(self) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Read up to a number of bytes."""
        start = self._file.tell()
        data = bytearray(self._file.read(size))
        for begin, end in self._masked:
            first, last = max(begin - start, 0), min(end - start, len(data))
            if first < last:
                data[first:last] = bytes(last - first)
        return bytes(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position; return it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()
