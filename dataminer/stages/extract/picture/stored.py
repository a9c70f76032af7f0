"""How a frame was stored, as the columns ``PICTURE_FIELDS`` of the frame table say it.

Whether it is damaged is known later; see :mod:`dataminer.stages.extract.loss.damage`.
"""

from __future__ import annotations

from dataclasses import dataclass

from av.video.frame import VideoFrame


@dataclass(frozen=True)
class StoredPicture:
    """How a frame was stored; the fields are columns of the frame table."""

    deinterlaced: bool
    sample_aspect_ratio: str | None
    transfer: str | None
    primaries: str | None
    matrix: str | None
    bit_depth: int


def bit_depth(frame: VideoFrame) -> int:
    """Return the bits of one colour of a frame."""
    return max(component.bits for component in frame.format.components)
