"""Thumbnails of a video's frames: one small file beside the frame table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.errors import DamagedFile
from dataminer.frames.arrays import make_array, numbers
from dataminer.frames.table import read_table, write_table

THUMBNAILS_FILE = "thumbnails.parquet"
WIDTH, HEIGHT = 96, 54
"""Pixels of a thumbnail; those of upright frames are turned. The frame's aspect ratio is lost."""
PARTS = 16 * 9
"""Parts of a thumbnail, 6x6 pixels each."""

_SCHEMA = pa.schema(
    [
        pa.field("frame_index", pa.int32(), nullable=False),
        # JPEG of WIDTH x HEIGHT or, if upright, HEIGHT x WIDTH pixels; without black bars
        pa.field("thumbnail", pa.binary(), nullable=False),
        # of luma, Cr and Cb (BT.601, full range), a byte per part, row by row
        pa.field("means", pa.binary(), nullable=False),
    ]
)


class Thumbnail(NamedTuple):
    """A frame at a size of a kilobyte.

    Attributes
    ----------
    jpeg : bytes
        WIDTH x HEIGHT pixels, or HEIGHT x WIDTH.
    means : ndarray of uint8, (3, PARTS)
        The means of luma, Cr and Cb in each part of it.
    """

    jpeg: bytes
    means: NDArray[np.uint8]


@dataclass(frozen=True)
class VideoThumbnails:
    """The thumbnails of n frames of a video.

    Attributes
    ----------
    frame_index : ndarray of int32, shape (n,)
        The frames, ascending.
    jpegs : sequence of bytes, length n
        See :class:`Thumbnail`.
    means : ndarray of uint8, shape (n, 3, PARTS)
        See :class:`Thumbnail`.
    """

    frame_index: NDArray[np.int32]
    jpegs: Sequence[bytes]
    means: NDArray[np.uint8]

    @classmethod
    def of(cls, made: Sequence[tuple[int, Thumbnail]]) -> VideoThumbnails:
        """Put thumbnails together, each given with the index of its frame."""
        ordered = sorted(made, key=lambda each: each[0])
        means = [thumbnail.means for _, thumbnail in ordered]
        return cls(
            np.array([index for index, _ in ordered], np.int32),
            [thumbnail.jpeg for _, thumbnail in ordered],
            np.stack(means) if means else np.zeros((0, 3, PARTS), np.uint8),
        )


def write_thumbnails(path: Path, thumbnails: VideoThumbnails) -> None:
    """Write thumbnails atomically; equal ones give equal bytes."""
    columns = [
        make_array(thumbnails.frame_index, pa.int32()),
        _make_binary(thumbnails.jpegs),
        _make_binary([each.tobytes() for each in thumbnails.means]),
    ]
    table = pa.Table.from_arrays(columns, schema=_SCHEMA)
    write_table(path, table, _SCHEMA, {"stage": "extract"}, ready=True)


def _make_binary(values: Sequence[bytes]) -> pa.Array:
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    data = [pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), [None, *data])


def read_thumbnails(path: Path) -> VideoThumbnails:
    """Read the thumbnails of a video's frames.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFile
        The file is not one that :func:`write_thumbnails` wrote.
    """
    table = read_table(path, schema=_SCHEMA)
    index = numbers(table["frame_index"])
    if (index[1:] <= index[:-1]).any():
        raise DamagedFile(path, "it names a frame twice, or frames are not in order")
    means = table["means"].to_pylist()
    if any(len(each) != 3 * PARTS for each in means):
        raise DamagedFile(path, "its means are not those of thumbnails")
    packed = np.frombuffer(b"".join(means), np.uint8).reshape(-1, 3, PARTS)
    return VideoThumbnails(index, table["thumbnail"].to_pylist(), packed)
