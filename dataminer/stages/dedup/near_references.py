"""Which frames are near a picture of ``dedup.exclude``, or near its mirror image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataminer.config.models import DedupConfig
from dataminer.frames.thumbnails import PARTS, Thumbnail
from dataminer.stages.dedup.carried_over import rows_of_unchanged
from dataminer.stages.dedup.change_detection import ChangeDetector
from dataminer.stages.dedup.hamming import I64, Hashes, HashIndex, Pairs
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.stages.dedup.references.pictures import MIRRORED, PICTURES_SCHEMA, read_pictures
from dataminer.stages.dedup.references.table import EXCLUDED_SCHEMA, read_excluded
from dataminer.stages.dedup.thumbnails import StoredPictures

_NONE = np.int64(1 << 62)
_BY_NAME = [("video_id", "ascending"), ("frame_index", "ascending")]

OpenPictures = Callable[[I64], AbstractContextManager[StoredPictures]]
"""Opens the thumbnails of some rows of the frame table."""


@dataclass(frozen=True)
class Exclusion:
    """The frames of a project that are left out.

    Attributes
    ----------
    rows : ndarray of bool, shape (n,)
        Which of the frames.
    table : pa.Table
        One row for each of them, with the columns of ``EXCLUDED_SCHEMA``.
    meta : dict
        For the metadata of the result: the entries, their state, and counts.
    """

    rows: NDArray[np.bool_]
    table: pa.Table
    meta: dict[str, Any]


class EarlierResult(NamedTuple):
    """What an earlier dedup decided.

    Parameters
    ----------
    folder : Path or None
        Its folder.
    clusters : pa.Table
        The frames that it did not leave out; none if its choices do not apply any more.
    recipe : mapping
        The metadata of a result whose choices apply, besides the state of the references.
    """

    folder: Path | None
    clusters: pa.Table
    recipe: Mapping[str, Any]

    def carry_over(self, frames: pa.Table, state: Mapping[str, Any]) -> tuple[I64, pa.Table]:
        """Return the rows of frames that are to be compared, and those left out as before."""
        undecided = np.ones(frames.num_rows, np.bool_)
        excluded = read_excluded(self.folder, {**self.recipe, **state})
        if excluded is None:
            return np.flatnonzero(undecided), EXCLUDED_SCHEMA.empty_table()
        for table in (self.clusters, excluded):
            rows = rows_of_unchanged(frames, table)
            undecided[rows[rows >= 0]] = False
        same = excluded.filter(pa.array(rows_of_unchanged(frames, excluded) >= 0))
        return np.flatnonzero(undecided), same


@dataclass(frozen=True)
class Excluder:
    """Compares frames with reference pictures.

    Attributes
    ----------
    references : ReferencePictures
        The listed pictures.
    cache : Path
        The folder of what is known of them.
    settings : DedupConfig
        When two pictures are near each other.
    progress : callable
        Gets a message now and then.
    threads : int
        For decoding pictures.
    """

    references: ReferencePictures
    cache: Path
    settings: DedupConfig
    progress: Callable[[str], None]
    threads: int = 1

    def exclude(
        self, frames: pa.Table, open_pictures: OpenPictures, earlier: EarlierResult
    ) -> Exclusion:
        """Return which frames are left out.

        Frames that an earlier dedup compared with the same pictures are not compared again.

        Parameters
        ----------
        frames : pa.Table
            A frame table, sorted by video and frame.
        open_pictures : callable
            Opens the frames' thumbnails.
        earlier : EarlierResult
            What an earlier dedup decided.
        """
        state = {"exclude": self.references.given, "references": self.references.fingerprint}
        pictures, unreadable = self._pictures()
        judged, carried = earlier.carry_over(frames, state)
        self.progress(f"comparing {len(judged):,} frames with {len(pictures):,} pictures")
        found = self._find(frames, judged, pictures, open_pictures)
        table = pa.concat_tables([carried, found]).sort_by(_BY_NAME)
        rows = np.zeros(frames.num_rows, np.bool_)
        rows[rows_of_unchanged(frames, table)] = True
        self.progress(f"{len(table):,} of {len(rows):,} frames are near a picture: left out")
        counts = {"excluded": len(table), "reference_pictures": len(pictures)}
        meta = {**state, **counts, "unreadable_references": unreadable}
        return Exclusion(rows, table, meta)

    def _pictures(self) -> tuple[pa.Table, int]:
        """Return the pictures of all entries that can be decoded, and how many cannot."""
        tables = [PICTURES_SCHEMA.empty_table().append_column("given", pa.array([], pa.string()))]
        for source in self.references.sources:
            table = read_pictures(source, self.cache, self.progress, threads=self.threads)
            given = pa.array([source.given] * len(table), pa.string())
            tables.append(table.append_column("given", given))
        table = pa.concat_tables(tables)
        unreadable = table["phash"].null_count
        readable = table.filter(pc.is_valid(table["phash"])) if unreadable else table
        return readable.combine_chunks(), unreadable

    def _find(
        self, frames: pa.Table, judged: I64, pictures: pa.Table, open_pictures: OpenPictures
    ) -> pa.Table:
        """Return the rows of the table of frames that are left out, among those judged."""
        kinds = ("phash", "dhash") if self.settings.hash == "both" else (self.settings.hash,)
        hashes = [frames[kind].to_numpy() for kind in kinds]
        search = _Search(hashes, [_both(pictures, kind) for kind in kinds], self.settings.threshold)
        near = search.nearest(judged)
        if self.settings.min_object and len(near.rows):
            with open_pictures(near.rows) as stored:
                compared = _ComparedThumbnails(stored, near, pictures, self.settings, self.progress)
                near = compared.confirm(search)
        return _excluded(frames, near, pictures)


@dataclass(frozen=True)
class _Near:
    """Frames that are near a reference: rows, the nearest one's row, bits, and what changed."""

    rows: I64
    nearest: I64
    distance: I64
    changed: NDArray[np.float32] | None
    involved: I64
    """All references that are near any frame."""


