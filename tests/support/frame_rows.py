"""Rows of a frame table that a filter of any default lets pass."""

from __future__ import annotations

from typing import Any

from dataminer.frames.table import frame_name


def frame_row(video_id: str = "vid", frame_index: int = 0, **values: Any) -> dict[str, Any]:
    """Return a whole row; ``values`` take the place of what a good frame would have."""
    row = {
        "video_id": video_id,
        "frame_index": frame_index,
        "pts_time": float(frame_index),
        "file_name": frame_name(video_id, frame_index, "jpg"),
        "width": 64,
        "height": 48,
        "sharpness": 0.5,
        "brightness": 0.5,
        "contrast": 0.2,
        "entropy": 7.0,
        "black": 0.1,
        "blank": 0.1,
        "flash": 0.0,
        "change": 0.5,
        "border": 0.0,
        "border_left": 0,
        "border_top": 0,
        "border_right": 0,
        "border_bottom": 0,
        "phash": 2**64 - 1 - frame_index,
        "dhash": frame_index,
    }
    return row | values
