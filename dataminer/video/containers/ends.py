"""Whether a file begins later, or ends earlier, than its own structure says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dataminer.video.containers import asf, boxes, chunked, ebml, mpeg, ogg

_CHECKS: Mapping[str, Callable[[BinaryIO, int], bool | None]] = {
    "mov": boxes.is_cut,
    "matroska": ebml.is_cut,
    "asf": asf.is_cut,
    "mpegts": mpeg.transport_is_cut,
    "mpeg": mpeg.program_is_cut,
    "avi": chunked.avi_is_cut,
    "mxf": chunked.mxf_is_cut,
    "mxf_opatom": chunked.mxf_is_cut,
    "flv": chunked.flv_is_cut,
    "live_flv": chunked.flv_is_cut,
    "ogg": ogg.is_cut,
    "gif": chunked.gif_is_cut,
    "apng": chunked.png_is_cut,
    "nut": chunked.nut_is_cut,
    "dv": chunked.dv_is_cut,
}
_INDEXED_STARTS: Mapping[str, Callable[[BinaryIO, int, int], float | None]] = {
    "mov": boxes.first_indexed_seconds,
    "matroska": ebml.first_cue_seconds,
}


@dataclass(frozen=True)
class FileEnd:
    """How a file ends."""

    is_cut: bool | None = None
    """Whether bytes are missing that the file declares; None if that cannot be known."""
    seconds: float | None = None
    """The length that the header declares, if libav does not pass it on."""
    is_fragmented: bool = False
    """Whether libav knows the length and frames only of the fragments that it has met."""
    gaps: int = 0
    """Places within the file where parts are missing, as far as it numbers them."""


def read_file_end(path: Path, format_name: str) -> FileEnd:
    """Find out whether a file ends earlier than its own structure says.

    Parameters
    ----------
    path : Path
        The file.
    format_name : str
        libav's name of its container.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    name = format_name.partition(",")[0]
    check = _CHECKS.get(name)
    if check is None:
        return FileEnd()
    size = path.stat().st_size
    with path.open("rb") as file:
        seconds = None
        if name == "asf":
            header = asf.read_header(file, size)
            seconds = header.seconds if header else None
        pages = ogg.read_pages(file, size) if name == "ogg" else None
        if pages and pages.is_cut:
            return FileEnd(is_cut=True, gaps=pages.gaps)
        is_fragmented = name == "mov" and boxes.is_fragmented(file, size)
        gaps = pages.gaps if pages else 0
        return FileEnd(check(file, size), seconds, is_fragmented, gaps)


def read_indexed_start(path: Path, format_name: str, stream: int) -> float | None:
    """Return the time of the first keyframe that a file's index names, in seconds, if it has one.

    Parameters
    ----------
    path, format_name
        As for :func:`read_file_end`.
    stream : int
        The stream's position among all of the file.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    read = _INDEXED_STARTS.get(format_name.partition(",")[0])
    if read is None:
        return None
    with path.open("rb") as file:
        return read(file, path.stat().st_size, stream)
