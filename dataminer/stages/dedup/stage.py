"""Keep one frame of each group of near-duplicates across all videos of a project: the sharpest."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from dataminer.stages.dedup.representatives import (
    Representatives,
    representatives_of_hashes,
    representatives_of_vectors,
)
from dataminer.stages.filter.stage import load_frames

VERSION = VERSIONS["dedup"]
_FOLDER = "folder"
_BEST_FIRST = [
    ("sharpness", "descending"),
    ("video_id", "ascending"),
    ("pts_time", "ascending"),
    ("frame_index", "ascending"),
]
_BY_NAME = [("video_id", "ascending"), ("frame_index", "ascending")]
_SAY_EVERY = 1000


@dataclass(frozen=True)
class DedupResult:
    """How many frames came in, how many stand for all of them, and what it took to tell.

    Attributes
    ----------
    frames, unique : int
        Frames of all videos; frames that were kept.
    pinned, carried : int
        Frames that were kept before and stay; frames for which the same one stands as before.
    judged : int
        Frames that were compared: with those pinned, and with each other.
    compared : int
        How many pairs of frames were compared, each kind of hash by itself.
    """

    frames: int
    unique: int
    pinned: int = 0
    carried: int = 0
    judged: int = 0
    compared: int = 0


@dataclass(frozen=True)
class Embedded:
    """Where the frames' embeddings are.

    Attributes
    ----------
    files : mapping of str to Path
        For each video its file, see :mod:`dataminer.frames.embeddings`.
    model : str
        What tells one model's embeddings from another's.
    """

    files: Mapping[str, Path]
    model: str

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> Embedded:
        """Take the model from the first file that is there; the filter saw that all are of it."""
        there = filter(is_file, files.values())
        models = (str(read_model_output_meta(path).get("model")) for path in there)
        return cls(files, next(models, ""))


def dedup(
    filtered: Sequence[Path],
    out: Path,
    settings: DedupConfig,
    *,
    previous: Path | None = None,
    embedded: Embedded | None = None,
    meta: dict[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> DedupResult:
    """Link the frames of a project that stand for all of its frames, and note for which.

    The sharpest frame that nothing stands for yet is kept and stands for all near it, until none
    is left; see :mod:`dataminer.stages.dedup.representatives`. So no two kept frames are near each
    other, and every frame is near the kept one that stands for it. The same frames give the same
    bytes, in whatever order the folders come.

    After an earlier result (of the same version and settings) its kept frames stay kept, and what
    is new is compared with them and among itself only: what is old is not compared again.

    Parameters
    ----------
    filtered : sequence of Path
        One folder a video, with its ``frames.parquet`` and its images, or what tells of their
        archive; a table may have no rows.
    out : Path
        An existing empty folder, which the caller publishes. It gets the kept images (linked, or
        where any video has an archive: copied into one), ``frames.parquet`` (kept frames) and
        ``clusters.parquet`` (every frame, and the one that stands for it; itself at distance 0
        where it was kept).
    settings : DedupConfig
        What is compared, and the threshold.
    previous : Path, optional
        The folder of an earlier result, which need not be there.
    embedded : Embedded, optional
        The frames' embeddings; needed, and used, where the settings compare these.
    meta : dict, optional
        What else to note in the tables' metadata: anything JSON can hold.
    progress : callable, optional
        Gets a short sentence now and then.

    Returns
    -------
    DedupResult
        How many frames came in, how many were kept, and how many were compared.

    Raises
    ------
    PermanentError
        ``CORRUPT``: a table is unreadable or not a frame table, or a frame comes twice.
        ``MISSING_SOURCE``: a table, an embedding, or an image that is to be linked, is not there.
    """
    say = progress or (lambda _: None)
    about: dict[str, Any] = {"version": VERSION, "settings": settings.result_settings()}
    if settings.method == "embedding":
        if embedded is None:
            raise ValueError("dedup by embeddings needs to be told where they are")
        about["model"] = embedded.model
    frames = _load_all(filtered, say)
    pins = CarriedOver.none(frames.num_rows)
    if previous:
        pins = carry_over(frames, read_clusters(previous, about, say))
    kept, distance, result = _choose(frames, settings, pins, embedded)
    unique = frames.filter(pa.array(kept == np.arange(len(kept))))
    say(_told(result))
    unique, archive = _put_images(unique, filtered, out)
    about = {**(meta or {}), **archive, "stage": "dedup", **about, **asdict(result)}
    write_table(out / FRAMES_FILE, unique, FRAMES_SCHEMA, about)
    write_table(out / CLUSTERS_FILE, _clusters(frames, kept, distance), CLUSTERS_SCHEMA, about)
    return result


def _told(result: DedupResult) -> str:
    before = f"{result.pinned} stay kept and {result.carried} dropped as before; "
    return (
        f"{result.unique} of {result.frames} frames are unique; "
        f"{before if result.pinned or result.carried else ''}"
        f"{result.judged} judged by comparing {result.compared} pairs"
    )


def _put_images(
    unique: pa.Table, filtered: Sequence[Path], out: Path
) -> tuple[pa.Table, dict[str, Any]]:
    """Put the images of some frames into a folder, and say where they are now."""
    archived = unique["byte_offset"].null_count < unique.num_rows
    rows = zip(unique[_FOLDER].to_pylist(), unique["file_name"].to_pylist(), strict=True)
    places = []
    with FrameWriter(out, "tar" if archived else "files") as writer:
        for folder, group in itertools.groupby(rows, key=lambda row: row[0]):
            with FrameReader(filtered[folder]) as reader:
                places += [writer.copy_from(reader, name) for _, name in group]
    for name, column in location_columns(places).items():
        unique = unique.set_column(unique.schema.get_field_index(name), name, column)
    return unique, writer.meta


def _load_all(filtered: Sequence[Path], say: Callable[[str], None]) -> pa.Table:
    """Read the frames of all videos, sorted by name, with the place of their folder."""
    tables = [FRAMES_SCHEMA.empty_table().append_column(_FOLDER, pa.array([], pa.int32()))]
    for place, folder in enumerate(filtered):
        table = load_frames(folder)
        places = pa.array(np.full(table.num_rows, place, np.int32))
        tables.append(table.append_column(_FOLDER, places))
        if (place + 1) % _SAY_EVERY == 0 or place + 1 == len(filtered):
            say(f"read the frames of {place + 1} of {len(filtered)} videos")
    # without equal chunks, equal rows need not become equal bytes
    frames = pa.concat_tables(tables).sort_by(_BY_NAME)
    _refuse_twins(frames)
    return frames.combine_chunks()


def _refuse_twins(frames: pa.Table) -> None:
    """Make sure that no frame and no file name comes twice, which would overwrite one."""
    for column in (["video_id", "frame_index"], ["file_name"]):
        counts = frames.group_by(column).aggregate([([], "count_all")])
        twins = counts.filter(pc.greater(counts["count_all"], 1))
        if twins.num_rows:
            which = " ".join(str(value) for value in twins.select(column).to_pylist()[0].values())
            raise PermanentError(
                f"frame {which} comes twice among the filtered videos",
                ErrorClass.CORRUPT,
                "remove one of them; each video of a project has one folder of its own",
            )


def _choose(
    frames: pa.Table, settings: DedupConfig, pins: CarriedOver, embedded: Embedded | None
) -> tuple[NDArray[np.int64], NDArray[np.float32], DedupResult]:
    """Say for each row which row stands for it, and at what distance."""
    best_first = pc.sort_indices(frames, sort_keys=_BEST_FIRST).to_numpy().astype(np.int64)
    stands = pins.kept[best_first]
    pinned, new = best_first[stands == best_first], best_first[stands < 0]
    rows = np.concatenate((pinned, new))
    kept, distance = pins.kept.copy(), pins.distance.copy()
    compared = 0
    if len(new):
        made = _cover(frames.take(pa.array(rows)), settings, len(pinned), embedded)
        kept[rows], distance[rows], compared = rows[made.kept], made.distance, made.compared
    unique = int((kept == np.arange(len(kept))).sum())
    carried = len(kept) - len(rows)
    result = DedupResult(len(kept), unique, len(pinned), carried, len(new), compared)
    return kept, distance, result


def _cover(
    frames: pa.Table, settings: DedupConfig, pinned: int, embedded: Embedded | None
) -> Representatives:
    """Choose among frames that come from best to worst, but for those pinned, which come first."""
    order = np.arange(frames.num_rows)
    if settings.method == "embedding":
        assert embedded
        vectors = _vectors(frames, embedded)
        return representatives_of_vectors(vectors, order, settings.similarity, pinned)
    hashes = [frames[kind].to_numpy() for kind in hash_columns(settings)]
    return representatives_of_hashes(hashes, order, settings.threshold, pinned)


def hash_columns(settings: DedupConfig) -> tuple[str, ...]:
    """Name the columns of the frame table that are compared; frames are near by any of them."""
    return ("phash", "dhash") if settings.hash == "both" else (settings.hash,)


def _vectors(frames: pa.Table, embedded: Embedded) -> NDArray[np.float16]:
    """Read the embeddings of some frames, row by row: (n, d)."""
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
        there = read_embeddings(path)
    except FileNotFoundError as error:
        raise _not_embedded(video_id, f"{path} is missing") from error
    place = np.searchsorted(there.frame_index, index)
    known = there.frame_index.take(place, mode="clip") == index if len(there) else place < 0
    if not known.all():
        raise _not_embedded(video_id, f"{path} has no frame {index[~known][0]}")
    return there.vectors[place]


def _not_embedded(video_id: str, what: str) -> PermanentError:
    return PermanentError(
        what,
        ErrorClass.MISSING_SOURCE,
        f"remove the project's filtered/{video_id}, then `dataminer sync` and snakemake again: "
        "its frames are embedded and filtered anew",
    )


def _clusters(frames: pa.Table, kept: NDArray[np.int64], distance: NDArray[np.float32]) -> pa.Table:
    standing = frames.select(["video_id", "frame_index"]).take(pa.array(kept)).combine_chunks()
    marks = [frames[mark] for mark in IDENTITY_COLUMNS]
    of_frame = [frames["video_id"], frames["frame_index"]]
    columns = [*of_frame, *standing.columns, pa.array(distance), *marks]
    return pa.table(columns, names=CLUSTERS_SCHEMA.names)
