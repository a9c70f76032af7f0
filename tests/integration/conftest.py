"""A finished store, and frames with known objects on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dataminer.store.layout import Store
from dataminer.sync.claims import projects
from demo.shapes import CLASSES, Shape, draw, photographs
from tests.support.detect_frames import EMPTY, FRAMES, Objects, row, write_rows
from tests.support.rows import Given
from tests.support.stores import (
    VIDEOS,
    make_dataset,
    make_failed,
    make_video,
    stage,
    sync,
)


@pytest.fixture
def files(tmp_path: Path) -> Store:
    """A finished store: a good video, one of which no frame passed, one that is gone."""
    store = Store(tmp_path / "data")
    make_video(store, "v1")
    make_video(store, "none", passed=())
    make_failed(store, "bad")
    make_dataset(store, "p", VIDEOS)
    return store


@pytest.fixture
def whole(database: str, files: Store) -> tuple[str, Store]:
    """The finished store, and a database that knows all of it."""
    projects.add_videos("p", [Given(name) for name in VIDEOS])
    sync(files)
    assert stage(database) == "COMPLETE"
    return database, files


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Objects]:
    """A dedup folder of drawn frames, and what is on them."""
    folder = tmp_path_factory.mktemp("dedup")
    rng, pictures = np.random.default_rng(5), photographs()
    rows = []
    truth: Objects = {}
    for number, frame in enumerate(FRAMES):
        video_id, index, width, height = frame
        source = pictures[number % len(pictures)]
        resized = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA)
        image = resized.astype(np.uint8, copy=False)
        name = f"{video_id}_{index:06d}.jpg"
        truth[name] = []
        for lane, kind in enumerate(() if (video_id, index) == EMPTY else CLASSES):
            x = width * (lane + 0.5) / 3 + rng.uniform(-8, 8)
            y = rng.uniform(80, height - 80)
            shape = Shape(kind, x, y, rng.uniform(50, 78), rng.uniform(-30, 30), number + lane)
            truth[name].append((kind, draw(image, shape)))
        cv2.imwrite(str(folder / name), image)
        rows.append(row(name, frame))
    write_rows(folder, rows[::-1])  # the order of rows shall not matter
    return folder, truth