class _Search:
    """Finds pairs of a frame and a reference whose hashes are near; mirror images come last."""

    def __init__(self, frames: list[Hashes], references: list[Hashes], threshold: int) -> None:
        self._frames = frames
        self._indexes = [HashIndex(kind, threshold) for kind in references]
        self._count = len(references[0])

    def pairs(self, rows: I64) -> Iterator[Pairs]:
        """Yield (frame, reference, bits) of rows of frames, a bounded number at a time."""
        for kind, index in zip(self._frames, self._indexes, strict=True):
            for one, reference, distance in index.matches(kind[rows]):
                yield rows[one], reference, distance

    def nearest(self, rows: I64) -> _Near:
        """Return the nearest reference of each frame that has one."""
        claims = np.full(len(self._frames[0]), _NONE, np.int64)
        involved = np.zeros(self._count, np.bool_)
        for frame, reference, distance in self.pairs(rows):
            np.minimum.at(claims, frame, _claim(reference, distance))
            involved[reference] = True
        return _claimed(claims, None, np.flatnonzero(involved))


def _claim(reference: I64, distance: NDArray[np.uint16]) -> I64:
    """Put bits and row into one number, so that the smallest is the nearest, then the first."""
    return np.asarray((distance.astype(np.int64) << 32) | reference, np.int64)


def _claimed(claims: I64, changed: NDArray[np.float32] | None, involved: I64) -> _Near:
    rows = np.flatnonzero(claims < _NONE)
    nearest = claims[rows] & np.int64((1 << 32) - 1)
    shares = None if changed is None else changed[rows]
    return _Near(rows, nearest, claims[rows] >> np.int64(32), shares, involved)


class _ComparedThumbnails:
    """Decides by thumbnails which frames show the same as a reference with a near hash."""

    def __init__(
        self,
        stored: StoredPictures,
        near: _Near,
        pictures: pa.Table,
        settings: DedupConfig,
        progress: Callable[[str], None],
    ) -> None:
        self._near = near
        count = len(pictures)
        involved = [_thumbnail(pictures, row % count, row >= count) for row in near.involved]
        self._detector = ChangeDetector(stored.and_also(involved), settings.min_object, progress)

    def confirm(self, search: _Search) -> _Near:
        """Return the frames that show the same as a reference, with the nearest such one."""
        frames, involved = self._near.rows, self._near.involved
        count = int(frames[-1]) + 1
        claims, changed = np.full(count, _NONE, np.int64), np.full(count, np.nan, np.float32)
        for found, reference, distance in search.pairs(frames):
            keys = _claim(reference, distance)
            nearer = np.flatnonzero(keys < claims[found])
            others = len(frames) + np.searchsorted(involved, reference[nearer])
            shares = self._detector.changed(np.searchsorted(frames, found[nearer]), others)
            same = self._detector.are_same(shares)
            order = np.argsort(-keys[nearer][same], kind="stable")  # the nearest is written last
            rows = found[nearer][same][order]
            claims[rows], changed[rows] = keys[nearer][same][order], shares[same][order]
        return _claimed(claims, changed, involved)


def _both(pictures: pa.Table, kind: str) -> Hashes:
    """Return the hashes of pictures, then those of their mirror images: (2n,)."""
    return np.concatenate([pictures[kind].to_numpy(), pictures[kind + MIRRORED].to_numpy()])


def _thumbnail(pictures: pa.Table, row: int, mirrored: bool) -> Thumbnail:
    suffix = MIRRORED if mirrored else ""
    means = np.frombuffer(pictures[f"means{suffix}"][row].as_py(), np.uint8).reshape(3, PARTS)
    return Thumbnail(pictures[f"thumbnail{suffix}"][row].as_py(), means)


def _excluded(frames: pa.Table, near: _Near, pictures: pa.Table) -> pa.Table:
    index = pa.array(near.nearest % max(len(pictures), 1))
    origin = pictures.select(["given", "file", "member"]).take(index).combine_chunks()
    key = ["video_id", "frame_index", "phash", "dhash"]
    frame = frames.select(key).take(pa.array(near.rows)).combine_chunks()
    changed = pa.nulls(len(near.rows), pa.float32()) if near.changed is None else near.changed
    columns = [
        *frame.columns,
        *origin.columns,
        pa.array(near.nearest >= len(pictures)),
        pa.array(near.distance.astype(np.float32)),
        changed if isinstance(changed, pa.Array) else pa.array(changed),
    ]
    return pa.table(columns, schema=EXCLUDED_SCHEMA)
