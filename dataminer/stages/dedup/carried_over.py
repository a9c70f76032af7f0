"""The choices of an earlier dedup that still apply: kept frames, and the frames they represent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataminer.errors import DamagedFile
from dataminer.frames.table import CLUSTERS_FILE, CLUSTERS_SCHEMA, read_meta, read_table

IDENTITY_COLUMNS = ("phash", "dhash")
"""A frame whose hashes are as before is the same picture."""


@dataclass(frozen=True)
class CarriedOver:
    """The choices of an earlier result that still apply to the n present frames.

    Attributes
    ----------
    representative : ndarray of int64, shape (n,)
        For each frame, the row of its representative, itself if it was kept; -1 if undecided.
    distance : ndarray of float32, shape (n,)
        Between the two.
    changed : ndarray of float32, shape (n,)
        What was seen to have changed, see :class:`.representatives.Representatives`; else NaN.
    """

    representative: NDArray[np.int64]
    distance: NDArray[np.float32]
    changed: NDArray[np.float32]

    @classmethod
    def none(cls, count: int) -> CarriedOver:
        """Return the choices after no earlier dedup."""
        unknown = np.full(count, np.nan, np.float32)
        return cls(np.full(count, -1, np.int64), np.zeros(count, np.float32), unknown)


def read_clusters(
    folder: Path | None, expected: Mapping[str, Any], progress: Callable[[str], None]
) -> pa.Table:
    """Read which frames an earlier dedup kept, and which frames those represent.

    Parameters
    ----------
    folder : Path or None
        The folder of the earlier result, if there is one; it need not exist.
    expected : mapping
        The metadata of a result whose choices still apply: version, settings.
    progress : callable
        Gets a message if there is a result that does not apply.

    Returns
    -------
    pa.Table
        With the columns of ``CLUSTERS_SCHEMA``; without rows if all frames are to be judged.
    """
    nothing = CLUSTERS_SCHEMA.empty_table()
    if folder is None:
        return nothing
    path = folder / CLUSTERS_FILE
    try:
        meta = read_meta(path)
        if any(meta.get(key) != value for key, value in expected.items()):
            progress("the settings or the method have changed: all frames are judged again")
            return nothing
        return read_table(path, schema=CLUSTERS_SCHEMA)
    except FileNotFoundError:
        return nothing
    except DamagedFile as error:
        progress(f"{error.message}: all frames are judged again")
        return nothing


def carry_over(frames: pa.Table, clusters: pa.Table) -> CarriedOver:
    """Return the choices of an earlier result that apply to the present frames.

    A kept frame stays kept as long as it exists with the same hashes. A dropped frame stays dropped
    as long as the same is true of it and of its representative. All other frames are undecided: new
    ones, changed ones, and those whose representative is gone.

    Parameters
    ----------
    frames : pa.Table
        A frame table, sorted by video and frame.
    clusters : pa.Table
        The earlier result, with the columns of ``CLUSTERS_SCHEMA``.
    """
    result = CarriedOver.none(frames.num_rows)
    videos = pc.unique(frames["video_id"])
    keys = _keys(frames["video_id"], frames["frame_index"], videos)
    standing = _rows_of(keys, clusters["kept_video_id"], clusters["kept_frame_index"], videos)
    row = rows_of_unchanged(frames, clusters)
    same = row >= 0
    pinned = same & (row == standing)
    result.representative[row[pinned]] = row[pinned]
    carried = same & ~pinned & (standing >= 0)
    carried[carried] = result.representative[standing[carried]] == standing[carried]
    result.representative[row[carried]] = standing[carried]
    result.distance[row[carried]] = clusters["distance"].to_numpy()[carried]
    changed = clusters["changed"].to_numpy()
    for which in (pinned, carried):
        result.changed[row[which]] = changed[which]
    return result


def rows_of_unchanged(frames: pa.Table, earlier: pa.Table) -> NDArray[np.int64]:
    """Return the row of each frame of an earlier table; -1 if it is gone, or another picture.

    Parameters
    ----------
    frames : pa.Table
        A frame table, sorted by video and frame.
    earlier : pa.Table
        With ``video_id``, ``frame_index`` and ``IDENTITY_COLUMNS``.
    """
    videos = pc.unique(frames["video_id"])
    keys = _keys(frames["video_id"], frames["frame_index"], videos)
    row = _rows_of(keys, earlier["video_id"], earlier["frame_index"], videos)
    same = row >= 0
    for name in IDENTITY_COLUMNS:
        before = earlier[name].filter(pa.array(same))
        equal = pc.equal(frames[name].take(pa.array(row[same])), before)
        same[same] = pc.fill_null(equal, False).to_numpy()
    row[~same] = -1
    return row


def _keys(video: pa.ChunkedArray, index: pa.ChunkedArray, videos: pa.Array) -> NDArray[np.int64]:
    """Return a number per frame; it is negative if the frame's video is not among ``videos``."""
    number = pc.fill_null(pc.index_in(video, value_set=videos), -1).to_numpy()
    keys: NDArray[np.int64] = (number.astype(np.int64) << 32) + index.to_numpy()
    return keys


def _rows_of(
    keys: NDArray[np.int64], video: pa.ChunkedArray, index: pa.ChunkedArray, videos: pa.Array
) -> NDArray[np.int64]:
    """Return the indices of frames among sorted keys; -1 for a frame that is not among them."""
    sought = _keys(video, index, videos)
    nearest = np.searchsorted(keys, sought)
    found = np.zeros(len(sought), np.bool_)
    inside = nearest < len(keys)
    found[inside] = keys[nearest[inside]] == sought[inside]
    return np.where(found, nearest, -1)
