"""Keep the sharpest frame of each group of near-duplicates across all videos of a project.

Frames whose hashes are near are looked at, unless ``dedup.min_object`` is 0. See
:mod:`dataminer.stages.dedup.representatives` for the choice. The same frames give the same bytes,
in whatever order the folders come. After an earlier result (of the same version and settings) its
kept frames stay kept; only new frames are compared, with those and with each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataminer.config.models import DedupConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.files.links import is_file
from dataminer.frames.embeddings import read_embeddings
from dataminer.frames.images import FrameReader, FrameWriter, location_columns
from dataminer.frames.table import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    read_model_output_meta,
    write_table,
)
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.dedup.carried_over import (
    IDENTITY_COLUMNS,
    CarriedOver,
    carry_over,
    read_clusters,
)
from dataminer.stages.dedup.change_detection import ChangeDetector
from dataminer.stages.dedup.near_references import EarlierResult, Excluder
from dataminer.stages.dedup.references.table import EXCLUDED_FILE, EXCLUDED_SCHEMA
from dataminer.stages.dedup.representatives import (
    Representatives,
    representatives_of_hashes,
    representatives_of_vectors,
)
from dataminer.stages.dedup.thumbnails import (
    FrameRows,
    StoredPictures,
    ThumbnailSource,
    stored_pictures,
)
from dataminer.stages.filter.stage import load_frames

_FOLDER = "folder"
_BEST_FIRST = [
    ("sharpness", "descending"),
    ("video_id", "ascending"),
    ("pts_time", "ascending"),
    ("frame_index", "ascending"),
]
_BY_NAME = [("video_id", "ascending"), ("frame_index", "ascending")]
_LOG_EVERY = 1000


@dataclass(frozen=True)
class DedupResult:
    """How many frames were compared, and how many represent them all.

    Attributes
    ----------
    frames, unique : int
        Frames of all videos; frames that were kept.
    pinned, carried : int
        Frames that were kept before and stay; frames whose representative is the same as before.
    judged : int
        Frames that were compared: with those pinned, and with each other.
    compared : int
        Number of pairs of frames that were compared, each kind of hash counted separately.
    aligned : int
        Number of pairs with near hashes that took more than a glance.
    """

    frames: int
    unique: int
    pinned: int = 0
    carried: int = 0
    judged: int = 0
    compared: int = 0
    aligned: int = 0


@dataclass(frozen=True)
class Embedded:
    """The files of the frames' embeddings.

    Attributes
    ----------
    files : mapping of str to Path
        The file of each video, see :mod:`dataminer.frames.embeddings`.
    model : str
        The fingerprint of the model.
    """

    files: Mapping[str, Path]
    model: str

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> Embedded:
        """Take the model from the first existing file; filter made sure that all have the same."""
        existing = filter(is_file, files.values())
        models = (str(read_model_output_meta(path).get("model")) for path in existing)
        return cls(files, next(models, ""))


def dedup(
    filtered: Sequence[Path],
    out: Path,
    settings: DedupConfig,
    *,
    previous: Path | None = None,
    embedded: Embedded | None = None,
    thumbnails: Sequence[Path] = (),
    excluder: Excluder | None = None,
    meta: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    threads: int = 1,
) -> DedupResult:
    """Link the frames that represent all frames of a project, and store which ones each represents.

    Parameters
    ----------
    filtered, out, thumbnails
        A folder per video, with its ``frames.parquet``; an existing empty one, to be published; the
        folder of each video's thumbnails, by default that of its frames.
    settings, embedded, previous, excluder
        What to compare; embeddings; the folder of an earlier result; for references, if any.
    meta, progress, threads
        More metadata for the tables; gets messages; for making thumbnails that are missing.

    Raises
    ------
    PermanentError
        ``CORRUPT`` or ``MISSING_SOURCE``: a table, an embedding or an image.
    """
    recipe, frames = _recipe(settings, embedded), _load_all(filtered, progress)
    earlier = EarlierResult(previous, read_clusters(previous, recipe, progress), recipe)
    sources = ThumbnailSource.of(thumbnails or filtered, filtered)
    comparison = _Comparison(settings, embedded, sources, out, progress, threads)
    meta = {**(meta or {}), "stage": "dedup", **recipe}
    frames = _leave_out(excluder, frames, comparison, earlier, meta)
    choice, result = _find_representatives(frames, comparison, carry_over(frames, earlier.clusters))
    progress(_summary(result))
    _write(frames, choice, filtered, comparison, {**meta, **asdict(result)})
    return result


def _write(
    frames: pa.Table,
    choice: Representatives,
    filtered: Sequence[Path],
    comparison: _Comparison,
    meta: dict[str, Any],
) -> None:
    """Put the unique frames and both tables into the folder."""
    out = comparison.out
    unique, archive = _put_unique_images(frames, choice, filtered, out)
    write_table(out / FRAMES_FILE, unique, FRAMES_SCHEMA, meta | archive)
    clusters = _clusters(frames, choice, comparison.settings)
    write_table(out / CLUSTERS_FILE, clusters, CLUSTERS_SCHEMA, meta | archive)


def _leave_out(
    excluder: Excluder | None,
    frames: pa.Table,
    comparison: _Comparison,
    earlier: EarlierResult,
    meta: dict[str, Any],
) -> pa.Table:
    """Return the frames that are not near a reference; list the others, and add both to meta."""
    if excluder is None:
        return frames
    exclusion = excluder.exclude(frames, partial(comparison.pictures, frames), earlier)
    meta |= exclusion.meta
    write_table(comparison.out / EXCLUDED_FILE, exclusion.table, EXCLUDED_SCHEMA, meta)
    return frames.filter(pa.array(~exclusion.rows)).combine_chunks()


def _recipe(settings: DedupConfig, embedded: Embedded | None) -> dict[str, Any]:
    """Return the metadata of results that may carry over each other's choices."""
    recipe = {"version": VERSIONS["dedup"], "settings": settings.result_settings()}
    if settings.method != "embedding":
        return recipe
    if embedded is None:
        raise ValueError("dedup by embeddings needs to know where they are")
    return {**recipe, "model": embedded.model}


