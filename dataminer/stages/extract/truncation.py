"""Whether a video ends earlier than its file says."""

from __future__ import annotations

from dataminer.stages.extract.decode_stats import DecodeSummary
from dataminer.video.info import VideoInfo

_DECLARES_LENGTH = ("mov,", "matroska", "flv", "avi", "asf")  # elsewhere libav estimates it


def truncation(info: VideoInfo, summary: DecodeSummary) -> str | None:
    """Describe how a stream ended too early; None if it did not.

    Parameters
    ----------
    info : VideoInfo
        What the file declares.
    summary : DecodeSummary
        What was decoded of it, up to its end.
    """
    declared = info.duration if info.container.startswith(_DECLARES_LENGTH) else None
    if declared:
        # without an error, the last frame may just be shown for longer than it declares
        slack = 0.0 if summary.read_errors else max(1.0, 0.002 * declared)
        # a Matroska file declares its end, in the time that its frames are stamped with
        reached = summary.seconds
        if not info.container.startswith("mov,"):
            reached = max(reached, summary.end)
        if declared - reached > max(slack, 2 * summary.last_gap):
            return f"truncated: {summary.seconds:.1f} of {declared:.1f} s could be decoded"
    elif (
        info.declared_frames
        and summary.frames + summary.decode_errors < info.declared_frames * 0.98
    ):
        return f"truncated: {summary.frames} of {info.declared_frames} frames could be decoded"
    return None
