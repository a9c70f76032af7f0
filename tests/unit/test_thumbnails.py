"""Thumbnails: made with the metrics, kept in a file, and made again where they are missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataminer.errors import DamagedFile
from dataminer.frames.thumbnails import (
    HEIGHT,
    PARTS,
    THUMBNAILS_FILE,
    WIDTH,
    VideoThumbnails,
    read_thumbnails,
    write_thumbnails,
)
from dataminer.stages.extract.quality.metrics import measure
from tests.support.drawn_scenes import scene


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (90, 160), (480, 480), (20, 30)])
def test_a_thumbnail_shows_the_frame(size: tuple[int, int]) -> None:
    picture = scene(1, size) if min(size) > 90 else cv2.resize(scene(1), size[::-1])
    made = measure(np.asarray(picture, np.uint8)).thumbnail
    image = cv2.imdecode(np.frombuffer(made.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (HEIGHT, WIDTH, 3)
    expected = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - expected).mean() < 12
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
    means = cv2.resize(planes, (16, 9), interpolation=cv2.INTER_AREA).reshape(PARTS, 3).T
    assert np.abs(means.astype(int) - made.means).max() < 10


def test_that_of_an_upright_frame_is_upright() -> None:
    picture = scene(1, (640, 360))
    made = measure(picture).thumbnail
    image = cv2.imdecode(np.frombuffer(made.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (WIDTH, HEIGHT, 3)
    assert made.means.shape == (3, PARTS)


def test_black_bars_are_no_part_of_it() -> None:
    picture = scene(1)
    framed = np.zeros((480, 640, 3), np.uint8)
    framed[60:420] = picture
    assert measure(framed).thumbnail.jpeg == measure(picture).thumbnail.jpeg


def test_a_file_of_thumbnails_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = [(number, measure(scene(number)).thumbnail) for number in (7, 2, 4)]
    written = VideoThumbnails.of(made)
    assert written.frame_index.tolist() == [2, 4, 7]
    path = tmp_path / THUMBNAILS_FILE
    write_thumbnails(path, written)
    first = path.read_bytes()
    read = read_thumbnails(path)
    assert read.frame_index.tolist() == [2, 4, 7]
    assert list(read.jpegs) == [dict(made)[number].jpeg for number in (2, 4, 7)]
    assert (read.means == written.means).all()
    write_thumbnails(path, read)
    assert path.read_bytes() == first
    write_thumbnails(path, VideoThumbnails.of([]))
    assert len(read_thumbnails(path).frame_index) == 0


@pytest.mark.parametrize(
    "columns",
    [
        {"frame_index": [1, 1], "thumbnail": [b"a", b"b"], "means": [bytes(432)] * 2},
        {"frame_index": [2, 1], "thumbnail": [b"a", b"b"], "means": [bytes(432)] * 2},
        {"frame_index": [1], "thumbnail": [b"a"], "means": [b"short"]},
        {"frame_index": [1], "thumbnail": [None], "means": [bytes(432)]},
        {"frame_index": [1], "means": [bytes(432)]},
    ],
)
def test_a_file_that_nobody_wrote_is_damaged(
    tmp_path: Path, columns: dict[str, list[object]]
) -> None:
    path = tmp_path / THUMBNAILS_FILE
    kinds = {"frame_index": pa.int32(), "thumbnail": pa.binary(), "means": pa.binary()}
    table = pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})
    pq.write_table(table, path)
    with pytest.raises(DamagedFile):
        read_thumbnails(path)
