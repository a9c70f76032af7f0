"""What an earlier dedup decided and still holds: who was kept, and who it stands for."""

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

IDENTITY_COLUMNS = (
    "phash",
    "dhash",
)  # a frame that has the same ones as before is the same picture


@dataclass(frozen=True)
class CarriedOver:
    """What holds of an earlier result, for each of the n frames that are there now.

    Attributes
    ----------
    kept : ndarray of int64, shape (n,)
        The row that stands for a frame, itself where it was kept; -1 where that is to be judged.
    distance : ndarray of float32, shape (n,)
        Between the two.
    """

    kept: NDArray[np.int64]
    distance: NDArray[np.float32]

    @classmethod
    def none(cls, count: int) -> CarriedOver:
        """Return what holds where there was no dedup before."""
        return cls(np.full(count, -1, np.int64), np.zeros(count, np.float32))


def read_clusters(
    folder: Path, made_with: Mapping[str, Any], say: Callable[[str], None]
) -> pa.Table:
    """Read who stood for whom before.

    Parameters
    ----------
    folder : Path
        Where an earlier dedup lies, if any.
    made_with : mapping
        What its metadata must say for its choice to hold: version, settings.
    say : callable
        Gets a sentence where there is a result that does not hold.

    Returns
    -------
    pa.Table
        As ``CLUSTERS_SCHEMA`` says; without rows where all is to be judged anew.
    """
    path, nothing = folder / CLUSTERS_FILE, CLUSTERS_SCHEMA.empty_table()
    try:
        meta = read_meta(path)
        if any(meta.get(key) != value for key, value in made_with.items()):
            say("the settings or the method have changed: all frames are judged anew")
            return nothing
        return read_table(path, schema=CLUSTERS_SCHEMA)
    except FileNotFoundError:
        return nothing
    except DamagedFile as error:
        say(f"{error.message}: all frames are judged anew")
        return nothing


def carry_over(frames: pa.Table, clusters: pa.Table) -> CarriedOver:
    """Say which of an earlier result's choices hold for the frames that are there now.

    A frame that was kept stays kept as long as it is there with the same hashes; a frame that was
    dropped stays dropped as long as the same holds for it and for the one that stands for it. All
    other frames are to be judged: new ones, changed ones, and those that a lost one stood for.

    Parameters
    ----------
    frames : pa.Table
        A frame table, sorted by video and frame.
    clusters : pa.Table
        Who stood for whom, as ``CLUSTERS_SCHEMA`` says.
    """
    pins = CarriedOver.none(frames.num_rows)
    videos = pc.unique(frames["video_id"])
    keys = _keys(frames["video_id"], frames["frame_index"], videos)
    row = _places(keys, clusters["video_id"], clusters["frame_index"], videos)
    standing = _places(keys, clusters["kept_video_id"], clusters["kept_frame_index"], videos)
    there = row >= 0
    for mark in IDENTITY_COLUMNS:
        before = clusters[mark].filter(pa.array(there))
        same = pc.equal(frames[mark].take(pa.array(row[there])), before)
        there[there] = pc.fill_null(same, False).to_numpy()
    row[~there] = -1
    pinned = there & (row == standing)
    pins.kept[row[pinned]] = row[pinned]
    carried = there & ~pinned & (standing >= 0)
    carried[carried] = pins.kept[standing[carried]] == standing[carried]
    pins.kept[row[carried]] = standing[carried]
    pins.distance[row[carried]] = clusters["distance"].to_numpy()[carried]
    return pins


def _keys(video: pa.ChunkedArray, index: pa.ChunkedArray, videos: pa.Array) -> NDArray[np.int64]:
    """Return a number for each frame; those of videos that are not among ``videos`` are below 0."""
    place = pc.fill_null(pc.index_in(video, value_set=videos), -1).to_numpy()
    keys: NDArray[np.int64] = (place.astype(np.int64) << 32) + index.to_numpy()
    return keys


def _places(
    keys: NDArray[np.int64], video: pa.ChunkedArray, index: pa.ChunkedArray, videos: pa.Array
) -> NDArray[np.int64]:
    """Return where frames are among sorted keys; -1 where they are not."""
    wanted = _keys(video, index, videos)
    place = np.searchsorted(keys, wanted)
    found = np.zeros(len(wanted), np.bool_)
    inside = place < len(keys)
    found[inside] = keys[place[inside]] == wanted[inside]
    return np.where(found, place, -1)
