"""A project of which the preview can be made, with titles that no page may trust."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.store.layout import Store
from tests.support.frame_rows import frame_row

PROJECT = "birds"
TITLE = "<script>alert(1)</script> \" onerror='x'"


def add_video(store: Store, video_id: str, rows: list[dict[str, Any]], images: bool = True) -> None:
    """Add a video's frames to the store, as extract and filter leave them."""
    folder, filtered = store.recipe(video_id, "r"), store.filtered(PROJECT, video_id)
    folder.mkdir(parents=True)
    filtered.mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {})
    write_table(filtered / FRAMES_FILE, table.slice(0, 0), FRAMES_SCHEMA, {})
    for row in rows if images else ():
        grey = np.full((row["height"], row["width"], 3), int(255 * row["brightness"]), np.uint8)
        cv2.imwrite(str(folder / row["file_name"]), grey)


def rows_of(video_id: str, count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        measured = {
            "sharpness": float(rng.uniform(0, 0.6)),
            "brightness": float(rng.uniform(0, 1)),
            "black": float(rng.uniform(0, 1)),
            "change": float(rng.choice([0.0, 0.005, 0.5])),
        }
        row = frame_row(video_id, index, pts_time=4.0 * index, title=TITLE, **measured)
        rows.append(row)
    rows[0]["sharpness"] = float("nan")
    rows[1]["sharpness"] = float(np.float32(0.2))  # on the threshold
    return rows
