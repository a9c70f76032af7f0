"""Files that were joined byte after byte, of which libav reads only the first."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from dataminer.video.containers import boxes

_BEGINNINGS: Mapping[str, re.Pattern[bytes]] = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in {
        "matroska": rb"\x1a\x45\xdf\xa3.{1,64}\x42\x82.(?:webm|matroska)",
        "flv": rb"FLV\x01[\x00\x01\x04\x05]\x00\x00\x00\x09\x00{4}",
        "live_flv": rb"FLV\x01[\x00\x01\x04\x05]\x00\x00\x00\x09\x00{4}",
        "asf": re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),
        "nut": rb"nut/multimedia container\x00",
        "ivf": rb"DKIF\x00\x00\x20\x00",
    }.items()
}
"""How files of a format begin, by libav's name of it."""
_LONGEST = 96  # bytes of such a beginning
_BLOCK = 1 << 20  # bytes that are searched at once


def count_unread_files(path: Path, format_name: str, position: int, frames: int) -> int:
    """Count the files that begin behind what was read of a file.

    Parameters
    ----------
    path, format_name
        The file, and libav's name of its container.
    position : int
        Where the last packet of its pictures was found; 0 if that is unknown.
    frames : int
        How many there were, and were to be shown.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    name = format_name.partition(",")[0]
    pattern = _BEGINNINGS.get(name)
    with path.open("rb") as file:
        if name == "mov":
            return _unread_movies(file, path.stat().st_size, frames)
        return _count(file, position, pattern) if pattern and position > 0 else 0


def _count(file: BinaryIO, position: int, pattern: re.Pattern[bytes]) -> int:
    """Return how often a pattern occurs from a position on."""
    file.seek(position)
    count, rest = 0, b""
    while block := file.read(_BLOCK):
        data = rest + block
        ends = [found.end() for found in pattern.finditer(data)]
        count += len(ends)
        rest = data[max([len(data) - _LONGEST, *ends[-1:]]) :]
    return count


def _unread_movies(file: BinaryIO, size: int, frames: int) -> int:
    """Return how many descriptions follow the first one of an MP4: libav leaves them out.

    Fragments behind them are read, if their times go on.
    """
    found = [box for box in boxes.read_boxes(file, 0, size) if box.kind in {b"moov", b"moof"}]
    movies = [index for index, box in enumerate(found) if box.kind == b"moov"]
    if len(movies) < 2:
        return 0
    fragments = [box for box in found if box.kind == b"moof"]
    if fragments and sum(boxes.count_samples(file, box) for box in fragments) <= frames:
        return 0
    ends = [*movies[1:], len(found)]
    are_lost = [bool(fragments) or end == begin + 1 for begin, end in itertools.pairwise(ends)]
    return sum(are_lost)