def _summary(result: DedupResult) -> str:
    before = f"{result.pinned} stay kept and {result.carried} dropped as before; "
    return (
        f"{result.unique} of {result.frames} frames are unique; "
        f"{before if result.pinned or result.carried else ''}"
        f"{result.judged} judged by comparing {result.compared} pairs"
    )


def _put_unique_images(
    frames: pa.Table, choice: Representatives, filtered: Sequence[Path], out: Path
) -> tuple[pa.Table, dict[str, Any]]:
    """Put the images of the kept frames into a folder, and return their table and its metadata."""
    unique = frames.filter(pa.array(choice.representative == np.arange(frames.num_rows)))
    archived = unique["byte_offset"].null_count < unique.num_rows
    rows = zip(unique[_FOLDER].to_pylist(), unique["file_name"].to_pylist(), strict=True)
    locations = []
    with FrameWriter(out, "tar" if archived else "files") as writer:
        for folder, group in itertools.groupby(rows, key=lambda row: row[0]):
            with FrameReader(filtered[folder]) as reader:
                locations += [writer.copy_from(reader, name) for _, name in group]
    for name, column in location_columns(locations).items():
        unique = unique.set_column(unique.schema.get_field_index(name), name, column)
    return unique, writer.meta


def _load_all(filtered: Sequence[Path], log: Callable[[str], None]) -> pa.Table:
    """Read the frames of all videos, sorted by name, with the number of their folder."""
    tables = [FRAMES_SCHEMA.empty_table().append_column(_FOLDER, pa.array([], pa.int32()))]
    for number, folder in enumerate(filtered):
        table = load_frames(folder)
        numbers = pa.array(np.full(table.num_rows, number, np.int32))
        tables.append(table.append_column(_FOLDER, numbers))
        if (number + 1) % _LOG_EVERY == 0 or number + 1 == len(filtered):
            log(f"read the frames of {number + 1} of {len(filtered)} videos")
    # without equal chunks, equal rows need not become equal bytes
    frames = pa.concat_tables(tables).sort_by(_BY_NAME)
    _refuse_twins(frames)
    return frames.combine_chunks()


def _refuse_twins(frames: pa.Table) -> None:
    """Refuse a frame or a file name that occurs twice: one image would overwrite the other."""
    for column in (["video_id", "frame_index"], ["file_name"]):
        counts = frames.group_by(column).aggregate([([], "count_all")])
        twins = counts.filter(pc.greater(counts["count_all"], 1))
        if twins.num_rows:
            which = " ".join(str(value) for value in twins.select(column).to_pylist()[0].values())
            raise PermanentError(
                f"frame {which} appears twice among the filtered videos",
                ErrorClass.CORRUPT,
                "remove one of them; each video of a project has one folder",
            )


@dataclass(frozen=True)
class _Comparison:
    """What frames are compared by."""

    settings: DedupConfig
    embedded: Embedded | None
    sources: Sequence[ThumbnailSource]
    out: Path
    progress: Callable[[str], None]
    threads: int

    def choose(self, frames: pa.Table, pinned: int) -> tuple[Representatives, int]:
        """Choose among frames that are ordered from best to worst, after those pinned.

        Returns
        -------
        (Representatives, int)
            The choice, and how many pairs were looked at.
        """
        order, settings = np.arange(frames.num_rows), self.settings
        if settings.method == "embedding":
            assert self.embedded
            vectors = _vectors(frames, self.embedded)
            return representatives_of_vectors(vectors, order, settings.similarity, pinned), 0
        hashes = [frames[kind].to_numpy() for kind in hash_columns(settings)]
        if not settings.min_object:
            return representatives_of_hashes(hashes, order, settings.threshold, pinned), 0
        with self.pictures(frames, order) as pictures:
            detector = ChangeDetector(pictures, settings.min_object, self.progress)
            found = representatives_of_hashes(hashes, order, settings.threshold, pinned, detector)
            return found, detector.aligned

    def pictures(
        self, frames: pa.Table, rows: NDArray[np.int64]
    ) -> AbstractContextManager[StoredPictures]:
        """Open the thumbnails of some frames, in this order."""
        chosen = _rows_by_source(frames.take(pa.array(rows)))
        return stored_pictures(chosen, self.sources, self.out, self.progress, threads=self.threads)


