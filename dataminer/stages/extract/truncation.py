"""Whether a video ends earlier than its file says, or lacks what its file says it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import av

from dataminer.stages.extract.decode_stats import DecodeSummary
from dataminer.stages.extract.extraction import Extraction
from dataminer.video.containers.chunked import AviChunks, read_avi_chunks
from dataminer.video.containers.ends import FileEnd, read_file_end, read_indexed_start
from dataminer.video.info import VideoInfo
from dataminer.video.joined_files import count_unread_files
from dataminer.video.opening import open_container

_DECLARES_LENGTH = ("mov,", "matroska", "flv")  # elsewhere libav estimates it
_DECLARES_FRAMES = ("mov,", "avi")
_USUAL_RATE = 25.0  # frames per second, if none is declared
_LATE_STEPS = 1.5  # usual steps by which the first frame comes late if some are missing before it
_BEGIN_AT_ZERO = ("matroska", "nut", "flv", "asf")  # unless their beginning is missing, mostly
_LATEST_START = 3600  # seconds; live streams begin later
_WRONG_COUNTS = 0.02  # of its frames that an unbroken AVI may declare too many


@dataclass(frozen=True)
class Shortfall:
    """What a file says it has, and did not give."""

    truncated: str | None = None
    """How the pictures ended too early."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """Counts of what is lost elsewhere, by the keys of ``NOTE_KINDS``."""


def find_shortfall(extraction: Extraction, info: VideoInfo, summary: DecodeSummary) -> Shortfall:
    """Find out what is lost, although nothing that was decoded shows it.

    Parameters
    ----------
    extraction : Extraction
        The video.
    info : VideoInfo
        What the file declares.
    summary : DecodeSummary
        What was decoded of it, up to its end.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    end = read_file_end(extraction.video, info.container)
    chunks = _avi_chunks(extraction, info, summary)
    if chunks and not end.is_cut and chunks.count >= summary.packets:
        return _avi_shortfall(info, summary, chunks)
    came = summary.frames + summary.lost + summary.decode_errors
    joined = count_unread_files(extraction.video, info.container, summary.position, came)
    unread = max(0, end.gaps - summary.read_errors)  # libav reports some of them
    counts = {"unread_parts": unread, "unread_files": joined}
    counts |= _lost_start(extraction, info, summary, end)
    notes = {name: count for name, count in counts.items() if count}
    return Shortfall(_truncation(extraction, info, summary, end), notes)


def _lost_start(
    extraction: Extraction, info: VideoInfo, summary: DecodeSummary, end: FileEnd
) -> dict[str, int]:
    """Return how many frames are missing between the first one of the index and that which came.

    Without an index, it is how many seconds pass before the first frame.
    """
    start, rate = summary.end - summary.seconds, info.average_rate
    if summary.joined or summary.stray or start * (rate or _USUAL_RATE) < _LATE_STEPS:
        return {}
    indexed = read_indexed_start(extraction.video, info.container, info.stream_index)
    if indexed is not None:
        steps = (start - indexed) * (rate or 0)
        missing = max(0, round(steps) - summary.decode_errors) if steps > _LATE_STEPS else 0
        return {"missing_frames": missing}
    if summary.derived * 2 > summary.frames:
        return {}  # stamps that are mostly wrong have no meaning
    begins_at_zero = info.container.startswith(_BEGIN_AT_ZERO) or end.is_fragmented
    return {"late_start": round(start)} if begins_at_zero and start < _LATEST_START else {}


def _avi_chunks(
    extraction: Extraction, info: VideoInfo, summary: DecodeSummary
) -> AviChunks | None:
    """Read the chunks of an AVI if not all of them came: some may be empty."""
    if info.container != "avi" or summary.packets >= (info.declared_frames or 0):
        return None
    with extraction.video.open("rb") as file:
        return read_avi_chunks(file, info.size_bytes, info.stream_index)


def _avi_shortfall(info: VideoInfo, summary: DecodeSummary, chunks: AviChunks) -> Shortfall:
    declared = info.declared_frames or 0
    absent = declared - chunks.count
    if absent <= (0 if chunks.has_breaks else _WRONG_COUNTS * declared):
        return Shortfall()
    if chunks.ends_early:
        return Shortfall(_describe(info, summary, None))
    return Shortfall(notes={"absent_frames": absent})


