"""Metadata of a Parquet file, read without its schema.

Parsed by hand (https://parquet.apache.org/docs/file-format/), because plans read the metadata of
thousands of tables, and pyarrow, which also builds their schemas, takes ten times as long.
"""

from __future__ import annotations

import os

from dataminer.errors import DamagedFile
from dataminer.files.links import StrPath
from dataminer.files.reading import open_file

_MAX_BYTES = 2**26  # the footer of a table of boxes names each frame
_TAIL = 2**14  # footers of our tables are a few thousand bytes
_AFTER_FOOTER = 8  # bytes: the footer's size, and "PAR1"


def metadata_value(path: StrPath, key: bytes) -> bytes | None:
    """Return the value of a key in a file's metadata; None if it has no such key.

    Raises
    ------
    FileNotFoundError
        There is no file.
    DamagedFile
        It is not a Parquet file.
    """
    # a key and the start of its value in Thrift's compact protocol: two binaries, fields 1 and 2
    entry = b"\x18" + bytes([len(key)]) + key + b"\x18"
    footer = _read_footer(path)
    start = footer.rfind(entry)
    if start < 0:
        return None
    size, start = _varint(footer, start + len(entry))
    return footer[start : start + size]


def _read_footer(path: StrPath) -> bytes:
    with open_file(path) as file:
        length = file.seek(0, os.SEEK_END)
        tail = os.pread(file.fileno(), _TAIL, max(length - _TAIL, 0))
        size, magic = int.from_bytes(tail[-_AFTER_FOOTER:-4], "little"), tail[-4:]
        if magic != b"PAR1" or size > min(length - _AFTER_FOOTER, _MAX_BYTES):
            raise DamagedFile(path, "it is not a Parquet file, or was cut off")
        size += _AFTER_FOOTER
        if size > len(tail):
            tail = os.pread(file.fileno(), size, length - size)
        return tail[-size:-_AFTER_FOOTER]


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """Read a number of variable length; return it and the position after it."""
    number = 0
    for index, byte in enumerate(data[start:]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, start + index + 1
    return 0, len(data)  # cut off: an empty value is no valid JSON
