"""Which streams of a file are encrypted: their frames would come out as noise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from av.video.stream import VideoStream

from dataminer.video.containers import asf, boxes, ebml, mpeg


def encrypted_streams(path: Path, format_name: str, streams: Iterable[VideoStream]) -> set[int]:
    """Return the indices of the streams that are encrypted.

    Parameters
    ----------
    path : Path
        The file.
    format_name : str
        libav's name of its container.
    streams : iterable of VideoStream
        Its video streams.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    ids = {stream.index: stream.id for stream in streams}
    size = path.stat().st_size
    with path.open("rb") as file:
        if format_name.startswith("mov,"):
            tracks = boxes.encrypted_track_ids(file, size)
            return {index for index, track in ids.items() if track in tracks}
        if format_name.startswith("matroska"):
            return ebml.encrypted_track_positions(file, size) & set(ids)
        if format_name == "mpegts":
            return {i for i, pid in ids.items() if mpeg.transport_is_scrambled(file, size, pid)}
        if format_name == "mpeg":
            return set(ids) if mpeg.program_is_scrambled(file, size) else set()
        if format_name == "asf":
            header = asf.read_header(file, size)
            return set(ids) if header and header.encrypted else set()
    return set()


def has_encrypted_tracks(path: Path) -> bool:
    """Return whether a file that libav cannot open is an MP4 with encrypted tracks."""
    with path.open("rb") as file:
        return bool(boxes.encrypted_track_ids(file, path.stat().st_size))
