"""Files made of chunks: AVI (RIFF), MXF (KLV), FLV (tags), GIF, APNG, NUT and DV."""

from __future__ import annotations

import bisect
import errno
import os
import re
from dataclasses import dataclass
from typing import BinaryIO

MIN_ZEROS = 1024
"""Bytes; fewer zeros at the end of a file are padding, or the end of a picture."""
MAX_END_ZEROS = 3
"""Bytes with which what is written before such zeros may end itself."""
_MAX_CHUNKS = 2_000_000  # a GIF of 500 MB, or an MXF of hours
_ODD_BYTES = 2  # by which some writers get the size of an AVI wrong
_UNKNOWN_RIFF = {0, 0xFFFFFFFF}  # sizes of recordings that were never closed
_RIFF_LISTS = {b"movi", b"rec "}  # that hold the chunks of streams
_BLOCK = 1 << 20  # bytes that are searched at once
_KLV_KEY = b"\x06\x0e\x2b\x34"
_PARTITION_KEY = bytes.fromhex("060e2b34020501010d010201")  # and its kind; SMPTE ST 377-1, 7.1
_FOOTER = 24  # position of the footer's offset within a partition pack
_RUN_IN = 1 << 16  # bytes in front of an MXF's first key, at most
_FLV_TAG = 11  # bytes of a tag's header; the size of the whole tag follows it
_FLV_KINDS = {8, 9, 18}
_PADDING = 64  # zero bytes at the end that are tolerated
_DV_SEQUENCE = 12_000  # bytes; SMPTE 314M: 10 or 12 of them are a frame, or multiples
_NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")
_LARGE_GIF = 64 << 20  # bytes; its parts of up to 255 bytes are not counted
_GIF_END, _GIF_EXTENSION, _GIF_IMAGE = 0x3B, 0x21, 0x2C


def zeros_begin(file: BinaryIO, size: int) -> int:
    """Return where the zeros begin that end a file; its size if they are few.

    Downloads for which the space was only reserved end so.
    """
    position = _hole_begins(file, size)
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


def _hole_begins(file: BinaryIO, size: int) -> int:
    """Return where the hole begins that ends a sparse file; its size if there is none."""
    if not hasattr(os, "SEEK_DATA"):
        return size
    try:
        descriptor = file.fileno()
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        return size  # no file of the system

    def is_hole(start: int) -> bool:
        try:
            return os.lseek(descriptor, start, os.SEEK_DATA) >= size
        except OSError as error:
            return error.errno == errno.ENXIO  # nothing but a hole follows

    begin = bisect.bisect_left(range(size), True, key=is_hole)
    os.lseek(descriptor, position, os.SEEK_SET)
    return begin


def avi_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether the last RIFF chunk of an AVI ends beyond the end of the file."""
    position = 0
    is_known = False
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(12)
        if len(header) < 12 or header[:4] != b"RIFF" or header[8:11] != b"AVI":
            break
        length = int.from_bytes(header[4:8], "little")
        if length in _UNKNOWN_RIFF:
            return _avi_chunks_are_cut(file, position + 12, size)
        is_known = True
        position += 8 + length + length % 2
    return position > size + _ODD_BYTES if is_known else None


def _avi_chunks_are_cut(file: BinaryIO, position: int, size: int) -> bool | None:
    """Return whether an AVI that was never closed ends within a chunk."""
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(12)
        if len(header) < 8:
            return position != size
        length = int.from_bytes(header[4:8], "little")
        if header[:4] == b"LIST" and (length in _UNKNOWN_RIFF or header[8:] == b"movi"):
            position += 12
        elif header[:4].isalnum():
            position += 8 + length + length % 2
        else:
            return None
    return None


@dataclass(frozen=True)
class AviChunks:
    """The chunks of one stream of an AVI."""

    count: int
    """All that were found, also the empty ones, which repeat the picture before."""
    has_breaks: bool
    """Whether something else stands where a chunk should begin."""
    ends_early: bool
    """Whether that goes on to the end of the file."""


def read_avi_chunks(file: BinaryIO, size: int, stream: int) -> AviChunks | None:
    """Count the chunks of pictures of a stream, past what is broken; None if they are too many.

    Parameters
    ----------
    file, size
        The file, and its bytes.
    stream : int
        The stream's number.
    """
    name = re.compile(rb"%02dd[bc]" % stream)
    position = count = 0
    has_breaks = False
    for _ in range(_MAX_CHUNKS):
        if size - position < 8:
            return AviChunks(count, has_breaks, ends_early=False)
        file.seek(position)
        header = file.read(12)
        length = int.from_bytes(header[4:8], "little")
        end = position + 8 + length + length % 2
        if header[:4] == b"RIFF" or (header[:4] == b"LIST" and header[8:] in _RIFF_LISTS):
            position += 12
        elif header[:4].isalnum() and end <= size + 1:
            count += bool(name.match(header))
            position = end
        else:
            has_breaks = True
            found = find_pattern(file, position + 1, name)
            if found is None:
                return AviChunks(count, has_breaks, ends_early=True)
            position = found
    return None


def find_pattern(file: BinaryIO, position: int, pattern: re.Pattern[bytes]) -> int | None:
    """Return where a pattern of four bytes occurs next, from a position on."""
    file.seek(position)
    rest = file.read(4)
    if pattern.match(rest):
        return position
    position += len(rest)
    while block := file.read(_BLOCK):
        found = pattern.search(rest + block)
        if found:
            return position - len(rest) + found.start()
        position += len(block)
        rest = block[-3:]
    return None


def mxf_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether an MXF has no footer where its header declares it, or ends within an item."""
    file.seek(0)
    start = file.read(_RUN_IN).find(_PARTITION_KEY)
    if start < 0:
        return None
    pack = _klv_content(file, start, size)
    if pack is None:
        return None
    file.seek(pack[0] + _FOOTER)
    footer = int.from_bytes(file.read(8))
    position = start + footer if footer else start
    if position >= size:
        return True
    file.seek(position)
    if footer and file.read(len(_PARTITION_KEY)) != _PARTITION_KEY:
        return True
    for _ in range(_MAX_CHUNKS):
        item = _klv_content(file, position, size) if position < size else None
        if item is None:
            break
        position = item[1]
    return position != size if position > size or size - position < 20 else None