def _rows_by_source(frames: pa.Table) -> list[FrameRows]:
    """Return the frames of each folder, as their thumbnails are read."""
    folder, index = frames[_FOLDER].to_numpy(), frames["frame_index"].to_numpy()
    order = np.lexsort((index, folder))
    ends = np.flatnonzero(np.diff(folder[order])) + 1
    return [
        FrameRows(int(folder[rows[0]]), rows, index[rows], frames["file_name"].take(pa.array(rows)))
        for rows in np.split(order, ends)
        if len(rows)
    ]


def _find_representatives(
    frames: pa.Table, comparison: _Comparison, earlier: CarriedOver
) -> tuple[Representatives, DedupResult]:
    """Choose the representative of each row, and count the comparisons."""
    best_first = pc.sort_indices(frames, sort_keys=_BEST_FIRST).to_numpy().astype(np.int64)
    before = earlier.representative[best_first]
    pinned, new = best_first[before == best_first], best_first[before < 0]
    rows = np.concatenate((pinned, new))
    representative, distance = earlier.representative.copy(), earlier.distance.copy()
    changed = earlier.changed.copy()
    compared, aligned = 0, 0
    if len(new):
        found, aligned = comparison.choose(frames.take(pa.array(rows)), len(pinned))
        representative[rows], distance[rows] = rows[found.representative], found.distance
        if found.changed is not None:
            seen = np.arange(len(rows)) >= len(pinned)  # those pinned are not compared again
            changed[rows[seen]] = found.changed[seen]
        compared = found.compared
    count = frames.num_rows
    unique = int((representative == np.arange(count)).sum())
    judged = (len(pinned), count - len(rows), len(new), compared, aligned)
    return Representatives(representative, distance, compared, changed), DedupResult(
        count, unique, *judged
    )


def hash_columns(settings: DedupConfig) -> tuple[str, ...]:
    """Return the columns of hashes to compare; two frames are near if they are by any of them."""
    return ("phash", "dhash") if settings.hash == "both" else (settings.hash,)


def _vectors(frames: pa.Table, embedded: Embedded) -> NDArray[np.float16]:
    """Read the embeddings of some frames, in their order: (n, d)."""
    videos = frames["video_id"].to_numpy()
    index = frames["frame_index"].to_numpy()
    vectors: NDArray[np.float16] | None = None
    order = np.argsort(videos, kind="stable")
    for rows in np.split(order, np.flatnonzero(videos[order][1:] != videos[order][:-1]) + 1):
        found = _of_video(str(videos[rows[0]]), index[rows], embedded)
        if vectors is None:
            vectors = np.empty((len(order), found.shape[1]), np.float16)
        if found.shape[1] != vectors.shape[1]:
            raise PermanentError(
                f"the embeddings of video {videos[rows[0]]} are of another length than others",
                ErrorClass.CORRUPT,
                "remove the store's folder embeddings, then run snakemake again",
            )
        vectors[rows] = found
    assert vectors is not None
    return vectors


def _of_video(video_id: str, index: NDArray[np.int32], embedded: Embedded) -> NDArray[np.float16]:
    """Read the embeddings of some frames of a video."""
    path = embedded.files[video_id]
    try:
        stored = read_embeddings(path)
    except FileNotFoundError as error:
        raise _not_embedded(video_id, f"{path} is missing") from error
    row = np.searchsorted(stored.frame_index, index)
    found = stored.frame_index.take(row, mode="clip") == index if len(stored) else row < 0
    if not found.all():
        raise _not_embedded(video_id, f"{path} has no frame {index[~found][0]}")
    return stored.vectors[row]


def _not_embedded(video_id: str, message: str) -> PermanentError:
    return PermanentError(
        message,
        ErrorClass.MISSING_SOURCE,
        f"remove the project's filtered/{video_id}, then run `dataminer sync` and snakemake again: "
        "its frames are embedded and filtered again",
    )


def _clusters(frames: pa.Table, choice: Representatives, settings: DedupConfig) -> pa.Table:
    key = ["video_id", "frame_index"]
    representatives = frames.select(key).take(pa.array(choice.representative)).combine_chunks()
    frame = [*frames.select(key).columns, *representatives.columns]
    assert choice.changed is not None
    changed = pa.array(choice.changed, pa.float32(), from_pandas=True)  # NaN: null
    otherwise = settings.method if settings.method == "embedding" else "hash"
    decided_by = pc.if_else(pc.is_valid(changed), "thumbnail", otherwise)
    identity = (frames[name] for name in IDENTITY_COLUMNS)
    columns = [*frame, pa.array(choice.distance), *identity, changed, decided_by]
    return pa.table(columns, names=CLUSTERS_SCHEMA.names)
