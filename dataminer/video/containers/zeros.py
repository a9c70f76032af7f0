"""Zeros in place of a file's end, as of a download for which the space was only reserved."""

from __future__ import annotations

from typing import BinaryIO

MIN_ZEROS = 1024
"""Bytes; fewer zeros at the end are padding, or the end of a picture."""
_BLOCK = 1 << 20


def zeros_begin(file: BinaryIO, size: int) -> int:
    """Return where the zeros begin that end a file; its size if they are few."""
    position = size
    block = min(MIN_ZEROS, size)
    while position > 0:
        start = max(0, position - block)
        file.seek(start)
        data = file.read(position - start).rstrip(b"\0")
        position = start + len(data)
        if data:
            break
        block = _BLOCK
    return position if size - position >= MIN_ZEROS else size
