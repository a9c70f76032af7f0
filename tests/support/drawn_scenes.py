"""Pictures of a still camera, drawn: scenes with texture, and objects put into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.stages.extract.quality.metrics import measure, table_columns
from tests.support.frame_rows import frame_row

Picture = NDArray[np.uint8]


def scene(seed: int, size: tuple[int, int] = (360, 640)) -> Picture:
    """Draw a scene: large shapes, fine texture, soft colours."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.uniform(60, 190, (6, 10, 3)).astype(np.float32)
    drawn = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    for _ in range(12):
        x, y = (int(rng.integers(0, side)) for side in (width, height))
        across, down = (int(rng.integers(20, side // 4)) for side in (width, height))
        colour = [float(each) for each in rng.uniform(30, 220, 3)]
        cv2.rectangle(drawn, (x, y), (x + across, y + down), colour, -1)
    fine = rng.normal(0, 12, (height // 4, width // 4, 3)).astype(np.float32)
    drawn = drawn + np.asarray(cv2.resize(fine, (width, height)), np.float32)
    return np.clip(drawn, 0, 255).astype(np.uint8)


def with_noise(picture: Picture, seed: int = 0) -> Picture:
    """Return a picture as another frame of a video has it: with noise, compressed."""
    rng = np.random.default_rng(seed)
    noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    packed = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


def with_object(
    picture: Picture,
    share: float,
    position: tuple[float, float] = (0.5, 0.5),
    colour: tuple[int, int, int] | None = None,
) -> Picture:
    """Put a box into a picture that covers a share of it, its centre at a position from 0 to 1.

    Without a colour, it is much darker or lighter than what it covers.
    """
    height, width = picture.shape[:2]
    down, across = (round(side * share**0.5) for side in (height, width))
    top, left = round(position[1] * height - down / 2), round(position[0] * width - across / 2)
    made = picture.copy()
    part = made[top : top + down, left : left + across]
    if colour is None:
        colour = (40, 40, 40) if part.mean() > 128 else (215, 215, 215)
    part[:] = colour
    return made


def write_frames(folder: Path, pictures: list[Picture], **values: Any) -> Path:
    """Write pictures as the frames of the video that the folder is named after."""
    folder.mkdir(parents=True)
    columns = table_columns([measure(picture) for picture in pictures])
    rows = []
    for number, picture in enumerate(pictures):
        own = {name: columns[name][number].item() for name in ("phash", "dhash", "sharpness")}
        height, width = picture.shape[:2]
        row = frame_row(folder.name, number, width=width, height=height, **own) | values
        cv2.imwrite(str(folder / row["file_name"]), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {"stage": "filter"})
    return folder
