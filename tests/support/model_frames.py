"""Frames of a few colours as extract leaves them, and a batch of them that models run on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from dataminer.frames.arrays import make_table
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import Store
from tests.support.frame_rows import frame_row
from tests.support.siglip_model import colour_picture
from tests.support.stores import frames_of

PROMPTS = {
    "positive": ["A picture of RED"],
    "negative": ["a picture of green"],
    "junk": ["a picture of blue"],
}


def frames(store: Store, video_id: str, colours: list[str], source: str = "f") -> Path:
    """Write a video's frames, one of each colour, as extract leaves them."""
    shutil.rmtree(store.frames(video_id), ignore_errors=True)
    folder = store.recipe(video_id, source)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(colours))
    rows = [
        frame_row(video_id, 10 * position, file_name=f"{video_id}_{10 * position:06d}.png")
        for position in range(len(colours))
    ]
    for colour, row in zip(colours, rows, strict=True):
        colour_picture(colour, rng, 48).save(folder / row["file_name"])
    columns = {field.name: [row.get(field.name) for row in rows] for field in FRAMES_SCHEMA}
    table = make_table(columns, FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {"fingerprint": source})
    return folder


def run_models(what: FrameModels, *videos: str) -> tuple[list[str], dict[str, int]]:
    """Run a batch; return its messages, and how many videos each model processed."""
    printed: list[str] = []
    frames = {video_id: [frames_of(what.store, video_id)] for video_id in videos}
    return printed, what.run_models(frames, 2, printed.append)
