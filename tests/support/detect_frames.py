"""The frames of a dedup folder in which a detector has something to find."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from tests.support.frame_rows import frame_row

# (video_id, frame_index, width, height): unlike sizes, one upright, and one frame without objects
FRAMES = [
    *(("a", index, 640, 360) for index in range(0, 90, 10)),
    ("b", 3, 360, 640),
    ("b", 4, 360, 640),
    ("c", 1, 640, 480),
    ("c", 2, 640, 360),
]
EMPTY = ("c", 2)

Objects = dict[str, list[tuple[str, Sequence[float]]]]


def row(name: str, frame: tuple[str, int, int, int]) -> dict[str, Any]:
    video_id, index, width, height = frame
    size = {"width": width, "height": height}
    return frame_row(video_id, index, pts_time=index / 25, file_name=name, **size)


def write_rows(
    folder: Path, rows: list[dict[str, Any]], meta: dict[str, Any] | None = None
) -> None:
    table = pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, meta or {})
