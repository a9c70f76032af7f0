"""The index of an AVI: when its packets are shown, though others before them are lost.

AVI states no times: libav counts the packets that it finds. Microsoft, AVI RIFF File Reference,
"AVI index entries" (``idx1``).
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.video.stream import VideoStream

_ENTRY = struct.Struct("<4sIII")  # its chunk, flags, offset, size
_TAIL = 16 << 20  # bytes in which the index is searched
_CHUNK_HEADER = 8


class AviTimes:
    """Corrects the time stamps of packets by their numbers in the index.

    Parameters
    ----------
    container, stream
        Nothing is corrected unless it is an AVI with an index of all its declared frames.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._numbers: dict[int, int] = {}
        self._shift = 0
        if container.format.name == "avi":
            numbers: dict[int, int] = {}
            with suppress(OSError):  # at which libav fails, too
                numbers = _read_index(Path(container.name.removeprefix("file:")), stream.index)
            self._numbers = numbers if len(numbers) == stream.frames else {}

    def correct(self, packet: Any) -> None:
        """Move the next packet to where it is due."""
        if not self._numbers or packet.dts is None or packet.pos is None:
            return
        number = self._numbers.get(packet.pos - _CHUNK_HEADER)
        if number is not None:
            self._shift = max(0, number - packet.dts)
        if self._shift:
            packet.dts += self._shift
            packet.pts = None if packet.pts is None else packet.pts + self._shift


def _read_index(path: Path, stream: int) -> dict[int, int]:
    """Return the numbers of a stream's chunks by their positions; none if they are unknown."""
    names = {b"%02dd%c" % (stream, kind) for kind in b"bc"}
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        movie = file.read(1 << 20).find(b"movi")
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
        begin = tail.rfind(b"idx1")
        length = int.from_bytes(tail[begin + 4 : begin + 8], "little")
        data = tail[begin + 8 : begin + 8 + length]
        if movie < 0 or begin < 0 or len(data) < length or length % _ENTRY.size:
            return {}
        offsets = [offset for name, _, offset, _ in _ENTRY.iter_unpack(data) if name in names]
        for base in (movie, 0) if offsets else ():  # offsets count from either
            file.seek(base + offsets[0])
            if file.read(4) in names:
                return {base + offset: number for number, offset in enumerate(offsets)}
    return {}
