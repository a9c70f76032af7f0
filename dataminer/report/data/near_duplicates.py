"""The groups of near-duplicates of a project, each represented by one frame."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataminer.formats.contact_sheet import spread
from dataminer.frames.table import CLUSTERS_FILE, CLUSTERS_SCHEMA, read_meta, read_table
from dataminer.report.data.frames import FrameLookup, Shot

_Key = tuple[str, int]
_Merged = tuple[float, str, int, float | None]  # distance, video, frame, share that changed
_COLUMNS = ["video_id", "frame_index", "kept_video_id", "kept_frame_index", "distance", "changed"]


@dataclass(frozen=True)
class Group:
    """A frame that was kept, and some of those that it represents.

    Parameters
    ----------
    kept : Shot
        The frame that was kept.
    merged : list of Shot
        Some of the others, the most similar first; their notes are the distances, and how much of
        the picture changed.
    size : int
        How many frames it represents besides itself.
    farthest : str
        The largest of their distances, with its unit.
    videos : int
        Number of videos that they come from.
    """

    kept: Shot
    merged: list[Shot]
    size: int
    farthest: str
    videos: int


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates of a project.

    Parameters
    ----------
    frames, unique : int
        Number of frames before dedup, and after it.
    sizes : ndarray of int64, shape (unique,)
        For each kept frame, how many it represents, including itself.
    distances : ndarray of float32, shape (frames - unique,)
        From each merged frame to its representative: bits of a hash, or 1 - cosine.
    threshold : float or None
        Maximum distance of near-duplicates.
    by_hash : bool
        Whether hashes were compared; otherwise embeddings.
    largest, boldest : list of Group
        Groups with the most frames, and groups with the largest distances.
    """

    frames: int
    unique: int
    sizes: NDArray[np.int64]
    distances: NDArray[np.float32]
    threshold: float | None
    by_hash: bool
    largest: list[Group]
    boldest: list[Group]


def read_merged(
    dedup_dir: Path, lookup: FrameLookup, groups: int, members: int
) -> NearDuplicates | None:
    """Read the groups of a project; None if dedup has not run.

    Parameters
    ----------
    dedup_dir : Path
        The folder of ``clusters.parquet``.
    lookup : FrameLookup
        Finds the frames.
    groups, members : int
        Maximum number of groups of each kind, and of merged frames per group.
    """
    path = dedup_dir / CLUSTERS_FILE
    if not path.is_file():
        return None
    table = read_table(path, _COLUMNS, schema=CLUSTERS_SCHEMA)
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    found: dict[_Key, list[_Merged]] = defaultdict(list)
    for video_id, index, kept_video, kept_index, distance, changed in rows:
        merged = found[kept_video, kept_index]
        if (video_id, index) != (kept_video, kept_index):
            merged.append((distance, video_id, index, changed))
    settings = read_meta(path).get("settings") or {}
    by_hash = settings.get("method") != "embedding"
    threshold = settings.get("threshold") if by_hash else 1 - settings.get("similarity", 0)
    by_size = sorted(found, key=lambda key: (-len(found[key]), key))
    shown = [key for key in by_size[:groups] if found[key]]
    rest = sorted(filter(found.get, by_size[groups:]), key=lambda key: (-max(found[key])[0], key))
    return NearDuplicates(
        frames=table.num_rows,
        unique=len(found),
        sizes=np.array([len(merged) + 1 for merged in found.values()], np.int64),
        distances=np.array([m[0] for merged in found.values() for m in merged], np.float32),
        threshold=threshold,
        by_hash=by_hash,
        largest=_groups(shown, found, lookup, members, by_hash),
        boldest=_groups(rest[:groups], found, lookup, members, by_hash),
    )


def _groups(
    keys: list[_Key],
    found: dict[_Key, list[_Merged]],
    lookup: FrameLookup,
    members: int,
    by_hash: bool,
) -> list[Group]:
    groups = []
    for key in keys:
        kept, merged = lookup.shot(*key), sorted(found[key])
        shots = [
            lookup.shot(v, i, _words(distance, by_hash, changed))
            for distance, v, i, changed in spread(merged, members)
        ]
        if kept:
            videos = {key[0], *(video_id for _, video_id, _, _ in merged)}
            farthest = _words(merged[-1][0], by_hash)
            found_shots = [shot for shot in shots if shot]
            groups.append(Group(kept, found_shots, len(merged), farthest, len(videos)))
    return groups


def _words(distance: float, by_hash: bool, changed: float | None = None) -> str:
    words = f"{distance:.0f} bits" if by_hash else f"{distance:.3f}"
    return words if changed is None else f"{words}, {changed:.1%}"