def _klv_content(file: BinaryIO, position: int, size: int) -> tuple[int, int] | None:
    """Return where an item's value begins and ends."""
    file.seek(position)
    header = file.read(25)
    if not header.startswith(_KLV_KEY) or len(header) < 17:
        return None
    length, content = header[16], position + 17
    if length & 0x80:
        count = length & 0x7F
        if not 0 < count <= 8:
            return None
        length, content = int.from_bytes(header[17 : 17 + count]), content + count
    return content, content + length


def flv_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether an FLV ends within a tag; None if its writer does not repeat tags' sizes."""
    file.seek(5)
    first = int.from_bytes(file.read(4)) + 4  # past the header, and the size of no tag
    if not _flv_repeated_size(file, first):
        return None
    file.seek(max(first, size - _PADDING))
    zeros = len(tail := file.read()) - len(tail.rstrip(b"\0"))
    return not any(_flv_tag_ends(file, first, size - padding) for padding in range(zeros + 1))


def _flv_tag_ends(file: BinaryIO, first: int, end: int) -> bool:
    """Return whether a tag, with its size repeated after it, ends at a position."""
    file.seek(max(0, end - 4))
    length = int.from_bytes(file.read(4))
    start = end - 4 - length
    if length < _FLV_TAG or start < first:
        return False
    file.seek(start)
    header = file.read(4)
    return header[0] & 0x1F in _FLV_KINDS and int.from_bytes(header[1:]) + _FLV_TAG == length


def _flv_repeated_size(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    length = int.from_bytes(file.read(4)[1:]) + _FLV_TAG
    file.seek(start + length)
    return int.from_bytes(file.read(4)) == length


def gif_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether a GIF ends within a block, or in zeros; one may lack its last byte."""
    data_end = zeros_begin(file, size)
    file.seek(max(0, data_end - 1))
    is_ended = file.read(1)[0] == _GIF_END
    if is_ended or data_end < size:
        return not is_ended
    if size > _LARGE_GIF:
        return None
    file.seek(0)
    flags = file.read(11)[10:]
    position = 13 + _gif_colours(flags)
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        block = file.read(10)
        if not block:
            return position > size
        if block[0] == _GIF_EXTENSION:
            position += 2
        elif block[0] == _GIF_IMAGE and len(block) == 10:
            position += 11 + _gif_colours(block[9:])
        else:
            return None if block[0] != _GIF_IMAGE else True
        end = _end_of_parts(file, position)
        if end is None:
            return True
        position = end
    return None


def _gif_colours(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _end_of_parts(file: BinaryIO, position: int) -> int | None:
    """Return where a GIF's block of parts of up to 255 bytes ends; None if it does not."""
    file.seek(position)
    for _ in range(_MAX_CHUNKS):
        length = file.read(1)
        if not length:
            return None
        if not length[0]:
            return file.tell()
        file.seek(length[0], 1)
    return None


def png_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether an APNG has no last chunk."""
    position = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return True
        position += 12 + int.from_bytes(header[:4])
        if header[4:] == b"IEND":
            return position > size
    return None


def nut_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether a NUT file lacks its index, which stands at its end."""
    if size < 12:
        return True
    file.seek(size - 12)
    length = int.from_bytes(file.read(8))
    if not len(_NUT_INDEX) < length <= size:
        return True
    file.seek(size - length)
    return file.read(len(_NUT_INDEX)) != _NUT_INDEX


def dv_is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether a DV file ends within a frame."""
    file.seek(0)
    header = file.read(4)
    if len(header) < 4 or header[0] >> 5:
        return None
    return size % (_DV_SEQUENCE * (12 if header[3] & 0x80 else 10)) != 0