def _truncation(
    extraction: Extraction, info: VideoInfo, summary: DecodeSummary, end: FileEnd
) -> str | None:
    """Describe how the pictures of a file ended too early; None if they did not.

    The container's own structure decides if it can tell. Otherwise, the declared length does, but
    that may be the length of the sound.
    """
    declared = _declared_seconds(info, end)
    if end.is_cut:
        if end.is_fragmented:
            return _describe(replace(info, declared_frames=None), summary, None)
        if _is_complete(info, summary, declared):
            return None
        return _describe(info, summary, _sound_excluded(extraction, info, summary, declared))
    frames = info.declared_frames
    if info.container.startswith(_DECLARES_LENGTH):
        counts = info.container.startswith(("mov,", "matroska")) and frames
        lacks = bool(counts) and summary.packets < (frames or 0)
        if not declared or (counts and not lacks) or not _is_short(info, summary, declared, lacks):
            return None
        declared = _sound_excluded(extraction, info, summary, declared)
        return _describe(info, summary, declared) if declared else None
    lost = frames and summary.frames + summary.decode_errors < frames * 0.98
    return _describe(info, summary, None) if lost and end.is_cut is None else None


def _declared_seconds(info: VideoInfo, end: FileEnd) -> float | None:
    if info.container == "avi":  # its frames have equal durations; libav counts those that came
        frames, rate = info.declared_frames, info.average_rate
        return frames / rate if frames and rate else None
    is_declared = info.container.startswith((*_DECLARES_LENGTH, "mxf"))
    return info.duration if is_declared else end.seconds


def _is_complete(info: VideoInfo, summary: DecodeSummary, declared: float | None) -> bool:
    """Return whether all pictures came although the file is cut off: what is lost is the rest."""
    if summary.damaged or summary.read_errors or summary.decode_errors:
        return False
    frames = info.declared_frames if info.container.startswith(_DECLARES_FRAMES) else None
    if frames and summary.packets >= frames:
        return True
    usual = summary.seconds / summary.frames if summary.frames else 0.0
    return bool(declared) and (declared or 0.0) - _reached(info, summary) < usual / 2


def _is_short(
    info: VideoInfo, summary: DecodeSummary, declared: float, lacks_frames: bool = False
) -> bool:
    # without an error, the last frame may just be shown for longer than it declares
    slack = 0.0 if summary.read_errors or lacks_frames else max(1.0, 0.002 * declared)
    return declared - _reached(info, summary) > max(slack, 2 * summary.last_gap)


def _reached(info: VideoInfo, summary: DecodeSummary) -> float:
    # a Matroska or FLV file declares its end, in the time that its frames are stamped with
    is_stamped = info.container.startswith(("matroska", "flv"))
    return max(summary.seconds, summary.end) if is_stamped else summary.seconds


def _sound_excluded(
    extraction: Extraction, info: VideoInfo, summary: DecodeSummary, declared: float | None
) -> float | None:
    """Return a declared length in seconds, or None if that is how long another stream lasts."""
    if not declared or info.container.startswith("mov,") or not _is_short(info, summary, declared):
        return declared
    others = _end_of_others(extraction, info.stream_index)
    return None if others - summary.seconds > max(1.0, 2 * summary.last_gap) else declared


def _end_of_others(extraction: Extraction, stream_index: int) -> float:
    """Return how many seconds after the file's first packet its other streams end."""
    start = end = None
    with open_container(extraction.video, extraction.limits) as container:
        try:
            for packet in container.demux():
                extraction.check()
                if packet.pts is None or not packet.size or packet.time_base is None:
                    continue
                begin = float(packet.pts * packet.time_base)
                start = begin if start is None else min(start, begin)
                if packet.stream_index != stream_index:
                    last = begin + float((packet.duration or 0) * packet.time_base)
                    end = last if end is None else max(end, last)
        except (av.FFmpegError, IndexError):
            pass  # what follows cannot be read, as when the pictures were read
    return 0.0 if start is None or end is None else end - start


def _describe(info: VideoInfo, summary: DecodeSummary, declared: float | None) -> str:
    frames, came = info.declared_frames, summary.seconds
    if info.container == "avi" or not declared:
        if frames and summary.frames < frames:
            return f"truncated: {summary.frames} of {frames} frames could be decoded"
    elif f"{declared:.1f}" != f"{came:.1f}" and declared > came:
        return f"truncated: {came:.1f} of {declared:.1f} s could be decoded"
    return f"truncated: the file is cut off after {came:.1f} s ({summary.frames} frames)"
