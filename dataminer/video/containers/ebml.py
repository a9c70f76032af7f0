"""Elements of Matroska and WebM files (RFC 8794, RFC 9559): tracks, encryption, cut elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from dataminer.video.containers.chunked import zeros_begin

_SIGNATURE = bytes.fromhex("1a45dfa3")
_SEGMENT, _CLUSTER, _TRACKS, _TRACK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_TRACK_TYPE, _ENCODINGS, _ENCODING, _ENCODING_TYPE = 0x83, 0x6D80, 0x6240, 0x5033
VIDEO_TRACK = 1
"""A TrackType."""
_STREAM_TYPES = {VIDEO_TRACK, 2, 17}  # and audio, subtitle
_ENCRYPTION = 1  # a ContentEncodingType; 0 is compression
_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_INFO, _TIMESTAMP_SCALE, _DEFAULT_SCALE = 0x1549A966, 0x2AD7B1, 1_000_000
_CUES, _CUE, _CUE_TIME, _CUE_POSITIONS, _CUE_TRACK = 0x1C53BB6B, 0xBB, 0xB3, 0xB7, 0xF7
_TRACK_NUMBER = 0xD7
_TIMESTAMP, _CRC = 0xE7, 0xBF  # what a cluster begins with
_IN_CLUSTER = {_TIMESTAMP, _CRC, 0xA3, 0xA0, 0xA7, 0xAB, 0xEC, 0x5854}
_IN_SEGMENT = {_CLUSTER, 0x1C53BB6B, 0x1254C367, 0x114D9B74, 0x1549A966, 0x1043A770, 0xEC}
_MAX_ELEMENTS = 4096  # side by side; a longer list is not searched further
_MAX_TRACKS_BYTES = 4 << 20
_MAX_CLUSTER_ELEMENTS = 20_000
_MAX_CANDIDATES = 64  # ids from which elements are followed
_MAX_NUMBER = 8  # bytes
_LONGEST_HEADER = 12  # bytes of an element
_TAIL = 16 << 20  # bytes in which the last cluster of a live recording should begin


@dataclass(frozen=True)
class Element:
    """An element: its id, and the positions of its content and its end, None if not declared."""

    id: int
    content: int
    end: int | None


def _element_at(file: BinaryIO, start: int) -> Element | None:
    file.seek(start)
    header = file.read(_LONGEST_HEADER)
    if not header or not header[0]:
        return None
    id_bytes = 9 - header[0].bit_length()
    if id_bytes > 4 or len(header) <= id_bytes or not header[id_bytes]:
        return None
    size_bytes = 9 - header[id_bytes].bit_length()
    content = start + id_bytes + size_bytes
    data = header[id_bytes : id_bytes + size_bytes]
    if len(data) < size_bytes:
        return None
    size = int.from_bytes(data) & ((1 << 7 * size_bytes) - 1)
    unknown = size == (1 << 7 * size_bytes) - 1
    return Element(int.from_bytes(header[:id_bytes]), content, None if unknown else content + size)


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[Element]:
    for _ in range(_MAX_ELEMENTS):
        element = _element_at(file, start) if start < end else None
        if element is None:
            return
        yield element
        if element.end is None:
            return
        start = element.end


def is_matroska(file: BinaryIO) -> bool:
    """Return whether a file begins like Matroska and WebM."""
    file.seek(0)
    return file.read(len(_SIGNATURE)) == _SIGNATURE


def _segment(file: BinaryIO, size: int) -> Element | None:
    return next((e for e in _elements(file, 0, size) if e.id == _SEGMENT), None)


def tracks(file: BinaryIO, size: int) -> list[tuple[Element, int]]:
    """Return the tracks of a file of some size in bytes, each with its TrackType."""
    segment = _segment(file, size)
    if segment is None:
        return []
    found: list[Element] = []
    for element in _elements(file, segment.content, min(segment.end or size, size)):
        if element.id == _CLUSTER and found:
            break
        if element.id == _TRACKS and element.end:
            end = min(element.end, size, element.content + _MAX_TRACKS_BYTES)
            found += children(file, replace(element, end=end), _TRACK)
    return [(track, _number(file, track, _TRACK_TYPE)) for track in found]


def encrypted_track_positions(file: BinaryIO, size: int) -> set[int]:
    """Return which tracks are encrypted, counting those of pictures, sound and subtitles."""
    streams = [track for track, kind in tracks(file, size) if kind in _STREAM_TYPES]
    return {position for position, track in enumerate(streams) if _is_encrypted(file, track)}


def _is_encrypted(file: BinaryIO, track: Element) -> bool:
    for encodings in children(file, track, _ENCODINGS):
        for encoding in children(file, encodings, _ENCODING):
            if _number(file, encoding, _ENCODING_TYPE) == _ENCRYPTION:
                return True
    return False


def children(file: BinaryIO, parent: Element, kind: int) -> list[Element]:
    """Return the elements of one kind in another; what is broken, and what follows it, is not."""
    end = parent.end or parent.content
    elements = _elements(file, parent.content, end)
    return [e for e in elements if e.id == kind and e.end is not None and e.end <= end]


def read_numbers(file: BinaryIO, parent: Element) -> dict[int, int]:
    """Return the unsigned integers in an element by their ids, of repeated ones the last.

    Raises
    ------
    ValueError
        If its elements are broken.
    """
    end, numbers = parent.content, {}
    for child in _elements(file, parent.content, parent.end or parent.content):
        end = child.end or -1
        if 0 <= end - child.content <= _MAX_NUMBER:
            file.seek(child.content)
            numbers[child.id] = int.from_bytes(file.read(end - child.content))
    if end != parent.end:
        raise ValueError("an element is broken")
    return numbers


def _number(file: BinaryIO, parent: Element, kind: int) -> int:
    for child in children(file, parent, kind)[-1:]:  # as in libav, the last counts
        file.seek(child.content)
        length = (child.end or 0) - child.content
        return int.from_bytes(file.read(length)) if length <= _MAX_NUMBER else 0
    return 0


def first_cue_seconds(file: BinaryIO, size: int, position: int) -> float | None:
    """Return the time of the first keyframe that the index names; None if there is no index.

    Parameters
    ----------
    file, size
        The file, and its bytes.
    position : int
        The track's, counting those of pictures, sound and subtitles.
    """
    streams = [track for track, kind in tracks(file, size) if kind in _STREAM_TYPES]
    segment = _segment(file, size)
    if segment is None or position >= len(streams):
        return None
    number = _number(file, streams[position], _TRACK_NUMBER)
    scale, cues = _scale_and_cues(file, segment, size)
    for cue in children(file, cues, _CUE) if cues else ():
        for positions in children(file, cue, _CUE_POSITIONS):
            if _number(file, positions, _CUE_TRACK) == number:
                return _number(file, cue, _CUE_TIME) * scale / 1e9
    return None


def _scale_and_cues(file: BinaryIO, segment: Element, size: int) -> tuple[int, Element | None]:
    """Return the nanoseconds of a unit of time, and the index."""
    scale, cues = _DEFAULT_SCALE, None
    for element in _elements(file, segment.content, min(segment.end or size, size)):
        if element.id == _CLUSTER:
            break
        if element.id == _INFO:
            scale = _number(file, element, _TIMESTAMP_SCALE) or scale
        elif element.id == _CUES:
            cues = element
        for seek in children(file, element, _SEEK) if element.id == _SEEK_HEAD else ():
            if _number(file, seek, _SEEK_ID) == _CUES:
                cues = _element_at(file, segment.content + _number(file, seek, _SEEK_POSITION))
    return scale, cues if cues and cues.id == _CUES and cues.end else None


def is_cut(file: BinaryIO, size: int) -> bool | None:
    """Return whether the file ends within an element; None if that cannot be known.

    Live recordings do not declare the sizes of their segment and clusters. Their last cluster is
    searched from the end.
    """
    segment = _segment(file, size)
    if segment is None:
        return None
    if segment.end is not None:
        return segment.end > size or _ends_in_zeros(file, segment, size)
    start = max(segment.content, size - _TAIL)
    file.seek(start)
    tail = file.read(_TAIL)
    position = len(tail)
    sign, zeros = _CLUSTER.to_bytes(4), zeros_begin(file, size)
    for _ in range(_MAX_CANDIDATES):
        position = tail.rfind(sign, 0, position)
        if position < 0:
            break
        ends_cut = _cluster_is_cut(file, start + position, size, zeros)
        if ends_cut is not None:
            return ends_cut
    return None


def _ends_in_zeros(file: BinaryIO, segment: Element, size: int) -> bool:
    """Return whether zeros stand where an element should begin, up to the end of the file."""
    zeros, end = zeros_begin(file, size), segment.end or size
    if zeros >= end:
        return False
    elements = list(_elements(file, segment.content, end))
    if elements and elements[-1].id == _CLUSTER and elements[-1].end == end:
        elements += _elements(file, elements[-1].content, end)
    position = elements[-1].end if elements else segment.content
    return position is not None and zeros <= position < end


def _cluster_is_cut(file: BinaryIO, start: int, size: int, zeros: int) -> bool | None:
    """Return whether a cluster, or what follows it, is cut; None if it is no cluster."""
    position, inside = start, False
    for _ in range(_MAX_CLUSTER_ELEMENTS):
        if size - position < _LONGEST_HEADER:
            return _rest_is_cut(file, position, size)
        element = _element_at(file, position)
        if element is None and zeros < position:  # they begin within the element before
            return True
        if element is None or element.id not in _IN_CLUSTER | _IN_SEGMENT:
            return None
        if inside and element.id not in {_TIMESTAMP, _CRC}:
            return None
        inside = element.id == _CLUSTER
        if element.end is None and not inside:
            return None
        position = element.content if inside else element.end or size
    return None


def _rest_is_cut(file: BinaryIO, position: int, size: int) -> bool:
    """Return whether the last bytes, fewer than the longest header, are a cut element."""
    while position < size:
        element = _element_at(file, position)
        if element is None:
            return True
        position = element.end or element.content
    return position > size
